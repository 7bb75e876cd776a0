package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

type serveCommand struct{}

// Help is printed by --help.
func (serveCommand) Help() string {
	return `Example. Make the secrets once and keep the file: without its ENCRYPTION_KEY nothing
that is stored opens again.

  (umask 077; set -C; for name in JWT_SECRET ENCRYPTION_KEY; do
    echo "$name=$(openssl rand -base64 48)"; done >gatehouse.env)
  set -a; . ./gatehouse.env; set +a
  gatehouse serve

Everything is set by the environment:

` + instance.Describe()
}

// Run serves until a stop signal.
func (serveCommand) Run(ctx context.Context) error {
	c, err := loadConfig(nil)
	if err != nil {
		return err
	}
	return serve(ctx, c, func(in *instance.Instance, address string) error {
		in.Log.Info("listening", "address", "http://"+address, "environment", c.Environment, "database", in.DB.Kind(), "version", instance.Version)
		return nil
	})
}

type devCommand struct{}

// Help is printed by --help.
func (devCommand) Help() string {
	return `Makes its own secrets, an organization and an owner, keeps everything in
GATEHOUSE_DATA (./data), and prints a token and requests to paste. The service
"echo" answers in OpenAI's shape without a key or a network. It switches on
CREDENTIAL_REVEAL and ORGANIZATIONS_FROM_TOKENS, which are off in serve.

Examples:

  gatehouse dev
  GATEHOUSE_ADDR=127.0.0.1:9000 GATEHOUSE_DATA=/tmp/try gatehouse dev
  CHAT_IP_LIMIT=3/10s gatehouse dev     # see a 429 soon

The variables of "gatehouse serve --help" work here too.`
}

// Run serves in dev mode until a stop signal.
func (devCommand) Run(ctx context.Context) error {
	c, err := loadConfig(instance.Config.ForDev)
	if err != nil {
		return err
	}
	return serve(ctx, c, func(in *instance.Instance, address string) error {
		operator := access.NewCaller(instance.DevOrganization, access.System, "gatehouse dev", access.Operator)
		_, err := in.Orgs.Create(ctx, operator, instance.DevOrganization, "Dev")
		if err != nil && fault.KindOf(err) != fault.Conflict { // it is there from an earlier start
			return err
		}
		token, err := c.DevToken(time.Now())
		if err != nil {
			return err
		}
		fmt.Print(welcome(address, token, c))
		return nil
	})
}

// serve opens an instance and runs it; ready is called once it listens.
func serve(ctx context.Context, c instance.Config, ready func(in *instance.Instance, address string) error) error {
	instance.Tune()
	in, err := instance.Open(ctx, c, os.Stderr)
	if err != nil {
		return err
	}
	listeners, err := in.Listen()
	if err != nil {
		return errors.Join(err, in.Close())
	}
	if err := ready(in, listeners[0].Addr().String()); err != nil {
		return errors.Join(err, in.Close())
	}
	for _, l := range listeners[1:] {
		in.Log.Info("listening also", "service", l.Service, "metrics", l.Serves == instance.Metrics, "envoy", l.Serves == instance.Envoy, "address", "http://"+l.Addr().String())
	}
	return errors.Join(in.Serve(ctx, listeners), in.Close())
}

// welcome is what a newcomer pastes from.
func welcome(address, token string, c instance.Config) string {
	return strings.NewReplacer("{url}", "http://"+address, "{token}", token, "{data}", c.Data).Replace(`
Gatehouse is running in dev mode at {url}, with its data in {data}.
API reference: {url}/docs

Paste this first; the token is the owner's of the organization "dev", for 30 days:

  export TOKEN={token}

Store a credential:

  curl -s {url}/api/api-credentials -H "Authorization: Bearer $TOKEN" \
    -H 'Content-Type: application/json' \
    -d '{"service":"openai","credentials":{"apiKey":"sk-try-0123456789abcdefghij"}}'

List what is stored:

  curl -s {url}/api/api-credentials -H "Authorization: Bearer $TOKEN"

Chat, streamed, with the rate-limit headers:

  curl -sN -D - {url}/api/chat/echo/v1/chat/completions -H "Authorization: Bearer $TOKEN" \
    -H 'Content-Type: application/json' \
    -d '{"model":"echo","stream":true,"messages":[{"role":"user","content":"Hello through the gate"}]}'

See who did what:

  curl -s {url}/api/audit/events -H "Authorization: Bearer $TOKEN"

Stop with Ctrl-C. What you stored is there on the next start.

`)
}
