package instance

import (
	"fmt"
	"strings"
)

// warnSecrets says where a secret came in a form that is hardly meant. Its value is what
// it is: what was sealed or signed under it stands on every byte.
func (c *Config) warnSecrets(add func(mend, what string, details ...any)) {
	if what := oddity(c.JWTSecret); what != "" {
		mend := "set it as your application has it"
		if c.EncryptionKey == "" {
			mend += ", and put what it is now into ENCRYPTION_KEYS_OLD, since credentials are sealed under it"
		}
		add(mend, "JWT_SECRET has something around it that is part of it, so that tokens which were signed without are answered 401", "what", what)
	}
	if what := oddity(c.EncryptionKey); what != "" {
		add("keep it exactly so in every place, or move to a key without as docs/keys.md says",
			"ENCRYPTION_KEY has something around it that is part of it, so that without it nothing opens that is sealed", "what", what)
	}
	for _, file := range c.files {
		add(fromFile(file.setting, file.name), "this variable is not read, and what it stands for is not set", "variable", file.name)
	}
}

// oddity says what is around a secret that an editor, a secret store or an env file put
// there, as likely as not; "" where nothing is.
func oddity(secret string) string {
	trimmed := strings.TrimSpace(secret)
	switch n := len(trimmed); {
	case n > 1 && (trimmed[0] == '"' || trimmed[0] == '\'') && trimmed[n-1] == trimmed[0]:
		return "quotes"
	case trimmed == secret:
		return ""
	case strings.TrimRight(secret, "\r\n") == trimmed:
		return "a line break at its end"
	}
	return "white space"
}

// fileVariable is a variable by which other programs take a setting from a file.
type fileVariable struct{ name, setting string }

// fileVariables gives those of environ for the settings that are secrets, where these
// are not set: a script that reads the file may have left its variable.
func fileVariables(environ map[string]string) []fileVariable {
	var all []fileVariable
	for _, setting := range []string{"JWT_SECRET", "ENCRYPTION_KEY", "ENCRYPTION_KEYS_OLD", "DATABASE_URL", "REDIS_URL", "AUDIT_SINK_SECRET"} {
		for _, name := range []string{setting + "_FILE", setting + "__FILE", "FILE__" + setting} {
			if environ[name] != "" && environ[setting] == "" {
				all = append(all, fileVariable{name, setting})
			}
		}
	}
	return all
}

// fileFor names the variable that was set in place of a setting, "" where none was.
func (c *Config) fileFor(setting string) string {
	for _, file := range c.files {
		if file.setting == setting {
			return file.name
		}
	}
	return ""
}

// fromFile says how a setting is read from a file.
func fromFile(setting, file string) string {
	return fmt.Sprintf(`read the file where you start it: %s="$(cat "$%s")" gatehouse serve`, setting, file)
}
