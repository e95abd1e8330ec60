package upstream_test

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/inference-router/inference-router/proxy/upstream/bedrocktest"
	"github.com/inference-router/inference-router/translate"
)

type object = map[string]any

// conversation draws the kind of requests that clients send after long and
// eventful sessions.
type conversation struct {
	t        *rapid.T
	messages []any
	calls    int
}

func (c *conversation) chance(label string, percent int) bool {
	return rapid.IntRange(1, 100).Draw(c.t, label) <= percent
}

func (c *conversation) oneOf(label string, values ...any) any {
	return rapid.SampledFrom(values).Draw(c.t, label)
}

func (c *conversation) add(m object) {
	if c.chance("cached message", 10) {
		m["cache_control"] = object{"type": "ephemeral", "ttl": c.oneOf("ttl", "5m", "1h")}
	}
	c.messages = append(c.messages, m)
}

func file(raw string) string { return base64.StdEncoding.EncodeToString([]byte(raw)) }

func (c *conversation) part(kinds ...string) any {
	var p object
	switch rapid.SampledFrom(kinds).Draw(c.t, "kind") {
	case "image":
		p = object{"type": "image_url", "image_url": object{"url": "data:image/jpg;base64," + file("\x89PNG\r\n\x1a\nxxxx")}}
	case "file":
		raw := c.oneOf("file", "%PDF-1", "plain", "a,b\n").(string)
		p = object{"type": "file", "file": object{"filename": c.oneOf("filename", "a.pdf", "A.PDF", "b  c_d.v2.txt", "", "../x", "é.csv", "a-2.pdf"), "file_data": file(raw)}}
	case "refusal":
		p = object{"type": "refusal", "refusal": c.oneOf("refusal", "no", " ")}
	default:
		p = object{"type": "text", "text": c.oneOf("text", "hi", "", " \n", "ü\u0000\"")}
	}
	if c.chance("cached part", 20) {
		p["cache_control"] = object{"type": "ephemeral", "ttl": c.oneOf("ttl", "5m", "1h")}
	}
	return p
}

func (c *conversation) content(kinds ...string) any {
	if c.chance("string", 50) {
		return c.oneOf("content", "hello", "", "  ", "line\nline")
	}
	parts := []any{}
	for range rapid.IntRange(0, 4).Draw(c.t, "parts") {
		parts = append(parts, c.part(kinds...))
	}
	return parts
}

func (c *conversation) user() {
	c.add(object{"role": "user", "content": c.content("text", "text", "image", "file")})
}

// called is an assistant's turn with calls, and their results in any order,
// with a word of the user's in between now and then.
func (c *conversation) called() {
	var ids []string
	var calls []any
	for range rapid.IntRange(1, 3).Draw(c.t, "calls") {
		c.calls++
		id := c.oneOf("id", "call_", "toolu|x.", "a very long id that is longer than what is allowed for ids anywhere ").(string) + strconv.Itoa(c.calls)
		ids = append(ids, id)
		calls = append(calls, object{"id": id, "type": "function", "function": object{
			"name": c.oneOf("called", "f", "mcp.tool/x", "unknown"), "arguments": c.oneOf("arguments", "{}", "", "[1]", "{x", `{"n":9007199254740993}`, "null")}})
	}
	m := object{"role": "assistant", "content": c.oneOf("said", nil, "", "let me see"), "tool_calls": calls}
	c.think(m)
	c.add(m)
	for _, id := range rapid.Permutation(ids).Draw(c.t, "order") {
		if c.chance("interrupted", 15) {
			c.user()
		}
		c.add(object{"role": "tool", "tool_call_id": id, "content": c.content("text", "image", "file")})
	}
}

func (c *conversation) think(m object) {
	switch rapid.IntRange(0, 4).Draw(c.t, "thought") {
	case 0:
		m["reasoning_content"] = "hm"
	case 1:
		m["thinking_blocks"] = []any{object{"type": "thinking", "thinking": "hm", "signature": "sig"}, object{"type": "redacted_thinking", "data": "AAEC"}}
	}
}

