package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// app is the operator's own chat backend; the package comment has the format of
// what it is sent.
type app struct {
	upstream upstream
	hashes   sync.Pool // of hash.Hash, keyed
}

func newApp(upstreamURL *url.URL, key []byte) (*app, error) {
	u := upstreamURL
	switch {
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.User != nil, u.RawQuery != "", u.Fragment != "", u.Opaque != "":
		return nil, errors.New("gateway: AppUpstream (CHAT_UPSTREAM) must be http or https, a host, and a base path at most, such as http://127.0.0.1:3000")
	case len(key) < 32:
		return nil, errors.New("gateway: AppKey must be at least 32 bytes")
	}
	key = append([]byte(nil), key...)
	a := &app{upstream: upstreamOf(u)}
	a.hashes.New = func() any { return hmac.New(sha256.New, key) }
	return a, nil
}

// sign puts the caller's identity on a request whose own Gatehouse-* headers
// are gone.
func (a *app) sign(out *http.Request, v *Visit) {
	roles := make([]string, len(v.Caller.Roles))
	for i, role := range v.Caller.Roles {
		roles[i] = headerValue(string(role), ",")
	}
	organization, subject := headerValue(v.Caller.Organization, ""), headerValue(v.Caller.ID, "")
	joined, id := strings.Join(roles, ","), headerValue(v.RequestID, "")
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)

	text := strings.Join([]string{
		"v1", timestamp, out.Method, out.URL.RequestURI(), organization, subject, joined, id,
	}, "\n")
	mac, _ := a.hashes.Get().(hash.Hash)
	_, _ = io.WriteString(mac, text)
	sum := mac.Sum(nil)
	mac.Reset()
	a.hashes.Put(mac)

	h := out.Header
	h["Gatehouse-Organization"] = []string{organization}
	h["Gatehouse-Subject"] = []string{subject}
	h["Gatehouse-Roles"] = []string{joined}
	h["Gatehouse-Request-Id"] = []string{id}
	h["Gatehouse-Timestamp"] = []string{timestamp}
	h["Gatehouse-Signature"] = []string{"v1=" + hex.EncodeToString(sum)}
}

// headerValue percent-encodes what cannot stand in a header, "%", and the bytes
// of also. RFC 3986 decoding gives s back.
func headerValue(s, also string) string {
	plain := func(c byte) bool {
		return c > ' ' && c < 0x7f && c != '%' && strings.IndexByte(also, c) < 0
	}
	i := 0
	for i < len(s) && plain(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	b.WriteString(s[:i])
	for ; i < len(s); i++ {
		if c := s[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}
