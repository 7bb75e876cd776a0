package instance

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/auth"
)

// The organization and the owner of dev mode.
const (
	DevOrganization = "dev"
	devOwner        = "dev-owner"
	devTokenTTL     = 30 * 24 * time.Hour
)

// devSecrets is what dev mode makes for itself, kept in GATEHOUSE_DATA so that
// the same token works after a restart.
type devSecrets struct {
	JWTSecret     string `json:"jwtSecret"`
	EncryptionKey string `json:"encryptionKey"`
}

const devSecretsFile = "dev-secrets.json"

// ForDev turns c into the configuration of dev mode: secrets of its own where
// none are set, organizations made by tokens, reveal and echo on, loopback only.
func (c Config) ForDev() (Config, error) {
	c.dev = true
	c.Environment = "development"
	c.OrganizationsFromTokens, c.CredentialReveal = true, true
	if c.JWTSecret != "" && c.EncryptionKey != "" {
		return c, nil
	}
	s, err := readDevSecrets(c.Data)
	if errors.Is(err, fs.ErrNotExist) {
		s, err = makeDevSecrets(c.Data)
	}
	if err != nil {
		return c, err
	}
	if c.JWTSecret == "" {
		c.JWTSecret = s.JWTSecret
	}
	if c.EncryptionKey == "" {
		c.EncryptionKey = s.EncryptionKey
	}
	return c, nil
}

// WithDevSecret fills in dev mode's signing secret where c has none and the
// data folder is dev mode's, so that `gatehouse token` works beside `gatehouse
// dev`. It reports whether it did.
func (c *Config) WithDevSecret() bool {
	if c.JWTSecret != "" {
		return false
	}
	s, err := readDevSecrets(c.Data)
	c.JWTSecret = s.JWTSecret
	return err == nil
}

// IsDevData reports whether the data folder is dev mode's.
func (c *Config) IsDevData() bool {
	_, err := os.Stat(filepath.Join(c.Data, devSecretsFile))
	return err == nil
}

func readDevSecrets(data string) (devSecrets, error) {
	var s devSecrets
	path := filepath.Join(data, devSecretsFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if json.Unmarshal(b, &s) != nil || len(s.JWTSecret) < auth.MinSecret || len(s.EncryptionKey) < auth.MinSecret {
		return devSecrets{}, fmt.Errorf("%s is damaged; restore it, or remove the whole folder to start afresh", path)
	}
	return s, nil
}

func makeDevSecrets(data string) (devSecrets, error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return devSecrets{}, fmt.Errorf("GATEHOUSE_DATA cannot be made: %w", err)
	}
	s := devSecrets{JWTSecret: randomSecret(), EncryptionKey: randomSecret()}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return s, err
	}
	f, err := os.OpenFile(filepath.Join(data, devSecretsFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return s, fmt.Errorf("dev mode's secrets cannot be kept: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	return s, errors.Join(err, f.Sync(), f.Close())
}

func randomSecret() string {
	b := make([]byte, 36)
	rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

// DevToken signs a token for dev mode's owner, who is operator too.
func (c *Config) DevToken(now time.Time) (string, error) {
	owner := access.NewCaller(DevOrganization, access.User, devOwner, access.Owner, access.Operator)
	return auth.Sign([]byte(c.JWTSecret), owner, c.JWTIssuer, c.JWTAudience, now, devTokenTTL)
}
