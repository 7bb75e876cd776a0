package masterkey_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// rotatorURL makes the test program a process that rotates and nothing else:
// the one that is killed.
const rotatorURL = "GATEHOUSE_TEST_ROTATOR"

func TestMain(m *testing.M) {
	if url := os.Getenv(rotatorURL); url != "" {
		if err := rotator(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	gatehousetest.Main(m)
}

// rotator rotates to the key that is named in the environment.
func rotator(url string) error {
	ctx := context.Background()
	db, err := store.Open(ctx, url, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	keys, err := masterkey.Open(ctx, db, audit.New(db, audit.Options{}), masterkey.Options{
		Environment: "test", Secret: seal.NewSecret(first), Old: []seal.Secret{seal.NewSecret(second)}, Columns: instance.SealedColumns(),
		Poll: 20 * time.Millisecond, Lease: 300 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	to, err := seal.ParseKeyID(os.Getenv("GATEHOUSE_TEST_KEY"))
	if err != nil {
		return err
	}
	rate, err := strconv.Atoi(os.Getenv("GATEHOUSE_TEST_RATE"))
	if err != nil {
		return err
	}
	if _, err := keys.Rotate(ctx, operator, masterkey.RotateOptions{Key: to, Rate: rate}); err != nil {
		return err
	}
	fmt.Println("rotating") // the parent kills it from here on
	_, err = keys.Work(ctx, operator, nil)
	return err
}

// kills is how often a rotating process is killed: a few in `make test`, many
// in `make soak`.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("GATEHOUSE_SOAK_KILLS")); err == nil {
		return n
	}
	return 8
}

// TestKilledRotations kills a process that rotates, at random points, over and
// over, while an instance reads and writes; each next process goes on where the
// one before ended, and at last the instance itself does. In the end every row
// is under the last key and says what was last written.
func TestKilledRotations(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, h := t.Context(), newHouse(t, url)
		serving := h.open(t, h.options(first, second)) // reads and writes, and follows without rotating
		if _, err := h.open(t, h.options(second, first)).Stage(ctx, operator, 0); err != nil {
			t.Fatal(err)
		}
		const organizations, each = 3, 60
		for o := range organizations {
			id := fmt.Sprintf("org-%d", o)
			h.organization(t, id)
			serving.seed(t, id, each)
		}
		follow := h.start(t, "serving", first, second)
		serving.stop()

		done := make(chan struct{})
		var clients sync.WaitGroup
		var reads, writes atomic.Int64
		for o := range organizations {
			clients.Go(func() { work(t, follow, fmt.Sprintf("org-%d", o), done, &reads, &writes) })
		}
		keys := follow.status(t).Keys
		to, killed := 1, 0
		for i := range kills() {
			if killAtRandom(t, url, keys[to].ID, i) {
				killed++
			} else {
				to = 1 - to // it had come to its end: go back to the other key
			}
		}
		// The running instance goes on with what the last one left.
		eventually(t, "no rotation is running", func() bool {
			r, err := follow.Progress(ctx, operator)
			return err == nil && r.State == masterkey.Done
		})
		if _, err := follow.Rotate(ctx, operator, masterkey.RotateOptions{Key: keys[to].ID}); err != nil {
			t.Fatal(err)
		}
		follow.rotated(t)
		close(done)
		clients.Wait()

		s := follow.status(t)
		if s.Keys[1-to].Rows != 0 || s.Keys[to].Rows != organizations*(each+1) || s.Unknown != nil {
			t.Errorf("in the end: %+v", s.Keys)
		}
		v, err := follow.Verify(ctx, operator, masterkey.VerifyOptions{})
		if err != nil || !v.Complete || v.Unreadable != 0 || v.Checked != organizations*(each+1) {
			t.Errorf("verified: %+v, %v", v, err)
		}
		if _, err := follow.Retire(ctx, operator, keys[1-to].ID, false); err != nil {
			t.Error(err)
		}
		t.Logf("%d of %d processes killed; %d reads and %d writes meanwhile", killed, kills(), reads.Load(), writes.Load())
		if killed == 0 || reads.Load() == 0 || writes.Load() == 0 {
			t.Errorf("%d kills, %d reads, %d writes: nothing was tried", killed, reads.Load(), writes.Load())
		}
	})
}

// killAtRandom runs a rotating process and kills it a random while after it
// began. It reports whether the process was killed before it had ended.
func killAtRandom(t *testing.T, url string, to seal.KeyID, i int) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	rate := []int{0, 200, 400, 1000}[i%4]
	cmd.Env = append(os.Environ(), rotatorURL+"="+url, "GATEHOUSE_TEST_KEY="+to.String(), "GATEHOUSE_TEST_RATE="+strconv.Itoa(rate))
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Errorf("the process did not begin: %v", err)
	}
	time.Sleep(rand.N(400 * time.Millisecond))
	_ = cmd.Process.Kill() // it may have ended
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		t.Errorf("the process failed by itself: %s", log.String())
	}
	return err != nil
}

// work reads and changes credentials of one organization until done.
func work(t *testing.T, p *process, organization string, done chan struct{}, reads, writes *atomic.Int64) {
	caller, ctx := access.NewCaller(organization, access.User, "u-1", access.Owner), t.Context()
	page, err := p.vault.List(ctx, caller, vault.Filter{Limit: vault.MaxLimit})
	if err != nil {
		t.Error(err)
		return
	}
	want := make(map[string]string)
	for _, c := range page.Credentials {
		want[c.ID] = keyOf(organization, c.Name)
	}
	check := func(c vault.Credential) {
		_, fields, err := p.vault.Reveal(ctx, caller, c.ID, "test")
		if err != nil || fields["apiKey"].ExposeSecret() != want[c.ID] {
			t.Errorf("%s of %s does not say what was last written: %v", c.Name, organization, err)
		}
		reads.Add(1)
	}
	for i := 0; ; i++ {
		select {
		case <-done:
			for _, c := range page.Credentials {
				check(c)
			}
			return
		default:
		}
		c := page.Credentials[rand.N(len(page.Credentials))]
		check(c)
		if i%3 == 0 {
			next := keyOf(organization, fmt.Sprint("changed-", i))
			if _, _, err := p.vault.Rotate(ctx, caller, c.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": next}}); err != nil {
				t.Errorf("a change of %s: %v", c.Name, err)
				return
			}
			want[c.ID] = next
			writes.Add(1)
		}
	}
}

// seed stores n credentials of an organization, as fast as it goes.
func (p *process) seed(t testing.TB, organization string, n int) {
	t.Helper()
	for i := range n {
		p.store(t, organization, fmt.Sprintf("c-%d", i))
	}
}
