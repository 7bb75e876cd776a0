package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
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

type tokenCommand struct {
	Org  string   `required:"" placeholder:"ID" help:"The organization."`
	Sub  string   `required:"" placeholder:"ID" help:"The member, your own id of it."`
	Role []string `required:"" placeholder:"ROLE" help:"A role: owner, admin, developer, auditor, viewer, service or operator. May be repeated."`
	TTL  lifetime `name:"ttl" default:"1h" help:"How long the token is good for, such as 15m or 90d."`
}

// Help is printed by --help.
func (tokenCommand) Help() string {
	return `The token is signed with JWT_SECRET, or with dev mode's secret where only that
is there. It goes to standard output, so that it can be used at once.

Examples:

  gatehouse token --org acme --sub u_42 --role developer
  TOKEN=$(gatehouse token --org acme --sub ci --role service --ttl 15m)`
}

// Run prints a token.
func (t tokenCommand) Run() error {
	c, err := readConfig()
	if err != nil {
		return err
	}
	if c.WithDevSecret() {
		fmt.Fprintf(os.Stderr, "JWT_SECRET is not set; signing with dev mode's secret in %s.\n", c.Data)
	}
	if err := t.check(c); err != nil {
		return usagef("%v", err)
	}
	roles := make([]access.Role, len(t.Role))
	for i, r := range t.Role {
		roles[i] = access.Role(r)
	}
	caller := access.NewCaller(t.Org, access.User, t.Sub, roles...)
	token, err := auth.Sign([]byte(c.JWTSecret), caller, c.JWTIssuer, c.JWTAudience, time.Now(), time.Duration(t.TTL))
	if err != nil {
		return err
	}
	fmt.Println(token)
	return nil
}

func (t tokenCommand) check(c instance.Config) error {
	var mistakes []error
	if len(c.JWTSecret) < auth.MinSecret {
		mistakes = append(mistakes, fmt.Errorf("JWT_SECRET must be set, to at least %d bytes", auth.MinSecret))
	}
	if !access.ValidOrganization(t.Org) {
		mistakes = append(mistakes, errors.New("--org must be 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or a digit"))
	}
	if t.Sub == "" || len(t.Sub) > 256 {
		mistakes = append(mistakes, errors.New("--sub must be 1 to 256 bytes"))
	}
	if t.TTL < lifetime(time.Second) {
		mistakes = append(mistakes, errors.New("--ttl must be at least 1s"))
	}
	for _, r := range t.Role {
		if !access.Role(r).Known() {
			mistakes = append(mistakes, fmt.Errorf("--role must be one of %v", access.Roles()))
			break
		}
	}
	return errors.Join(mistakes...)
}

type orgCommand struct {
	Create orgCreateCommand `cmd:"" help:"Make an organization."`
	List   orgListCommand   `cmd:"" help:"List organizations."`
	Delete orgDeleteCommand `cmd:"" help:"Destroy everything sealed for an organization. Its id stays dead."`
}

type orgCreateCommand struct {
	ID   string `arg:"" help:"Your own id of the tenant: 1 to 64 letters, digits, '.', '_' or '-'."`
	Name string `help:"A name for people; the id when left out."`
}

// Help is printed by --help.
func (orgCreateCommand) Help() string {
	return "Works on the database, also beside a running server.\n\nExample:\n\n  gatehouse org create acme --name \"Acme Inc.\""
}

// Run makes the organization.
func (o orgCreateCommand) Run(ctx context.Context) error {
	return withDirectory(ctx, func(d *org.Directory) error {
		made, err := d.Create(ctx, commandLine(), o.ID, o.Name)
		if err != nil {
			return describe(err)
		}
		fmt.Printf("Made the organization %s (%s).\n", made.ID, made.Name)
		return nil
	})
}

type orgListCommand struct{}

// Help is printed by --help.
func (orgListCommand) Help() string {
	return "Those that are deleted are not among them; their ids stay dead.\n\nExample:\n\n  gatehouse org list"
}

