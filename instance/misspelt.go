package instance

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// misspelt is a variable that is no setting, and the setting that it is nearly named like.
type misspelt struct{ name, nearest string }

// misspeltVariables gives those of environ, in order. The names that begin as ours do are
// all looked at by [unknownVariables]; of others, which may be another program's, only those
// within a letter of a setting's name, or two of a long one's.
func misspeltVariables(environ map[string]string) []misspelt {
	var known []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if name, _, _ := strings.Cut(f.Tag.Get("env"), ","); name != "" && !strings.HasPrefix(name, ownPrefix) {
			known = append(known, name)
		}
	}
	var all []misspelt
	for _, name := range slices.Sorted(maps.Keys(environ)) {
		if strings.HasPrefix(name, ownPrefix) || slices.Contains(known, name) {
			continue
		}
		nearest, least := "", 3
		for _, k := range known {
			allowed := 1
			if len(k) >= 12 {
				allowed = 2
			}
			if d := max(len(name)-len(k), len(k)-len(name)); d > allowed {
				continue
			}
			if d := distance(name, k); d <= allowed && d < least {
				nearest, least = k, d
			}
		}
		if nearest != "" {
			all = append(all, misspelt{name, nearest})
		}
	}
	return all
}

// warnMisspelt says at start which variables may be misspelt settings.
func (c *Config) warnMisspelt(add func(mend, what string, details ...any)) {
	for _, m := range c.misspelt {
		add("it may be meant to be the other one", "this variable is no setting and does nothing", "variable", m.name, "nearest", m.nearest)
	}
}
