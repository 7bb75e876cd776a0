package vault_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/gatehouse-io/gatehouse/vault"
)

// What leads to a secret is not imported as one, nor called deletable.
func TestReferences(t *testing.T) {
	t.Parallel()
	i := newImporting(t, filepath.Join(t.TempDir(), "g.db"))
	read := func(variable, value string) vault.ServiceImport {
		t.Helper()
		report, err := i.Import(t.Context(), i.owner, vault.ImportOptions{Variables: map[string]string{variable: value}, DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(report.Services, func(s vault.ServiceImport) bool { return s.Result != vault.ImportAbsent })
		return report.Services[at]
	}
	for _, value := range []string{
		"ENC[AES256_GCM,data:q1w2e3r4,iv:abc=,tag:def==,type:str]", "ENC[PKCS7,MIIBeQYJKoZIhvcNAQcDoIIBajCCAWYCAQAx]",
		"@Microsoft.KeyVault(SecretUri=https://acme.vault.azure.net/secrets/openai/)", "@Microsoft.KeyVault(VaultName=acme;SecretName=openai)",
		"encrypted:BDqDBibm4wsYqMpCjTQ6BsDHmMadg9K3dAt+Z9HPMfLEIRVz50hmLXPXRuDBXaJi", "op://prod/openai/credential", "op://Private/Open AI key", "vault:secret/data/openai#key", "vault:v1:8SDd3WHDOjf7mq69CyCqYjBXAiQQ",
		"arn:aws:secretsmanager:eu-central-1:123456789012:secret:openai-AbCdEf", "arn:aws-us-gov:ssm:us-gov-west-1:123456789012:parameter/openai", "ref+vault://secret/openai#/key",
		"ref+awssecrets://prod/openai", "projects/acme/secrets/openai/versions/latest", "secretref:openai-key", "${openai_key}", "${OPENAI:-none}", "$(cat /run/secrets/openai)",
	} {
		for _, variable := range []string{"OPENAI_API_KEY", "SMTP_PASS"} {
			if variable == "SMTP_PASS" && value[0] == '$' {
				continue // a password may be so
			}
			s := read(variable, value)
			if len(s.Variables) != 0 || !slices.Equal(s.References, []string{variable}) || !slices.Equal(s.Placeholders, s.References) {
				t.Errorf("%s=%q: %+v; want a reference", variable, value, s)
			}
		}
	}
	for variable, values := range map[string][]string{
		"OPENAI_API_KEY": {"sk-try-0123456789abcdefghij", "encrypted", "vault-0123456789abcdef"},
		"SMTP_PASS":      {"${abc}", "$(abc)", "vault:hunter2", "op:abc", "ENC[abc]", "encrypted:yes", "arn:aws"},
	} {
		for _, value := range values {
			if s := read(variable, value); len(s.References) != 0 {
				t.Errorf("%s=%q is taken for a reference", variable, value)
			}
		}
	}
}
