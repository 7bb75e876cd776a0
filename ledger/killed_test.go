package ledger_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// busyURL makes the test program a process that changes, visits and seals, and
// nothing else: the one that is killed.
const busyURL = "GATEHOUSE_TEST_BUSY"

func TestMain(m *testing.M) {
	if url := os.Getenv(busyURL); url != "" {
		fmt.Fprintln(os.Stderr, busy(url))
		os.Exit(1)
	}
	gatehousetest.Main(m)
}

// busy works until it is killed. Each change is a member with the id of its event.
func busy(url string) error {
	ctx := context.Background()
	db, err := store.Open(ctx, url, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	trail := audit.New(db, audit.Options{FlushEvery: 10 * time.Millisecond})
	keys, err := masterkey.Open(ctx, db, trail, masterkey.Options{Environment: "test", Secret: seal.NewSecret(gatehousetest.EncryptionKey)})
	if err != nil {
		return err
	}
	services, err := catalog.New(catalog.Options{})
	if err != nil {
		return err
	}
	v := vault.New(db, trail, services, keys.Ring(), vault.Options{Environment: "test"})
	go trail.Run(ctx)
	go ledger.New(db, trail, v.SigningKeys(), ledger.Options{Environment: "test", Every: 5 * time.Millisecond, Lease: 100 * time.Millisecond}).Run(ctx)
	fmt.Println("busy") // the parent kills it from here on
	failed := make(chan error)
	var first sync.Once
	for range 4 {
		go func() {
			for {
				id := store.NewID("evt")
				err := db.Update(ctx, "acme", func(tx *store.Tx) error {
					if _, err := tx.Exec(ctx, `INSERT INTO members (organization, id) VALUES ('acme', $1)`, id); err != nil {
						return err
					}
					return trail.Append(ctx, tx, ownerOf("acme"), audit.Event{ID: id, Action: audit.MemberDisable, Outcome: audit.Success})
				})
				if err != nil {
					failed <- err
				}
				first.Do(func() { fmt.Println("changed") })
				if slot, err := trail.Reserve(); err == nil {
					slot.Record(ctx, ownerOf("acme"), audit.Event{Action: audit.ChatRequest, Outcome: audit.Success})
				}
			}
		}()
	}
	return <-failed
}

// TestKilled kills busy processes at random points, over and over, two at a time on
// PostgreSQL: a change exists if and only if its event does, and the trail
// verifies.
func TestKilled(t *testing.T) {
	kills := 4
	if n, err := strconv.Atoi(os.Getenv("GATEHOUSE_SOAK_LEDGER_KILLS")); err == nil {
		kills = n
	}
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := newBook(t, url, ledger.Options{Lease: 100 * time.Millisecond})
		b.exec(t, `INSERT INTO organizations (id, name, created_at) VALUES ('acme', 'acme', 1)`)
		at := 2
		if b.db.Kind() == "sqlite" {
			at = 1
		}
		for i := range kills {
			var all sync.WaitGroup
			for range at {
				all.Go(func() { killed(t, url, i%2 == 0) })
			}
			all.Wait()
		}
		time.Sleep(200 * time.Millisecond) // the last lease
		b.sealAll(t)
		r := b.verifyAll(t)
		var changes, without, beyond int64
		b.scan(t, &changes, `SELECT count(*) FROM members`)
		b.scan(t, &without, `SELECT count(*) FROM members m LEFT JOIN events e ON e.organization = m.organization AND e.id = m.id WHERE e.id IS NULL`)
		b.scan(t, &beyond, `SELECT count(*) FROM events e LEFT JOIN members m ON e.organization = m.organization AND e.id = m.id WHERE e.action = 'member.disable' AND m.id IS NULL`)
		if without != 0 || beyond != 0 || changes == 0 {
			t.Errorf("of %d changes %d have no event, and %d events no change", changes, without, beyond)
		}
		if !r.Clean() || r.Unsealed != 0 || r.Events < changes {
			t.Errorf("after %d kills: %+v", kills*at, r)
		}
		t.Logf("%d kills, %d changes, %d events verified", kills*at, changes, r.Events)
	})
}

// killed starts a busy process and kills it soon, or soon after its first change:
// a slow machine would otherwise see none in any of them.
func killed(t *testing.T, url string, changed bool) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), busyURL+"="+url)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Error(err)
		return
	}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return
	}
	said := bufio.NewReader(out)
	if line, err := said.ReadString('\n'); err != nil || line != "busy\n" {
		t.Errorf("it says %q: %v", line, err)
	}
	if changed {
		if line, err := said.ReadString('\n'); err != nil || line != "changed\n" {
			t.Errorf("it says %q: %v", line, err)
		}
	}
	time.Sleep(time.Duration(rand.Int64N(int64(150 * time.Millisecond))))
	_ = cmd.Process.Kill() // SIGKILL
	_ = cmd.Wait()         // which says that it was killed
}
