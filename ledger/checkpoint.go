package ledger

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// A Checkpoint is what a signed note says of a log: that it has Size events, and
// the hash of their tree. The text is that of C2SP's tlog-checkpoint, with the
// block as extension lines:
//
//	gatehouse/production/acme/control
//	1234
//	CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//	block 57 1200 34
//	previous 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
//	sealed 2026-11-23T08:41:00.000Z
//
// The first line is the log's origin: instance, environment, organization and
// class. "block" names the block's number, the place of its first event and how
// many it has; "previous" is the SHA-256 of the whole signed note of the block
// before, of nothing where there is none. The checkpoint of the instance's own log
// has neither.
//
// With Removed it is another statement: that the events before Size were removed by
// retention. Its first line, and so the name of its signature, ends in "/removed",
// and lines of Notes say why.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash

	Block    int64 // -1: that of the instance's own log
	First    int64
	Count    int64
	Previous tlog.Hash
	SealedAt time.Time

	Removed bool
	Notes   []string // with Removed: lines of text
}

// origin gives the first line of a log's checkpoints, which is the name of the key
// that signs them too (C2SP signed-note: without spaces and plus signs).
func origin(environment, organization, class string) string {
	return "gatehouse/" + strings.ReplaceAll(url.PathEscape(environment), "+", "%2B") + "/" + organization + "/" + class
}

// Log gives the organization and the class that the origin names.
func (c *Checkpoint) Log() (organization, class string) {
	parts := strings.Split(c.Origin, "/")
	if len(parts) != 4 || parts[0] != "gatehouse" {
		return "", ""
	}
	return parts[2], parts[3]
}

const removed = "/removed"

// name gives the first line, which is the name that signs it.
func (c *Checkpoint) name() string {
	if c.Removed {
		return c.Origin + removed
	}
	return c.Origin
}

// checkpointTime is signed, and so stays as it is whatever the API writes.
const checkpointTime = "2006-01-02T15:04:05.000Z"

// text gives the checkpoint as it is signed.
func (c *Checkpoint) text() string {
	b := append(make([]byte, 0, 256), c.name()...)
	b = strconv.AppendInt(append(b, '\n'), c.Size, 10)
	b = append(append(b, '\n'), c.Root.String()...)
	if c.Block >= 0 {
		b = strconv.AppendInt(append(b, "\nblock "...), c.Block, 10)
		b = strconv.AppendInt(append(b, ' '), c.First, 10)
		b = strconv.AppendInt(append(b, ' '), c.Count, 10)
		b = append(append(b, "\nprevious "...), c.Previous.String()...)
	}
	for _, line := range c.Notes {
		b = append(append(b, '\n'), line...)
	}
	b = c.SealedAt.UTC().AppendFormat(append(b, "\nsealed "...), checkpointTime)
	return string(append(b, '\n'))
}

var errCheckpoint = errors.New("not a checkpoint of Gatehouse")

// parseCheckpoint reads what text gives, and nothing else.
func parseCheckpoint(text string) (Checkpoint, error) {
	c := Checkpoint{Block: -1}
	lines := strings.Split(text, "\n")
	if len(text) > 4096 || len(lines) < 5 || lines[len(lines)-1] != "" {
		return Checkpoint{}, errCheckpoint
	}
	c.Origin, c.Removed = strings.CutSuffix(lines[0], removed)
	if c.Removed && len(lines) > 5 {
		c.Notes = lines[3 : len(lines)-2]
	}
	if !c.Removed && len(lines) != 5 && len(lines) != 7 {
		return Checkpoint{}, errCheckpoint
	}
	var errs [7]error
	c.Size, errs[0] = strconv.ParseInt(lines[1], 10, 64)
	c.Root, errs[1] = tlog.ParseHash(lines[2])
	if !c.Removed && len(lines) == 7 {
		words := strings.Split(lines[3], " ")
		if len(words) != 4 {
			return Checkpoint{}, errCheckpoint
		}
		c.Block, errs[2] = strconv.ParseInt(words[1], 10, 64)
		c.First, errs[3] = strconv.ParseInt(words[2], 10, 64)
		c.Count, errs[4] = strconv.ParseInt(words[3], 10, 64)
		c.Previous, errs[5] = tlog.ParseHash(strings.TrimPrefix(lines[4], "previous "))
	}
	c.SealedAt, errs[6] = time.Parse(checkpointTime, strings.TrimPrefix(lines[len(lines)-2], "sealed "))
	organization, class := c.Log()
	// One text for one checkpoint: what is written back must be what was read.
	if errors.Join(errs[:]...) != nil || c.Size < 0 || c.First < 0 || c.Count < 0 || organization == "" || class == "" || c.text() != text {
		return Checkpoint{}, errCheckpoint
	}
	return c, nil
}

