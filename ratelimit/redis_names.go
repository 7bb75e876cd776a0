package ratelimit

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"
)

// storedName names a subject in Redis, below the prefix: "ip:203.0.113.7". A
// colon in the type is escaped, and a key too long to keep is "type#" and its
// SHA-256 in hexadecimal, so that no two subjects share a name. Braces are
// escaped too: they say in which slot of a Redis Cluster a key is kept.
func storedName(subjectType, key string) string {
	if len(key) > MaxKey {
		sum := sha256.Sum256([]byte(key))
		return storedHash(subjectType, string(sum[:]))
	}
	subjectType = escapeType(subjectType)
	if strings.ContainsAny(key, "%{}") {
		key = escapeBraces.Replace(key)
	}
	return subjectType + ":" + key
}

// appendStoredName is storedName that allocates nothing for most subjects.
func appendStoredName(b []byte, subjectType, key string) []byte {
	if len(key) > MaxKey || !plain(subjectType) || !plain(key) && strings.ContainsAny(key, "%{}") {
		return append(b, storedName(subjectType, key)...)
	}
	return append(append(append(b, subjectType...), ':'), key...)
}

// plain says that a text has none of the characters that are escaped in a type.
func plain(text string) bool {
	for i := range len(text) {
		switch text[i] {
		case ':', '#', '%', '{', '}':
			return false
		}
	}
	return true
}

// storedHash is storedName for a key that is hashed already.
func storedHash(subjectType, sum string) string {
	return escapeType(subjectType) + "#" + hex.EncodeToString([]byte(sum))
}

func escapeType(subjectType string) string {
	if strings.ContainsAny(subjectType, ":#%{}") {
		subjectType = strings.ReplaceAll(url.QueryEscape(subjectType), "+", "%20")
	}
	return subjectType
}

var escapeBraces = strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D")

// redisKey is a subject's key in Redis. Braces around the name put it, and all that
// is kept beside it, in one slot of a Redis Cluster, unless the prefix says which.
func redisKey(prefix, name string) string {
	if strings.Contains(prefix, "{") {
		return prefix + name
	}
	return prefix + "{" + name + "}"
}

// redisKeyOf is the redisKey of a subject, and the name within it.
func redisKeyOf(prefix, subjectType, key string) (redis, name string) {
	before, after := len(prefix)+1, "}"
	b := append(make([]byte, 0, 128), prefix...)
	if strings.Contains(prefix, "{") {
		before, after = len(prefix), ""
	} else {
		b = append(b, '{')
	}
	redis = string(append(appendStoredName(b, subjectType, key), after...))
	return redis, redis[before : len(redis)-len(after)]
}

// splitName takes a stored name apart again: for a hashed key, the hash.
func splitName(name string) (subjectType, key string, hashed, ok bool) {
	i := strings.IndexAny(name, ":#")
	if i < 1 {
		return "", "", false, false
	}
	subjectType, key, hashed = name[:i], name[i+1:], name[i] == '#'
	if strings.Contains(subjectType, "%") {
		unescaped, err := url.QueryUnescape(subjectType)
		if err != nil {
			return "", "", false, false
		}
		subjectType = unescaped
	}
	if hashed {
		sum, err := hex.DecodeString(key)
		if err != nil || len(sum) != sha256.Size {
			return "", "", false, false
		}
		key = string(sum)
	} else if strings.Contains(key, "%") {
		unescaped, err := url.PathUnescape(key)
		if err != nil {
			return "", "", false, false
		}
		key = unescaped
	}
	return subjectType, key, hashed, true
}
