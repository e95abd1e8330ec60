package anthropictest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// topLevel are the request's fields; the real API refuses others.
var topLevel = []string{
	"model", "messages", "max_tokens", "system", "stream", "temperature", "top_p", "top_k",
	"stop_sequences", "tools", "tool_choice", "thinking", "output_config", "metadata",
	"service_tier", "cache_control", "container", "context_management", "mcp_servers", "inference_geo",
}

var (
	toolName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)
	toolID   = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
)

// Check says what the real API is documented to refuse in a request's body;
// nil when nothing.
func Check(body []byte) error {
	if !json.Valid(body) {
		return fmt.Errorf("the request body is not valid JSON")
	}
	root := gjson.ParseBytes(body)
	for _, check := range []func(gjson.Result) error{
		checkFields, checkSampling, checkThinking, checkTools, checkSystem, checkMessages, checkPairs, checkCache, checkModel,
	} {
		if err := check(root); err != nil {
			return err
		}
	}
	return nil
}

func checkFields(root gjson.Result) (err error) {
	seen := map[string]bool{}
	root.ForEach(func(key, value gjson.Result) bool {
		switch {
		case !slices.Contains(topLevel, key.Str):
			err = fmt.Errorf("%s: Extra inputs are not permitted", key.Str)
		case seen[key.Str]:
			err = fmt.Errorf("%s: occurs twice", key.Str)
		case value.Type == gjson.Null:
			err = fmt.Errorf("%s: Input should not be null", key.Str)
		}
		seen[key.Str] = true
		return err == nil
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"model", "messages", "max_tokens"} {
		if !seen[name] {
			return fmt.Errorf("%s: Field required", name)
		}
	}
	if n := root.Get("max_tokens"); n.Type != gjson.Number || n.Num < 1 || strings.ContainsAny(n.Raw, ".e") {
		return fmt.Errorf("max_tokens: must be an integer from 1")
	}
	return nil
}

func checkSampling(root gjson.Result) error {
	for _, name := range []string{"temperature", "top_p"} {
		if v := root.Get(name); v.Exists() && (v.Type != gjson.Number || v.Num < 0 || v.Num > 1) {
			return fmt.Errorf("%s: range: 0..1", name)
		}
	}
	stops := root.Get("stop_sequences")
	if stops.Exists() && !stops.IsArray() {
		return fmt.Errorf("stop_sequences: Input should be a valid list")
	}
	for _, s := range stops.Array() {
		if strings.TrimSpace(s.Str) == "" {
			return fmt.Errorf("stop_sequences: each stop sequence must contain non-whitespace")
		}
	}
	return nil
}

func checkThinking(root gjson.Result) error {
	thinking := root.Get("thinking.type").Str
	if thinking == "" || thinking == "disabled" {
		return nil
	}
	if thinking == "enabled" {
		budget := root.Get("thinking.budget_tokens").Int()
		if budget < 1024 || budget >= root.Get("max_tokens").Int() {
			return fmt.Errorf("thinking.budget_tokens: must be from 1024 and below max_tokens")
		}
	}
	if t := root.Get("temperature"); t.Exists() && t.Num != 1 {
		return fmt.Errorf("temperature may only be set to 1 when thinking is enabled")
	}
	if p := root.Get("top_p"); p.Exists() && p.Num < 0.95 || root.Get("top_k").Exists() {
		return fmt.Errorf("top_p and top_k must be unset when thinking is enabled")
	}
	if choice := root.Get("tool_choice.type").Str; choice == "any" || choice == "tool" {
		return fmt.Errorf("tool_choice: Thinking may not be enabled when tool_choice forces tool use")
	}
	return nil
}

func checkTools(root gjson.Result) error {
	names := map[string]bool{}
	for i, tool := range root.Get("tools").Array() {
		name := tool.Get("name").Str
		if !toolName.MatchString(name) {
			return fmt.Errorf("tools.%d.name: String should match pattern", i)
		}
		if names[name] {
			return fmt.Errorf("tools: Tool names must be unique")
		}
		names[name] = true
		if d := tool.Get("description"); d.Exists() && d.Str == "" {
			return fmt.Errorf("tools.%d.description: must not be empty", i)
		}
		if tool.Get("type").Exists() && tool.Get("type").Str != "custom" {
			continue
		}
		schema := tool.Get("input_schema")
		if schema.Get("type").Str != "object" {
			return fmt.Errorf("tools.%d.input_schema.type: Input should be 'object'", i)
		}
		for _, union := range []string{"oneOf", "allOf", "anyOf"} {
			if schema.Get(union).Exists() {
				return fmt.Errorf("tools.%d.input_schema: does not support oneOf, allOf, or anyOf at the top level", i)
			}
		}
	}
	choice := root.Get("tool_choice")
	if !choice.Exists() {
		return nil
	}
	if len(names) == 0 {
		return fmt.Errorf("tool_choice: may only be specified while providing tools")
	}
	if !slices.Contains([]string{"auto", "any", "tool", "none"}, choice.Get("type").Str) {
		return fmt.Errorf("tool_choice: Input tag is not one of auto, any, tool, none")
	}
	if choice.Get("type").Str == "tool" && !names[choice.Get("name").Str] {
		return fmt.Errorf("tool_choice: tool not found")
	}
	return nil
}

func checkSystem(root gjson.Result) error {
	for i, block := range root.Get("system").Array() {
		if block.Type == gjson.JSON && strings.TrimSpace(block.Get("text").Str) == "" {
			return fmt.Errorf("system.%d: text content blocks must contain non-whitespace text", i)
		}
	}
	return nil
}

func checkMessages(root gjson.Result) error {
	messages := root.Get("messages").Array()
	if len(messages) == 0 {
		return fmt.Errorf("messages: at least one message is required")
	}
	for i, m := range messages {
		role := m.Get("role").Str
		if role != "user" && role != "assistant" && role != "system" {
			return fmt.Errorf("messages.%d.role: Input should be 'user' or 'assistant'", i)
		}
		if i == 0 && role != "user" {
			return fmt.Errorf("messages: first message must use the user role")
		}
		blocks := m.Get("content").Array()
		if len(blocks) == 0 {
			return fmt.Errorf("messages.%d: all messages must have non-empty content", i)
		}
		for j, b := range blocks {
			if err := checkBlock(role, b); err != nil {
				return fmt.Errorf("messages.%d.content.%d: %w", i, j, err)
			}
		}
		if last := blocks[len(blocks)-1].Get("text").Str; i == len(messages)-1 && role == "assistant" && last != strings.TrimRight(last, " \t\r\n") {
			return fmt.Errorf("messages: final assistant content cannot end with trailing whitespace")
		}
	}
	return nil
}

func checkBlock(role string, b gjson.Result) error {
	kind := b.Get("type").Str
	switch {
	case b.Type == gjson.String, kind == "text":
		text := b.Get("text").Str
		if b.Type == gjson.String {
			text = b.Str
		}
		if strings.TrimSpace(text) == "" {
			return fmt.Errorf("text content blocks must contain non-whitespace text")
		}
	case kind == "image":
		return checkImage(b.Get("source"))
	case kind == "document":
		return checkDocument(b.Get("source"))
	case kind == "tool_use":
		if role != "assistant" || !toolID.MatchString(b.Get("id").Str) || !toolName.MatchString(b.Get("name").Str) || !b.Get("input").IsObject() {
			return fmt.Errorf("tool_use: id, name or input is invalid")
		}
	case kind == "tool_result":
		if role != "user" || !toolID.MatchString(b.Get("tool_use_id").Str) {
			return fmt.Errorf("tool_result: tool_use_id is invalid")
		}
		for _, inner := range b.Get("content").Array() {
			if inner.Type != gjson.String {
				if err := checkBlock("user", inner); err != nil {
					return err
				}
			}
		}
	case kind == "thinking":
		if role != "assistant" || b.Get("signature").Str == "" || !b.Get("thinking").Exists() {
			return fmt.Errorf("thinking: signature: Field required")
		}
	case kind == "redacted_thinking":
		if role != "assistant" || b.Get("data").Str == "" {
			return fmt.Errorf("redacted_thinking: data: Field required")
		}
	case kind == "server_tool_use" || strings.HasSuffix(kind, "_tool_result"):
	default:
		return fmt.Errorf("type: Input tag %q does not match any of the expected tags", kind)
	}
	return nil
}

func checkImage(source gjson.Result) error {
	switch source.Get("type").Str {
	case "base64":
		if !slices.Contains([]string{"image/jpeg", "image/png", "image/gif", "image/webp"}, source.Get("media_type").Str) {
			return fmt.Errorf("image.source.base64.media_type: Input should be image/jpeg, image/png, image/gif or image/webp")
		}
		return checkData(source.Get("data").Str)
	case "url":
		if !strings.HasPrefix(source.Get("url").Str, "https://") {
			return fmt.Errorf("image.source.url: only HTTPS URLs are supported")
		}
		return nil
	}
	return fmt.Errorf("image.source: unknown type")
}

func checkDocument(source gjson.Result) error {
	media := source.Get("media_type").Str
	switch source.Get("type").Str {
	case "base64":
		if media != "application/pdf" {
			return fmt.Errorf("document.source.base64.media_type: Input should be 'application/pdf'")
		}
		return checkData(source.Get("data").Str)
	case "text":
		if media != "text/plain" || strings.TrimSpace(source.Get("data").Str) == "" {
			return fmt.Errorf("document.source.text: must be non-empty text/plain")
		}
		return nil
	case "url":
		return nil
	}
	return fmt.Errorf("document.source: unknown type")
}

// standardBase64 is what the API takes: the standard alphabet, padded.
var standardBase64 = regexp.MustCompile(`^[A-Za-z0-9+/]+={0,2}$`)

func checkData(data string) error {
	if len(data)%4 != 0 || !standardBase64.MatchString(data) {
		return fmt.Errorf("source.data: invalid base64 data")
	}
	return nil
}

// checkPairs wants every tool call answered in the next turn, before anything
// else in it, and no other results.
func checkPairs(root gjson.Result) error {
	messages := root.Get("messages").Array()
	open := map[string]bool{}
	for i, m := range messages {
		answered := map[string]bool{}
		other := false
		for _, b := range m.Get("content").Array() {
			if b.Get("type").Str != "tool_result" {
				other = true
				continue
			}
			id := b.Get("tool_use_id").Str
			switch {
			case !open[id] || answered[id]:
				return fmt.Errorf("messages.%d: unexpected tool_use_id found in tool_result blocks: %s", i, id)
			case other:
				return fmt.Errorf("messages.%d: tool_result blocks must come first", i)
			}
			answered[id] = true
		}
		if len(answered) != len(open) {
			return fmt.Errorf("messages.%d: tool_use ids were found without tool_result blocks immediately after", i)
		}
		open = map[string]bool{}
		for _, b := range m.Get("content").Array() {
			if b.Get("type").Str != "tool_use" {
				continue
			}
			if open[b.Get("id").Str] {
				return fmt.Errorf("messages.%d: tool_use ids must be unique", i)
			}
			open[b.Get("id").Str] = true
		}
	}
	if len(open) > 0 {
		return fmt.Errorf("messages: tool_use ids were found without tool_result blocks immediately after")
	}
	return nil
}

func checkCache(root gjson.Result) error {
	if n := strings.Count(root.Raw, `"cache_control":`); n > 4 {
		return fmt.Errorf("cache_control: a maximum of 4 blocks with cache_control may be provided. Found %d", n)
	}
	return nil
}