// noteHash is the hash of a whole signed note, by which blocks are chained: what
// follows vouches for its text and its signature.
func noteHash(note string) tlog.Hash { return sha256.Sum256([]byte(note)) }

// noteText gives the part of a note that is signed.
func noteText(note string) string {
	if i := strings.LastIndex(note, "\n\n"); i >= 0 {
		return note[:i+1]
	}
	return ""
}

// splitNotes parts a file that holds signed notes one behind the other, as
// `gatehouse audit checkpoint` and AUDIT_CHECKPOINTS write them. It reads no more
// of them than where each ends. torn are notes that a full disk cut off: each must have a whole
// one behind it that vouches for the same.
func splitNotes(file []byte) (notes []string, torn int, err error) {
	file = bytes.ReplaceAll(file, []byte("\r\n"), []byte("\n"))
	type piece struct {
		text   string
		before int // how many notes are before it
	}
	var pieces []piece
	var note strings.Builder
	signed, blank := false, false // the line before was a signature, or empty
	end := func(last []byte) {
		if last != nil && wholeSignature(last) {
			notes = append(notes, note.String())
		} else {
			pieces = append(pieces, piece{note.String(), len(notes)})
		}
		note.Reset()
	}
	var last []byte
	for line := range bytes.SplitSeq(file, []byte("\n")) {
		signature := bytes.HasPrefix(line, []byte(signatureMark))
		switch {
		case signed && !signature:
			end(last)
		case blank && !signature && len(line) > 0 && note.Len() > 0: // behind a note's text there are only signatures
			end(nil)
		}
		signed, blank, last = signature, len(line) == 0, line
		if blank && (note.Len() == 0 || strings.HasSuffix(note.String(), "\n\n")) {
			continue
		}
		note.Write(line)
		note.WriteByte('\n')
	}
	if signed && wholeSignature(last) {
		end(last)
	}
	if note.Len() > 0 || len(notes) == 0 {
		return nil, 0, errors.New("the file is not one of checkpoints, or its end is cut off")
	}
	for _, p := range pieces {
		if !slices.ContainsFunc(notes[p.before:], func(n string) bool { return vouches(n, p.text) }) {
			return nil, 0, fmt.Errorf("a checkpoint behind number %d of the file is cut off, and none behind it vouches for the same log", p.before)
		}
	}
	return notes, len(pieces), nil
}

const signatureMark = "— "

// vouches reports whether a note is of the same log as one that was cut off, and of no fewer
// events, as far as that still says. What is left of its signature says nothing.
func vouches(note, cut string) bool {
	if strings.HasPrefix(signatureMark, strings.TrimSpace(cut)) {
		return true
	}
	later, was := strings.SplitN(note, "\n", 3), strings.SplitN(cut, "\n", 3) // origin, size
	if len(later) < 3 || len(was) < 2 {
		return false
	}
	if len(was) < 3 || was[1] == "" {
		return strings.HasPrefix(later[0], was[0])
	}
	size, sizeErr := strconv.ParseInt(later[1], 10, 64)
	least, leastErr := strconv.ParseInt(was[1], 10, 64)
	return later[0] == was[0] && sizeErr == nil && leastErr == nil && size >= least
}

// wholeSignature reports whether a note's line has a signature as long as those of Ed25519 are:
// a hash of the key (4 bytes) and the signature.
func wholeSignature(line []byte) bool {
	fields := bytes.Fields(line)
	signature, err := base64.StdEncoding.DecodeString(string(fields[len(fields)-1]))
	return err == nil && len(signature) >= 4+ed25519.SignatureSize
}
