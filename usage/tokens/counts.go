package tokens

// Count is a number of tokens, if it is known. The zero value is not known,
// which is not the same as none.
type Count struct {
	N     int64
	Known bool
}

// Of gives a known count.
func Of(n int64) Count { return Count{N: n, Known: true} }

// Counts is what a provider said of one answer. The meaning is the same for all
// providers, whatever theirs is: CacheRead and CacheWrite are parts of Input,
// Reasoning is a part of Output.
type Counts struct {
	Input      Count // of the prompt, with what was read from or written to a cache
	CacheRead  Count // of Input, read from the provider's cache
	CacheWrite Count // of Input, written to the provider's cache
	Output     Count // of the answer, with the reasoning that is not shown
	Reasoning  Count // of Output, thought and not shown
}

// Known reports whether the provider said anything of the prompt or the answer.
func (c Counts) Known() bool { return c.Input.Known || c.Output.Known }

// maxTokens is the most that one answer can be believed to have. A larger
// number is not a count of tokens, and sums of such would overflow.
const maxTokens = 1_000_000_000

// field is one number that some dialect says.
type field uint8

const (
	fieldNone field = iota
	fieldModel
	promptTokens     // OpenAI: with what was cached
	completionTokens // OpenAI: with reasoning; at xAI without
	totalTokens
	cachedTokens     // OpenAI: part of the prompt
	cacheWriteTokens // OpenAI, OpenRouter: the same
	cacheHitTokens   // DeepSeek: the same
	reasoningTokens  // part of the completion
	inputTokens      // OpenAI responses: with what was cached; Anthropic: without
	outputTokens
	cacheCreationTokens // Anthropic, beside input_tokens
	cacheReadTokens     // Anthropic, beside input_tokens
	geminiPrompt        // with what was cached
	geminiCached
	geminiTool       // beside the prompt: results of tools that Gemini ran
	geminiCandidates // without thoughts
	geminiThoughts
	cohereInput
	cohereOutput
	cohereBilledInput
	cohereBilledOutput
	fieldCount
)

// node is a place in a JSON value: a member of interest, or an object with such.
type node struct {
	field   field
	members []member
}

type member struct {
	name string
	node *node
}

func leaf(f field) *node { return &node{field: f} }

// The places at which the dialects say something. The table is constant.
var (
	cohereTokens = &node{members: []member{{"input_tokens", leaf(cohereInput)}, {"output_tokens", leaf(cohereOutput)}}}
	cohereBilled = &node{members: []member{{"input_tokens", leaf(cohereBilledInput)}, {"output_tokens", leaf(cohereBilledOutput)}}}
	cohereMeta   = &node{members: []member{{"tokens", cohereTokens}, {"billed_units", cohereBilled}}}

	promptDetails = &node{members: []member{{"cached_tokens", leaf(cachedTokens)}, {"cache_write_tokens", leaf(cacheWriteTokens)}}}
	outputDetails = &node{members: []member{{"reasoning_tokens", leaf(reasoningTokens)}, {"thinking_tokens", leaf(reasoningTokens)}}}

	usage = &node{members: []member{
		{"prompt_tokens", leaf(promptTokens)},
		{"completion_tokens", leaf(completionTokens)},
		{"total_tokens", leaf(totalTokens)},
		{"prompt_tokens_details", promptDetails},
		{"completion_tokens_details", outputDetails},
		{"prompt_cache_hit_tokens", leaf(cacheHitTokens)},
		{"input_tokens", leaf(inputTokens)},
		{"output_tokens", leaf(outputTokens)},
		{"input_tokens_details", promptDetails},
		{"output_tokens_details", outputDetails},
		{"cache_creation_input_tokens", leaf(cacheCreationTokens)},
		{"cache_read_input_tokens", leaf(cacheReadTokens)},
		{"cached_tokens", leaf(cachedTokens)},
		{"tokens", cohereTokens},
		{"billed_units", cohereBilled},
	}}
	model = leaf(fieldModel)

	answer = &node{members: []member{
		{"usage", usage},
		{"model", model},
		{"message", &node{members: []member{{"usage", usage}, {"model", model}}}},                        // Anthropic's message_start
		{"response", &node{members: []member{{"usage", usage}, {"model", model}, {"meta", cohereMeta}}}}, // OpenAI's responses; Cohere's version 1
		{"delta", &node{members: []member{{"usage", usage}}}},                                            // Cohere's message-end
		{"meta", cohereMeta},
		{"x_groq", &node{members: []member{{"usage", usage}}}},
		{"modelVersion", model},
		{"usageMetadata", &node{members: []member{
			{"promptTokenCount", leaf(geminiPrompt)},
			{"cachedContentTokenCount", leaf(geminiCached)},
			{"toolUsePromptTokenCount", leaf(geminiTool)},
			{"candidatesTokenCount", leaf(geminiCandidates)},
			{"thoughtsTokenCount", leaf(geminiThoughts)},
		}}},
	}}
)

