package instance

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/usage"
)

// newMeter opens the record of usage, with its spool in the data folder.
func (in *Instance) newMeter(c Config, log *slog.Logger) (*usage.Meter, error) {
	m, err := usage.New(in.DB, usage.Options{Dir: filepath.Join(c.Data, "usage"), MaxSpool: c.UsageSpool << 20, Logger: log})
	if err != nil {
		return nil, err
	}
	in.onClose(m.Close)
	in.metrics.Gauge("gatehouse_usage_spool_bytes", "Bytes of usage that wait on disk for the database.", func() float64 {
		return float64(m.Backlog().Bytes)
	})
	in.metrics.Gauge("gatehouse_usage_queued", "Records of usage in memory, that wait for the disk or the database.", func() float64 {
		return float64(m.Backlog().Queued)
	})
	in.metrics.Gauge("gatehouse_usage_refused", "1 while the disk does not take usage and requests to services are refused.", func() float64 {
		if m.Backlog().Refused {
			return 1
		}
		return 0
	})
	in.metrics.Gauge("gatehouse_usage_lost", "Records of usage that were damaged on disk or refused by the database since the start.", func() float64 {
		return float64(m.Backlog().Lost)
	})
	return m, nil
}

// checkUsage gives the mistakes in what concerns streams and usage.
func (c *Config) checkUsage() error {
	var mistakes []error
	if c.StreamsPerOrg < 0 {
		mistakes = append(mistakes, errors.New("CHAT_STREAMS_PER_ORG must be 0 or more"))
	}
	if c.UsageSpool < 1 || c.UsageSpool > 1<<20 {
		mistakes = append(mistakes, errors.New("USAGE_SPOOL_MIB must be from 1 to 1048576"))
	}
	hosts, err := catalog.ParseHosts(c.ChatHosts)
	for i, name := range trimmed(c.HostsUsage) {
		if err == nil && hosts[name] == "" { // a mistake in CHAT_HOSTS itself is told with it
			mistakes = append(mistakes, fmt.Errorf("CHAT_HOSTS_USAGE: entry %d is no name out of CHAT_HOSTS", i+1))
		}
	}
	return errors.Join(mistakes...)
}
