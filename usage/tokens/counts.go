package tokens

// Count is a number of tokens, if it is known. The zero value is not known,
// which is not the same as none.
type Count struct {
	N     int64
	Known bool
}

// Of gives a known count.
func Of(n int64) Count { return Count{N: n, Known: true} }

// and adds more, where either is known.
func (c Count) and(more Count) Count {
	return Count{N: c.N + more.N, Known: c.Known || more.Known}
}

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
	fieldEvent       // what an event of a stream says it is
	fieldFailure     // why an answer ends
	fieldIteration   // what an entry of Anthropic's iterations is about
	promptTokens     // OpenAI: with what was cached
	completionTokens // OpenAI: with reasoning; at xAI without
	totalTokens
	cachedTokens     // OpenAI: part of the prompt
	cacheWriteTokens // OpenAI, OpenRouter: the same
	cacheHitTokens   // DeepSeek: the same
	reasoningTokens  // part of the completion
	bareReasoning    // Perplexity: beside the completion; SGLang: part of it
	citationTokens   // Perplexity's deep research
	searchQueries    // Perplexity's deep research
	details          // there are some
	inputTokens      // OpenAI responses: with what was cached; Anthropic: without
	outputTokens
	cacheCreationTokens // Anthropic, beside input_tokens
	cacheReadTokens     // Anthropic, beside input_tokens
	iterationInput      // Anthropic: of one entry of iterations, as the four above of the answer
	iterationOutput
	iterationCreation
	iterationRead
	compactionInput // the sums of those that are compactions, beside all of the above
	compactionOutput
	compactionCreation
	compactionRead
	geminiPrompt // with what was cached
	geminiCached
	geminiTool       // beside the prompt: results of tools that Gemini ran
	geminiCandidates // without thoughts
	geminiThoughts
	interactionInput // Gemini's interactions: with what was cached
	interactionCached
	interactionTool   // beside the input
	interactionOutput // without thoughts
	interactionThoughts
	cohereInput
	cohereOutput
	cohereBilledInput
	cohereBilledOutput
	fieldCount
)

