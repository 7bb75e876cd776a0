package gatehouse_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// writesWithoutAdmit lists the functions that write a sealed column and need not
// ask masterkey.Admit, with why.
var writesWithoutAdmit = map[string]string{
	"backup":    "restores into an empty database whose keys it has just verified",
	"masterkey": "moves what is there to the key that seals",
}

// TestSealedWritesAreAdmitted finds every statement that writes a column named
// ..._sealed: the function that holds it must call masterkey.Admit, so that no
// value is written under a key that was retired meanwhile.
func TestSealedWritesAreAdmitted(t *testing.T) {
	writes := regexp.MustCompile(`(?is)\b(INSERT\s+INTO|UPDATE|SET)\b.*_sealed\b`)
	found := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains([]string{".git", "node_modules", "gatehousetest", "bench", "sdktest", "tools"}, entry.Name()) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		room, _, _ := strings.Cut(filepath.ToSlash(path), "/")
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, declaration := range file.Decls {
			writing, admits := token.NoPos, false
			ast.Inspect(declaration, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.BasicLit:
					if n.Kind == token.STRING && writes.MatchString(n.Value) && !strings.Contains(strings.ToUpper(n.Value), "SELECT ") {
						writing = n.Pos()
					}
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "masterkey" && n.Sel.Name == "Admit" {
						admits = true
					}
				}
				return true
			})
			if writing == token.NoPos {
				continue
			}
			found++
			if _, excepted := writesWithoutAdmit[room]; !admits && !excepted {
				t.Errorf("%s writes a sealed column and does not call masterkey.Admit in the same transaction", files.Position(writing))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 3 {
		t.Errorf("%d statements found that write sealed columns: does this test still see them?", found)
	}
}
