package vault_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// importing is a vault with the organization acme, and what it stands on.
type importing struct {
	*vault.Vault
	db    *store.DB
	trail *audit.Log
	owner access.Caller
}

func newImporting(t *testing.T, url string) *importing {
	t.Helper()
	ctx := t.Context()
	db, err := store.Open(ctx, url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	trail := audit.New(db, audit.Options{})
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var writer sync.WaitGroup
	writer.Go(func() { trail.Run(running) })
	t.Cleanup(func() { stop(); writer.Wait() })
	keys, err := masterkey.Open(ctx, db, trail, masterkey.Options{Environment: "test", Secret: seal.NewSecret(gatehousetest.EncryptionKey)})
	if err != nil {
		t.Fatal(err)
	}
	services, err := catalog.New(catalog.Options{Echo: true})
	if err != nil {
		t.Fatal(err)
	}
	operator := access.NewCaller(access.InstanceOrganization, access.System, "test", access.Operator)
	if _, err := org.New(db, trail, org.Options{}).Create(ctx, operator, "acme", ""); err != nil {
		t.Fatal(err)
	}
	return &importing{
		Vault: vault.New(db, trail, services, keys.Ring(), vault.Options{Environment: "test", Reveal: true}), db: db, trail: trail,
		owner: access.NewCaller("acme", access.System, "test", access.Owner),
	}
}

// reveal gives the values stored for a service, nil when there are none.
func (i *importing) reveal(t *testing.T, service string) map[string]string {
	t.Helper()
	page, err := i.List(t.Context(), i.owner, vault.Filter{Service: service})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Credentials) == 0 {
		return nil
	}
	_, fields, err := i.Reveal(t.Context(), i.owner, page.Credentials[0].ID, "test")
	if err != nil {
		t.Fatal(err)
	}
	plain := make(map[string]string)
	for name, value := range fields {
		plain[name] = value.ExposeSecret()
	}
	return plain
}

