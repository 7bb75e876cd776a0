package gateway

// errorShape is what the SDKs that ask an operation raise as an error inside a stream.
type errorShape int

const (
	openAIErrors    errorShape = iota // data: {"error":{...}}
	anthropicErrors                   // event: error
	googleErrors                      // data: {"error":{"code":503,...}}: a number, or it is passed over
	noErrors                          // none that is known: a cut connection is raised
)

// errorShape gives that of the operation that is asked, whoever serves it: several
// services speak Anthropic's dialect beside OpenAI's.
func (t *transfer) errorShape() errorShape {
	if t.operation.errors == openAIErrors && t.service != nil && t.service.NamedErrors {
		return anthropicErrors
	}
	return t.operation.errors
}

// errorEvent gives the event that ends a stream whose upstream did not, "" where there is none.
func (t *transfer) errorEvent(code, message string) string {
	switch t.errorShape() {
	case anthropicErrors:
		return `event: error` + "\n" +
			`data: {"type":"error","error":{"type":"api_error","message":"` + message + `","code":"` + code + `"}}` + "\n\n"
	case googleErrors:
		return `data: {"error":{"code":503,"message":"` + message + `","status":"UNAVAILABLE","details":[` +
			`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"` + code + `","domain":"gatehouse"}]}}` + "\n\n"
	case noErrors:
		return ""
	}
	return `data: {"error":{"message":"` + message + `","type":"upstream_error","code":"` + code + `"}}` + "\n\n"
}

// takesComments reports whether comments may stand between the events: Google's Go SDK
// ends a stream at one.
func (t *transfer) takesComments() bool {
	shape := t.errorShape()
	return shape != googleErrors && shape != noErrors
}
