package ratelimit

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts by it
	"embed"
	"encoding/hex"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"sync/atomic"

	"github.com/redis/rueidis"
)

//go:embed *.lua
var luaFiles embed.FS

// script makes one of the scripts, with the files that it includes in place of its
// lines "--include FILE", and more lines behind it.
func script(name string, more ...string) luaScript {
	var text strings.Builder
	include(&text, name+".lua")
	for _, line := range more {
		text.WriteString("\n" + line)
	}
	sum := sha1.Sum([]byte(text.String())) //nolint:gosec // the name that Redis gives a script
	return luaScript{rueidis.NewLuaScript(text.String()), text.String(), hex.EncodeToString(sum[:])}
}

// ownScripts bounds how many scripts that differ by ownLine alone a Redis comes to hold: they
// stay until it is restarted, however many processes come and go.
const ownScripts = 256

// ownLine gives a line by which a script is one's own, but for one process in 256: where Redis
// does not know it, that is because Redis was restarted since, whatever others have
// brought to it. Within a process no two are the same.
func ownLine() string { return fmt.Sprintf("-- own: %d", ownLines.Add(1)%ownScripts) }

var ownLines = func() *atomic.Uint32 {
	n := new(atomic.Uint32)
	n.Store(mathrand.Uint32())
	return n
}()

// luaScript is a script and its name in Redis, by which it is run where [rueidis.Lua] does not do.
type luaScript struct {
	*rueidis.Lua
	text, sha string
}

func include(text *strings.Builder, file string) {
	source, err := luaFiles.ReadFile(file)
	if err != nil {
		panic(err) // a file that a script names is not embedded: any test finds it
	}
	for line := range strings.Lines(string(source)) {
		if included, ok := strings.CutPrefix(strings.TrimSpace(line), "--include "); ok {
			include(text, included)
		} else {
			text.WriteString(line)
		}
	}
}
