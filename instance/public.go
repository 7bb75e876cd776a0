package instance

import (
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

var domainForm = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// checkPublic checks the names by which callers reach the instance.
func (c *Config) checkPublic() error {
	var mistakes []error
	if _, err := netip.ParseAddr(c.Domain); c.Domain != "" && (err == nil || len(c.Domain) > 220 || !domainForm.MatchString(c.Domain)) {
		mistakes = append(mistakes, errors.New("GATEHOUSE_DOMAIN must be a domain name without a port, such as gatehouse.example.com"))
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			mistakes = append(mistakes, errors.New("GATEHOUSE_URL must be an origin without a path, such as https://gatehouse.example.com"))
		}
	}
	return errors.Join(mistakes...)
}

// publicOrigin gives GATEHOUSE_URL without a slash at its end.
func (c *Config) publicOrigin() string { return strings.TrimRight(c.PublicURL, "/") }
