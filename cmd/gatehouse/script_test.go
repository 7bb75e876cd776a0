package main // not main_test: the scripts run main itself

import (
	"database/sql"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"gatehouse": main})
}

// TestScripts runs testdata/script: each is a session on a terminal. A server
// runs in the background with its output in a file:
//
//	exec sh -c 'echo $$ >pid; exec gatehouse dev >out 2>err' &dev&
//	await out 'running .* at (http://\S+),' URL
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await": await, "fetch": fetch, "modes": modes, "paste": paste, "alter": alter, "forge": forge,
			"postgres": named(func() string { return gatehousetest.Postgres(t) }),
			"redis":    named(func() string { return gatehousetest.Redis(t).URL() }),
			"provider": func(ts *testscript.TestScript, _ bool, args []string) { provider(t, ts, args) },
		},
	})
}

// named makes a command, such as postgres NAME, that puts what make gives into
// the environment.
func named(make func() string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		if len(args) != 1 {
			ts.Fatalf("usage: postgres NAME, redis NAME")
		}
		ts.Setenv(args[0], make())
	}
}

// alter FILE puts every sealed version of a SQLite database out of its context.
func alter(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = db.Exec(`UPDATE credential_versions SET fields = '["other"]'`)
	ts.Check(errors.Join(err, db.Close()))
}

// forge FILE alters the first event of acme in a SQLite database.
func forge(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = db.Exec(`UPDATE events SET canonical = replace(CAST(canonical AS TEXT), '"success"', '"failure"'), outcome = 'failure'
		WHERE organization = 'acme' AND class = 'control' AND log_index = 0`)
	ts.Check(errors.Join(err, db.Close()))
}

// startTimeout is how long a script waits for a program to say something.
const startTimeout = 30 * time.Second

// await FILE REGEXP NAME waits until the file matches and puts the first group
// into the environment.
func await(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: await FILE REGEXP NAME")
	}
	pattern := regexp.MustCompile("(?m)" + args[1])
	for end := time.Now().Add(startTimeout); ; time.Sleep(10 * time.Millisecond) {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if m := pattern.FindSubmatch(data); m != nil {
			ts.Setenv(args[2], string(m[1]))
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s does not match %s: %v\n%s", args[0], args[1], err, data)
		}
	}
}

// fetch STATUS URL [TOKEN] gets the URL until it answers with the status, as a
// change beside a running server takes up to five seconds to hold.
func fetch(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: fetch STATUS URL [TOKEN]")
	}
	r, err := http.NewRequest(http.MethodGet, args[1], nil)
	ts.Check(err)
	if len(args) > 2 {
		r.Header.Set("Authorization", "Bearer "+args[2])
	}
	for end := time.Now().Add(startTimeout); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.DefaultClient.Do(r)
		ts.Check(err)
		_ = resp.Body.Close() // the status is all that is wanted
		if strings.HasPrefix(resp.Status, args[0]) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s answers %s, want %s", args[1], resp.Status, args[0])
		}
	}
}

// provider NAME SERVICE KEY... starts a fake of a provider that accepts the keys
// and puts its origin into the environment.
func provider(t *testing.T, ts *testscript.TestScript, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: provider NAME SERVICE KEY...")
	}
	keys := gatehousetest.Key(args[2:]...)
	var fake *gatehousetest.Provider
	switch args[1] {
	case "openai":
		fake = gatehousetest.OpenAI(t, keys)
	case "stripe":
		fake = gatehousetest.Stripe(t, keys)
	default:
		fake = gatehousetest.Documented(t, args[1], keys)
	}
	ts.Setenv(args[0], fake.URL)
}

// modes FOLDER checks that everything in it is for its owner alone.
func modes(ts *testscript.TestScript, _ bool, args []string) {
	files := 0
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if files++; d.IsDir() {
			want = fs.ModeDir | 0o700
		}
		if info.Mode() != want {
			ts.Fatalf("%s has the mode %v, want %v", path, info.Mode(), want)
		}
		return nil
	}))
	if files < 2 {
		ts.Fatalf("%s is empty", args[0])
	}
}

// paste FILE runs the requests that dev prints, one after the other as a person
// would paste them. Each must succeed; what they print goes to the file pasted.
func paste(ts *testscript.TestScript, _ bool, args []string) {
	if _, err := exec.LookPath("curl"); err != nil {
		ts.Fatalf("this script needs curl: %v", err)
	}
	var script strings.Builder
	script.WriteString("set -e\n")
	commands := 0
	for block := range strings.SplitSeq(ts.ReadFile(args[0]), "\n\n") {
		if text := strings.TrimSpace(block); strings.HasPrefix(text, "curl ") || strings.HasPrefix(text, "export ") {
			script.WriteString(strings.Replace(text, "curl -s", "curl --fail-with-body -s", 1) + "\necho\n")
			commands++
		}
	}
	if commands < 5 {
		ts.Fatalf("%s has %d commands to paste, want 5", args[0], commands)
	}
	cmd := exec.Command("sh", "-c", script.String())
	out, err := cmd.CombinedOutput()
	ts.Check(os.WriteFile(ts.MkAbs("pasted"), out, 0o600))
	if err != nil {
		ts.Fatalf("%v\n%s", err, out)
	}
}
