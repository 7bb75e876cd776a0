package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// maxLink is the longest link that is rewritten, in bytes; a longer string is
// passed on as it is.
const maxLink = 4096

// linkTarget is one target of a Link header (RFC 8288).
var linkTarget = regexp.MustCompile(`<[^<>]*>`)

// linkHeader makes the targets of Link headers that point to the upstream lead
// through the gateway; others stay.
func (t *transfer) linkHeader(sent *http.Request, values []string) []string {
	out := make([]string, len(values))
	for i, value := range values {
		out[i] = linkTarget.ReplaceAllStringFunc(value, func(target string) string {
			through, ok := t.through(sent, target[1:len(target)-1])
			if !ok {
				return target
			}
			return "<" + t.origin() + through + ">"
		})
	}
	return out
}

// pageLinks gives what rewrites the links in the body of the answer, or nil
// where there is nothing to rewrite. It takes the digests of the body off its header.
func (t *transfer) pageLinks(answer *http.Response) *pageLinks {
	if t.service == nil || len(t.service.PageLinks) == 0 || t.operation.spends || answer.Header.Get("Content-Encoding") != "" {
		return nil // what a model says has no pages
	}
	media, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if err != nil || media != "application/json" && !strings.HasSuffix(media, "+json") {
		return nil
	}
	for _, digest := range digests {
		delete(answer.Header, digest)
	}
	return &pageLinks{names: t.service.PageLinks, rewrite: func(link string) (string, bool) {
		if !strings.Contains(link, "://") { // relative to wherever the caller asked
			return "", false
		}
		var template string // of GitHub's uploads, {?name,label}: it would be escaped
		if i := strings.Index(link, "{?"); i >= 0 {
			link, template = link[:i], link[i:]
		}
		through, ok := t.through(answer.Request, link)
		return t.origin() + through + template, ok
	}}
}

// pageLinks rewrites links in JSON text as it passes: the values of members with
// one of the names, where rewrite gives another. Everything else stays to the
// byte, what is no JSON too. It holds back one such value at most.
type pageLinks struct {
	names   []string
	rewrite func(link string) (string, bool)

	place   place
	escaped bool   // the byte before was a backslash
	text    []byte // of the string at hand: a possible name, or the held value with its quotes
}

// place says where in the JSON text the next byte stands.
type place uint8

const (
	betweenTokens place = iota
	inText              // in a string that may be a name
	afterText           // a colon makes it one
	beforeLink          // after a name that we look for, and its colon
	inLink              // in the string that is held
	passing             // in a string that is of no interest
)

// longestName bounds what is kept of a string that may be a name.
const longestName = 64

// next adds to out what b, the next part of the text, lets go.
func (p *pageLinks) next(out, b []byte) []byte {
	for _, c := range b {
		closes := c == '"' && !p.escaped
		p.escaped = c == '\\' && !p.escaped && p.place != betweenTokens && p.place != afterText && p.place != beforeLink
		switch p.place {
		case betweenTokens:
			out = append(out, c)
			if c == '"' {
				p.place, p.text = inText, p.text[:0]
			}
		case inText:
			out = append(out, c)
			switch {
			case closes:
				p.place = afterText
			case len(p.text) == longestName:
				p.place = passing
			default:
				p.text = append(p.text, c)
			}
		case afterText, beforeLink:
			out = append(out, c)
			p.between(c)
		case inLink:
			p.text = append(p.text, c)
			switch {
			case closes:
				out = p.appendLink(out)
				p.place = betweenTokens
			case len(p.text) == maxLink:
				out = append(out, p.text[1:]...)
				p.place = passing
			}
		case passing:
			out = append(out, c)
			if closes {
				p.place = betweenTokens
			}
		}
		if p.place == beforeLink && c == '"' { // the quote is out already; the value is held from here
			p.place, p.text = inLink, append(p.text[:0], c)
		}
	}
	return out
}

// between moves on after a string, or after a name and its colon.
func (p *pageLinks) between(c byte) {
	switch {
	case c == ' ' || c == '\t' || c == '\n' || c == '\r':
	case p.place == afterText && c == ':' && slices.Contains(p.names, string(p.text)):
		p.place = beforeLink
	case p.place == beforeLink && c == '"':
	case c == '"': // no JSON; the next string begins
		p.place, p.text = inText, p.text[:0]
	default:
		p.place = betweenTokens
	}
}

// appendLink adds the held value to out, without the quote before it.
func (p *pageLinks) appendLink(out []byte) []byte {
	var link string
	if json.Unmarshal(p.text, &link) == nil {
		if through, ok := p.rewrite(link); ok {
			if quoted, err := marshalText(through); err == nil {
				return append(out, quoted[1:]...)
			}
		}
	}
	return append(out, p.text[1:]...)
}

// end adds what is still held when the text ends inside a value.
func (p *pageLinks) end(out []byte) []byte {
	if p.place == inLink {
		out = append(out, p.text[1:]...)
		p.place = betweenTokens
	}
	return out
}

// rewriteAll rewrites a whole text.
func (p *pageLinks) rewriteAll(body []byte) []byte {
	return p.end(p.next(make([]byte, 0, len(body)+256), body))
}

// reader rewrites what r gives.
func (p *pageLinks) reader(r io.Reader) io.Reader {
	return &linkReader{links: p, from: r, in: make([]byte, 8<<10)}
}

type linkReader struct {
	links *pageLinks
	from  io.Reader
	in    []byte
	ready []byte
	err   error
}

// Read implements [io.Reader].
func (r *linkReader) Read(b []byte) (int, error) {
	for len(r.ready) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		n, err := r.from.Read(r.in)
		r.ready = r.links.next(r.ready[:0], r.in[:n])
		if r.err = err; err != nil {
			r.ready = r.links.end(r.ready)
		}
	}
	n := copy(b, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

func marshalText(text string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(text)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
