package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/store"
)

type tokensCommand struct {
	Create tokensCreateCommand `cmd:"" help:"Make a service token and print it, once."`
	List   tokensListCommand   `cmd:"" help:"List an organization's service tokens."`
	Revoke tokensRevokeCommand `cmd:"" help:"End a service token."`
}

// Help is printed by --help.
func (tokensCommand) Help() string {
	return `Service tokens (gth_...) are for machines: kept as a hash, with an expiry, and
revocable. For a token as your application would sign it, see gatehouse token.
Works on the database, also beside a running server.`
}

type tokensCreateCommand struct {
	Org        string   `required:"" placeholder:"ID" help:"The organization."`
	Name       string   `required:"" help:"What it is for, for people."`
	Permission []string `placeholder:"NAME" help:"What it may do, such as credential:use. May be repeated."`
	Role       []string `placeholder:"ROLE" help:"Instead: a role of the organization. May be repeated."`
	Credential []string `placeholder:"ID" help:"The only credential it may use. May be repeated."`
	Expires    lifetime `required:"" placeholder:"90d" help:"How long it is good for, at most 366d."`
}

// lifetime is how long a token is good for: as [instance.Age], without a 0 that switches something off.
type lifetime time.Duration

// UnmarshalText implements [encoding.TextUnmarshaler].
func (l *lifetime) UnmarshalText(text []byte) error {
	var age instance.Age
	if age.UnmarshalText(text) != nil {
		return errors.New("must be days, such as 90d, or a duration, such as 36h")
	}
	*l = lifetime(age)
	return nil
}

// Help is printed by --help.
func (tokensCreateCommand) Help() string {
	return `The token goes to standard output and is kept nowhere.

Example:

  gatehouse tokens create --org acme --name "nightly export" --permission credential:use --expires 90d`
}

// Run makes a token.
func (c tokensCreateCommand) Run(ctx context.Context) error {
	return withTokens(ctx, func(t *auth.Tokens, d *org.Directory) error {
		caller, err := ownerAtCommandLine(ctx, d, c.Org)
		if err != nil {
			return err
		}
		made, token, err := t.Create(ctx, caller, auth.TokenInput{
			Name: c.Name, Permissions: c.Permission, Roles: c.Role, Credentials: c.Credential, ExpiresAt: time.Now().Add(time.Duration(c.Expires)),
		})
		if err != nil {
			return describe(err)
		}
		fmt.Fprintf(os.Stderr, "Made the token %s; it is shown this once.\n", made.ID)
		fmt.Println(token)
		return nil
	})
}

type tokensListCommand struct {
	Org string `required:"" placeholder:"ID" help:"The organization."`
}

// Help is printed by --help.
func (tokensListCommand) Help() string {
	return `Newest first, also those that have expired or are revoked; never the tokens
themselves. Times are UTC.

Example:

  gatehouse tokens list --org acme`
}

// Run lists tokens.
func (c tokensListCommand) Run(ctx context.Context) error {
	return withTokens(ctx, func(t *auth.Tokens, d *org.Directory) error {
		caller, err := ownerAtCommandLine(ctx, d, c.Org)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tNAME\tSTATUS\tEXPIRES\tLAST USED\tMAKER\tPERMISSIONS")
		for f := (auth.TokenFilter{Limit: 200}); ; {
			page, err := t.List(ctx, caller, f)
			if err != nil {
				return describe(err)
			}
			for _, k := range page.Tokens {
				used := "never"
				if !k.LastUsedAt.IsZero() {
					used = api.Time(k.LastUsedAt).String()
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, forTerminal(k.Name), k.Status(time.Now()), api.Time(k.ExpiresAt), used,
					forTerminal(k.CreatedBy), strings.Join(k.Permissions.Names(), " "))
			}
			if f.Cursor = page.NextCursor; f.Cursor == "" {
				return w.Flush()
			}
		}
	})
}

type tokensRevokeCommand struct {
	Org string `required:"" placeholder:"ID" help:"The organization."`
	ID  string `arg:"" help:"The token's id, tok_..."`
}

// Help is printed by --help.
func (tokensRevokeCommand) Help() string {
	return `Running servers refuse it within five seconds. It cannot be brought back.

Example:

  gatehouse tokens revoke --org acme tok_0192e0a5-7f9c-7c3e-9d6b-3a1f00c4d2e8`
}

// Run revokes a token.
func (c tokensRevokeCommand) Run(ctx context.Context) error {
	return withTokens(ctx, func(t *auth.Tokens, d *org.Directory) error {
		caller, err := ownerAtCommandLine(ctx, d, c.Org)
		if err != nil {
			return err
		}
		if err := t.Revoke(ctx, caller, c.ID); err != nil {
			return describe(err)
		}
		fmt.Printf("Revoked %s; running servers refuse it within five seconds.\n", c.ID)
		return nil
	})
}

// ownerAtCommandLine is the caller behind a command on one organization: who
// can run it has the database.
func ownerAtCommandLine(ctx context.Context, d *org.Directory, organization string) (access.Caller, error) {
	if !access.ValidOrganization(organization) {
		return access.Caller{}, usagef("--org must be an organization's id")
	}
	caller, err := d.Resolve(ctx, access.NewCaller(organization, access.System, "command line", access.Owner))
	if err != nil {
		return access.Caller{}, describe(err)
	}
	return caller, nil
}

// withTokens opens the database for a command on service tokens.
func withTokens(ctx context.Context, fn func(*auth.Tokens, *org.Directory) error) error {
	c, err := readConfig()
	if err != nil {
		return err
	}
	if err := c.CheckDatabaseFile(); err != nil {
		return err
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	db, err := store.Open(ctx, c.Database(), quiet)
	if err != nil {
		return err
	}
	if err := rightEnvironment(ctx, c, db); err != nil {
		return errors.Join(err, db.Close())
	}
	trail := audit.New(db, audit.Options{})
	d := org.New(db, trail, org.Options{})
	return errors.Join(fn(auth.NewTokens(db, trail, d, auth.TokensOptions{}), d), db.Close())
}
