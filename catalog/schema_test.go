package catalog_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/catalog"
)

// compile gives the schema of a service as a validator reads it, which checks it
// against the dialect's own schema too.
func compile(t testing.TB, s *catalog.Service) *jsonschema.Schema {
	t.Helper()
	content, err := json.Marshal(s.Schema())
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat() // a form may hold to formats
	if err := c.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatalf("%s: %v", s.Name, err)
	}
	return schema
}

func instanceOf(fields map[string]string) any {
	all := make(map[string]any, len(fields))
	for name, value := range fields {
		all[name] = value
	}
	return all
}

func TestSchemas(t *testing.T) {
	for _, s := range newCatalog(t, catalog.Options{Echo: true, ChatHosts: map[string]string{"local": "http://h"}, Custom: []byte(customFile)}).Services() {
		schema := compile(t, s)
		fields := sound(s.Name)
		if !s.NeedsCredential() {
			fields = nil
		}
		if s.Custom() {
			fields = map[string]string{"apiKey": "0123456789abcdef"}
		}
		if err := schema.Validate(instanceOf(fields)); err != nil {
			t.Errorf("%s: sound fields: %v", s.Name, err)
		}
		for name := range fields {
			f, _ := s.Field(name)
			without := make(map[string]string)
			for other, value := range fields {
				if other != name {
					without[other] = value
				}
			}
			if problems, _ := s.Check(without); (schema.Validate(instanceOf(without)) == nil) != (len(problems) == 0) {
				t.Errorf("%s without %s: Check and the schema differ", s.Name, name)
			}
			property := s.Schema()["properties"].(map[string]any)[name].(map[string]any)
			if writeOnly, _ := property["writeOnly"].(bool); writeOnly != f.Secret {
				t.Errorf("%s.%s: writeOnly is %v", s.Name, name, writeOnly)
			}
			fields := map[string]string{}
			for other, value := range without {
				fields[other] = value
			}
			fields[name] = ""
			if schema.Validate(instanceOf(fields)) == nil {
				t.Errorf("%s: an empty %s passes", s.Name, name)
			}
		}
		more := map[string]string{"hunter2": "x"}
		for name, value := range fields {
			more[name] = value
		}
		if schema.Validate(instanceOf(more)) == nil {
			t.Errorf("%s: an unknown field passes", s.Name)
		}
	}
	zendesk := compile(t, service(t, "zendesk"))
	if err := zendesk.Validate(instanceOf(map[string]string{"subdomain": "acme", "oauthToken": "x"})); err != nil {
		t.Errorf("the other way to be whole: %v", err)
	}
}

// A form that holds to the schema must not keep back what would be stored.
func TestSchemaRefusesNothingThatCheckTakes(t *testing.T) {
	all := services(append([]string{"local"}, every...))
	schemas := make(map[string]*jsonschema.Schema)
	for name, s := range all {
		schemas[name] = compile(t, s)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := all[rapid.SampledFrom(append([]string{"local"}, every...)).Draw(t, "service")]
		fields := sound(s.Name)
		f := rapid.SampledFrom(s.Fields).Draw(t, "field")
		fields[f.Name] = rapid.OneOf(
			rapid.StringMatching(`[!-~]{1,80}`), rapid.String(), rapid.StringMatching(`(https://)?[a-zA-Z0-9-]{1,20}\.openai\.azure\.com/?`),
			rapid.StringMatching(`[a-z0-9-]{1,20}`), rapid.StringMatching(`[a-z.+-]{1,9}@[a-z-]{1,9}\.[a-z]{2}`), rapid.SampledFrom([]string{"25", "465", "us", "eu"}),
		).Draw(t, "value")
		problems, _ := s.Check(fields)
		if err := schemas[s.Name].Validate(instanceOf(fields)); err != nil && len(problems) == 0 {
			t.Fatalf("%s: Check takes what the schema refuses: %v", s.Name, err)
		}
	})
}
