package instance

import (
	"context"
	"strings"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// issuers reads AUTH_ISSUERS: a file, or the JSON itself. Every mistake is in
// the error, each with the variable and its place.
func (c *Config) issuers() ([]auth.IssuerConfig, error) {
	const variable = "AUTH_ISSUERS"
	text := strings.TrimSpace(c.AuthIssuers)
	if text == "" {
		return nil, nil
	}
	data := []byte(text)
	if text[0] != '[' {
		var err error
		if data, err = readBounded(variable, text, auth.MaxIssuersFile); err != nil {
			return nil, err
		}
	}
	all, err := auth.ParseIssuers(data, c.Environment == developmentEnvironment)
	if err != nil {
		return nil, fault.EachOf(variable, err)
	}
	for i, issuer := range all {
		if issuer.Issuer == c.JWTIssuer {
			return nil, fault.Mistakef("the two must differ", "%s: issuer %d: issuer is JWT_ISSUER too, which signs with JWT_SECRET", variable, i+1)
		}
	}
	return all, nil
}

// developmentEnvironment is the environment in which keys may come over plain
// http from this machine.
const developmentEnvironment = "development"

// memberDeleted ends what a member made.
func (in *Instance) memberDeleted(ctx context.Context, tx *store.Tx, by access.Caller, organization, member string) error {
	return in.Tokens.RevokeMade(ctx, tx, by, organization, member)
}
