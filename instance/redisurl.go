package instance

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// redisParameters are those of a REDIS_URL: what rueidis reads, which passes over
// every other in silence.
var redisParameters = []string{"addr", "client_cache", "client_name", "db", "dial_timeout", "master_set", "max_retries", "protocol", "skip_verify", "write_timeout"}

// redis reads REDIS_URL. The error never holds the URL, which may have a password.
func (c *Config) redis() (rueidis.ClientOption, error) {
	if c.RedisURL == "" {
		return rueidis.ClientOption{}, nil
	}
	form := errors.New("REDIS_URL must be of the form redis://[user:password@]host:port[/database], or rediss:// for TLS")
	u, err := url.Parse(c.RedisURL)
	if err != nil || u.Fragment != "" || u.Opaque != "" {
		return rueidis.ClientOption{}, form
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return rueidis.ClientOption{}, form
	}
	for name := range query {
		if !slices.Contains(redisParameters, name) {
			return rueidis.ClientOption{}, fault.Mistakef("there are "+strings.Join(redisParameters, ", "), "REDIS_URL: one of its parameters is not known")
		}
	}
	for _, address := range append([]string{u.Host}, query["addr"]...) {
		if err := redisAddress(address); err != nil {
			return rueidis.ClientOption{}, err
		}
	}
	option, err := rueidis.ParseURL(c.RedisURL)
	if err != nil {
		return option, form
	}
	if option.SelectDB < 0 {
		return option, errors.New("REDIS_URL: the database must be a number from 0, such as redis://host:6379/0")
	}
	if option.Dialer.Timeout < 0 || option.ConnWriteTimeout < 0 {
		return option, errors.New("REDIS_URL: dial_timeout and write_timeout must be durations, such as 2s")
	}
	return option, nil
}

// redisAddress looks at one address out of a REDIS_URL, of which rueidis makes
// another where it cannot read it. A missing host or port has a default.
func redisAddress(address string) error {
	if strings.Contains(address, ",") {
		return fault.Mistakef("write further nodes of a cluster as redis://a:6379?addr=b:6379&addr=c:6379", "REDIS_URL: it names one address")
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil { // no port, or more than one
		host := strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
		if _, err := netip.ParseAddr(host); strings.Contains(host, ":") && (err != nil || host == address) {
			return errors.New("REDIS_URL: each address must be host:port, such as redis://127.0.0.1:6379 or redis://[::1]:6379")
		}
		return nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return errors.New("REDIS_URL: each port must be a number from 1 to 65535")
	}
	return nil
}
