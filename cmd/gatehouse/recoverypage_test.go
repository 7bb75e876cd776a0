package main_test

import (
	"os"
	"strings"
	"testing"
)

// Every command of docs/recovery.md is one that the script recovery runs.
func TestRecoveryPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/recovery.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/script/recovery.txtar")
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for line := range strings.Lines(string(page)) {
		command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ ")
		if !ok {
			continue
		}
		commands++
		if variable, ok := strings.CutPrefix(command, "export "); ok {
			command = "env " + variable
		}
		if !strings.Contains(string(script), command) {
			t.Errorf("the script does not run %q", command)
		}
	}
	if commands < 10 {
		t.Errorf("the page has %d commands only", commands)
	}
}
