package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxCustomDepth is how deep a file of services nests, and one more.
const maxCustomDepth = 8

// parseTree gives a JSON document as it stands in the file: map[string]any, []any,
// string, json.Number, bool or nil. It is read token by token, since the
// decoder would let a member that comes twice pass and take the last.
func parseTree(content []byte) (any, error) {
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(content) {
		return nil, errors.New("the file is not UTF-8 text")
	}
	d := json.NewDecoder(bytes.NewReader(content))
	d.UseNumber()
	value, err := parseValue(d, "", maxCustomDepth)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("there is something after the end of the JSON document")
		}
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		line := 1 + bytes.Count(content[:min(int(d.InputOffset()), len(content))], []byte("\n"))
		return nil, fmt.Errorf("line %d: the file is not JSON from here on (no comments, no comma before a closing bracket), or it was cut off", line)
	}
	return value, err
}

func parseValue(d *json.Decoder, path string, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth == 0 {
		return nil, fmt.Errorf("%s: nests deeper than the file of services does", pathOr(path))
	}
	if delim == '[' {
		list := []any{}
		for i := 0; d.More(); i++ {
			v, err := parseValue(d, fmt.Sprintf("%s[%d]", path, i), depth-1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = d.Token()
		return list, err
	}
	members := make(map[string]any)
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := key.(string) // the decoder refuses any other
		at := join(path, name)
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("%s: is there twice", at)
		}
		if members[name], err = parseValue(d, at, depth-1); err != nil {
			return nil, err
		}
	}
	_, err = d.Token()
	return members, err
}

// harmlessName is what a member may be called to be named in an error.
var harmlessName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{0,31}$|^[0-9]{3}$`)

func join(path, name string) string {
	if !harmlessName.MatchString(name) {
		name = "(a member)"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

func pathOr(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

// place is an object of the tree while it is read. What is wrong is added to
// mistakes, which all places of a file share.
type place struct {
	path     string
	members  map[string]any
	mistakes *[]error
}

// at gives the place of v, and refuses members beside known.
func at(path string, v any, mistakes *[]error, known ...string) (place, bool) {
	p := place{path: path, mistakes: mistakes}
	members, ok := v.(map[string]any)
	if !ok {
		p.fail("", "must be an object")
		return p, false
	}
	p.members = members
	unknown := slices.DeleteFunc(slices.Sorted(maps.Keys(members)), func(name string) bool { return slices.Contains(known, name) })
	for _, name := range unknown {
		p.fail(name, "is not known here; there can be %s", strings.Join(known, ", "))
	}
	return p, true
}

func (p place) fail(name, format string, args ...any) {
	path := p.path
	if name != "" {
		path = join(path, name)
	}
	*p.mistakes = append(*p.mistakes, fmt.Errorf("%s: %s", pathOr(path), fmt.Sprintf(format, args...)))
}

func (p place) has(name string) bool { _, ok := p.members[name]; return ok }

// text gives a member that is text of at most that many bytes and holds nothing
// invisible; "" where it is not there or refused.
func (p place) text(name string, most int) string {
	v, given := p.members[name]
	if !given {
		return ""
	}
	s, ok := v.(string)
	switch {
	case !ok:
		p.fail(name, "must be text")
	case s == "" || len(s) > most:
		p.fail(name, "must be 1 to %d bytes long", most)
	case strings.ContainsFunc(s, isInvisible) || strings.TrimSpace(s) != s:
		p.fail(name, "must not hold line breaks or invisible characters, nor start or end with a space")
	default:
		return s
	}
	return ""
}

func (p place) flag(name string) bool {
	v, given := p.members[name]
	b, ok := v.(bool)
	if given && !ok {
		p.fail(name, "must be true or false")
	}
	return b
}

// number gives a member that is a whole number in a range, or otherwise.
func (p place) number(name string, low, high, otherwise int) int {
	v, given := p.members[name]
	if !given {
		return otherwise
	}
	n, ok := v.(json.Number)
	i, err := n.Int64()
	if !ok || err != nil || i < int64(low) || i > int64(high) {
		p.fail(name, "must be a whole number from %d to %d", low, high)
		return otherwise
	}
	return int(i)
}

// list gives a member that is a list of low to high entries; nil where it is not
// there or refused.
func (p place) list(name string, low, high int) []any {
	v, given := p.members[name]
	if !given && low == 0 {
		return nil
	}
	l, ok := v.([]any)
	if !ok || len(l) < low || len(l) > high {
		p.fail(name, "must be a list of %d to %d entries", low, high)
		return nil
	}
	return l
}

// texts is a list of texts, each of at most that many bytes.
func (p place) texts(name string, low, high, most int) []string {
	var all []string
	for i, v := range p.list(name, low, high) {
		s, ok := v.(string)
		if !ok || s == "" || len(s) > most || strings.ContainsFunc(s, isInvisible) {
			p.fail("", "%s[%d] must be text of 1 to %d bytes", name, i, most)
			continue
		}
		all = append(all, s)
	}
	return all
}