// node is a place in a JSON value: a member of interest, an object with such, or an
// array of such objects.
type node struct {
	field    field
	members  []member
	elements *node
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

	promptDetails = &node{field: details, members: []member{{"cached_tokens", leaf(cachedTokens)}, {"cache_write_tokens", leaf(cacheWriteTokens)}}}
	outputDetails = &node{field: details, members: []member{{"reasoning_tokens", leaf(reasoningTokens)}, {"thinking_tokens", leaf(reasoningTokens)}}}

	iterations = &node{elements: &node{members: []member{
		{"type", leaf(fieldIteration)},
		{"input_tokens", leaf(iterationInput)},
		{"output_tokens", leaf(iterationOutput)},
		{"cache_creation_input_tokens", leaf(iterationCreation)},
		{"cache_read_input_tokens", leaf(iterationRead)},
	}}}

	usage = &node{members: []member{
		{"prompt_tokens", leaf(promptTokens)},
		{"completion_tokens", leaf(completionTokens)},
		{"total_tokens", leaf(totalTokens)},
		{"prompt_tokens_details", promptDetails},
		{"completion_tokens_details", outputDetails},
		{"prompt_cache_hit_tokens", leaf(cacheHitTokens)},
		{"reasoning_tokens", leaf(bareReasoning)},
		{"citation_tokens", leaf(citationTokens)},
		{"num_search_queries", leaf(searchQueries)},
		{"input_tokens", leaf(inputTokens)},
		{"output_tokens", leaf(outputTokens)},
		{"input_tokens_details", promptDetails},
		{"output_tokens_details", outputDetails},
		{"cache_creation_input_tokens", leaf(cacheCreationTokens)},
		{"cache_read_input_tokens", leaf(cacheReadTokens)},
		{"iterations", iterations},
		{"total_input_tokens", leaf(interactionInput)},
		{"total_cached_tokens", leaf(interactionCached)},
		{"total_tool_use_tokens", leaf(interactionTool)},
		{"total_output_tokens", leaf(interactionOutput)},
		{"total_thought_tokens", leaf(interactionThoughts)},
		{"cached_tokens", leaf(cachedTokens)},
		{"tokens", cohereTokens},
		{"billed_units", cohereBilled},
	}}
	model   = leaf(fieldModel)
	failure = leaf(fieldFailure)

	answer = &node{members: []member{
		{"type", leaf(fieldEvent)},
		{"error", failure},
		{"usage", usage},
		{"model", model},
		{"message", &node{members: []member{{"usage", usage}, {"model", model}}}},                        // Anthropic's message_start
		{"response", &node{members: []member{{"usage", usage}, {"model", model}, {"meta", cohereMeta}}}}, // OpenAI's responses; Cohere's version 1
		{"interaction", &node{members: []member{{"usage", usage}, {"model", model}}}},                    // Gemini's interactions
		{"delta", &node{members: []member{{"usage", usage}, {"error", failure}}}},                        // Cohere's message-end
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
	maxDepth = 5  // objects and arrays inside one another
	maxName  = 32 // bytes of a member's name
)

// values is what was read, by field.
type values struct {
	n     [fieldCount]int64
	known uint64 // bit f: field f
}

func (v *values) set(f field, n int64) {
	v.n[f] = n
	v.known |= 1 << f
}

func (v *values) get(f field) Count {
	return Count{N: v.n[f], Known: v.known&(1<<f) != 0}
}

// beginIteration forgets the entry of Anthropic's iterations that was before.
func (v *values) beginIteration() {
	for f := iterationInput; f <= iterationRead; f++ {
		v.n[f] = 0
	}
}

// endCompaction adds the entry at hand to the compactions.
func (v *values) endCompaction() {
	for f := iterationInput; f <= iterationRead; f++ {
		sum := f + compactionInput - iterationInput
		v.set(sum, min(v.n[sum]+v.n[f], maxTokens))
	}
}

// noCompaction forgets the compactions.
func (v *values) noCompaction() {
	for f := compactionInput; f <= compactionRead; f++ {
		v.n[f], v.known = 0, v.known&^(1<<f)
	}
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

// withThoughts gives the output of an answer, all of which may be thought.
func (v *values) withThoughts(output, thoughts field) Count {
	if !v.get(output).Known {
		return v.get(thoughts)
	}
	return v.sum(output, thoughts)
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

// besideCompletion gives what of the answer the completion's tokens, c.Output, leave out.
func (v *values) besideCompletion(c Counts) int64 {
	total, sum := v.get(totalTokens), c.Input.N+c.Output.N
	switch {
	case c.Reasoning.N > 0 && total.Known && total.N == sum+c.Reasoning.N: // xAI
		return c.Reasoning.N
	case !v.get(reasoningTokens).Known && (v.get(citationTokens).Known || v.get(searchQueries).Known || c.Reasoning.N > c.Output.N): // Perplexity
		return c.Reasoning.N
	case c.Input.Known && !c.Reasoning.Known && !v.get(details).Known && total.N > sum: // Gemini's thoughts, which nothing else says
		return total.N - sum
	}
	return 0
}

// counts puts the dialects' numbers into the one meaning of Counts.
func (v *values) counts() Counts {
	switch {
	case v.get(promptTokens).Known || v.get(completionTokens).Known:
		c := Counts{
			Input: v.get(promptTokens), Output: v.get(completionTokens),
			CacheRead: v.first(cachedTokens, cacheHitTokens), CacheWrite: v.get(cacheWriteTokens), Reasoning: v.first(reasoningTokens, bareReasoning),
		}
		if c.Output.Known {
			c.Output.N += v.besideCompletion(c)
		}
		return c
	case v.get(inputTokens).Known || v.get(outputTokens).Known:
		// Anthropic's own sums are without the compactions, and without what other models than
		// the one that answered took, which is not added here: usage is told by model.
		return Counts{
			Input:      v.sum(inputTokens, cacheCreationTokens, cacheReadTokens, compactionInput, compactionCreation, compactionRead),
			Output:     v.sum(outputTokens, compactionOutput),
			CacheRead:  v.first(cacheReadTokens, cachedTokens).and(v.get(compactionRead)),
			CacheWrite: v.first(cacheCreationTokens, cacheWriteTokens).and(v.get(compactionCreation)),
			Reasoning:  v.get(reasoningTokens),
		}
	case v.get(geminiPrompt).Known || v.get(geminiCandidates).Known:
		return Counts{
			Input: v.sum(geminiPrompt, geminiTool), Output: v.withThoughts(geminiCandidates, geminiThoughts),
			CacheRead: v.get(geminiCached), Reasoning: v.get(geminiThoughts),
		}
	case v.get(interactionInput).Known || v.get(interactionOutput).Known:
		return Counts{
			Input: v.sum(interactionInput, interactionTool), Output: v.withThoughts(interactionOutput, interactionThoughts),
			CacheRead: v.get(interactionCached), Reasoning: v.get(interactionThoughts),
		}
	default:
		return Counts{
			Input: v.first(cohereInput, cohereBilledInput), Output: v.first(cohereOutput, cohereBilledOutput),
			CacheRead: v.get(cachedTokens),
		}
	}
}
