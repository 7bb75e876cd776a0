package seal_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/seal"
)

var benchPlaintext = []byte(`{"apiKey":"` + string(bytes.Repeat([]byte("k"), 164)) + `"}`)

// bareGCM gives one AES-256-GCM open of the benchmark's plaintext with a ready
// cipher, and additional data as long as a context's.
func bareGCM(tb testing.TB) func() {
	tb.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		tb.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		tb.Fatal(err)
	}
	iv, data := make([]byte, 12), make([]byte, 160)
	ciphertext := aead.Seal(nil, iv, benchPlaintext, data)
	dst := make([]byte, 0, len(benchPlaintext))
	return func() {
		if _, err := aead.Open(dst, iv, ciphertext, data); err != nil {
			tb.Fatal(err)
		}
	}
}

func barePBKDF2(tb testing.TB) func() {
	tb.Helper()
	salt := make([]byte, 64)
	return func() {
		if _, err := pbkdf2.Key(sha256.New, masterA.ExposeSecret(), salt, 100_000, 32); err != nil {
			tb.Fatal(err)
		}
	}
}

// openHot gives one open of a value whose keys are cached.
func openHot(tb testing.TB) func() {
	tb.Helper()
	keyring := newKeyring(tb)
	sealed, err := keyring.Seal(tb.Context(), credential, saltA, benchPlaintext)
	if err != nil {
		tb.Fatal(err)
	}
	dst := make([]byte, 0, len(benchPlaintext))
	ctx := context.Background()
	open := func() {
		if _, err := keyring.OpenAppend(ctx, dst, credential, saltA, sealed); err != nil {
			tb.Fatal(err)
		}
	}
	open()
	return open
}

// openCold gives one open of a value none of whose keys is cached.
func openCold(tb testing.TB) func() {
	tb.Helper()
	keyring := newKeyring(tb)
	sealed, err := keyring.Seal(tb.Context(), credential, saltA, benchPlaintext)
	if err != nil {
		tb.Fatal(err)
	}
	ctx := context.Background()
	return func() {
		keyring.Forget(credential.Organization)
		if _, err := keyring.Open(ctx, credential, saltA, sealed); err != nil {
			tb.Fatal(err)
		}
	}
}

func loop(b *testing.B, f func()) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		f()
	}
}

func BenchmarkBareGCM(b *testing.B)    { loop(b, bareGCM(b)) }
func BenchmarkOpenHot(b *testing.B)    { loop(b, openHot(b)) }
func BenchmarkBarePBKDF2(b *testing.B) { loop(b, barePBKDF2(b)) }
func BenchmarkOpenCold(b *testing.B)   { loop(b, openCold(b)) }

// The two ratios below run both sides in turns, so that a machine that slows
// down for a while slows both.

func BenchmarkOpenHotRatio(b *testing.B)  { ratio(b, openHot(b), bareGCM(b), 1000) }
func BenchmarkOpenColdRatio(b *testing.B) { ratio(b, openCold(b), barePBKDF2(b), 1) }

// ratio reports the time of f over that of base, each measured in batches.
func ratio(b *testing.B, f, base func(), batch int) {
	b.Helper()
	var spent, baseSpent time.Duration
	for b.Loop() {
		start := time.Now()
		for range batch {
			f()
		}
		middle := time.Now()
		for range batch {
			base()
		}
		spent += middle.Sub(start)
		baseSpent += time.Since(middle)
	}
	b.ReportMetric(float64(spent)/float64(baseSpent), "ratio")
	b.ReportMetric(0, "ns/op") // the sum of both sides says nothing
}

// BenchmarkOpenHotParallel shows whether readers get in each other's way.
func BenchmarkOpenHotParallel(b *testing.B) {
	keyring := newKeyring(b)
	sealed, err := keyring.Seal(b.Context(), credential, saltA, benchPlaintext)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		dst := make([]byte, 0, len(benchPlaintext))
		for pb.Next() {
			if _, err := keyring.OpenAppend(context.Background(), dst, credential, saltA, sealed); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkOpenFirst is the first open of a value whose organization key is
// cached: unwrapping and a new cipher. A cache of one data key and two values
// make every open a first one.
func BenchmarkOpenFirst(b *testing.B) {
	keyring, err := seal.NewKeyring(seal.Options{DataKeys: 1}, keyA())
	if err != nil {
		b.Fatal(err)
	}
	if err := keyring.SetSealing(recordA().ID); err != nil {
		b.Fatal(err)
	}
	var sealed [2]seal.Sealed
	for i := range sealed {
		if sealed[i], err = keyring.Seal(b.Context(), credential, saltA, benchPlaintext); err != nil {
			b.Fatal(err)
		}
	}
	i := 0
	loop(b, func() {
		i++
		if _, err := keyring.Open(b.Context(), credential, saltA, sealed[i%2]); err != nil {
			b.Fatal(err)
		}
	})
}