// The bounds of the table above, which a test holds.
const (
	maxDepth = 4  // objects inside one another
	maxName  = 32 // bytes of a member's name
)

// values is what was read, by field.
type values struct {
	n     [fieldCount]int64
	known uint32 // bit f: field f
}

func (v *values) set(f field, n int64) {
	v.n[f] = n
	v.known |= 1 << f
}

func (v *values) get(f field) Count {
	return Count{N: v.n[f], Known: v.known&(1<<f) != 0}
}

// sum adds up what is known of fs; it is known when the first is.
func (v *values) sum(fs ...field) Count {
	total := Count{Known: v.get(fs[0]).Known}
	for _, f := range fs {
		total.N += v.get(f).N
	}
	if !total.Known {
		return Count{}
	}
	return total
}

// first gives the first of fs that is known.
func (v *values) first(fs ...field) Count {
	for _, f := range fs {
		if c := v.get(f); c.Known {
			return c
		}
	}
	return Count{}
}

// counts puts the dialects' numbers into the one meaning of Counts.
func (v *values) counts() Counts {
	switch {
	case v.get(promptTokens).Known || v.get(completionTokens).Known:
		c := Counts{
			Input: v.get(promptTokens), Output: v.get(completionTokens),
			CacheRead: v.first(cachedTokens, cacheHitTokens), CacheWrite: v.get(cacheWriteTokens), Reasoning: v.get(reasoningTokens),
		}
		// xAI's completion is without the reasoning; its total says so.
		if total := v.get(totalTokens); total.Known && c.Output.Known && c.Reasoning.N > 0 &&
			total.N == c.Input.N+c.Output.N+c.Reasoning.N {
			c.Output.N += c.Reasoning.N
		}
		return c
	case v.get(inputTokens).Known || v.get(outputTokens).Known:
		return Counts{
			Input: v.sum(inputTokens, cacheCreationTokens, cacheReadTokens), Output: v.get(outputTokens),
			CacheRead: v.first(cacheReadTokens, cachedTokens), CacheWrite: v.first(cacheCreationTokens, cacheWriteTokens),
			Reasoning: v.get(reasoningTokens),
		}
	case v.get(geminiPrompt).Known || v.get(geminiCandidates).Known:
		output := v.sum(geminiCandidates, geminiThoughts)
		if !output.Known { // all of it was thought
			output = v.get(geminiThoughts)
		}
		return Counts{
			Input: v.sum(geminiPrompt, geminiTool), Output: output,
			CacheRead: v.get(geminiCached), Reasoning: v.get(geminiThoughts),
		}
	default:
		return Counts{
			Input: v.first(cohereInput, cohereBilledInput), Output: v.first(cohereOutput, cohereBilledOutput),
			CacheRead: v.get(cachedTokens),
		}
	}
}
