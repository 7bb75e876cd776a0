package tokens

import "bytes"

// Hider takes out of a stream of events what a provider puts in because it was
// asked for usage: the event with usage and without choices, and "usage":null
// in all others. What is left is what the caller would have got. The zero value
// is ready for a stream. It is for one goroutine.
type Hider struct {
	inLine  bool // the line goes on that the pieces before began
	inEvent bool // the event has lines already
	skipLF  bool // the line before ended with "\r", of which "\n" may be a part
	ending  ending
}

// ending is how far the end of a hidden event has come.
type ending uint8

const (
	nothingHidden ending = iota
	afterLine            // "\n" may follow the "\r" that ended its line
	beforeBlank          // its empty line is to come
	afterBlank           // "\n" may follow the "\r" that was its empty line
)

// Edit takes the next bytes of the stream, which are whole lines or pieces of
// one long line, and gives what of them goes on. It writes into p and gives a
// part of it. A line that comes in pieces goes on as it is.
func (h *Hider) Edit(p []byte) []byte {
	kept := 0
	for i := 0; i < len(p); {
		if n := h.end(p[i:]); n > 0 {
			i += n
			continue
		}
		if h.skipLF {
			h.skipLF = false
			if p[i] == '\n' {
				kept += copy(p[kept:], p[i:i+1])
				i++
				continue
			}
		}
		next, text := lineOf(p[i:])
		line := p[i : i+next]
		i += next
		h.skipLF = next == text+1 && line[text] == '\r'
		if h.inLine || text == next { // no end in sight, or only the end of it
			h.inLine = text == next
			h.inEvent = true
			kept += copy(p[kept:], line)
			continue
		}
		if text == 0 {
			h.inEvent = false
			kept += copy(p[kept:], line)
			continue
		}
		from, until, whole := hidden(line[:text])
		switch {
		case whole && !h.inEvent:
			h.ending = beforeBlank
			if h.skipLF {
				h.ending, h.skipLF = afterLine, false
			}
		case !whole && until > from:
			kept += copy(p[kept:], line[:from])
			kept += copy(p[kept:], line[until:])
			h.inEvent = true
		default:
			kept += copy(p[kept:], line)
			h.inEvent = true
		}
	}
	return p[:kept]
}

// end takes what of p still belongs to the hidden event.
func (h *Hider) end(p []byte) int {
	switch h.ending {
	case afterLine:
		h.ending = beforeBlank
		if p[0] == '\n' {
			return 1
		}
		return h.end(p)
	case beforeBlank:
		h.ending = nothingHidden
		switch p[0] {
		case '\n':
			return 1
		case '\r':
			h.ending = afterBlank
			return 1
		}
	case afterBlank:
		h.ending = nothingHidden
		if p[0] == '\n' {
			return 1
		}
	}
	return 0
}

// lineOf gives how long p's first line is, with its end and without.
func lineOf(p []byte) (next, text int) {
	text = len(p)
	if n := bytes.IndexByte(p, '\n'); n >= 0 {
		text = n
	}
	if r := bytes.IndexByte(p[:text], '\r'); r >= 0 {
		text = r
	}
	switch {
	case text == len(p):
		return text, text
	case p[text] == '\r' && text+1 < len(p) && p[text+1] == '\n':
		return text + 2, text
	}
	return text + 1, text
}

// hidden gives what of a line without its end is to be hidden: all, a part, or
// nothing.
func hidden(line []byte) (from, until int, whole bool) {
	text, isData := bytes.CutPrefix(line, []byte(dataField))
	if !isData || !bytes.Contains(text, []byte(`"usage"`)) {
		return 0, 0, false
	}
	var usage, before, after part
	members, found, noChoices := 0, -1, false
	if !eachMember(text, func(m part) bool {
		switch {
		case string(m.name) == "usage" && found < 0:
			usage, found = m, members
		case string(m.name) == "usage":
			found = 1 << 30 // twice: not what a provider says
		case found < 0:
			before = m
		case found == members-1:
			after = m
		}
		if string(m.name) == "choices" {
			noChoices = m.end-m.value >= 2 && text[m.value] == '[' && space(text, m.value+1) == m.end-1
		}
		members++
		return true
	}) || found < 0 || found >= members {
		return 0, 0, false
	}
	switch {
	case text[usage.value] == '{' && noChoices:
		return 0, 0, true
	case string(text[usage.value:usage.end]) != "null":
		return 0, 0, false
	case after.end > 0: // with the comma behind it
		from, until = usage.start, after.start
	case before.end > 0: // with the comma before it
		from, until = before.end, usage.end
	default:
		from, until = usage.start, usage.end
	}
	return from + len(dataField), until + len(dataField), false
}
