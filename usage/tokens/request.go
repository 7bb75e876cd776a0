package tokens

import (
	"bytes"
	"encoding/json"
)

// Request is what the body of a request to a provider says that matters here.
type Request struct {
	Model      string // through [ModelName]; empty where none is named
	Stream     bool   // the answer is to be a stream
	DataSource bool   // it names data_sources, Azure's own, beside which stream_options are refused

	// The bytes [from:until] of the body give way to insert, so that it asks for
	// usage. Empty: it does so already, or must not be touched.
	insert      string
	from, until int
}

const (
	includeUsage = `"include_usage":true`
	usageOptions = `{` + includeUsage + `}`
)

// ReadRequest looks through a request's body. A body that is not one JSON object
// says nothing.
func ReadRequest(body []byte) Request {
	var r Request
	var streams, options []part
	askable := false // exactly as documented
	open := space(body, 0)
	whole := eachMember(body, func(m part) bool {
		value := body[m.value:m.end]
		switch {
		case string(m.name) == "model":
			var name string
			if value[0] == '"' && len(value) <= 6*MaxModel && json.Unmarshal(value, &name) == nil {
				r.Model = ModelName(name)
			} else {
				r.Model = OtherModel
			}
		case bytes.EqualFold(m.name, []byte("stream")): // hosts written in Go take any case
			streams = append(streams, m)
			r.Stream = r.Stream || string(value) == "true"
			askable = string(m.name) == "stream" && r.Stream
		case string(m.name) == "stream_options":
			options = append(options, m)
		case string(m.name) == "data_sources":
			r.DataSource = true
		}
		return len(streams) <= 8 && len(options) <= 8
	})
	if !whole {
		return Request{Model: r.Model, Stream: r.Stream}
	}
	if !askable || len(streams) > 1 || len(options) > 1 { // two readers may understand it in two ways
		return r
	}
	if len(options) == 0 {
		r.insert, r.from, r.until = `"stream_options":`+usageOptions+`,`, open+1, open+1
		return r
	}
	r.intoOptions(body, options[0])
	return r
}

// intoOptions asks for usage in the stream_options that are there.
func (r *Request) intoOptions(body []byte, options part) {
	value := body[options.value:options.end]
	if string(value) == "null" {
		r.insert, r.from, r.until = usageOptions, options.value, options.end
		return
	}
	members, asked := 0, 0
	var said part
	if !eachMember(value, func(m part) bool {
		members++
		if string(m.name) == "include_usage" {
			said = m
			asked++
		}
		return true
	}) || asked > 1 {
		return
	}
	switch at := options.value + 1; {
	case asked == 0 && members == 0:
		r.insert, r.from, r.until = includeUsage, at, at
	case asked == 0:
		r.insert, r.from, r.until = includeUsage+`,`, at, at
	default:
		switch string(value[said.value:said.end]) {
		case "false", "null":
			r.insert, r.from, r.until = "true", options.value+said.value, options.value+said.end
		}
	}
}

// CanAsk reports whether the body asks for a stream, not for its usage, and can
// be made to.
func (r Request) CanAsk() bool { return r.insert != "" }

// AskUsage gives a copy of body, which r was read from, that asks for usage.
// Everything else in it stays byte for byte.
func (r Request) AskUsage(body []byte) []byte {
	asking := make([]byte, 0, len(body)+len(r.insert)-(r.until-r.from))
	asking = append(asking, body[:r.from]...)
	asking = append(asking, r.insert...)
	return append(asking, body[r.until:]...)
}