// rows counts the rows of every table, to see that nothing was changed.
func (i *importing) rows(t *testing.T) map[string]int64 {
	t.Helper()
	if err := i.trail.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int64)
	err := i.db.ViewAcross(t.Context(), func(tx *store.Tx) error {
		for _, table := range []string{"organizations", "organization_keys", "credentials", "credential_versions", "events", "event_persons"} {
			var n int64
			if err := tx.Row(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
				return err
			}
			counts[table] = n
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

// imports gives the outcome and reason of each credential.import event.
func (i *importing) imports(t *testing.T) []string {
	t.Helper()
	page, err := i.trail.Events(t.Context(), i.owner, audit.Filter{Action: string(audit.CredentialImport)})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range page.Events {
		all = append(all, fmt.Sprint(e.Outcome, " ", e.Metadata["service"], " ", e.Reason))
	}
	return all
}

// canaries are values that would be noticed anywhere.
var canaries = map[string]string{
	"OPENAI_API_KEY": "sk-proj-canary1Q2w3E4r5T6y7U8i9O0p", "OPENAI_MODEL": "gpt-4o",
	"STRIPE_API_KEY": "sk_test_canary51HxYzAbCdEfGh", "STRIPE_PUBLISHABLE_KEY": "pk_test_canary51HxYzAbCdEfGh", "STRIPE_WEBHOOK_SECRET": "whsec_your_key",
	"ZENDESK_SUBDOMAIN": "acme", "ZENDESK_EMAIL": "agent@example.com", "ZENDESK_API_TOKEN": "your_zendesk_api_token",
	"SMTP_HOST": "smtp.example.com", "SMTP_PORT": "2526/tcp", "SMTP_USERNAME": "canary@example.com", "SMTP_PASS": "canary pa$$w#rd ",
	"ANTHROPIC_API_KEY": "", "INTERCOM_REGION": "eu", "JWT_SECRET": "canary-is-not-a-service", "ECHO_API_KEY": "canary",
}

// present gives what became of the services of which anything was set.
func present(report vault.ImportReport) []vault.ServiceImport {
	return slices.DeleteFunc(slices.Clone(report.Services), func(s vault.ServiceImport) bool { return s.Result == vault.ImportAbsent })
}

var reportOptions = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateErrors(), cmpopts.IgnoreFields(vault.ServiceImport{}, "ID")}

func TestImport(t *testing.T) {
	t.Parallel()
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		i := newImporting(t, url)
		want := []vault.ServiceImport{
			{Service: "intercom", Result: vault.ImportSkipped, Fields: []string{"region"}, Variables: []string{"INTERCOM_REGION"},
				Missing: []string{"INTERCOM_ACCESS_TOKEN"}},
			{Service: "openai", Result: vault.ImportDone, Fields: []string{"apiKey", "model"}, Variables: []string{"OPENAI_API_KEY", "OPENAI_MODEL"}},
			{Service: "smtp", Result: vault.ImportInvalid, Fields: []string{"host", "port", "user", "pass"},
				Variables: []string{"SMTP_HOST", "SMTP_PORT", "SMTP_USERNAME", "SMTP_PASS"},
				Problems: []vault.ImportProblem{
					{Variable: "SMTP_PORT", Field: "port", Message: "must be a port from 1 to 65535"},
					{Variable: "SMTP_PASS", Field: "pass", Message: "must not start or end with a space or line break; copy it again without"},
				}},
			{Service: "stripe", Result: vault.ImportDone, Fields: []string{"secretKey", "publishableKey"},
				Variables: []string{"STRIPE_API_KEY", "STRIPE_PUBLISHABLE_KEY"}, Placeholders: []string{"STRIPE_WEBHOOK_SECRET"}},
			{Service: "zendesk", Result: vault.ImportIncomplete, Fields: []string{"subdomain", "email"},
				Variables: []string{"ZENDESK_SUBDOMAIN", "ZENDESK_EMAIL"}, Missing: []string{"ZENDESK_API_TOKEN"}, Placeholders: []string{"ZENDESK_API_TOKEN"}},
		}
		run := func(dryRun bool) vault.ImportReport {
			t.Helper()
			report, err := i.Import(t.Context(), i.owner, vault.ImportOptions{Variables: canaries, DryRun: dryRun})
			if err != nil {
				t.Fatal(err)
			}
			if text := fmt.Sprintf("%+v", report); strings.Contains(text, "canary") {
				t.Errorf("the report holds a value: %s", text)
			}
			return report
		}

		before := i.rows(t)
		if d := cmp.Diff(want, present(run(true)), reportOptions); d != "" {
			t.Errorf("dry run (-want +got)\n%s", d)
		}
		if d := cmp.Diff(before, i.rows(t)); d != "" {
			t.Errorf("the dry run changed something\n%s", d)
		}

		want[1].Status, want[3].Status = vault.Active, vault.Active
		if d := cmp.Diff(want, present(run(false)), reportOptions); d != "" {
			t.Errorf("first run (-want +got)\n%s", d)
		}
		if d := cmp.Diff(map[string]string{"apiKey": canaries["OPENAI_API_KEY"], "model": "gpt-4o"}, i.reveal(t, "openai")); d != "" {
			t.Errorf("openai (-want +got)\n%s", d)
		}
		if d := cmp.Diff(map[string]string{"secretKey": canaries["STRIPE_API_KEY"], "publishableKey": canaries["STRIPE_PUBLISHABLE_KEY"]}, i.reveal(t, "stripe")); d != "" {
			t.Errorf("stripe (-want +got)\n%s", d)
		}
		if d := cmp.Diff([]string{"success stripe ", "success openai "}, i.imports(t)); d != "" {
			t.Errorf("events (-want +got)\n%s", d)
		}

		before = i.rows(t)
		want[1].Result, want[3].Result = vault.ImportSame, vault.ImportSame
		if d := cmp.Diff(want, present(run(false)), reportOptions); d != "" {
			t.Errorf("second run (-want +got)\n%s", d)
		}
		if d := cmp.Diff(before, i.rows(t)); d != "" {
			t.Errorf("the second run changed something\n%s", d)
		}
	})
}

// TestImportAtOnce: two imports at the same time store each credential once.
func TestImportAtOnce(t *testing.T) {
	t.Parallel()
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		i := newImporting(t, url)
		var reports [3]vault.ImportReport
		var errs [3]error
		var running sync.WaitGroup
		for n := range reports {
			running.Go(func() {
				reports[n], errs[n] = i.Import(t.Context(), i.owner, vault.ImportOptions{Variables: canaries})
			})
		}
		running.Wait()
		imported, same := 0, 0
		for n, r := range reports {
			if errs[n] != nil || r.Count(vault.ImportFailed, vault.ImportDifferent) > 0 {
				t.Errorf("%+v, %v", r, errs[n])
			}
			imported += r.Count(vault.ImportDone)
			same += r.Count(vault.ImportSame)
		}
		if imported != 2 || same != 4 {
			t.Errorf("%d imported and %d found stored, want 2 and 4", imported, same)
		}
	})
}

