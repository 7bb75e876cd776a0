package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/store"
)

// environment gives the process's variables as a map.
func environment() map[string]string {
	all := make(map[string]string)
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		all[name] = value
	}
	return all
}

// readConfig reads the environment for a command that needs no more of the
// configuration than itself looks at.
func readConfig() (instance.Config, error) {
	c, err := instance.FromEnvironment(environment())
	if err != nil {
		return c, mistakesError(err)
	}
	return c, nil
}

// loadConfig reads the environment, turns it by change where that is given, and
// lists every mistake at once.
func loadConfig(change func(instance.Config) (instance.Config, error)) (instance.Config, error) {
	c, err := instance.FromEnvironment(environment())
	if err == nil && change != nil {
		c, err = change(c)
	}
	if err == nil {
		err = c.Check()
	} else if check := c.Check(); change == nil && check != nil {
		err = errors.Join(err, check)
	}
	if err != nil {
		return c, mistakesError(err)
	}
	return c, nil
}

// mistakesError lists the mistakes in a configuration.
func mistakesError(err error) error {
	lines := strings.Split(err.Error(), "\n")
	if len(lines) == 1 {
		return usagef("the configuration has a mistake:\n  - %s", lines[0])
	}
	return usagef("the configuration has %d mistakes:\n  - %s", len(lines), strings.Join(lines, "\n  - "))
}

// rightEnvironment refuses the database of another environment than GATEHOUSE_ENV names. Commands
// that need no key need the variable neither, so that only one that is set counts.
func rightEnvironment(ctx context.Context, c instance.Config, db *store.DB) error {
	if environment()["GATEHOUSE_ENV"] == "" {
		return nil
	}
	return masterkey.BelongsTo(ctx, db, c.Environment)
}
