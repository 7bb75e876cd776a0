package tokens

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// RequestedModels gives every model that a request's JSON body asks for: its
// model, and OpenRouter's models, which are tried in turn. It is for deciding
// whether the request may be sent, so it is not ok where two readers could
// understand the body in two ways: no JSON object by RFC 8259 in UTF-8, a name
// twice or in other letters (some hosts take any case), a value that is no
// string. A body that names none is ok and gives none.
func RequestedModels(body []byte) (models []string, ok bool) {
	if !utf8.Valid(body) || !json.Valid(body) {
		return nil, false
	}
	ok = true
	seenModel, seenModels := false, false
	whole := eachMember(body, func(m part) bool {
		value := body[m.value:m.end]
		switch {
		case bytes.EqualFold(m.name, []byte("model")):
			var name string
			if ok = !seenModel && string(m.name) == "model" && json.Unmarshal(value, &name) == nil && value[0] == '"'; ok {
				models = append(models, name)
			}
			seenModel = true
		case bytes.EqualFold(m.name, []byte("models")):
			var names []string
			if ok = !seenModels && string(m.name) == "models" && json.Unmarshal(value, &names) == nil && value[0] == '['; ok {
				models = append(models, names...)
			}
			seenModels = true
		}
		return ok
	})
	if !whole || !ok {
		return nil, false
	}
	return models, true
}
