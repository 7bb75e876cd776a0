package usage

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/crc32"
	"strconv"
	"time"

	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// Record is one visit, as far as usage goes.
type Record struct {
	At           time.Time // when it ended
	Organization string
	Service      string // a name of the catalogue's
	Model        string // through tokens.ModelName; empty where none is known
	Credential   string // its id; empty where none was used
	Member       string // who asked: the caller's id

	Failed   bool // answered with an error, ours or the provider's
	Partial  bool // ended before the answer did
	Expected bool // its answer should say tokens
	Tokens   tokens.Counts

	BytesIn, BytesOut int64 // of the bodies
}

// maxMember is how long a member's id is at most, in bytes; the rest is cut off.
const maxMember = 256

func (r Record) normal() Record {
	r.Organization, r.Member = store.Text(r.Organization, maxMember), store.Text(r.Member, maxMember)
	r.Service, r.Credential = store.Text(r.Service, maxMember), store.Text(r.Credential, maxMember)
	r.Model = tokens.ModelName(r.Model)
	r.BytesIn, r.BytesOut = max(r.BytesIn, 0), max(r.BytesOut, 0)
	return r
}

// line is a record as it stands in a spool file.
type line struct {
	At           int64  `json:"at"` // microseconds
	Organization string `json:"organization"`
	Service      string `json:"service"`
	Model        string `json:"model,omitempty"`
	Credential   string `json:"credential,omitempty"`
	Member       string `json:"member"`
	Failed       bool   `json:"failed,omitempty"`
	Partial      bool   `json:"partial,omitempty"`
	Expected     bool   `json:"expected,omitempty"`
	Input        *int64 `json:"input,omitempty"`
	CacheRead    *int64 `json:"cacheRead,omitempty"`
	CacheWrite   *int64 `json:"cacheWrite,omitempty"`
	Output       *int64 `json:"output,omitempty"`
	Reasoning    *int64 `json:"reasoning,omitempty"`
	BytesIn      int64  `json:"bytesIn,omitempty"`
	BytesOut     int64  `json:"bytesOut,omitempty"`
}

func count(n *int64) tokens.Count {
	if n == nil {
		return tokens.Count{}
	}
	return tokens.Of(*n)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is how long the sum before a line is, with the space behind it.
const checksum = 9

// appendLine adds r to b: the CRC-32C of its JSON in hexadecimal, a space, the
// JSON of [line], a newline.
func appendLine(b []byte, r Record) ([]byte, error) {
	start := len(b)
	b = append(b, "00000000 "...)
	b = strconv.AppendInt(append(b, `{"at":`...), r.At.UnixMicro(), 10)
	for _, m := range [...]struct {
		before, text string
		always       bool
	}{
		{`,"organization":`, r.Organization, true}, {`,"service":`, r.Service, true}, {`,"model":`, r.Model, false},
		{`,"credential":`, r.Credential, false}, {`,"member":`, r.Member, true},
	} {
		if m.text == "" && !m.always {
			continue
		}
		var err error
		if b, err = appendText(append(b, m.before...), m.text); err != nil {
			return b[:start], err
		}
	}
	for _, m := range [...]struct {
		member string
		is     bool
	}{{`,"failed":true`, r.Failed}, {`,"partial":true`, r.Partial}, {`,"expected":true`, r.Expected}} {
		if m.is {
			b = append(b, m.member...)
		}
	}
	t := &r.Tokens
	for _, m := range [...]struct {
		before string
		n      int64
		known  bool
	}{
		{`,"input":`, t.Input.N, t.Input.Known}, {`,"cacheRead":`, t.CacheRead.N, t.CacheRead.Known},
		{`,"cacheWrite":`, t.CacheWrite.N, t.CacheWrite.Known}, {`,"output":`, t.Output.N, t.Output.Known},
		{`,"reasoning":`, t.Reasoning.N, t.Reasoning.Known},
		{`,"bytesIn":`, r.BytesIn, r.BytesIn != 0}, {`,"bytesOut":`, r.BytesOut, r.BytesOut != 0},
	} {
		if m.known {
			b = strconv.AppendInt(append(b, m.before...), m.n, 10)
		}
	}
	b = append(b, '}')
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.Checksum(b[start+checksum:], castagnoli))
	hex.Encode(b[start:start+checksum-1], sum[:])
	return append(b, '\n'), nil
}

// appendText adds text as a JSON string.
func appendText(b []byte, text string) ([]byte, error) {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(text)
			return append(b, quoted...), err
		}
	}
	b = append(append(b, '"'), text...)
	return append(b, '"'), nil
}

var errDamaged = errors.New("a line of the usage spool is damaged")

// parseLine reads what appendLine wrote, without the newline.
func parseLine(b []byte) (Record, error) {
	if len(b) < checksum || b[checksum-1] != ' ' {
		return Record{}, errDamaged
	}
	sum, err := strconv.ParseUint(string(b[:checksum-1]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(b[checksum:], castagnoli) {
		return Record{}, errDamaged
	}
	var l line
	if err := json.Unmarshal(b[checksum:], &l); err != nil || l.Organization == "" {
		return Record{}, errDamaged
	}
	r := Record{
		At: time.UnixMicro(l.At).UTC(), Organization: l.Organization, Service: l.Service, Model: l.Model, Credential: l.Credential, Member: l.Member,
		Failed: l.Failed, Partial: l.Partial, Expected: l.Expected,
		Tokens: tokens.Counts{Input: count(l.Input), CacheRead: count(l.CacheRead), CacheWrite: count(l.CacheWrite),
			Output: count(l.Output), Reasoning: count(l.Reasoning)},
		BytesIn: l.BytesIn, BytesOut: l.BytesOut,
	}
	return r.normal(), nil
}
