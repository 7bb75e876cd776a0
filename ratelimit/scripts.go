package ratelimit

import (
	"embed"
	"strings"

	"github.com/redis/rueidis"
)

//go:embed *.lua
var luaFiles embed.FS

// script makes one of the scripts, with the files that it includes in place of its
// lines "--include FILE".
func script(name string) *rueidis.Lua {
	var text strings.Builder
	include(&text, name+".lua")
	return rueidis.NewLuaScript(text.String())
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
