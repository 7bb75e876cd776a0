package audit

import "encoding/json"

// Schema gives the JSON Schema (2020-12) of an event as the API, exports, the live
// tail and sinks give it. Members may be added to events without another version;
// what is here keeps its meaning.
func Schema() (json.RawMessage, error) {
	text := func(doc string) map[string]any { return map[string]any{"type": "string", "description": doc} }
	instant := func(doc string) map[string]any {
		return map[string]any{"type": "string", "format": "date-time", "description": doc}
	}
	object := func(doc string, required []string, members map[string]any) map[string]any {
		return map[string]any{"type": "object", "description": doc, "required": required, "properties": members}
	}
	list := func(doc string, of any) map[string]any {
		return map[string]any{"type": "array", "description": doc, "items": of}
	}
	schema := object("One line of the audit trail of Gatehouse.",
		[]string{"id", "occurredAt", "organization", "class", "action", "outcome", "severity", "actor", "targets"}, map[string]any{
			"id":           text("evt_ and a UUIDv7"),
			"occurredAt":   instant("When it happened, with milliseconds, in UTC"),
			"recordedAt":   instant("When it was handed to the database"),
			"organization": text("The organization whose trail it is in; _instance for what belongs to no tenant"),
			"class":        enum("How it is recorded: see docs/audit.md", Classes()),
			"action":       enum("What happened", Actions()),
			"outcome":      enum("How it ended", []Outcome{Success, Denied, Failure, Partial}),
			"reason":       text("A stable word, in snake_case"),
			"severity":     enum("How soon somebody should look", []Severity{Info, Notice, Warning, Critical}),
			"actor": object("Who did it", []string{"type", "id"}, map[string]any{
				"type": text("user, service, system or anonymous"), "id": text("The organization's own id of the actor"),
				"tokenId": text("The id of its token, where that has one"), "roles": list("The roles it had", map[string]any{"type": "string"}),
			}),
			"targets": list("What it was done to", object("One of them", []string{"type", "id"}, map[string]any{
				"type": text("Such as credential or member"), "id": text("Its id"), "name": text("Its name, until the person is erased"),
			})),
			"permission": text("The permission that was decided on"),
			"request": object("The HTTP request behind it", []string{}, map[string]any{
				"id": text("The request id"), "method": text("The method"), "route": text("The template of the route"),
				"status": map[string]any{"type": "integer"}, "ip": text("The client's address, until the person is erased"),
				"userAgent": text("Its user agent, until the person is erased"),
			}),
			"count":    map[string]any{"type": "integer", "minimum": 2, "description": "How many alike this line stands for, when more than one"},
			"metadata": map[string]any{"type": "object", "description": "Small facts; truncated says that some were too long to keep"},
			"damaged":  map[string]any{"type": "boolean", "description": "The stored row was altered"},
		})
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["$id"] = "urn:gatehouse:audit-event:v2"
	schema["title"] = "Gatehouse audit event, version 2"
	return json.Marshal(schema)
}

func enum[T ~string](doc string, values []T) map[string]any {
	return map[string]any{"type": "string", "description": doc, "enum": values}
}
