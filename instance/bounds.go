package instance

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// Limits of the settings about time and size.
const (
	longestBound = 24 * time.Hour
	largestBody  = 16 << 10 // MiB
)

// bounds gives what requests may take where a service has no bounds of its own.
func (c *Config) bounds() gateway.Bounds {
	return gateway.Bounds{
		MaxBody: c.RequestBody << 20, FirstByte: c.UpstreamFirstByte, Idle: c.UpstreamIdle, Total: c.UpstreamTotal, Heartbeat: c.StreamHeartbeat,
	}
}

// spoolDir is where request bodies are kept that are too large for memory.
func (c *Config) spoolDir() string { return filepath.Join(c.Data, "spool") }

// serviceBounds reads the GATEHOUSE_BOUNDS_SERVICE variables. Every mistake is in
// the error.
func (c *Config) serviceBounds() (map[string]gateway.Bounds, error) {
	all := make(map[string]gateway.Bounds, len(c.Bounds))
	var mistakes []error
	for _, service := range slices.Sorted(maps.Keys(c.Bounds)) {
		b, err := parseBounds(c.Bounds[service])
		all[service] = b
		mistakes = append(mistakes, fault.EachOf(variableOf(boundsPrefix, service), err))
	}
	return all, errors.Join(mistakes...)
}

// parseBounds reads "first-byte=10m,idle=10m,total=2h,heartbeat=15s,body-mib=50".
func parseBounds(text string) (b gateway.Bounds, err error) {
	var mistakes []error
	for entry := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(entry), "=")
		into, isTime := map[string]*time.Duration{
			"first-byte": &b.FirstByte, "idle": &b.Idle, "total": &b.Total, "heartbeat": &b.Heartbeat,
		}[name]
		switch {
		case isTime:
			*into, err = time.ParseDuration(value)
			if name == "heartbeat" && err == nil && *into == 0 {
				*into = -1 // never, whatever holds for the others
				continue
			}
			if err != nil || *into < time.Millisecond || *into > longestBound {
				mistakes = append(mistakes, fmt.Errorf("%s must be a duration up to 24h, such as 10m", name))
			}
		case name == "body-mib":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 1 || n > largestBody {
				mistakes = append(mistakes, fmt.Errorf("body-mib must be from 1 to %d", largestBody))
			}
			b.MaxBody = n << 20
		default:
			mistakes = append(mistakes, errors.New("it must be some of first-byte=10m,idle=10m,total=2h,heartbeat=15s,body-mib=50"))
		}
	}
	return b, errors.Join(mistakes...)
}

// checkBounds gives the mistakes in what bounds requests and answers.
func (c *Config) checkBounds(services *catalog.Catalog) error {
	var mistakes []error
	for _, d := range []struct {
		variable string
		value    time.Duration
	}{
		{"UPSTREAM_FIRST_BYTE_TIMEOUT", c.UpstreamFirstByte}, {"UPSTREAM_IDLE_TIMEOUT", c.UpstreamIdle}, {"UPSTREAM_TOTAL_TIMEOUT", c.UpstreamTotal},
	} {
		if d.value < time.Millisecond || d.value > longestBound {
			mistakes = append(mistakes, fmt.Errorf("%s must be a duration up to 24h, such as 5m", d.variable))
		}
	}
	if c.StreamHeartbeat != 0 && (c.StreamHeartbeat < time.Second || c.StreamHeartbeat > time.Hour) {
		mistakes = append(mistakes, errors.New("STREAM_HEARTBEAT must be 0s or from 1s to 1h"))
	}
	if c.RequestBody < 1 || c.RequestBody > largestBody {
		mistakes = append(mistakes, fmt.Errorf("REQUEST_BODY_MIB must be from 1 to %d", largestBody))
	}
	if c.BodySpool < 1 || c.BodySpool > 1<<20 {
		mistakes = append(mistakes, errors.New("BODY_SPOOL_MIB must be from 1 to 1048576"))
	}
	if c.DrainDelay < 0 || c.DrainDelay > 10*time.Minute {
		mistakes = append(mistakes, errors.New("GATEHOUSE_DRAIN_DELAY must be from 0s to 10m"))
	}
	_, err := c.serviceBounds()
	mistakes = append(mistakes, err)
	for _, service := range slices.Sorted(maps.Keys(c.Bounds)) {
		mistakes = append(mistakes, checkOwnVariable(boundsPrefix, service, services))
	}
	return errors.Join(mistakes...)
}

// meterBodies counts the request bodies that wait to be sent.
func (in *Instance) meterBodies(g *gateway.Gateway) {
	in.metrics.Gauge("gatehouse_body_memory_bytes", "Bytes of request bodies above 64 KiB in memory.", func() float64 {
		memory, _ := g.Buffered()
		return float64(memory)
	})
	in.metrics.Gauge("gatehouse_body_spool_bytes", "Bytes of request bodies on disk.", func() float64 {
		_, spooled := g.Buffered()
		return float64(spooled)
	})
}
