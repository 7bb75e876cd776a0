package catalog

// SchemaDialect is the dialect of [Service.Schema].
const SchemaDialect = "https://json-schema.org/draft/2020-12/schema"

// Schema gives a JSON Schema (2020-12) of the object of a credential's fields,
// for a form to be drawn from and checked by. The caller may change it.
//
// It refuses nothing that [Service.Check] takes: lengths are in characters where
// Check counts bytes, and the provider's usual form of a value is the annotation
// usualPattern, never the assertion pattern, since forms change. Secrets are
// writeOnly and of the format password.
func (s *Service) Schema() map[string]any {
	properties := make(map[string]any, len(s.Fields))
	required := []string{}
	for i := range s.Fields {
		f := &s.Fields[i]
		properties[f.Name] = f.schema()
		if f.Required {
			required = append(required, f.Name)
		}
	}
	schema := map[string]any{
		"$schema": SchemaDialect, "type": "object", "title": s.Title,
		"properties": properties, "required": required, "additionalProperties": false,
	}
	if len(s.Alternatives) > 0 {
		ways := make([]any, len(s.Alternatives))
		for i, way := range s.Alternatives {
			ways[i] = map[string]any{"required": way}
		}
		schema["anyOf"] = ways
	}
	return schema
}

func (f *Field) schema() map[string]any {
	p := map[string]any{"type": "string", "title": f.Title, "minLength": 1, "maxLength": f.MaxLength}
	if f.Description != "" {
		p["description"] = f.Description
	}
	if f.Secret {
		p["writeOnly"], p["format"] = true, "password"
	}
	if f.Example != "" {
		p["examples"] = []string{f.Example}
	}
	if f.Pattern != "" {
		p["usualPattern"] = f.Pattern
	}
	switch f.Format {
	case Label:
		p["pattern"] = `^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$`
	case Choice:
		p["enum"] = f.Choices
	case Email:
		p["pattern"] = `^[^@]+@[^@]+$` // validators differ on what the format email is
	case MailPort:
		p["pattern"] = `^[1-9][0-9]{0,4}$`
	case Segment:
		p["pattern"] = `^[A-Za-z0-9_-]+$`
	case Endpoint:
		p["pattern"] = `^(https://)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+/?$` // the ends are in Field.Suffixes
	case Base:
		p["format"] = "uri"
	case Token:
		p["pattern"] = `^[!-~]+$`
	case Host, Text:
	}
	return p
}
