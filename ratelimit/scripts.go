package ratelimit

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts by it
	"embed"
	"encoding/hex"
	"strings"

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
	return luaScript{rueidis.NewLuaScript(text.String()), hex.EncodeToString(sum[:])}
}

// luaScript is a script and its name in Redis, by which it is run where [rueidis.Lua] does not do.
type luaScript struct {
	*rueidis.Lua
	sha string
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
