package instance

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

const ownPrefix = "GATEHOUSE_"

// elsewhere are variables of ours that the command line reads, and not the server.
var elsewhere = []string{"GATEHOUSE_BACKUP_PASSPHRASE"}

// ofKubernetes are variables that Kubernetes sets for a Service named gatehouse.
var ofKubernetes = regexp.MustCompile(`^GATEHOUSE_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_.+)?)$`)

// unknownVariables gives those of environ that begin as ours do and are none, in
// order: a misspelt one would be passed over in silence.
func unknownVariables(environ map[string]string) []string {
	known := ownVariables()
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(environ)) {
		if strings.HasPrefix(name, ownPrefix) && !slices.Contains(known, name) && !slices.Contains(elsewhere, name) && !ofKubernetes.MatchString(name) &&
			!strings.HasPrefix(name, listenPrefix) && !strings.HasPrefix(name, boundsPrefix) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// ownVariables gives the names of all settings that begin as ours do.
func ownVariables() []string {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if name := f.Tag.Get("env"); strings.HasPrefix(name, ownPrefix) {
			names = append(names, name)
		}
	}
	return names
}

// nearestVariable gives the setting that name was most likely meant to be, or "".
func nearestVariable(name string) string {
	const far = 4
	nearest, least := "", far
	for _, known := range ownVariables() {
		if d := distance(name, known); d < least {
			nearest, least = known, d
		}
	}
	return nearest
}

// distance counts the letters to be put in, taken out or exchanged to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0] // of the row above, one to the left
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, before+1, row[j]+1)
		}
	}
	return row[len(b)]
}
