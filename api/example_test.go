package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/instance"
)

// gatehouse runs a whole Gatehouse until stop is called, and gives a client of it for
// an owner of the organization acme.
func gatehouse() (c *api.Client, stop func()) {
	folder, err := os.MkdirTemp("", "gatehouse")
	must(err)
	config, err := instance.FromEnvironment(map[string]string{
		"JWT_SECRET": gatehousetest.JWTSecret, "ENCRYPTION_KEY": gatehousetest.EncryptionKey, "GATEHOUSE_ENV": "test",
		"GATEHOUSE_DATA": folder, "GATEHOUSE_ADDR": "127.0.0.1:0", "ORGANIZATIONS_FROM_TOKENS": "true", "GATEHOUSE_STOP_GRACE": "1s",
	})
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	in, err := instance.Open(ctx, config, io.Discard)
	must(err)
	listeners, err := in.Listen()
	must(err)
	token, err := auth.Sign([]byte(config.JWTSecret), access.NewCaller("acme", access.User, "u1", access.Owner), "", "", time.Now(), time.Hour)
	must(err)
	done := make(chan error)
	go func() { done <- errors.Join(in.Serve(ctx, listeners), in.Close()) }()
	return &api.Client{BaseURL: "http://" + listeners[0].Addr().String(), Token: token}, func() {
		cancel()
		must(<-done)
		must(os.RemoveAll(folder))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func ExampleClient_CreateCredential() {
	c, stop := gatehouse()
	defer stop()
	ctx := context.Background()
	in := api.CredentialCreate{Service: "openai", Credentials: map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"}}
	credential, err := c.CreateCredential(ctx, in)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(credential.Name, credential.Version, credential.Hint["apiKey"])

	_, err = c.CreateCredential(ctx, in)
	var problem *api.CallError
	if errors.As(err, &problem) {
		fmt.Println(problem.Status, problem.Code)
	}
	// Output:
	// Default 1 ••••klmn
	// 409 credential_exists
}

// Two people change a credential; who comes second is told.
func ExampleIfMatch() {
	c, stop := gatehouse()
	defer stop()
	ctx := context.Background()
	credential, err := c.CreateCredential(ctx, api.CredentialCreate{Service: "openai", Credentials: map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range []string{"chat", "search"} {
		_, err := c.UpdateCredential(ctx, credential.ID, api.CredentialUpdate{Name: api.Some(name)}, api.IfMatch(credential.ETag))
		var problem *api.CallError
		fmt.Println(name, errors.As(err, &problem) && problem.Status == 412)
	}
	// Output:
	// chat false
	// search true
}

// An export is read as it comes.
func ExampleClient_ExportEvents() {
	c, stop := gatehouse()
	defer stop()
	export, err := c.ExportEvents(context.Background(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = export.Close() }()
	n, err := io.Copy(io.Discard, export)
	fmt.Println(n > 0, err)
	// Output: true <nil>
}
