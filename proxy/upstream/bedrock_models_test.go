package upstream_test

import (
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/proxy/upstream"
	"github.com/inference-router/inference-router/proxy/upstream/bedrocktest"
	"github.com/inference-router/inference-router/translate"
)

// families are models of each kind that the fake has rules for.
var families = []string{
	"us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us.anthropic.claude-sonnet-4-6", "us.anthropic.claude-opus-4-7",
	"us.anthropic.claude-opus-4-8", "us.anthropic.claude-opus-5", "us.anthropic.claude-opus-5-5", "us.anthropic.claude-sonnet-5-5",
	"us.anthropic.claude-haiku-5-5", "us.anthropic.claude-fable-5-1", "us.anthropic.claude-opus-6", "amazon.nova-pro-v1:0",
	"meta.llama3-3-70b-instruct-v1:0", "openai.gpt-oss-120b-1:0", "us.openai.gpt-5.6-luna", "deepseek.v3.2", "qwen.qwen3-vl-235b-a22b",
	"moonshotai.kimi-k2.5", "google.gemma-3-27b-it", "nvidia.nemotron-nano-9b-v2", "zai.glm-5",
}

const (
	richSchema = `{"type":"object","properties":{"stars":{"type":"integer","minimum":1,"maximum":5},"tags":{"type":"array","items":{"type":"string","maxLength":9,"pattern":"^a"},"minItems":2,"maxItems":3},"kind":{"oneOf":[{"type":"string"},{"type":"null"}]}},"required":["stars"],"additionalProperties":false}`
	strictTool = `"tools":[{"type":"function","function":{"name":"rate","strict":true,"parameters":` + richSchema + `}}]`
	richFormat = `"response_format":{"type":"json_schema","json_schema":{"name":"r","strict":true,"schema":` + richSchema + `}}`
)

func TestEveryFamilyTakesWhatSDKHelpersAsk(t *testing.T) {
	for _, model := range families {
		for name, fields := range map[string]string{
			"forced":                  strictTool + `,"tool_choice":"required","parallel_tool_calls":false`,
			"named":                   strictTool + `,"tool_choice":{"type":"function","function":{"name":"rate"}},"parallel_tool_calls":false`,
			"format":                  richFormat,
			"strict tools and format": strictTool + `,` + richFormat,
			"forced with effort":      strictTool + `,"tool_choice":"required","reasoning_effort":"max"`,
			"no thinking":             `"reasoning_effort":"none"`,
			"odd keys":                `"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"filter[a b]":{"type":"string"}},"required":["filter[a b]"]}}}]`,
		} {
			t.Run(model+"/"+name, func(t *testing.T) {
				s := bedrocktest.New(t)
				b := newBedrock(t, s, func(c *upstream.BedrockConfig) { c.Model = model })
				body := `{"model":"m","messages":[{"role":"user","content":"hi"}],` + fields + `}`
				for range 2 {
					if _, err := collect(b.Chat(t.Context(), chatRequest(t, body))); err != nil {
						t.Fatal(err)
					}
				}
				calls := s.Requests()
				if len(calls) != 2 && !strings.HasSuffix(model, "-6") { // what the table knows is not refused
					t.Errorf("%d calls for two requests: %s", len(calls), calls[0].Body)
				}
			})
		}
	}
}

func TestWhatAModelRefusedIsRememberedAndComposes(t *testing.T) {
	refuse := func(message string) bedrocktest.Answer {
		return bedrocktest.Answer{Status: 400, ErrorType: "ValidationException", Body: `{"message":"The model returned the following errors: ` + message + `"}`}
	}
	s := bedrocktest.New(t,
		refuse("tools.0.custom.strict: Extra inputs are not permitted"),
		refuse("output_config.format: Extra inputs are not permitted"),
		refuse(`tool_choice: type \"tool\" and \"any\" are not supported for this model.`),
		bedrocktest.Answer{Body: bedrocktest.WholeText(`{\"stars\":3}`)})
	b := newBedrock(t, s, func(c *upstream.BedrockConfig) { c.Model = "us.anthropic.claude-sonnet-4-6" })
	ask := `{"model":"m","messages":[{"role":"user","content":"hi"}],` + strictTool + `,` + richFormat + `}`
	for i, want := range []int{4, 5} {
		if _, err := collect(b.Chat(t.Context(), chatRequest(t, ask))); err != nil {
			t.Fatal(err)
		}
		if got := len(s.Requests()); got != want {
			t.Errorf("request %d: %d calls in all, want %d", i, got, want)
		}
	}
	last := s.Requests()[4].Body
	for _, gone := range []string{"toolConfig.toolChoice", "toolConfig.tools.0.toolSpec.strict", "outputConfig"} {
		if gjson.GetBytes(last, gone).Exists() {
			t.Errorf("%s was sent again: %s", gone, last)
		}
	}
}

