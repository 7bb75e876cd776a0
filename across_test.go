package gatehouse_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// across lists every function that works across organizations, and so without
// PostgreSQL's second line between tenants. Add one only for the instance's own
// work, and say why.
var across = map[string]string{
	"backup/create.go dump":              "a backup is of everything",
	"backup/restore.go fill":             "a restore is of everything",
	"backup/restore.go freshRows":        "counts what migrations put into a new, temporary database",
	"instance/doctor_database.go keys":   "opens one value under each master key",
	"auth/tokenuse.go look":              "a service token does not say whose it is; the hash of 256 random bits finds it",
	"audit/log.go insertAll":             "a batch of the spool holds several organizations' events",
	"ledger/sealer.go Seal":              "a block of the instance's own log holds several organizations' blocks",
	"ledger/sealer.go findUnsealed":      "the sealer looks for what is unsealed in all organizations",
	"ledger/health.go Newest":            "the clock is compared with the newest event of all organizations",
	"ledger/health.go ReadHealth":        "counts what is unsealed in all organizations",
	"ledger/verify.go view":              "the command line verifies all organizations at once",
	"ledger/verify_instance.go viewList": "the instance's own log lists every organization's blocks",
	"audit/terms.go addTermsOfBatch":     "older events of all organizations become searchable in batches",
	"webhook/sinkrun.go findSinks":       "the delivery of the trail looks for sinks of all organizations",
	"org/org.go List":                    "the operator's list of organizations",
	"vault/destroy.go findDue":           "the timer looks for what is due in all organizations",
	"vault/check.go checkDue":            "the check looks for what is due in all organizations",
	"vault/retest.go dueTests":           "tests look for what is due in all organizations",
	"webhook/sinkrun.go forgetBacklogs":  "whether sinks of all organizations are behind still",
	"webhook/run.go find":                "the sender looks for what is due in all organizations",
	"webhook/run.go take":                "the sender takes a batch of several organizations' deliveries",
	"webhook/run.go deleteWhile":         "old deliveries of all organizations are deleted in batches",
	"org/delete.go Delete":               "a deletion is told in the operators' trail too",
	"org/delete.go followDeletions":      "every instance follows the deletion of any organization",
	"masterkey/proof.go Status":          "counts what hangs on each key in all organizations",
	"masterkey/proof.go countElse":       "counts what hangs on other keys in all organizations",
	"masterkey/proof.go where":           "names what hangs on a key in all organizations",
	"masterkey/proof.go Retire":          "a key retires when nothing of any organization hangs on it",
	"masterkey/verify.go column":         "opens what is sealed for all organizations",
	"masterkey/work.go prepare":          "a rotation rewraps what is sealed for all organizations",
	"masterkey/work.go save":             "a rotation rewraps what is sealed for all organizations",
	"usage/apply.go add":                 "a batch of the spool holds several organizations' records",
	"usage/query.go Query":               "an operator asks for all organizations",
	"policy/change.go tell":              "a tenant's change bumps the instance's revision",
	"policy/stored.go Load":              "decisions follow all policies",
	"policy/stored.go update":            "an operator changes any organization's policies",
	"policy/stored.go view":              "an operator reads any organization's policies",

	"retention/policy.go readBounds":     "the operator's bounds hold over every organization's policy",
	"retention/sweeper.go ReadHealth":    "counts what all organizations have set aside",
	"retention/sweeper.go organizations": "the sweeper goes over all organizations",
	"retention/sweeper.go lastSealed":    "the trail of all organizations says when it was sealed last",
}

// TestAcrossOrganizations holds the calls of UpdateAcross, ViewAcross, Across and Fill
// to the list above.
func TestAcrossOrganizations(t *testing.T) {
	found := make(map[string]bool)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != "." || path == "store" || path == "gatehousetest" || d.Name() == "testdata") {
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
		for _, decl := range file.Decls {
			name := "(outside of a function)"
			if fn, ok := decl.(*ast.FuncDecl); ok {
				name = fn.Name.Name
			}
			ast.Inspect(decl, func(n ast.Node) bool {
				selector, ok := n.(*ast.SelectorExpr)
				if ok && slices.Contains([]string{"UpdateAcross", "UpdateAcrossCommitted", "ViewAcross", "Across", "Fill"}, selector.Sel.Name) {
					found[filepath.ToSlash(path)+" "+name] = true
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for place := range found {
		if across[place] == "" {
			t.Errorf("%s works across organizations and is not in the list: name the transaction for its organization, or add it and say why", place)
		}
	}
	for place := range across {
		if !found[place] {
			t.Errorf("%s works for one organization now: take it off the list", place)
		}
	}
}
