package ratelimit_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// Whatever bytes a subject is made of, its name in Redis tells it, and has no
// braces: those would put a cluster's keys elsewhere than is reckoned with.
func FuzzStoredName(f *testing.F) {
	for _, s := range [][2]string{{"ip", "203.0.113.7"}, {"odd type:#%{}", "a{b}c%7Bd"}, {"ip", ""}, {"ip", "\x00\xff"}, {"a", "%"}, {"a+b", "c d"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, subjectType, key string) {
		if subjectType == "" || len(subjectType) > ratelimit.MaxType {
			return
		}
		name := ratelimit.StoredName(subjectType, key)
		if strings.ContainsAny(name, "{}") {
			t.Errorf("braces in %q", name)
		}
		if appended := ratelimit.AppendStoredName(subjectType, key); appended != name {
			t.Errorf("%q is appended as %q", name, appended)
		}
		for _, prefix := range []string{"p:", "{tag}:", ""} {
			if one, other, within := ratelimit.RedisKeyOf(prefix, subjectType, key); one != other || within != name {
				t.Errorf("%q and %q are one key, with the name %q", one, other, within)
			}
		}
		gotType, gotKey, hashed, ok := ratelimit.SplitName(name)
		if !ok || gotType != subjectType || hashed != (len(key) > ratelimit.MaxKey) || !hashed && gotKey != key {
			t.Errorf("%q, %q is %q, which is %q, %q", subjectType, key, name, gotType, gotKey)
		}
	})
}
