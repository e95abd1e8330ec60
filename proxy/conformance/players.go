package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/proxy/upstream/anthropictest"
)

// signature is that of all thoughts of the Anthropic player.
const signature = "c2lnbmF0dXJl"

// Anthropic starts a player behind the Messages API and returns its root. It
// takes the key anthropictest.Key, and refuses what the real API does.
func Anthropic(t testing.TB) string {
	return anthropictest.NewFunc(t, func(r anthropictest.Request) anthropictest.Answer {
		p := play(anthropicCue(r.Body))
		if p.refuse {
			return anthropictest.Answer{Status: http.StatusBadRequest, Body: anthropictest.ErrorBody("invalid_request_error", "I will not.")}
		}
		m := anthropictest.Message{Usage: anthropictest.Usage{Input: 11, Output: 7}}
		if p.thoughts != "" {
			m.Blocks = append(m.Blocks, anthropictest.Thinking(signature, p.thoughts))
		}
		if len(p.text) > 0 {
			m.Blocks = append(m.Blocks, anthropictest.Text(p.text...))
		}
		for _, c := range p.calls {
			half := len(c.arguments) / 2
			m.Blocks = append(m.Blocks, anthropictest.ToolUse(c.id, c.name, c.arguments[:half], c.arguments[half:]))
			m.Stop = "tool_use"
		}
		answer := anthropictest.Answer{Message: m, Noise: true}
		if p.breakOff { // after message_start, content_block_start and one delta
			answer.Fault, answer.After = anthropictest.ErrorEvent, 3
		}
		return answer
	}).URL
}

// OpenAI starts a player behind an OpenAI-compatible API and returns its base
// URL. It takes any key.
func OpenAI(t testing.TB) string {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", playOpenAI)
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"object":"list","data":[{"id":"player","object":"model","created":0,"owned_by":"x"}]}`)
	})
	mux.HandleFunc("GET /v1/models/player", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"id":"player","object":"model","created":0,"owned_by":"x"}`)
	})
	mux.HandleFunc("POST /v1/embeddings", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// The Python client asks for base64: 1 and 0.5, 2 and -1.
		fmt.Fprint(w, `{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AACAPwAAAD8="},{"object":"embedding","index":1,"embedding":"AAAAQAAAgL8="}],"model":"e","usage":{"prompt_tokens":2,"total_tokens":2}}`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/v1"
}

func playOpenAI(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var asked struct {
		Stream  bool `json:"stream"`
		Options struct {
			Usage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	_ = json.Unmarshal(body, &asked)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Request-Id", "req_player")
	if len(gjson.GetBytes(body, "messages").Array()) == 0 {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":{"message":"No messages.","type":"invalid_request_error","param":"messages","code":null}}`)
		return
	}
	p := play(openAICue(body))
	if p.refuse {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":{"message":"I will not.","type":"invalid_request_error","param":null,"code":null}}`)
		return
	}
	if !asked.Stream {
		fmt.Fprint(w, p.completion())
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, chunk := range p.chunks(asked.Options.Usage) {
		fmt.Fprintf(w, "data: %s\n\n", chunk)
		_ = http.NewResponseController(w).Flush()
	}
}

const usage = `"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}`

func (p reply) finish() string {
	if len(p.calls) > 0 {
		return "tool_calls"
	}
	return "stop"
}

// toolCall is an element of tool_calls; index is for streams.
func (c call) toolCall(index int) map[string]any {
	return map[string]any{"index": index, "id": c.id, "type": "function", "function": map[string]string{"name": c.name, "arguments": c.arguments}}
}

func (p reply) completion() string {
	message := map[string]any{"role": "assistant", "content": nil, "refusal": nil}
	if p.thoughts != "" {
		message["reasoning_content"] = p.thoughts
	}
	if len(p.text) > 0 {
		text := ""
		for _, piece := range p.text {
			text += piece
		}
		message["content"] = text
	}
	var calls []any
	for i, c := range p.calls {
		calls = append(calls, c.toolCall(i))
	}
	if len(calls) > 0 {
		message["tool_calls"] = calls
	}
	text, _ := json.Marshal(message)
	return fmt.Sprintf(`{"id":"chatcmpl-p","object":"chat.completion","created":1700000000,"model":"player","choices":[{"index":0,"message":%s,"logprobs":null,"finish_reason":%q}],%s}`,
		text, p.finish(), usage)
}

func (p reply) chunks(withUsage bool) (chunks []string) {
	add := func(delta map[string]any, finish string) {
		d, _ := json.Marshal(delta)
		reason := "null"
		if finish != "" {
			reason = `"` + finish + `"`
		}
		chunks = append(chunks, fmt.Sprintf(`{"id":"chatcmpl-p","object":"chat.completion.chunk","created":1700000000,"model":"player","choices":[{"index":0,"delta":%s,"finish_reason":%s}]}`, d, reason))
	}
	add(map[string]any{"role": "assistant", "content": ""}, "")
	if p.thoughts != "" {
		add(map[string]any{"reasoning_content": p.thoughts}, "")
	}
	for _, piece := range p.text {
		add(map[string]any{"content": piece}, "")
		if p.breakOff {
			return append(chunks, `{"error":{"message":"The model broke down.","type":"server_error","param":null,"code":null}}`)
		}
	}
	for i, c := range p.calls {
		add(map[string]any{"tool_calls": []any{c.toolCall(i)}}, "")
	}
	add(map[string]any{}, p.finish())
	if withUsage {
		chunks = append(chunks, `{"id":"chatcmpl-p","object":"chat.completion.chunk","created":1700000000,"model":"player","choices":[],`+usage+`}`)
	}
	return append(chunks, "[DONE]")
}
