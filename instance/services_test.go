package instance_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/instance"
)

// TestServicesOfTheOperator: what an operator adds to the catalogue is checked
// with everything else at start, each mistake with its place and no value.
func TestServicesOfTheOperator(t *testing.T) {
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "services.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const fine = `{"services":[{"name":"weather","origin":"https://api.weather.example",
		"fields":[{"name":"apiKey","secret":true,"required":true}],"headers":[{"name":"X-Key","value":"{apiKey}"}]}]}`
	for _, test := range []struct {
		name    string
		environ map[string]string
		want    []string // in the error; none: it is fine
	}{
		{"fine", map[string]string{"GATEHOUSE_SERVICES": file(fine), "GITHUB_HOSTS": "https://ghe.example,http://git.internal", "CREDENTIAL_TEST_REUSE": "1m",
			"GATEHOUSE_LISTEN_WEATHER": "127.0.0.1:9001", "SERVICE_HOSTS": "weather=http://127.0.0.1:1"}, nil},
		{"no such file", map[string]string{"GATEHOUSE_SERVICES": "/nowhere/services.json"}, []string{"GATEHOUSE_SERVICES cannot be read"}},
		{"an empty file", map[string]string{"GATEHOUSE_SERVICES": file("")}, []string{"GATEHOUSE_SERVICES: line 1: the file is not JSON"}},
		{"a folder", map[string]string{"GATEHOUSE_SERVICES": t.TempDir()}, []string{"GATEHOUSE_SERVICES cannot be read"}},
		{"several", map[string]string{
			"GATEHOUSE_SERVICES": file(strings.NewReplacer("weather\"", "app\"", "https", "hunter2").Replace(fine)),
			"GITHUB_HOSTS":       "https://ghe.example,hunter2", "CREDENTIAL_TEST_REUSE": "1h",
		}, []string{"GATEHOUSE_SERVICES: services[0].name: is reserved", "GATEHOUSE_SERVICES: services[0].origin: ", "GITHUB_HOSTS: entry 2: ", "CREDENTIAL_TEST_REUSE must be from 0s to 5m"}},
		{"no duration", map[string]string{"CREDENTIAL_TEST_REUSE": "hunter2"}, []string{"CREDENTIAL_TEST_REUSE must be a duration"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.environ["JWT_SECRET"] = strings.Repeat("s3cr3t-", 8)
			c, err := instance.FromEnvironment(test.environ)
			if err == nil {
				err = c.Check()
			}
			if (err == nil) != (len(test.want) == 0) {
				t.Fatalf("%v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%v\nwant %s", err, want)
				}
			}
		})
	}
}
