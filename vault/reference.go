package vault

import (
	"regexp"
	"strings"

	"github.com/gatehouse-io/gatehouse/catalog"
)

// The forms in which a variable says where its secret is kept, or holds it encrypted, for a
// tool that puts the secret in its place. Stored as a key it would never work, and the
// report would call the only place that leads to the key deletable.
var (
	reference = regexp.MustCompile(`^(` + strings.Join([]string{
		`ENC\[[A-Z0-9_]+,.*\]`,                          // SOPS, hiera-eyaml
		`encrypted:[A-Za-z0-9+/_=-]{16,}`,               // dotenvx
		`@Microsoft\.(KeyVault|AppConfiguration)\(.*\)`, // Azure App Service
		`secretref:\S+`,                                 // Azure Container Apps
		`arn:aws[a-z-]*:(secretsmanager|ssm|kms):\S+`,   // AWS
		`vault:(v[0-9]+:\S+|\S*[/#]\S*)`,                // Vault: its transit engine, Bank-Vaults
		`op://.+`,                                       // 1Password
		`(sm|gcpsm|awssm|awsps|akv|azkv|bws|doppler|infisical|file|ref\+[a-z0-9]+)://\S+`, // Berglas, vals and others
		`projects/[^/\s]+/secrets/\S+`, // Google Secret Manager
	}, `|`) + `)$`)
	// No token has these; a password may.
	expansion = regexp.MustCompile(`^(\$\{[^{}]*\}|\$\([^()]*\))$`)
)

// isReference reports whether a field's value is a reference to a secret, and not the secret.
func isReference(f *catalog.Field, value string) bool {
	value = strings.TrimSpace(value)
	token := f.Secret && f.Format == catalog.Token || f.Format == catalog.Segment
	return reference.MatchString(value) || token && expansion.MatchString(value)
}
