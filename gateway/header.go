package gateway

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/gatehouse-io/gatehouse/catalog"
)

// requestHeader gives a new header with what of in may go to an upstream. The
// values are shared with in.
func requestHeader(in http.Header) http.Header {
	out := make(http.Header, len(in)+4)
	for name, values := range in {
		if !removedFromRequest(name) {
			out[name] = values
		}
	}
	for _, list := range in["Connection"] {
		for token := range strings.SplitSeq(list, ",") {
			if token = textproto.TrimString(token); token != "" {
				delete(out, textproto.CanonicalMIMEHeaderKey(token))
			}
		}
	}
	return out
}

func removedFromRequest(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
		"Proxy-Authenticate", "Proxy-Authorization", // hop-by-hop
		"Host", "Content-Length", "Expect", // ours to say
		"Accept-Encoding",                                                                                           // an answer must be readable to be ended properly
		"Forwarded", "Via", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", // who is calling is ours to say
		"Traceparent", "Tracestate", "Baggage", // what a caller traces is its own; see Options.Attempted
		"X-Original-Url", "X-Rewrite-Url": // another path than the one that was checked
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Gatehouse-") ||
		catalog.CarriesCallerCredential(name) || !plainName(name)
}

// plainName says whether a header name is made of letters, digits and hyphens.
// Backends that put headers into variables fold all else into "_", so that
// Gatehouse_Subject would reach them as Gatehouse-Subject does.
func plainName(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case c == '-', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		default:
			return false
		}
	}
	return true
}

// answerHeader puts onto out, which holds the server's own headers, what of an
// upstream's answer may reach the caller. secrets are the injected values.
func answerHeader(out, in http.Header, secrets []string) {
	named := in["Connection"]
	for name, values := range in {
		if removedFromAnswer(name) || len(named) > 0 && listed(named, name) || leaks(values, secrets) {
			continue
		}
		if _, ours := out[name]; ours || tellsOurLimits(name) {
			name = "Upstream-" + name
		}
		out[name] = values
	}
}

// digests are headers that say the hash of a body, of which a text that was changed has another.
var digests = [...]string{"Content-Md5", "Digest", "Content-Digest", "Repr-Digest"}

// dropNoCoding takes off a Content-Encoding that names no coding: what sends events says
// "none" or "identity" so that no proxy compresses them, and everything that reads answers
// here goes by whether the header is there.
func dropNoCoding(answer http.Header) {
	for _, list := range answer["Content-Encoding"] {
		for coding := range strings.SplitSeq(list, ",") {
			if coding = textproto.TrimString(coding); coding != "" && !strings.EqualFold(coding, "identity") && !strings.EqualFold(coding, "none") {
				return
			}
		}
	}
	delete(answer, "Content-Encoding")
}

// dropNoLength takes off a Content-Length that is none: over HTTP/2 net/http leaves two that differ,
// and what is no number, in the header of an answer that it reads to its end.
func dropNoLength(answer *http.Response) {
	if answer.ContentLength < 0 {
		delete(answer.Header, "Content-Length")
	}
}

// headOnly says whether a field says how the answer is read or where it leads, which must not
// stand behind it (RFC 9110, 6.5.1): what stands before us may put it in front.
func headOnly(name string) bool {
	switch name {
	case "Content-Length", "Content-Type", "Content-Encoding", "Content-Range", "Content-Location", "Content-Disposition",
		"Location", "Link":
		return true
	}
	return slices.Contains(linkHeaders[:], name)
}

func removedFromAnswer(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authorization", "Proxy-Authentication-Info", // hop-by-hop
		"Set-Cookie", "Set-Cookie2",
		// These speak for the whole origin, which is ours.
		"Alt-Svc", "Strict-Transport-Security", "Public-Key-Pins", "Clear-Site-Data", "Service-Worker-Allowed",
		"Nel", "Report-To", "Reporting-Endpoints", "Accept-Ch", "Critical-Ch", "Refresh", "Sourcemap",
		"X-Sendfile", "X-Lighttpd-Send-File": // orders to a proxy in front of us
		return true
	}
	return strings.HasPrefix(name, "Gatehouse-") || strings.HasPrefix(name, "X-Accel-") ||
		strings.HasPrefix(name, "Access-Control-")
}

// tellsOurLimits says whether a header of this canonical name tells our own limits.
// Others of the family, such as OpenAI's X-RateLimit-Remaining-Requests, are the
// provider's alone, and its clients read them.
func tellsOurLimits(name string) bool {
	switch name {
	case "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset",
		"X-Ratelimit-Org-Limit", "X-Ratelimit-Org-Remaining", "X-Ratelimit-Org-Reset",
		"Ratelimit", "Ratelimit-Policy":
		return true
	}
	return false
}

func listed(lists []string, name string) bool {
	for _, list := range lists {
		for token := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(textproto.TrimString(token), name) {
				return true
			}
		}
	}
	return false
}

func leaks(values, secrets []string) bool {
	for _, secret := range secrets {
		for _, value := range values {
			if len(value) >= len(secret) && strings.Contains(value, secret) {
				return true
			}
		}
	}
	return false
}

func isEventStream(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(media), "text/event-stream")
}
