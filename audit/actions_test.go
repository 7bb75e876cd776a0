package audit_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/audit"
)

// The list of actions is closed: every constant is in it, once, and nobody makes an
// action out of a string.
func TestActionsAreAClosedList(t *testing.T) {
	constants := map[string]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			if err == nil {
				err = fs.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		own := filepath.Dir(path) == filepath.Join("..", "audit")
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if name, ok := n.Type.(*ast.Ident); ok && own && name.Name == "Action" && len(n.Values) == 1 {
					if value, ok := n.Values[0].(*ast.BasicLit); ok {
						constants[n.Names[0].Name] = strings.Trim(value.Value, `"`)
					}
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Action" {
					if value, ok := n.Value.(*ast.BasicLit); ok && value.Kind == token.STRING && !strings.Contains(path, "api") {
						t.Errorf("%s: the action %s is a string; use a constant of audit", path, value.Value)
					}
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	listed := audit.Actions()
	if len(constants) < 40 || len(listed) != len(constants) {
		t.Errorf("%d constants, %d in the list", len(constants), len(listed))
	}
	for name, value := range constants {
		if !slices.Contains(listed, audit.Action(value)) {
			t.Errorf("%s is not in Actions", name)
		}
		if noun, verb, ok := strings.Cut(value, "."); !ok || noun == "" || verb == "" {
			t.Errorf("%s is no noun.verb", name)
		}
	}
}
