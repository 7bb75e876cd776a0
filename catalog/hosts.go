package catalog

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

var errName = errors.New("a name is not 1 to 32 of a-z, 0-9 and hyphen, starting with a letter or digit")

// ParseHosts reads the form of CHAT_HOSTS and SERVICE_HOSTS: name=origin pairs
// separated by commas, with spaces allowed around each part. An empty string is
// no host. Every mistake is in the returned error, each naming its entry by
// position (from 1), since the entry itself could hold a password. The other
// entries are given beside it, so that their mistakes can be told as well.
func ParseHosts(s string) (map[string]string, error) {
	hosts := make(map[string]string)
	if strings.TrimSpace(s) == "" {
		return hosts, nil
	}
	var mistakes []error
	for i, entry := range strings.Split(s, ",") {
		if err := parseHost(hosts, entry); err != nil {
			mistakes = append(mistakes, fmt.Errorf("entry %d: %w", i+1, err))
		}
	}
	return hosts, errors.Join(mistakes...)
}

func parseHost(hosts map[string]string, entry string) error {
	name, origin, found := strings.Cut(entry, "=")
	name, origin = strings.TrimSpace(name), strings.TrimSpace(origin)
	if !found || origin == "" {
		return errors.New("write it as name=origin, such as local=http://127.0.0.1:8000")
	}
	if !validName(name) {
		return errName
	}
	if _, twice := hosts[name]; twice {
		return fmt.Errorf("the name %s is given twice", name)
	}
	if _, err := parseOrigin(origin); err != nil {
		return err
	}
	hosts[name] = origin
	return nil
}

func validName(name string) bool {
	if name == "" || len(name) > 32 || name[0] == '-' {
		return false
	}
	return onlyBytes(name, func(b byte) bool { return isLowerAlnum(b) || b == '-' })
}

var basePath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)

// parseOrigin reads scheme://host[:port][/base/path]. The result has a
// lower-case host and no trailing slash. Errors never hold any part of raw.
func parseOrigin(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, mistakef("write it as https://host or http://host:port", "the origin is not a URL")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("the origin must start with http:// or https://")
	case u.User != nil:
		return nil, errors.New("the origin must not hold a user name or password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, errors.New("the origin must not hold a query or fragment")
	case u.Opaque != "" || !validHost(u.Hostname()):
		return nil, errors.New("the origin must name a host")
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, errors.New("the port of the origin must be 1 to 65535")
		}
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	if !basePath.MatchString(path) {
		return nil, errors.New("the base path of the origin must be plain: /name/name of letters, digits, dots, hyphens and underscores")
	}
	return &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host), Path: path}, nil
}

// validHost reports whether host is an IP address or a DNS name (RFC 1123, with
// the underscores that container networks use), without a port.
func validHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Zone() == ""
	}
	if host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if !onlyBytes(label, func(b byte) bool { return isAlnum(b) || b == '-' || b == '_' }) {
			return false
		}
	}
	return true
}

func isLowerAlnum(b byte) bool { return b >= 'a' && b <= 'z' || b >= '0' && b <= '9' }

func isAlnum(b byte) bool { return isLowerAlnum(b) || b >= 'A' && b <= 'Z' }

func onlyBytes(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

// mistake is an error that tells what is wrong from what to do about it.
type mistake struct{ what, mend string }

func mistakef(mend, format string, args ...any) error {
	return mistake{fmt.Sprintf(format, args...), mend}
}

// Error gives both on one line.
func (m mistake) Error() string { return m.what + "; " + m.mend }

// Parts gives both, for who lists mistakes.
func (m mistake) Parts() (what, mend string) { return m.what, m.mend }