func (c *conversation) turn() {
	switch rapid.IntRange(0, 6).Draw(c.t, "turn") {
	case 0:
		c.add(object{"role": c.oneOf("role", "system", "developer"), "content": c.content("text")})
	case 1:
		m := object{"role": "assistant", "content": c.content("text", "refusal")}
		c.think(m)
		c.add(m)
	case 2, 3:
		c.called()
	case 4:
		c.add(object{"role": "assistant", "function_call": object{"name": "f", "arguments": "{}"}})
		c.add(object{"role": "function", "name": "f", "content": c.oneOf("result", "r", "")})
	default:
		c.user()
	}
}

// settings adds members beside the messages.
func (c *conversation) settings(r object) {
	if c.chance("tools", 60) {
		tools := []any{object{"type": "function", "function": object{"name": "f", "description": c.oneOf("description", "", "d"), "strict": true,
			"parameters": rapid.SampledFrom([]any{nil, object{}, object{"properties": nil, "$schema": "x"}, object{"anyOf": []any{object{"required": []any{"a"}}}}}).Draw(c.t, "parameters")}}}
		if c.chance("more tools", 50) {
			tools = append(tools, object{"type": "custom", "custom": object{"name": "mcp.tool/x"}, "cache_control": object{"type": "ephemeral"}})
		}
		r["tools"] = tools
		if c.chance("choice", 50) {
			r["tool_choice"] = c.oneOf("tool_choice", "auto", "none", "required", object{"type": "function", "function": object{"name": "f"}})
		}
	}
	for _, f := range []struct {
		name   string
		values []any
	}{
		{"reasoning_effort", []any{"none", "low", "high", "max"}}, {"temperature", []any{0, 0.7, 1, 1.5}}, {"top_p", []any{0.5, 1}},
		{"stop", []any{"", []any{"x", " "}}}, {"max_tokens", []any{10, 1025, 100000}}, {"service_tier", []any{"auto", "flex", "fast"}},
		{"parallel_tool_calls", []any{true, false}}, {"top_k", []any{3}}, {"verbosity", []any{"low"}}, {"n", []any{1, 2}}, {"user", []any{"ann|x"}},
		{"response_format", []any{object{"type": "json_object"}, object{"type": "json_schema", "json_schema": object{"name": "n", "schema": object{"type": "object"}}}}},
	} {
		if c.chance(f.name, 25) {
			r[f.name] = rapid.SampledFrom(f.values).Draw(c.t, f.name)
		}
	}
}

var propertyModels = []string{
	testModel, "anthropic.claude-opus-4-8", "anthropic.claude-3-7-sonnet", "amazon.nova-2-lite-v1:0", "amazon.nova-pro-v1:0", "meta.llama3-3-70b",
	"mistral.mistral-large-2407", "mistral.mistral-7b-instruct", "amazon.titan-text-express-v1", "openai.gpt-oss-120b", "qwen.qwen3-32b", "unheard.of",
}

// TestBedrockTakesWhateverWeDoNotRefuse draws conversations and holds what
// becomes of them against the fake's rules.
func TestBedrockTakesWhateverWeDoNotRefuse(t *testing.T) {
	taken := 0
	rapid.Check(t, func(rt *rapid.T) {
		c := conversation{t: rt}
		for range rapid.IntRange(1, 6).Draw(rt, "turns") {
			c.turn()
		}
		r := object{"model": "m", "messages": c.messages}
		c.settings(r)
		body, err := json.Marshal(r)
		if err != nil {
			rt.Fatal(err)
		}
		request, err := translate.ParseRequest(body)
		if err != nil {
			rt.Fatalf("%v: %s", err, body)
		}
		model := rapid.SampledFrom(propertyModels).Draw(rt, "model")
		q, err := translate.ToBedrock(request, translate.BedrockOptions{
			Options: translate.Options{Unsupported: "drop"}, SendMetadata: true, Capabilities: translate.LookupCapabilities("bedrock", model),
		})
		if err != nil {
			return
		}
		taken++
		if err := bedrocktest.CheckConverse(q.Body, q.Stream); err != nil {
			rt.Fatalf("%s: %v\nfrom %s\nto %s", model, err, body, q.Body)
		}
	})
	if taken < 20 {
		t.Errorf("only %d conversations were taken", taken)
	}
}
