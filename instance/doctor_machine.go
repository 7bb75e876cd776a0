package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gatehouse-io/gatehouse/store"
)

// files looks whether what is on disk is for this user alone.
func (d *diagnosis) files() {
	const check = "files"
	var open []string
	count := 0
	look := func(path string, info fs.FileInfo) {
		if count++; info.Mode().Perm()&0o077 != 0 {
			open = append(open, fmt.Sprintf("%s (%04o)", path, info.Mode().Perm()))
		}
	}
	folder := d.config.Data
	if real, err := filepath.EvalSymlinks(folder); err == nil {
		folder = real // a link's own mode says nothing, and none is walked into
	}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != folder {
			return nil // a running server has just removed it
		}
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			look(path, info)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if path, file := store.FilePath(d.config.DatabaseURL); file && path != "" {
		for _, file := range []string{path, path + "-wal", path + "-shm"} {
			if info, err := os.Stat(file); err == nil {
				look(file, info)
			}
		}
	}
	switch {
	case err != nil:
		d.add(check, Failed, "run this as the user that the server runs as", "GATEHOUSE_DATA cannot be read: %v", err)
	case len(open) > 0:
		more := ""
		if len(open) > 5 {
			open, more = open[:5], " and more"
		}
		d.add(check, Failed, "chmod -R go-rwx "+d.config.Data, "others on this machine may read %s%s", strings.Join(open, ", "), more)
	case count == 0:
		d.add(check, Fine, "", "there is no data folder yet")
	default:
		d.add(check, Fine, "", "all %d files and folders are for this user alone", count)
	}
	d.space()
}

// leastSpace is how many bytes a disk should have left.
const leastSpace = 1 << 30

func (d *diagnosis) space() {
	free, known := freeSpace(d.config.Data)
	switch {
	case !known:
	case free < leastSpace:
		d.add("files", Doubtful, "make room: a full disk stops every change, and the trail", "the disk of %s has %d MB left", d.config.Data, free>>20)
	default:
		d.add("files", Fine, "", "the disk of %s has %d MB left", d.config.Data, free>>20)
	}
}

// ports looks whether each address can be listened on, or Gatehouse listens there.
func (d *diagnosis) ports(ctx context.Context) {
	const check = "ports"
	addresses := map[string]string{"GATEHOUSE_ADDR": d.config.Addr}
	for variable, address := range map[string]string{"GATEHOUSE_METRICS_ADDR": d.config.MetricsAddr, "GATEHOUSE_ENVOY_ADDR": d.config.EnvoyAddr} {
		if address != "" {
			addresses[variable] = address
		}
	}
	for service, address := range d.config.Listen {
		addresses[variableOf(listenPrefix, service)] = address
	}
	for _, variable := range slices.Sorted(maps.Keys(addresses)) {
		address := addresses[variable]
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			continue // a mistake of the configuration, which is told there
		}
		l, err := net.Listen("tcp", address)
		switch {
		case err == nil:
			_ = l.Close() // it was only tried
			d.add(check, Fine, "", "%s can be listened on", variable)
		case !errors.Is(err, syscall.EADDRINUSE):
			d.add(check, Failed, "name an address of this machine, and a port that this user may have", "%s cannot be listened on: %v", variable, err)
		case variable == "GATEHOUSE_ADDR":
			d.running(ctx, address)
		default:
			d.add(check, Fine, "", "%s is in use, by the running server most likely", variable)
		}
		if variable == "GATEHOUSE_ADDR" && !isLoopback(host) {
			d.add(check, Doubtful, "let a proxy that ends TLS stand in front, and let nothing else reach this port", "%s is open beyond this machine, and speaks plain HTTP", variable)
		}
	}
}

// running asks who listens where the server should.
func (d *diagnosis) running(ctx context.Context, address string) {
	const check = "ports"
	host, port, _ := net.SplitHostPort(address) // it has been split before
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var health struct{ Status, Version string }
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
	if err == nil {
		var answer *http.Response
		if answer, err = http.DefaultClient.Do(r); err == nil {
			err = json.NewDecoder(http.MaxBytesReader(nil, answer.Body, 4096)).Decode(&health)
			_ = answer.Body.Close() // it was only read
		}
	}
	switch {
	case err != nil || health.Status != "ok":
		d.add(check, Failed, "stop it, or name another port", "something that is not Gatehouse listens at GATEHOUSE_ADDR")
	case health.Version != Version:
		d.add(check, Doubtful, "restart the server where it should be this version", "a Gatehouse of another version (%.40q) answers at GATEHOUSE_ADDR", health.Version)
	default:
		d.add(check, Fine, "", "this version of Gatehouse answers at GATEHOUSE_ADDR")
	}
}

// proxies looks at who may say which address a request is from.
func (d *diagnosis) proxies() {
	const check = "proxies"
	trusted, err := d.config.trustedProxies()
	switch {
	case err != nil: // a mistake of the configuration, which is told there
	case len(trusted) == 0:
		d.add(check, Doubtful, "name your proxies and backends in TRUSTED_PROXIES where there are any",
			"no proxy is trusted: all who come through the same proxy or backend share one address, and its limit")
	default:
		d.add(check, Fine, "", "%d ranges of proxies are trusted with the client's address", len(trusted))
	}
}
