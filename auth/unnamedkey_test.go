package auth_test

import (
	"testing"
	"time"
)

// A token that names no key is tried with each while there are a few, as while an issuer changes
// its key, whether the keys have ids or not; one that names a key with that one alone.
func TestTokenThatNamesNoKey(t *testing.T) {
	named, other, unnamed, stranger := newEdKey(t, "1"), newEdKey(t, "2"), newEdKey(t, ""), newEdKey(t, "")
	without := func(k edKey) edKey { k.id = ""; return k }
	as := func(k edKey, id string) edKey { k.id = id; return k }
	p := &publisher{}
	clock := now
	for _, test := range []struct {
		name, set string
		by        edKey
		good      bool
	}{
		{"one of two", keySet(named, other), without(other), true},
		{"the other", keySet(named, other), without(named), true},
		{"neither", keySet(named, other), stranger, false},
		{"two keys without an id", keySet(unnamed, without(other)), without(other), true},
		{"another's name", keySet(named, other), as(other, "1"), false},
		{"a name that there is not", keySet(named, unnamed), as(unnamed, "9"), false},
		{"many", keySet(named, other, newEdKey(t, "3"), newEdKey(t, "4"), newEdKey(t, "5")), without(named), false},
	} {
		p.set(200, test.set, nil)
		a, _ := withIssuer(t, p, func() time.Time { return clock })
		token := test.by.sign(t, now)
		for range 2 { // the second time as one that was verified before
			if _, err := a.Verify(t.Context(), token); (err == nil) != test.good {
				t.Errorf("%s: %v", test.name, err)
			}
		}
	}
	// A key that goes takes what it signed with it.
	p.set(200, keySet(named, other), nil)
	a, _ := withIssuer(t, p, func() time.Time { return clock })
	token := without(other).sign(t, now)
	if _, err := a.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	p.set(200, keySet(named), nil)
	clock = clock.Add(time.Minute)
	if _, err := a.Verify(t.Context(), as(stranger, "9").sign(t, now)); err == nil { // which has the keys fetched
		t.Error("a stranger's token is good")
	}
	if _, err := a.Verify(t.Context(), token); err == nil {
		t.Error("a token is good whose key is gone")
	}
}
