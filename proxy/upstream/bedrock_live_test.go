package upstream_test

import (
	"cmp"
	"encoding/base64"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/proxy/upstream"
	"github.com/inference-router/inference-router/translate"
)

// The live tests ask AWS itself what its documentation leaves open. They need
// credentials with access to the models, cost a few cents, and run only with
// LIVE_BEDROCK=1. LIVE_BEDROCK_REGION and LIVE_BEDROCK_CLAUDE, _ADAPTIVE,
// _NOVA and _OTHER choose where and which models.

func live(t *testing.T, variable, model string) *upstream.Bedrock {
	t.Helper()
	if os.Getenv("LIVE_BEDROCK") != "1" {
		t.Skip("needs an AWS account: set LIVE_BEDROCK=1")
	}
	b, err := upstream.NewBedrock(upstream.BedrockConfig{
		Name: "live", Model: cmp.Or(os.Getenv(variable), model), Region: cmp.Or(os.Getenv("LIVE_BEDROCK_REGION"), "us-east-1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func TestLiveBedrock(t *testing.T) {
	type row struct {
		name, members string
		finish        string // "" = any
	}
	tool := `"tools":[{"type":"function","function":{"name":"get_weather","description":"Weather of a city","strict":true,"parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}}}]`
	hi := `"messages":[{"role":"user","content":"Say hi."}],"max_tokens":200`
	weather := `"messages":[{"role":"user","content":"What is the weather in Paris and in Rome? Use the tool."}],"max_tokens":400,` + tool
	answered := `"messages":[{"role":"user","content":"Weather?"},{"role":"assistant","tool_calls":[{"id":"call|from.elsewhere","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Paris\"}"}}]},{"role":"tool","tool_call_id":"call|from.elsewhere","content":""},{"role":"user","content":"Go on."}],"max_tokens":200`
	document := `"messages":[{"role":"user","content":[{"type":"file","file":{"filename":"Q1 (final)_v2.txt","file_data":"` + base64.StdEncoding.EncodeToString([]byte("The code word is heron.")) + `"}},{"type":"text","text":"What is the code word?"}]}],"max_tokens":100`
	common := []row{
		{"text", hi, "stop"}, {"a limit", `"messages":[{"role":"user","content":"Count to a thousand."}],"max_tokens":20`, "length"},
		{"tools", weather, "tool_calls"}, {"a blank tool result, an id from elsewhere, no tools now", answered, ""},
		{"system only", `"messages":[{"role":"system","content":"Say hi."}],"max_tokens":50`, ""},
		{"the assistant speaks first and last", `"messages":[{"role":"assistant","content":"Hello."},{"role":"user","content":"Hi."},{"role":"assistant","content":"I am "}],"max_tokens":50`, ""},
		{"temperature above 1", hi + `,"temperature":1.7`, ""},
	}
	claude := append([]row{
		{"one call at most", weather + `,"parallel_tool_calls":false`, "tool_calls"},
		{"one call at most, of a given tool", weather + `,"parallel_tool_calls":false,"tool_choice":{"type":"function","function":{"name":"get_weather"}}`, "tool_calls"},
		{"structured output", hi + `,"response_format":{"type":"json_schema","json_schema":{"name":"greeting","schema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}}}`, "stop"},
		{"reasoning", `"messages":[{"role":"user","content":"Is 1001 prime?"}],"reasoning_effort":"low"`, "stop"},
		{"a service tier", hi + `,"service_tier":"default"`, ""}, {"a document", document, ""},
		{"cache points", `"messages":[{"role":"system","content":[{"type":"text","text":"` + strings.Repeat("Be brief. ", 2000) + `","cache_control":{"type":"ephemeral","ttl":"1h"}}]},{"role":"user","content":"Say hi."}],"max_tokens":50`, ""},
	}, common...)
	for _, model := range []struct {
		variable, id string
		rows         []row
	}{
		{"LIVE_BEDROCK_CLAUDE", "us.anthropic.claude-haiku-4-5-20251001-v1:0", claude},
		{"LIVE_BEDROCK_ADAPTIVE", "us.anthropic.claude-sonnet-4-6", claude},
		{"LIVE_BEDROCK_NOVA", "us.amazon.nova-2-lite-v1:0", append([]row{{"a document", document, ""}, {"reasoning", hi + `,"reasoning_effort":"high"`, ""}}, common...)},
		{"LIVE_BEDROCK_OTHER", "us.meta.llama3-3-70b-instruct-v1:0", common},
	} {
		b := live(t, model.variable, model.id)
		for _, r := range model.rows {
			for _, stream := range []string{"false", "true"} {
				t.Run(model.id+"/"+r.name+"/stream "+stream, func(t *testing.T) {
					answer, err := translate.Join(b.Chat(t.Context(), chatRequest(t, `{"model":"m","stream":`+stream+`,`+r.members+`}`)))
					if err != nil {
						t.Fatal(err)
					}
					if got := gjson.GetBytes(answer, "choices.0.finish_reason").Str; r.finish != "" && got != r.finish {
						t.Errorf("got finish_reason %q, want %q: %s", got, r.finish, answer)
					}
				})
			}
		}
	}
}

// TestLiveBedrockTakesItsThoughtsBack replays signed reasoning beside a call.
func TestLiveBedrockTakesItsThoughtsBack(t *testing.T) {
	b := live(t, "LIVE_BEDROCK_CLAUDE", "us.anthropic.claude-haiku-4-5-20251001-v1:0")
	tool := `"reasoning_effort":"low","tools":[{"type":"function","function":{"name":"now"}}]`
	ask := `{"role":"user","content":"What time is it? Use the tool."}`
	first, err := translate.Join(b.Chat(t.Context(), chatRequest(t, `{"model":"m","stream":true,"messages":[`+ask+`],`+tool+`}`)))
	if err != nil {
		t.Fatal(err)
	}
	message := gjson.GetBytes(first, "choices.0.message")
	if !message.Get("thinking_blocks.0.signature").Exists() || !message.Get("tool_calls.0.id").Exists() {
		t.Skipf("the model did not think and call: %s", first)
	}
	result := `{"role":"tool","tool_call_id":"` + message.Get("tool_calls.0.id").Str + `","content":"noon"}`
	if _, err = translate.Join(b.Chat(t.Context(), chatRequest(t, `{"model":"m","messages":[`+ask+`,`+message.Raw+`,`+result+`],`+tool+`}`))); err != nil {
		t.Fatal(err)
	}
}

// TestLiveBedrockRefusals records the texts that the errors are told by.
func TestLiveBedrockRefusals(t *testing.T) {
	b := live(t, "LIVE_BEDROCK_CLAUDE", "us.anthropic.claude-haiku-4-5-20251001-v1:0")
	long := strings.Repeat("word ", 300_000)
	_, err := translate.Join(b.Chat(t.Context(), chatRequest(t, `{"model":"m","messages":[{"role":"user","content":"`+long+`"}],"max_tokens":5}`)))
	var failed *translate.UpstreamError
	if !errors.As(err, &failed) || failed.Code != "context_length_exceeded" {
		t.Errorf("too long a prompt: got %v, want context_length_exceeded", err)
	}
	missing := live(t, "LIVE_BEDROCK_MISSING", "anthropic.claude-nonexistent-v1:0")
	_, err = translate.Join(missing.Chat(t.Context(), chatRequest(t, askWhole)))
	if !errors.As(err, &failed) || failed.Kind != translate.KindNotFound {
		t.Errorf("no such model: got %v, want not_found", err)
	}
}
