package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"filippo.io/age"
	"golang.org/x/term"

	"github.com/gatehouse-io/gatehouse/backup"
)

// minPassphrase is the length in bytes of the shortest passphrase that a backup
// is made with: whoever has the file may try as often as they like.
const minPassphrase = 16

// passphraseEnv names the variable that may hold a passphrase.
const passphraseEnv = "GATEHOUSE_BACKUP_PASSPHRASE"

// passphrase is where a backup's passphrase comes from.
type passphrase struct {
	PassphraseFile string `placeholder:"PATH" help:"A file whose first line is the passphrase; GATEHOUSE_BACKUP_PASSPHRASE in the environment does the same."`
}

// read gives what the file, the variable or somebody at a terminal gives, of which
// [firstLine] is the passphrase; nil where nothing is given. It asks where ask is set
// and there is a terminal.
func (p passphrase) read(ask, twice bool) ([]byte, error) {
	if p.PassphraseFile != "" {
		b, err := os.ReadFile(p.PassphraseFile)
		if err != nil {
			return nil, fmt.Errorf("the passphrase cannot be read: %w", err)
		}
		return b, nil
	}
	if s := os.Getenv(passphraseEnv); s != "" {
		return []byte(s), nil
	}
	stdin := int(os.Stdin.Fd())
	if !ask || !term.IsTerminal(stdin) {
		return nil, nil
	}
	prompt := func(text string) ([]byte, error) {
		fmt.Fprint(os.Stderr, text)
		b, err := term.ReadPassword(stdin)
		fmt.Fprintln(os.Stderr)
		return b, err
	}
	first, err := prompt("Passphrase of the backup: ")
	if err != nil || !twice {
		return first, err
	}
	second, err := prompt("Once more: ")
	if err == nil && !bytes.Equal(first, second) {
		err = errors.New("the two passphrases are not the same")
	}
	return first, err
}

// firstLine gives the passphrase out of what was given: without the line break that an
// editor or a secret store puts behind it.
func firstLine(given []byte) []byte {
	line, _, _ := bytes.Cut(given, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}

// passphraseIdentities gives what may open a backup with what was given. Earlier
// versions took the variable as it was, line break and all, so that this counts too.
func passphraseIdentities(given []byte) ([]age.Identity, error) {
	secret := string(firstLine(given))
	var all []age.Identity
	for i, text := range []string{secret, string(given), secret + "\n"} {
		if text == "" || i == 1 && text == secret || i == 2 && text == string(given) {
			continue
		}
		id, err := age.NewScryptIdentity(text)
		if err != nil {
			return nil, err
		}
		all = append(all, id)
	}
	return all, nil
}

// recipients gives to whom a backup is encrypted, and what its event says of
// them. No error holds what was given: it may be a secret key, by mistake.
func (b backupCreateCommand) recipients() ([]age.Recipient, map[string]any, error) {
	var all []age.Recipient
	for i, text := range b.Recipient {
		r, err := age.ParseRecipients(bytes.NewReader([]byte(text)))
		if err != nil || len(r) != 1 {
			return nil, nil, usagef("--recipient %d is no age public key; one looks like age1..., and a secret key (AGE-SECRET-KEY-1...) is none", i+1)
		}
		all = append(all, r...)
	}
	for _, path := range b.RecipientsFile {
		f, err := os.Open(path)
		if err != nil {
			return nil, nil, fmt.Errorf("the recipients cannot be read: %w", err)
		}
		r, err := age.ParseRecipients(f)
		_ = f.Close() // it was only read
		if err != nil {
			return nil, nil, usagef("%s is no file of age public keys, one a line", path)
		}
		all = append(all, r...)
	}
	if len(all) > 0 {
		if b.PassphraseFile != "" {
			return nil, nil, usagef("a backup is for recipients or for a passphrase, not for both")
		}
		return all, map[string]any{"recipients": len(all)}, nil
	}
	given, err := b.read(true, true)
	if err != nil {
		return nil, nil, err
	}
	secret := firstLine(given)
	if given == nil {
		return nil, nil, usagef("say who can open the backup: --recipient age1..., --recipients-file, --passphrase-file or %s", passphraseEnv)
	}
	if len(secret) < minPassphrase {
		return nil, nil, usagef("the passphrase is shorter than %d bytes; whoever has the file can try as often as they like", minPassphrase)
	}
	r, err := age.NewScryptRecipient(string(secret))
	if err != nil {
		return nil, nil, err
	}
	return []age.Recipient{r}, map[string]any{"passphrase": true}, nil
}

// readBackup is a backup to be read, and what opens it.
type readBackup struct {
	File     string   `arg:"" name:"FILE" help:"The backup; - reads standard input."`
	Identity []string `placeholder:"PATH" help:"A file of age secret keys that may open the backup. May be repeated."`
	passphrase
}

// open decrypts the file and hands it to fn.
func (b readBackup) open(fn func(*backup.Reader) error) error {
	identities, err := b.identities()
	if err != nil {
		return err
	}
	in := io.NopCloser(os.Stdin)
	if b.File != "-" {
		if in, err = os.Open(b.File); err != nil {
			return fmt.Errorf("the backup cannot be read: %w", err)
		}
	}
	defer func() { _ = in.Close() }() // it was only read
	r, err := backup.Open(in, identities)
	if err != nil {
		return err
	}
	return fn(r)
}

func (b readBackup) identities() ([]age.Identity, error) {
	var all []age.Identity
	for _, path := range b.Identity {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("the identity cannot be read: %w", err)
		}
		ids, err := age.ParseIdentities(f)
		_ = f.Close()   // it was only read
		if err != nil { // whose text can repeat a line
			return nil, usagef("%s is no file of age secret keys, as `gatehouse backup keygen` and age-keygen write them", path)
		}
		all = append(all, ids...)
	}
	given, err := b.read(len(all) == 0 && b.File != "-", false)
	if err != nil {
		return nil, err
	}
	if len(given) > 0 {
		ids, err := passphraseIdentities(given)
		if err != nil {
			return nil, err
		}
		all = append(all, ids...)
	}
	if len(all) == 0 {
		return nil, usagef("say what opens the backup: --identity, --passphrase-file or %s", passphraseEnv)
	}
	return all, nil
}
