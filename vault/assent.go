package vault

import (
	"context"
	"net/url"
	"strings"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/catalog"
)

// OpenAsSent is [Vault.OpenForUse] for a name as a client sent it, which may be
// percent-encoded UTF-8: many send a header in Latin-1, and some nothing beyond ASCII. A
// credential that has the name as it came is meant by it.
func (v *Vault) OpenAsSent(ctx context.Context, caller access.Caller, service *catalog.Service, name string) (Opened, error) {
	decoded := decodedName(name)
	if decoded == "" {
		return v.OpenForUse(ctx, caller, service, name)
	}
	// Kept under what was sent: names that do not exist are not kept, so that each request
	// would look for the first, and none would find the second while the database is away.
	return v.openKey(ctx, caller, service, v.encoded, useKey{caller.Organization, service.Name, name, decoded})
}

// decodedName gives the name that another may be the percent-encoded form of, "" for none
// that a credential can have.
func decodedName(name string) string {
	if !strings.Contains(name, "%") {
		return ""
	}
	decoded, err := url.PathUnescape(name)
	if err != nil || decoded == name || checkName(decoded) != nil {
		return ""
	}
	return decoded
}

// names gives what key asks for, first come.
func (key useKey) names() []string {
	switch {
	case key.decoded == "":
		return []string{key.name}
	case checkName(key.name) != nil: // too long, as no credential's can be, or what the database may refuse
		return []string{key.decoded}
	}
	return []string{key.name, key.decoded}
}
