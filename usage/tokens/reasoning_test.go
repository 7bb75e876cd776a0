package tokens_test

import "testing"

// Reasoning is added only where it is certain that the completion is without it.
func TestReasoningBesideTheCompletion(t *testing.T) {
	for usage, want := range map[string]string{
		// SGLang: a part of it.
		`"prompt_tokens":5,"completion_tokens":30,"total_tokens":35,"reasoning_tokens":20`: "in 5 read - written - out 30 thought 20",
		`"prompt_tokens":5,"completion_tokens":30,"total_tokens":35,"reasoning_tokens":0`:  "in 5 read - written - out 30 thought 0",
		// Larger than what it would be a part of.
		`"prompt_tokens":5,"completion_tokens":30,"total_tokens":35,"reasoning_tokens":31`: "in 5 read - written - out 61 thought 31",
		// The total says so, and once is enough.
		`"prompt_tokens":5,"completion_tokens":30,"total_tokens":55,"reasoning_tokens":20,"num_search_queries":1`:                                                  "in 5 read - written - out 50 thought 20",
		`"prompt_tokens":5,"completion_tokens":30,"total_tokens":35,"citation_tokens":1,"reasoning_tokens":20,"completion_tokens_details":{"reasoning_tokens":20}`: "in 5 read - written - out 30 thought 20",
		// A larger total, where anything else may be why.
		`"prompt_tokens":5,"completion_tokens":30,"total_tokens":99,"prompt_tokens_details":{}`:                         "in 5 read - written - out 30 thought -",
		`"prompt_tokens":5,"completion_tokens":30,"total_tokens":99,"completion_tokens_details":{"reasoning_tokens":7}`: "in 5 read - written - out 30 thought 7",
		`"completion_tokens":30,"total_tokens":99`:                                                                      "in - read - written - out 30 thought -",
		`"prompt_tokens":5,"total_tokens":99`:                                                                           "in 5 read - written - out - thought -",
		`"prompt_tokens":5,"completion_tokens":30,"total_tokens":20`:                                                    "in 5 read - written - out 30 thought -",
		`"prompt_tokens":5,"completion_tokens":30,"total_tokens":40,"prompt_tokens_details":null`:                       "in 5 read - written - out 35 thought -",
	} {
		if got, _, _ := watch("application/json", `{"usage":{`+usage+`}}`); got != want {
			t.Errorf("%s: %s, want %s", usage, got, want)
		}
	}
}