// TestImportStored: what is stored already stays, whatever the variables say.
func TestImportStored(t *testing.T) {
	t.Parallel()
	i := newImporting(t, filepath.Join(t.TempDir(), "g.db"))
	stored := map[string]string{"secretKey": "sk_test_51StoredStored", "webhookSecret": "whsec_storedstored"}
	c, _, err := i.Create(t.Context(), i.owner, vault.NewCredential{Service: "stripe", Fields: stored})
	if err != nil {
		t.Fatal(err)
	}
	disabled := true
	if _, _, err := i.Update(t.Context(), i.owner, c.ID, store.Match{}, vault.Change{Disabled: &disabled}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		name      string
		variables map[string]string
		want      vault.ServiceImport
	}{
		{"every value found is stored", map[string]string{"STRIPE_SECRET_KEY": stored["secretKey"]},
			vault.ServiceImport{Result: vault.ImportSame, Fields: []string{"secretKey"}, Variables: []string{"STRIPE_SECRET_KEY"}}},
		{"without its required field", map[string]string{"STRIPE_WEBHOOK_SECRET": stored["webhookSecret"]},
			vault.ServiceImport{Result: vault.ImportSame, Fields: []string{"webhookSecret"}, Variables: []string{"STRIPE_WEBHOOK_SECRET"}}},
		{"another value", map[string]string{"STRIPE_SECRET_KEY": "sk_test_51OtherOther"},
			vault.ServiceImport{Result: vault.ImportDifferent, Fields: []string{"secretKey"}, Variables: []string{"STRIPE_SECRET_KEY"}}},
		{"a further value", map[string]string{"STRIPE_SECRET_KEY": stored["secretKey"], "STRIPE_PUBLISHABLE_KEY": "pk_test_51Further0"},
			vault.ServiceImport{Result: vault.ImportDifferent, Fields: []string{"secretKey", "publishableKey"}, Variables: []string{"STRIPE_SECRET_KEY", "STRIPE_PUBLISHABLE_KEY"}}},
		{"two names, one value", map[string]string{"STRIPE_SECRET_KEY": stored["secretKey"], "STRIPE_API_KEY": stored["secretKey"]},
			vault.ServiceImport{Result: vault.ImportSame, Fields: []string{"secretKey"}, Variables: []string{"STRIPE_SECRET_KEY", "STRIPE_API_KEY"}}},
		{"two names, two values", map[string]string{"STRIPE_SECRET_KEY": stored["secretKey"], "STRIPE_API_KEY": "sk_test_51OtherOther"},
			vault.ServiceImport{Result: vault.ImportSame, Fields: []string{"secretKey"}, Variables: []string{"STRIPE_SECRET_KEY"}, Unread: []string{"STRIPE_API_KEY"}}},
		{"the first name holds a placeholder", map[string]string{"STRIPE_SECRET_KEY": "sk_test_...", "STRIPE_API_KEY": stored["secretKey"]},
			vault.ServiceImport{Result: vault.ImportSame, Fields: []string{"secretKey"}, Variables: []string{"STRIPE_API_KEY"}, Placeholders: []string{"STRIPE_SECRET_KEY"}}},
	} {
		t.Run(s.name, func(t *testing.T) {
			report, err := i.Import(t.Context(), i.owner, vault.ImportOptions{Variables: s.variables, Only: "stripe"})
			if err != nil {
				t.Fatal(err)
			}
			s.want.Service, s.want.Status = "stripe", vault.Disabled
			if d := cmp.Diff([]vault.ServiceImport{s.want}, report.Services, reportOptions); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if report.Services[0].ID != c.ID {
				t.Errorf("id %s, want %s", report.Services[0].ID, c.ID)
			}
		})
	}
	if d := cmp.Diff(stored, i.reveal(t, "stripe")); d != "" {
		t.Errorf("the stored values changed (-want +got)\n%s", d)
	}
}

