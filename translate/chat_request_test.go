package translate

import (
	"errors"
	"strings"
	"testing"
)

func TestParseChatRefusesWhatItCannotRead(t *testing.T) {
	for _, row := range []struct{ name, body, param string }{
		{"not JSON", `{"messages":`, ""},
		{"not an object", `[]`, ""},
		{"nested too deep", strings.Repeat("[", 100000), ""},
		{"no messages", `{}`, "messages"},
		{"no message in the array", `{"messages":[]}`, "messages"},
		{"messages is an object", `{"messages":{}}`, "messages"},
		{"a message is a string", `{"messages":["hi"]}`, "messages[0]"},
		{"no role", `{"messages":[{"content":"hi"}]}`, "messages[0].role"},
		{"an unknown role", `{"messages":[{"role":"robot","content":"hi"}]}`, "messages[0].role"},
		{"content is a number", `{"messages":[{"role":"user","content":5}]}`, "messages[0].content"},
		{"no content of the user", `{"messages":[{"role":"user"}]}`, "messages[0].content"},
		{"an unknown part", `{"messages":[{"role":"user","content":"a"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"hologram"}]}]}`, "messages[1].content[1].type"},
		{"an image URL that is a number", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":5}}]}]}`, "messages[0].content[0].image_url.url"},
		{"an image without URL", `{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, "messages[0].content[0].image_url.url"},
		{"max_tokens is a string", `{"messages":[{"role":"user","content":"a"}],"max_tokens":"10"}`, "max_tokens"},
		{"max_tokens is zero", `{"messages":[{"role":"user","content":"a"}],"max_tokens":0}`, "max_tokens"},
		{"max_completion_tokens above 32 bits", `{"messages":[{"role":"user","content":"a"}],"max_completion_tokens":2147483648}`, "max_completion_tokens"},
		{"max_tokens with a fraction", `{"messages":[{"role":"user","content":"a"}],"max_tokens":1.5}`, "max_tokens"},
		{"temperature is a string", `{"messages":[{"role":"user","content":"a"}],"temperature":"hot"}`, "temperature"},
		{"temperature above 2", `{"messages":[{"role":"user","content":"a"}],"temperature":2.1}`, "temperature"},
		{"top_p below 0", `{"messages":[{"role":"user","content":"a"}],"top_p":-0.1}`, "top_p"},
		{"n is zero", `{"messages":[{"role":"user","content":"a"}],"n":0}`, "n"},
		{"five stop sequences", `{"messages":[{"role":"user","content":"a"}],"stop":["1","2","3","4","5"]}`, "stop"},
		{"a stop sequence that is a number", `{"messages":[{"role":"user","content":"a"}],"stop":["1",2]}`, "stop[1]"},
		{"an unknown reasoning_effort", `{"messages":[{"role":"user","content":"a"}],"reasoning_effort":"garbage"}`, "reasoning_effort"},
		{"tool_choice is a number", `{"messages":[{"role":"user","content":"a"}],"tool_choice":17}`, "tool_choice"},
		{"a tool without name", `{"messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":{}}]}`, "tools[0].function.name"},
		{"a provider's own tool", `{"messages":[{"role":"user","content":"a"}],"tools":[{"type":"web_search_20250305","name":"w"}]}`, "tools[0].type"},
		{"a call without id", `{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}]}`, "messages[0].tool_calls[0].id"},
		{"a tool message without tool_call_id", `{"messages":[{"role":"tool","content":"a"}]}`, "messages[0].tool_call_id"},
		{"a file by id", `{"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]}`, "messages[0].content[0].file.file_id"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := parseChat([]byte(row.body))
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("got error %v, want an InvalidError", err)
			}
			if invalid.Param != row.param {
				t.Errorf("got param %q (%s), want %q", invalid.Param, invalid.Message, row.param)
			}
			if !strings.Contains(invalid.Message, row.param) {
				t.Errorf("message %q does not name %q", invalid.Message, row.param)
			}
		})
	}
}

func FuzzParseChat(f *testing.F) {
	f.Add([]byte(`{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]}]}`))
	f.Add([]byte(`{"messages":[{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":""}],"tools":[{"type":"function","function":{"name":"f","parameters":{"anyOf":[{"$ref":"#"}]}}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, model := range []string{"anthropic.claude-sonnet-4-5", "amazon.nova-pro-v1:0", "mistral.mistral-large-3"} {
			prepare(body, LookupCapabilities("bedrock", model), Options{})
		}
	})
}