// Run lists the organizations.
func (orgListCommand) Run(ctx context.Context) error {
	return withDirectory(ctx, func(d *org.Directory) error {
		w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tNAME\tCREATED")
		const page = 200
		after := ""
		for {
			all, err := d.List(ctx, commandLine(), after, page)
			if err != nil {
				return describe(err)
			}
			for _, o := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\n", o.ID, o.Name, api.Time(o.CreatedAt))
			}
			if len(all) < page {
				return w.Flush()
			}
			after = all[len(all)-1].ID
		}
	})
}

type orgDeleteCommand struct {
	ID  string `arg:"" help:"The organization."`
	Yes bool   `help:"Do it. What is destroyed cannot be brought back."`
}

// Help is printed by --help.
func (orgDeleteCommand) Help() string {
	return `Destroys the organization's salt, keys and credentials. Nothing of it opens
again, on running servers within five seconds, not even from a row that is put
back; only a backup of the whole holds it until that is gone too. Its trail
remains, and its id can never be used again.

Example:

  gatehouse org delete acme --yes`
}

// Run deletes the organization.
func (o orgDeleteCommand) Run(ctx context.Context) error {
	if !o.Yes {
		return usagef("this destroys every credential of %s for good; say --yes to do it", forTerminal(o.ID))
	}
	return withDirectory(ctx, func(d *org.Directory) error {
		if err := d.Delete(ctx, commandLine(), o.ID, o.ID); err != nil {
			return describe(err)
		}
		fmt.Printf("Deleted the organization %s; running servers refuse it within five seconds.\n", o.ID)
		return nil
	})
}

type memberCommand struct {
	Disable memberDisableCommand `cmd:"" help:"Refuse a member, whatever its tokens say."`
	Enable  memberEnableCommand  `cmd:"" help:"Let a disabled member in again."`
}

type memberArgs struct {
	Org    string `arg:"" help:"The organization."`
	Member string `arg:"" help:"The member: the sub of its tokens."`
}

type memberDisableCommand struct{ memberArgs }

// Help is printed by --help.
func (memberDisableCommand) Help() string {
	return `Running servers refuse it within five seconds: its JWTs, whoever signed them, and
the service tokens that it made.

Example:

  gatehouse member disable acme u_42`
}

// Run disables the member.
func (m memberDisableCommand) Run(ctx context.Context) error { return m.set(ctx, true) }

type memberEnableCommand struct{ memberArgs }

// Help is printed by --help.
func (memberEnableCommand) Help() string {
	return "Running servers let it in within five seconds.\n\nExample:\n\n  gatehouse member enable acme u_42"
}

// Run lets the member in again.
func (m memberEnableCommand) Run(ctx context.Context) error { return m.set(ctx, false) }

func (m memberArgs) set(ctx context.Context, disabled bool) error {
	return withDirectory(ctx, func(d *org.Directory) error {
		caller := access.NewCaller(m.Org, access.System, "command line", access.Owner)
		if err := d.SetDisabled(ctx, caller, m.Org, m.Member, disabled); err != nil {
			return describe(err)
		}
		word := "enabled"
		if disabled {
			word = "disabled; running servers refuse it within five seconds"
		}
		fmt.Printf("%s of %s is %s.\n", m.Member, m.Org, word)
		return nil
	})
}

// withDirectory opens the database for a command that needs no keys.
func withDirectory(ctx context.Context, fn func(*org.Directory) error) error {
	c, err := readConfig()
	if err != nil {
		return err
	}
	isNew := c.NewDatabase()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	db, err := store.Open(ctx, c.Database(), quiet)
	if err != nil {
		return err
	}
	if isNew {
		path, _ := store.FilePath(c.Database())
		fmt.Fprintf(os.Stderr, "Made a new database at %s; is this where your server looks?\n", path)
	}
	if err := rightEnvironment(ctx, c, db); err != nil {
		return errors.Join(err, db.Close())
	}
	return errors.Join(fn(org.New(db, audit.New(db, audit.Options{}), org.Options{Destroy: instance.Destroy})), db.Close())
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run() error {
	fmt.Println("gatehouse", instance.Version)
	return nil
}