func TestImportRefused(t *testing.T) {
	t.Parallel()
	i := newImporting(t, filepath.Join(t.TempDir(), "g.db"))
	before := i.rows(t)
	for _, c := range []struct {
		name   string
		caller access.Caller
		only   string
		want   fault.Kind
	}{
		{"unknown organization", access.NewCaller("nobody", access.System, "x", access.Owner), "", fault.Denied},
		{"unknown service", i.owner, "nothing", fault.Invalid},
		{"a service without credentials", i.owner, catalog.EchoName, fault.Invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			report, err := i.Import(t.Context(), c.caller, vault.ImportOptions{Variables: canaries, Only: c.only})
			if fault.KindOf(err) != c.want || len(report.Services) > 0 {
				t.Errorf("%v, %v", report, err)
			}
		})
	}
	var denied *access.DeniedError
	viewer := access.NewCaller("acme", access.User, "x", access.Viewer)
	if _, err := i.Import(t.Context(), viewer, vault.ImportOptions{Variables: canaries}); !errors.As(err, &denied) {
		t.Errorf("a viewer: %v", err)
	}
	if d := cmp.Diff(before, i.rows(t)); d != "" {
		t.Errorf("a refused import changed something\n%s", d)
	}
}

// TestImportReadsBack: a database that does not keep what it was given.
func TestImportReadsBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "g.db")
	i := newImporting(t, path)
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	// The last byte of a seal is part of its tag.
	if _, err := raw.ExecContext(t.Context(), `CREATE TRIGGER rot AFTER INSERT ON credential_versions
		WHEN (SELECT service FROM credentials WHERE id = NEW.credential_id) = 'openai' BEGIN
		UPDATE credential_versions SET fields_sealed = CAST(substr(fields_sealed, 1, length(fields_sealed)-1) || CASE substr(fields_sealed, -1) WHEN x'00' THEN x'01' ELSE x'00' END AS BLOB)
		WHERE credential_id = NEW.credential_id; END`); err != nil {
		t.Fatal(err)
	}
	report, err := i.Import(t.Context(), i.owner, vault.ImportOptions{Variables: canaries})
	if err != nil {
		t.Fatal(err)
	}
	openai := present(report)[1]
	if f, ok := fault.As(openai.Err); openai.Result != vault.ImportFailed || !ok || f.Code != "import_not_verified" {
		t.Errorf("%+v", openai)
	}
	if got := i.reveal(t, "openai"); got != nil {
		t.Error("what does not open was left behind")
	}
	if got := i.reveal(t, "stripe"); got["secretKey"] != canaries["STRIPE_API_KEY"] {
		t.Error("stripe was not imported beside it")
	}
	if d := cmp.Diff([]string{"success stripe ", "failure openai read_back_failed", "success openai "}, i.imports(t)); d != "" {
		t.Errorf("events (-want +got)\n%s", d)
	}
}

// TestImportStopped: an import that is interrupted reports what is left, and
// what was done before stays.
func TestImportStopped(t *testing.T) {
	t.Parallel()
	i := newImporting(t, filepath.Join(t.TempDir(), "g.db"))
	ctx, cancel := context.WithCancel(t.Context())
	variables := maps.Clone(canaries)
	variables["SMTP_PORT"], variables["SMTP_PASS"] = "587", "canary pa$$w#rd"
	all, err := i.Import(t.Context(), i.owner, vault.ImportOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	var services []string
	for _, s := range all.Services {
		services = append(services, s.Service)
	}
	report, err := i.Import(ctx, i.owner, vault.ImportOptions{Variables: variables, Progress: func(done, _ int) {
		if services[done-1] == "openai" {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range present(report) {
		got = append(got, s.Service+" "+string(s.Result))
	}
	want := []string{"intercom skipped", "openai imported", "smtp failed", "stripe failed", "zendesk failed"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if i.reveal(t, "openai") == nil || i.reveal(t, "smtp") != nil {
		t.Error("not what the report says")
	}
	if report, err = i.Import(t.Context(), i.owner, vault.ImportOptions{Variables: variables}); err != nil || report.Count(vault.ImportDone) != 2 || report.Count(vault.ImportSame) != 1 {
		t.Errorf("the next run: %+v, %v", report, err)
	}
	if got := i.reveal(t, "smtp"); got["pass"] != "canary pa$$w#rd" {
		t.Error("the password did not survive")
	}
}

// TestImportLeavesNoPlaintext looks for the canaries in every byte of the
// database's files.
func TestImportLeavesNoPlaintext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "g.db")
	i := newImporting(t, path)
	if _, err := i.Import(t.Context(), i.owner, vault.ImportOptions{Variables: canaries}); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), "canary") {
			t.Errorf("g.db%s holds a value", suffix)
		}
	}
}
