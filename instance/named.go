package instance

import (
	"strings"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// The variables of one service begin with these.
const (
	listenPrefix = "GATEHOUSE_LISTEN_" // its own address
	boundsPrefix = "GATEHOUSE_BOUNDS_" // its own bounds
)

// variableOf gives the variable of a service that begins with prefix.
func variableOf(prefix, service string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(service, "-", "_"))
}

// trimmed gives the names of a list without the space around them, and without
// those that are nothing else.
func trimmed(list []string) []string {
	var names []string
	for _, name := range list {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// takesRequests reports whether there is a service of the name that has routes, as
// smtp has not.
func takesRequests(services *catalog.Catalog, name string) bool {
	s, known := services.Service(name)
	return known && s.PathPrefix() != ""
}

// noService gives the mistake where name is no service that takes requests. services is
// nil where the catalogue has mistakes of its own.
func noService(services *catalog.Catalog, name, format string, args ...any) error {
	if services == nil || name == catalog.AppName || takesRequests(services, name) {
		return nil
	}
	var names []string
	for _, s := range services.Services() {
		if takesRequests(services, s.Name) {
			names = append(names, s.Name)
		}
	}
	return fault.Mistakef("there are "+strings.Join(names, ", "), format, args...)
}

// checkServices gives the mistakes in a variable that lists services.
func checkServices(variable string, names []string, services *catalog.Catalog) []error {
	var mistakes []error
	for i, name := range names {
		mistakes = append(mistakes, noService(services, name, "%s: entry %d is no service", variable, i+1))
	}
	return mistakes
}

// checkOwnVariable gives the mistake in the name of a variable of one service.
func checkOwnVariable(prefix, service string, services *catalog.Catalog) error {
	return noService(services, service, "%s names no service that takes requests", variableOf(prefix, service))
}
