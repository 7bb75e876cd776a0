package tokens

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// RequestedModels gives every model that a request's JSON body asks for: its
// model, OpenRouter's models, which are tried in turn, and those of tools and plugins
// (image generation, advisors). What a conversation holds, metadata and the schemas of
// functions ask for none. It is for deciding
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
		case value[0] == '{' || value[0] == '[':
			if !ofTheConversation[string(m.name)] {
				models = append(models, innerModels(value)...)
			}
		}
		return ok
	})
	if !whole || !ok {
		return nil, false
	}
	return models, true
}

// ofTheConversation are members of a request whose values are what is talked about, in
// which a model may stand that nobody asks for: the arguments of a tool, say.
var ofTheConversation = map[string]bool{
	"messages": true, "input": true, "contents": true, "prompt": true, "system": true, "instructions": true,
	"system_instruction": true, "systemInstruction": true, "metadata": true,
}

// ofASchema are members, at any depth, that hold a JSON Schema.
var ofASchema = map[string]bool{
	"parameters": true, "parametersJsonSchema": true, "input_schema": true, "schema": true,
	"responseSchema": true, "responseJsonSchema": true, "response_schema": true, "response_json_schema": true,
}

// innerModels gives the texts that are the model of something inside of a member, or among
// its models, each time that one stands there. value is valid JSON.
func innerModels(value []byte) (models []string) {
	// open says of each object and array that the text is in what its texts are.
	type level struct {
		object       bool
		name         string // of the member at hand
		named        bool   // its value is next
		models, skip bool   // an array of models; of a schema
	}
	var open []level
	read := json.NewDecoder(bytes.NewReader(value))
	for {
		token, err := read.Token()
		if err != nil {
			return models
		}
		var at *level
		if len(open) > 0 {
			at = &open[len(open)-1]
		}
		switch token := token.(type) {
		case json.Delim:
			if token == '}' || token == ']' {
				open = open[:len(open)-1]
				continue
			}
			next := level{object: token == '{'}
			if at != nil {
				next.skip = at.skip || at.object && ofASchema[at.name]
				next.models = !next.object && (at.models || at.object && strings.EqualFold(at.name, "models"))
				at.named = false
			}
			open = append(open, next)
		case string:
			switch {
			case at == nil:
			case at.object && !at.named:
				at.name, at.named = token, true
			case !at.skip && (at.models || at.object && strings.EqualFold(at.name, "model")):
				models = append(models, token)
				at.named = false
			default:
				at.named = false
			}
		default:
			if at != nil {
				at.named = false
			}
		}
	}
}
