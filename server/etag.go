package server

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/gatehouse-io/gatehouse/store"
)

// revisionTag gives the ETag of what counts its changes; [matchOf] reads it.
func revisionTag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

// contentTag gives the ETag of an answer that has no revision of its own.
func contentTag(body any) (string, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`, nil
}

// matchOf reads If-Match (RFC 9110, 13.1.1). What is no ETag of ours matches no
// state. A weak tag counts too, although the RFC compares strongly there: a proxy
// that compresses answers, as nginx does, makes W/"4" of our "4", and a client has no
// other to send back. Ours is a revision, which names one state exactly whatever the
// bytes on the way were, so that taking it can overwrite nothing unseen.
func matchOf(header string) store.Match {
	header = strings.TrimSpace(header)
	if header == "" || header == "*" {
		return store.Match{}
	}
	var revisions []int64
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.TrimSpace(tag)
		if inner, ok := strings.CutPrefix(strings.TrimPrefix(tag, "W/"), `"`); ok {
			if n, err := strconv.ParseInt(strings.TrimSuffix(inner, `"`), 10, 64); err == nil {
				revisions = append(revisions, n)
			}
		}
	}
	return store.MatchOf(revisions...)
}
