package gatehouse_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestAgentsTable holds AGENTS.md to what there is: every path in it exists, and
// every `go test` in it runs something in each package that it names.
func TestAgentsTable(t *testing.T) {
	text, err := os.ReadFile("AGENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	paths, commands := 0, 0
	for line := range strings.Lines(string(text)) {
		line = strings.ReplaceAll(line, `\|`, "\x00") // a bar inside of a cell
		base := "."
		for _, quoted := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(line, -1) {
			word := strings.ReplaceAll(quoted[1], "\x00", "|")
			if arguments, ok := strings.CutPrefix(word, "go test "); ok {
				commands++
				checkTests(t, arguments)
				continue
			}
			if !namesPath(word) {
				continue
			}
			paths++
			if base = find(base, word); base == "" {
				t.Errorf("AGENTS.md names %s, which is not there", word)
				base = "."
			}
		}
	}
	if paths < 100 || commands < 40 {
		t.Errorf("AGENTS.md names %d paths and %d commands only", paths, commands)
	}
}

func namesPath(word string) bool {
	if !regexp.MustCompile(`^[\w./*-]+$`).MatchString(word) || strings.Contains(word, "...") {
		return false
	}
	_, err := os.Stat(word)
	return err == nil || strings.Contains(word, "/") || strings.HasSuffix(word, ".go") || strings.HasSuffix(word, ".md")
}

// find gives the folder of a path, which may be told from the folder of the path
// before it in its row, and "" where there is none.
func find(base, path string) string {
	for _, in := range []string{base, "."} {
		found, err := filepath.Glob(filepath.Join(in, path))
		if err != nil || len(found) == 0 {
			continue
		}
		if info, err := os.Stat(found[0]); err == nil && info.IsDir() {
			return found[0]
		}
		return filepath.Dir(found[0])
	}
	return ""
}

// checkTests looks for tests that a command would run, by their names. Where -run
// has alternatives, each must match a test of one of the packages.
func checkTests(t *testing.T, arguments string) {
	pattern, inPattern := "", false
	var packages []string
	for _, word := range strings.Fields(arguments) {
		switch {
		case inPattern:
			pattern, inPattern = strings.Trim(word, "'"), false
		case word == "-run":
			inPattern = true
		case strings.HasPrefix(word, "."):
			packages = append(packages, word)
		}
	}
	pattern, _, _ = strings.Cut(pattern, "/") // what is behind it are names of subtests
	var all []string
	for _, p := range packages {
		names := testsOf(t, p)
		all = append(all, names...)
		if !slices.ContainsFunc(names, regexp.MustCompile(pattern).MatchString) {
			t.Errorf("go test %s: there is no such test in %s", arguments, p)
		}
	}
	for part := range strings.SplitSeq(pattern, "|") {
		if !slices.ContainsFunc(all, regexp.MustCompile(part).MatchString) {
			t.Errorf("go test %s: no test is called like %s", arguments, part)
		}
	}
}

// testsOf gives the names of a package's tests, or of those below it.
func testsOf(t *testing.T, pkg string) (names []string) {
	root, deep := strings.CutSuffix(pkg, "/...")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if path != root && !deep {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && regexp.MustCompile("^(Test|Fuzz|Example)").MatchString(f.Name.Name) && f.Name.Name != "TestMain" {
				names = append(names, f.Name.Name)
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("%s: %v", pkg, err)
	}
	return names
}
