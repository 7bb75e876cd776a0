package tokens_test

import "testing"

// Anthropic's list of iterations, in every order and shape it may have.
func TestIterations(t *testing.T) {
	const usage = `"input_tokens":10,"output_tokens":1`
	for list, want := range map[string]string{
		`[]`:                                     "in 10 read - written - out 1 thought -",
		`null`:                                   "in 10 read - written - out 1 thought -",
		`{"type":"compaction","input_tokens":5}`: "in 10 read - written - out 1 thought -",
		`[{"type":"compaction","input_tokens":5}]`: "in 15 read 0 written 0 out 1 thought -",
		`[{"output_tokens":7,"type":"compaction"},{"type":"message","input_tokens":3},{"input_tokens":2,"type":"compaction","cache_read_input_tokens":4}]`: "in 16 read 4 written 0 out 8 thought -",
		`[{"input_tokens":9,"type":"message"},{"type":"compaction"}]`:                                                                                      "in 10 read 0 written 0 out 1 thought -",
		`[ "compaction" , [{"type":"compaction","input_tokens":5}] , 7 , null , {"type":"x"} ]`:                                                            "in 10 read - written - out 1 thought -",
		`[{"type":"comp\u0061ction","input_tokens":5,"cache_creation":{"type":"x","input_tokens":9}}]`:                                                     "in 15 read 0 written 0 out 1 thought -",
		`[{"type":{"type":"compaction"},"input_tokens":5},{"type":"compactions","input_tokens":5}]`:                                                        "in 10 read - written - out 1 thought -",
		`[{"type":"compaction","input_tokens":999999999},{"type":"compaction","input_tokens":999999999}]`:                                                  "in 1000000010 read 0 written 0 out 1 thought -",
	} {
		body := `{"usage":{"iterations":` + list + `,` + usage + `},"model":"m"}`
		for i := range body {
			if got, model, _ := watch("application/json", body[:i], body[i:]); got != want || model != "m" {
				t.Fatalf("%s, split at %d: %s of %q, want %s", body, i, got, model, want)
			}
		}
	}
	// Each event tells of all; one that tells of none, of nothing.
	const start = `data: {"message":{"usage":{` + usage + `,"iterations":[{"type":"compaction","input_tokens":5}]}}}` + "\n\n"
	for list, want := range map[string]string{
		`[]`: "in 15 read 0 written 0 out 1 thought -",
		`[{"type":"compaction","input_tokens":6},{"type":"message"}]`: "in 16 read 0 written 0 out 1 thought -",
		`[{"type":"message","input_tokens":6}]`:                       "in 10 read - written - out 1 thought -",
	} {
		if got, _, _ := watch("text/event-stream", start+`data: {"usage":{"iterations":`+list+"}}\n\n"); got != want {
			t.Errorf("%s: %s, want %s", list, got, want)
		}
	}
}
