package sdktest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/stripe/stripe-go/v83"
)

func TestStripeDirect(t *testing.T) {
	t.Parallel()
	testStripe(t, direct(gatehousetest.Stripe(t, gatehousetest.Items(7)), ""))
}

// testStripe drives stripe-go. The fake has seven customers.
func testStripe(t *testing.T, at target) {
	client := stripe.NewClient(at.key, stripe.WithBackends(stripe.NewBackendsWithConfig(&stripe.BackendConfig{
		URL: stripe.String(at.baseURL), MaxNetworkRetries: stripe.Int64(0), LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
	})))
	list := func(ctx context.Context) (int, error) {
		params := &stripe.CustomerListParams{}
		params.Limit = stripe.Int64(3)
		n := 0
		for _, err := range client.V1Customers.List(ctx, params) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	t.Run("paginate", func(t *testing.T) {
		n := 0
		seen := at.since(t, 3, func() {
			var err error
			if n, err = list(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		if n != 7 || len(seen) != 3 {
			t.Errorf("%d customers in %d pages, want 7 in 3", n, len(seen))
		}
	})
	t.Run("create", func(t *testing.T) {
		create := func(email string) (*stripe.Customer, error) {
			params := &stripe.CustomerCreateParams{Email: stripe.String(email), Metadata: map[string]string{"plan": "pro"}}
			params.IdempotencyKey = stripe.String("sign-up-1")
			return client.V1Customers.Create(t.Context(), params)
		}
		first, err := create("a+b@example.com")
		if err != nil {
			t.Fatal(err)
		}
		again, err := create("a+b@example.com")
		if err != nil {
			t.Fatal(err)
		}
		if first.ID != again.ID || first.Email != "a+b@example.com" || first.Metadata["plan"] != "pro" {
			t.Errorf("first %+v, again %+v", first, again)
		}
		if again.LastResponse.Header.Get("Idempotent-Replayed") != "true" || first.LastResponse.RequestID == "" {
			t.Errorf("headers %v", again.LastResponse.Header)
		}
		var apiErr *stripe.Error
		if _, err := create("other@example.com"); !errors.As(err, &apiErr) || apiErr.Type != stripe.ErrorTypeIdempotency {
			t.Errorf("other parameters under the same key: %v", err)
		}
		got, err := client.V1Customers.Retrieve(t.Context(), first.ID, nil)
		if err != nil || got.Email != first.Email {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := client.V1Customers.Retrieve(t.Context(), "cus_none", nil); !errors.As(err, &apiErr) || apiErr.Code != stripe.ErrorCodeResourceMissing {
			t.Errorf("an unknown customer: %v", err)
		}
	})
	t.Run("upload", func(t *testing.T) {
		params := &stripe.FileCreateParams{Purpose: stripe.String("dispute_evidence"), FileReader: strings.NewReader(strings.Repeat("x", 300_000)), Filename: stripe.String("evidence.pdf")}
		made, err := client.V1Files.Create(t.Context(), params)
		if err != nil || made.Size != 300_000 || made.Filename != "evidence.pdf" {
			t.Errorf("%+v, %v", made, err)
		}
	})
	t.Run("stream", func(t *testing.T) {
		pdf, err := client.V1Quotes.PDF(t.Context(), "qt_1", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer pdf.LastResponse.Body.Close()
		if n, err := io.Copy(io.Discard, pdf.LastResponse.Body); n != 100_000 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	t.Run("retry", func(t *testing.T) {
		again := stripe.NewClient(at.key, stripe.WithBackends(stripe.NewBackendsWithConfig(&stripe.BackendConfig{
			URL: stripe.String(at.baseURL), MaxNetworkRetries: stripe.Int64(1), LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
		})))
		at.fake.Next(lockTimeout())
		seen := at.since(t, 2, func() {
			if _, err := again.V1Customers.Create(t.Context(), &stripe.CustomerCreateParams{Email: stripe.String("c@example.com")}); err != nil {
				t.Error(err)
			}
		})
		if len(seen) != 2 || seen[0].Status != 429 || seen[1].Status != 200 || seen[0].Header.Get("Idempotency-Key") != seen[1].Header.Get("Idempotency-Key") {
			t.Errorf("the provider saw %d requests", len(seen))
		}
	})
	t.Run("half an answer", func(t *testing.T) {
		at.fake.Next(gatehousetest.CutAfter(10))
		if _, err := client.V1Customers.Create(t.Context(), &stripe.CustomerCreateParams{Email: stripe.String("d@example.com")}); err == nil {
			t.Error("half an answer is taken for a whole one")
		}
	})
	t.Run("abort", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		started := make(chan struct{})
		at.fake.Next(gatehousetest.Announce(started, gatehousetest.Silent()))
		seen := at.since(t, 1, func() {
			go func() {
				<-started
				cancel()
			}()
			if _, err := list(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want context.Canceled", err)
			}
		})
		if !seen[0].Aborted {
			t.Error("the provider was not told that the client has left")
		}
	})
	t.Run("errors", func(t *testing.T) {
		for _, c := range []struct {
			name      string
			behaviour gatehousetest.Behaviour
			status    int
			kind      stripe.ErrorType
			code      stripe.ErrorCode
		}{
			{"wrong key", gatehousetest.InvalidKey(), 401, stripe.ErrorTypeInvalidRequest, ""},
			{"missing scope", gatehousetest.MissingScope("rak_customer_read"), 403, stripe.ErrorTypeInvalidRequest, ""},
			{"rate limit", gatehousetest.RateLimited(20 * time.Second), 429, stripe.ErrorTypeInvalidRequest, stripe.ErrorCodeRateLimit},
			{"server error", gatehousetest.ServerError(), 500, stripe.ErrorTypeAPI, ""},
		} {
			t.Run(c.name, func(t *testing.T) {
				at.fake.Next(c.behaviour)
				_, err := list(t.Context())
				var apiErr *stripe.Error
				if !errors.As(err, &apiErr) {
					t.Fatalf("%v is no *stripe.Error", err)
				}
				if apiErr.HTTPStatusCode != c.status || apiErr.Type != c.kind || apiErr.Code != c.code || apiErr.RequestID == "" {
					t.Errorf("%d %q %q of request %q, want %d %q %q", apiErr.HTTPStatusCode, apiErr.Type, apiErr.Code, apiErr.RequestID, c.status, c.kind, c.code)
				}
			})
		}
	})
}
