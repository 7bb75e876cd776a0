package gateway

import (
	"bytes"
	"io"
)

// removedMark stands where an injected value was.
const removedMark = "[removed by Gatehouse]"

// cutter finds secrets in what an upstream says, as they are and with escapes
// (escapes.go), and cuts them out.
type cutter struct {
	secrets [][]byte // longer ones first
	longest int
	sized   bool // a mark is as long as what it takes the place of

	// Most of what is looked at is neither, and is passed over at one look.
	starts [256]bool // a secret, or an escape in its place, may begin with this byte
	inside [256]bool // what could be the beginning of a secret may end with it
}

func newCutter(secrets []string) *cutter {
	c := &cutter{secrets: make([][]byte, len(secrets))}
	for i, secret := range secrets {
		c.secrets[i] = []byte(secret)
		c.longest = max(c.longest, len(secret))
		c.starts[secret[0]] = true
		for _, b := range c.secrets[i] {
			c.inside[b] = true
		}
	}
	for b := range c.inside {
		if escape := isEscape(byte(b)); escape || alphanumeric(byte(b)) || b == '#' || b == ';' {
			c.inside[b] = true
			c.starts[b] = c.starts[b] || escape
		}
	}
	return c
}

func (c *cutter) mark(length int) []byte {
	if c.sized {
		return bytes.Repeat([]byte("*"), length)
	}
	return []byte(removedMark)
}

// cut gives text with a mark in the place of each secret, and how many. It is text
// itself where there is none; text is not changed.
func (c *cutter) cut(text []byte) (clean []byte, n int) {
	for _, secret := range c.secrets {
		if found := bytes.Count(text, secret); found > 0 {
			n += found
			text = bytes.ReplaceAll(text, secret, c.mark(len(secret)))
		}
	}
	first := len(text)
	for i := range len(escapes) {
		if at := bytes.IndexByte(text[:first], escapes[i]); at >= 0 {
			first = at
		}
	}
	if first == len(text) {
		return text, n
	}
	clean, spelled := c.cutSpelled(text, max(0, first-c.longest))
	return clean, n + spelled
}

// cutSpelled cuts out the secrets that stand in text with escapes, at a place or after it.
func (c *cutter) cutSpelled(text []byte, from int) (clean []byte, n int) {
	kept := 0
	for i := from; i < len(text); i++ {
		if !c.starts[text[i]] {
			continue
		}
		if length := c.spelledAt(text[i:]); length > 0 {
			clean = append(append(clean, text[kept:i]...), c.mark(length)...)
			n++
			kept = i + length
			i = kept - 1
		}
	}
	if n == 0 {
		return text, 0
	}
	return append(clean, text[kept:]...), n
}

func (c *cutter) spelledAt(text []byte) int {
	for _, secret := range c.secrets {
		if text[0] != secret[0] && !isEscape(text[0]) {
			continue
		}
		if length, whole := spells(text, secret); whole && length > 0 {
			return length
		}
	}
	return 0
}

// begun gives how many bytes at the end of text could be the beginning of a secret.
func (c *cutter) begun(text []byte) int {
	if len(text) == 0 || !c.inside[text[len(text)-1]] {
		return 0
	}
	for i := max(0, len(text)-longestEscape*c.longest); i < len(text); i++ {
		if !c.starts[text[i]] {
			continue
		}
		rest := text[i:]
		for _, secret := range c.secrets {
			if rest[0] != secret[0] && !isEscape(rest[0]) {
				continue
			}
			if len(rest) < len(secret) && bytes.HasPrefix(secret, rest) {
				return len(rest)
			}
			if _, whole := spells(rest, secret); !whole {
				return len(rest)
			}
		}
	}
	return 0
}

// crosses reports whether a whole secret begins before a place in text and ends
// behind it.
func (c *cutter) crosses(text []byte, place int) bool {
	for i := max(0, place-longestEscape*c.longest+1); i < place; i++ {
		if !c.starts[text[i]] {
			continue
		}
		for _, secret := range c.secrets {
			if i+len(secret) > place && bytes.HasPrefix(text[i:], secret) {
				return true
			}
			if length, whole := spells(text[i:], secret); whole && i+length > place {
				return true
			}
		}
	}
	return false
}

// scrubber cuts secrets out of a body as it is read. What could be the beginning of
// one is held back until more has come, and nothing else is.
type scrubber struct {
	from    io.Reader
	cutter  *cutter
	removed func(int)

	held  []byte // read, not looked at yet
	ready []byte // to be given out
	err   error
}

// Read reads from the body once at most, so that whoever times its silence sees each
// of its signs of life: it may give nothing, and no error.
func (s *scrubber) Read(p []byte) (int, error) {
	if len(s.ready) == 0 && s.err == nil {
		n, err := s.from.Read(p)
		text := p[:n]
		if len(s.held) > 0 {
			text = append(s.held, text...)
		}
		s.err = err
		clean := s.pass(text)
		if n = copy(p, clean); n < len(clean) {
			s.ready = clean[n:]
		}
		return n, s.end()
	}
	n := copy(p, s.ready)
	s.ready = s.ready[n:]
	return n, s.end()
}

// end gives the body's error once all is given out.
func (s *scrubber) end() error {
	if len(s.ready) > 0 {
		return nil
	}
	return s.err
}

// pass gives what of text can be passed on, and holds the rest.
func (s *scrubber) pass(text []byte) []byte {
	keep, cut := 0, 0
	if s.err == nil {
		keep = s.cutter.begun(text)
	}
	// A short one that stands in what may become a longer one waits for it.
	if end := len(text) - keep; keep == 0 || !s.cutter.crosses(text, end) {
		s.held = bytes.Clone(text[end:])
		text, cut = s.cutter.cut(text[:end])
	} else {
		text, cut = s.cutter.cut(text)
		end = len(text) - s.cutter.begun(text)
		s.held = bytes.Clone(text[end:])
		text = text[:end]
	}
	if cut > 0 {
		s.removed(cut)
	}
	return text
}
