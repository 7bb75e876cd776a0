package instance

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// services makes the catalogue of the configuration. Every mistake is in the
// error, each with its variable and place.
func (c *Config) services() (*catalog.Catalog, error) {
	chat, chatErr := catalog.ParseHosts(c.ChatHosts)
	other, otherErr := catalog.ParseHosts(c.ServiceHosts)
	custom, customErr := c.servicesFile()
	forward, forwardErr := c.forwardHeaders()
	if chatErr != nil || customErr != nil {
		forward = nil // they may name a service that is missing for that reason alone
	}
	// What could be read is looked at even so, so that no mistake waits behind another.
	services, err := catalog.New(catalog.Options{
		ChatHosts: chat, ServiceHosts: other, GitHubHosts: c.GitHubHosts, Custom: custom, ForwardHeaders: forward, Echo: c.dev,
	})
	err = errors.Join(fault.EachOf("CHAT_HOSTS", chatErr), fault.EachOf("SERVICE_HOSTS", otherErr), customErr, forwardErr, err)
	if err != nil {
		return nil, err
	}
	return services, nil
}

// servicesFile reads the operator's own services; nil where there is no file.
func (c *Config) servicesFile() ([]byte, error) {
	if c.ServicesFile == "" {
		return nil, nil
	}
	return readBounded("GATEHOUSE_SERVICES", c.ServicesFile, catalog.MaxCustomFile)
}

// readBounded reads the file that a variable names, up to one byte more than most.
func readBounded(variable, path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", variable, err)
	}
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", variable, err)
	}
	return content, nil
}

// tellServices says at start what the operator added to the catalogue, and
// loudly what passes the guard on outgoing connections.
func tellServices(log *slog.Logger, services *catalog.Catalog) {
	var custom, private []string
	for _, s := range services.Services() {
		if s.Custom() {
			custom = append(custom, s.Name)
		}
		if s.Private() {
			private = append(private, s.Name)
		}
	}
	if len(custom) > 0 {
		log.Info("GATEHOUSE_SERVICES adds services of your own", "services", custom)
	}
	if len(private) > 0 {
		log.Warn("GATEHOUSE_SERVICES sends keys to hosts that may be plain http or on a private network", "services", private)
	}
}
