package tokens

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// RequestedModels gives every model that a request's JSON body asks for: its
// model, OpenRouter's models, which are tried in turn, and Gemini's agent, which stands
// in place of a model; and, as inner, those that its
// tools, plugins and the like name for themselves, such as one that makes images. It is for
// deciding whether the request may be sent, so it is not ok where two readers could
// understand the body in two ways: no JSON object by RFC 8259 in UTF-8, a name
// twice or in other letters (some hosts take any case), a value that is no
// string. A body that names none is ok and gives none.
func RequestedModels(body []byte) (models, inner []string, ok bool) {
	if !utf8.Valid(body) || !json.Valid(body) {
		return nil, nil, false
	}
	ok = true
	budget := maxValues
	seenModel, seenModels, seenAgent := false, false, false
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
		case bytes.EqualFold(m.name, []byte("agent")):
			if ok = !seenAgent && string(m.name) == "agent"; !ok {
				break
			}
			seenAgent = true
			if value[0] != '"' { // not Gemini's
				inner, ok = addInner(inner, m.name, value, &budget)
				break
			}
			var name string
			ok = json.Unmarshal(value, &name) == nil
			models = append(models, name)
		case !ofTheConversation[strings.ToLower(string(m.name))]:
			inner, ok = addInner(inner, m.name, value, &budget)
		}
		return ok
	})
	if !whole || !ok {
		return nil, nil, false
	}
	return models, inner, true
}

// TopLevelTexts gives the strings that are values of members of this name, in whatever letters and
// as often as there are, of a JSON object.
func TopLevelTexts(body []byte, name string) (texts []string) {
	eachMember(body, func(m part) bool {
		var text string
		if bytes.EqualFold(m.name, []byte(name)) && json.Unmarshal(body[m.value:m.end], &text) == nil {
			texts = append(texts, text)
		}
		return true
	})
	return texts
}

// ofTheConversation are members of a request, in small letters, that are what is talked about or how
// the answer is to look: a model in there is asked of nobody. Any other may choose one: tools,
// plugins, fallbacks, a grader, a realtime session.
var ofTheConversation = map[string]bool{
	"messages": true, "input": true, "contents": true, "prompt": true, "system": true, "instructions": true,
	"system_instruction": true, "systeminstruction": true, "metadata": true, "documents": true, "examples": true,
	"chat_history": true, "tool_results": true, "response_format": true, "text": true, "generationconfig": true, "generation_config": true,
	"tool_choice": true, "output_config": true, "output_format": true, "format": true,
}

// maxValues bounds what of a body is looked into: tools and the like have hundreds of values, and each
// takes memory. With more, nobody says what it asks for.
const maxValues = 100_000

// skipped are members, in small letters, inside of the others: conversations, examples and JSON
// Schemas, in which a model may stand that nobody asks for, headers, and what only narrows a choice.
var skipped = map[string]bool{
	"messages": true, "contents": true, "content": true, "input": true, "prompt": true, "system": true, "instructions": true,
	"system_instruction": true, "systeminstruction": true, "metadata": true, "documents": true, "examples": true, "input_examples": true,
	"input_schema": true, "output_schema": true, "schema": true, "json_schema": true, "parametersjsonschema": true, "parameters_json_schema": true,
	"headers": true, "allowed_models": true,
	"response": true, "responseschema": true, "response_schema": true, "responsejsonschema": true, "response_json_schema": true,
}

// ofFunctions are members, in small letters, whose parameters are a schema.
var ofFunctions = map[string]bool{"function": true, "functions": true, "functiondeclarations": true, "function_declarations": true}

// value is a JSON value with all of its members, also those of one name.
type value struct {
	text     string // of a string
	isText   bool
	names    []string // of an object's members
	elements []value  // theirs, or an array's
}

// innerModels gives the texts that are the model of something, or among its models, in the value
// of a member of the request, and is not ok where they cannot be told. text is valid JSON; budget is
// how many values may be kept.
func innerModels(name string, text []byte, budget *int) (models []string, ok bool) {
	named := isOfModels(strings.ToLower(name))
	if text[0] != '{' && text[0] != '[' && !named {
		return nil, true
	}
	read := json.NewDecoder(bytes.NewReader(text))
	read.UseNumber() // any number is one
	root, err := readValue(read, budget)
	if err != nil {
		return nil, false
	}
	if named {
		root = value{names: []string{name}, elements: []value{root}}
	}
	root.walk(ofFunctions[strings.ToLower(name)], func(model string) { models = append(models, model) })
	return models, true
}

// addInner adds the [innerModels] of a member to those before.
func addInner(inner []string, name, text []byte, budget *int) ([]string, bool) {
	more, ok := innerModels(string(name), text, budget)
	return append(inner, more...), ok
}

// readValue reads the next value, without what is skipped; errEnd where it is the end of what it
// is in.
func readValue(read *json.Decoder, budget *int) (v value, err error) {
	token, err := read.Token()
	if err != nil {
		return v, err
	}
	if *budget--; *budget < 0 {
		return v, errMany
	}
	switch token := token.(type) {
	case string:
		v.text, v.isText = token, true
	case json.Delim:
		if token == '}' || token == ']' {
			return v, errEnd
		}
		for {
			if token == '{' {
				name, err := read.Token()
				if err != nil {
					return v, err
				}
				text, isName := name.(string)
				if !isName { // the end
					return v, nil
				}
				if skipped[strings.ToLower(text)] {
					if err := skipValue(read); err != nil {
						return v, err
					}
					continue
				}
				v.names = append(v.names, text)
			}
			element, err := readValue(read, budget)
			if errors.Is(err, errEnd) {
				return v, nil
			}
			if err != nil {
				return v, err
			}
			v.elements = append(v.elements, element)
		}
	}
	return v, nil
}

// skipValue reads the next value and keeps nothing.
func skipValue(read *json.Decoder) error {
	for depth := 0; ; {
		token, err := read.Token()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

var (
	errEnd  = errors.New("the end of an object or an array")
	errMany = errors.New("more values than are looked at")
)

// isOfModels reports whether a member's name, in small letters, says that it is a model or several:
// LiteLLM's fallbacks are a list of names, and Azure's data sources name a deployment.
func isOfModels(name string) bool {
	return strings.HasSuffix(name, "model") || strings.HasSuffix(name, "models") || strings.HasSuffix(name, "fallbacks") ||
		name == "deployment_name" || name == "deployment"
}

// walk tells of the models in v. function says that it is, or is among, what a function is
// declared by.
func (v *value) walk(function bool, tell func(string)) {
	for i := range v.elements {
		element := &v.elements[i]
		if v.names == nil {
			element.walk(function, tell)
			continue
		}
		switch name := strings.ToLower(v.names[i]); {
		case isOfModels(name):
			if element.isText {
				tell(element.text)
			}
			for j := range element.elements {
				if inside := &element.elements[j]; element.names == nil && inside.isText {
					tell(inside.text)
				}
			}
			element.walk(false, tell)
		case name == "parameters" && (function || v.declaresFunction()):
		default:
			element.walk(ofFunctions[name], tell)
		}
	}
}

// declaresFunction reports whether an object says that it is a tool of the caller's own, and nothing
// else of what it is.
func (v *value) declaresFunction() (says bool) {
	for i, name := range v.names {
		if strings.EqualFold(name, "type") {
			if says = v.elements[i].text == "function"; !says {
				return false
			}
		}
	}
	return says
}