func TestThoughtsBoundToAnotherConversationAreLeftOutOnce(t *testing.T) {
	s := bedrocktest.New(t,
		bedrocktest.Answer{Status: 400, ErrorType: "ValidationException", Body: `{"message":"messages.1.content.0: Invalid signature in thinking block. The block is bound to a different conversation."}`},
		bedrocktest.Answer{Body: bedrocktest.WholeText("Hi.")})
	b := newBedrock(t, s, func(c *upstream.BedrockConfig) { c.Model = "us.anthropic.claude-opus-5-5" })
	ask := `{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","thinking_blocks":[{"type":"thinking","thinking":"t","signature":"s"}]},{"role":"user","content":"c"}]}`
	for range 2 {
		if _, err := collect(b.Chat(t.Context(), chatRequest(t, ask))); err != nil {
			t.Fatal(err)
		}
	}
	calls := s.Requests()
	if len(calls) != 3 || strings.Contains(string(calls[1].Body), "reasoningContent") || !strings.Contains(string(calls[2].Body), "reasoningContent") {
		t.Errorf("%d calls; the second: %s", len(calls), calls[1].Body)
	}
}

// Of keys that no tool may have, the client sees nothing, whole or streamed.
func TestOddPropertyKeysComeBackAsTheClientNamedThem(t *testing.T) {
	const odd = `filter[a b]`
	ask := `"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"filter[a b]\":\"x\"}"}}]},{"role":"tool","tool_call_id":"c1","content":"r"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"filter[a b]":{"type":"string"}},"required":["filter[a b]"]}}}]}`
	probe := bedrocktest.New(t)
	b := newBedrock(t, probe, func(c *upstream.BedrockConfig) { c.Model = "us.anthropic.claude-sonnet-4-6" })
	if _, err := collect(b.Chat(t.Context(), chatRequest(t, `{"model":"m",`+ask))); err != nil {
		t.Fatal(err)
	}
	sent := probe.Requests()[0].Body
	alias := gjson.GetBytes(sent, "toolConfig.tools.0.toolSpec.inputSchema.json.required.0").Str
	if strings.Contains(string(sent), odd) || gjson.GetBytes(sent, "messages.1.content.0.toolUse.input."+alias).Str != "x" {
		t.Fatalf("sent %s", sent)
	}
	s := bedrocktest.New(t, bedrocktest.Answer{
		Body: `{"metrics":{"latencyMs":1},"output":{"message":{"role":"assistant","content":[{"toolUse":{"toolUseId":"t1","name":"f","input":{"` + alias + `":"` + alias + `"}}}]}},"stopReason":"tool_use","usage":{"inputTokens":1,"outputTokens":1,"totalTokens":2}}`,
		Frames: []bedrocktest.Frame{
			bedrocktest.Event("messageStart", `{"role":"assistant"}`),
			bedrocktest.Event("contentBlockStart", `{"contentBlockIndex":0,"start":{"toolUse":{"toolUseId":"t1","name":"f"}}}`),
			bedrocktest.Event("contentBlockDelta", `{"contentBlockIndex":0,"delta":{"toolUse":{"input":"{\"`+alias[:4]+`"}}}`),
			bedrocktest.Event("contentBlockDelta", `{"contentBlockIndex":0,"delta":{"toolUse":{"input":"`+alias[4:]+`\":\"`+alias+`\"}"}}}`),
			bedrocktest.Event("contentBlockStop", `{"contentBlockIndex":0}`),
			bedrocktest.Event("messageStop", `{"stopReason":"tool_use"}`),
			bedrocktest.Event("metadata", `{"usage":{"inputTokens":1,"outputTokens":1,"totalTokens":2},"metrics":{"latencyMs":1}}`),
		},
	})
	b = newBedrock(t, s, func(c *upstream.BedrockConfig) { c.Model = "us.anthropic.claude-sonnet-4-6" })
	for _, stream := range []string{"", `"stream":true,`} {
		got, err := translate.Join(b.Chat(t.Context(), chatRequest(t, `{"model":"m",`+stream+ask)))
		if err != nil {
			t.Fatal(err)
		}
		if arguments := gjson.GetBytes(got, "choices.0.message.tool_calls.0.function.arguments").Str; arguments != `{"`+odd+`":"`+alias+`"}` {
			t.Errorf("%sgot %s", stream, arguments)
		}
	}
}
