package gatehousetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// listFiles pages through as many files as there are models, by their ids.
func (f *openAI) listFiles(w http.ResponseWriter, r *http.Request) {
	limit, from := number(r, "limit", 20, 1, 10_000), 0
	if after := r.URL.Query().Get("after"); after != "" {
		if _, err := fmt.Sscanf(after, "file-fake-%d", &from); err != nil {
			f.refuse(w, r, refusal{kind: badRequest, detail: "No such File object"})
			return
		}
		from++
	}
	data := []object{}
	for i := from; i < min(from+limit, f.models); i++ {
		data = append(data, object{"id": fmt.Sprintf("file-fake-%d", i), "object": "file", "bytes": 1, "created_at": epoch,
			"filename": "data.jsonl", "purpose": "batch", "status": "processed"})
	}
	out := object{"object": "list", "data": data, "has_more": from+len(data) < f.models, "first_id": nil, "last_id": nil}
	if len(data) > 0 {
		out["first_id"], out["last_id"] = data[0]["id"], data[len(data)-1]["id"]
	}
	writeJSON(w, 200, out)
}

// respond answers by the Responses API. Its input is one text.
func (f *openAI) respond(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Model  string `json:"model"`
		Input  string `json:"input"`
		Stream bool   `json:"stream"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Model == "" {
		f.refuse(w, r, refusal{kind: badRequest, detail: "We could not parse the JSON body of your request."})
		return
	}
	prompt, answer := converse([]chatMessage{{Role: "user", Content: chatContent(in.Input)}}, f.reply)
	id, item := newID("resp_"), newID("msg_")
	response := func(status string, output []object, usage any) object {
		return object{"id": id, "object": "response", "created_at": epoch, "status": status, "model": in.Model, "output": output, "usage": usage,
			"error": nil, "incomplete_details": nil, "instructions": nil, "metadata": object{}, "parallel_tool_calls": true, "tools": []any{},
			"tool_choice": "auto", "temperature": 1, "top_p": 1}
	}
	message := object{"id": item, "type": "message", "role": "assistant", "status": "completed",
		"content": []object{{"type": "output_text", "text": strings.Join(answer, ""), "annotations": []any{}}}}
	usage := object{"input_tokens": prompt, "input_tokens_details": object{"cached_tokens": 0}, "output_tokens": len(answer),
		"output_tokens_details": object{"reasoning_tokens": 0}, "total_tokens": prompt + len(answer)}
	if !in.Stream {
		writeJSON(w, 200, response("completed", []object{message}, usage))
		return
	}
	stream, n := newEventStream(w), 0
	send := func(kind string, fields object) {
		fields["type"], fields["sequence_number"] = kind, n
		n++
		stream.send(kind, fields)
	}
	send("response.created", object{"response": response("in_progress", []object{}, nil)})
	for _, word := range answer {
		send("response.output_text.delta", object{"item_id": item, "output_index": 0, "content_index": 0, "delta": word, "logprobs": []any{}})
	}
	send("response.completed", object{"response": response("completed", []object{message}, usage)})
}
