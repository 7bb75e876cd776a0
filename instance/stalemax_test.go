package instance_test

import (
	"io"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/vault"
)

// SECRET_STALE_MAX=0 means never, and not a default, in a server and in a command.
func TestNoStaleSecretsInServersAndCommands(t *testing.T) {
	t.Parallel()
	link := gatehousetest.NewLink(t, gatehousetest.Postgres(t))
	s := instancetest.Serve(t, map[string]string{"DATABASE_URL": link.URL, "SECRET_STALE_MAX": "0s"})
	c := api.Client{BaseURL: s.URL, Token: s.Token(t, "acme", "u_1", access.Owner)}
	if _, err := c.CreateCredential(t.Context(), api.CredentialCreate{Service: "openai", Credentials: map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"}}); err != nil {
		t.Fatal(err)
	}
	command, err := instance.OpenOffline(t.Context(), s.Config, io.Discard, "acme", true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Close() })
	services, err := catalog.New(catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	openai, _ := services.Service("openai")
	open := func(v *vault.Vault) error {
		_, err := v.OpenForUse(t.Context(), access.NewCaller("acme", access.User, "u_1", access.Owner), openai, "")
		return err
	}
	vaults := map[string]*vault.Vault{"the server": s.Vault, "the command": command.Vault}
	for whose, v := range vaults {
		if err := open(v); err != nil {
			t.Fatalf("%s: %v", whose, err)
		}
	}
	link.Cut()
	defer link.Mend()
	time.Sleep(vault.Fresh + 100*time.Millisecond)
	for whose, v := range vaults {
		if err := open(v); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s answers %v with a secret that it could not look up", whose, err)
		}
	}
}
