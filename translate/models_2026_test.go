package translate

import (
	"slices"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// What the models of late 2026 refuse, and what is sent in its place. Sources
// are in capabilities.json.

func TestModelsThatCannotBeForcedAreAsked(t *testing.T) {
	const two = `{"model":"m","messages":[{"role":"user","content":"q"}],"tools":[{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"b"}}],"tool_choice":{"type":"function","function":{"name":"b"}}}`
	r, err := ParseRequest([]byte(two))
	if err != nil {
		t.Fatal(err)
	}
	q, err := ToAnthropic(r, AnthropicOptions{Capabilities: LookupCapabilities("anthropic", "claude-opus-5-5")})
	if err != nil {
		t.Fatal(err)
	}
	root := gjson.ParseBytes(q.Body)
	if root.Get("tool_choice").Exists() || root.Get("tools.#.name").Raw != `["b"]` || !strings.Contains(root.Get("system.0.text").Str, "tool b") || !slices.Equal(q.Dropped, []string{"tool_choice"}) {
		t.Errorf("sent %s, dropped %v", q.Body, q.Dropped)
	}
	if _, err := ToAnthropic(r, AnthropicOptions{Options: Options{Unsupported: "reject"}, Capabilities: LookupCapabilities("anthropic", "claude-opus-5-5")}); err == nil {
		t.Error("unsupported: reject lets it pass")
	}
}

func TestThoughtsAmongCallsKeepTheirPlaceInARoundTrip(t *testing.T) {
	r, _ := ParseRequest([]byte(`{"model":"m","messages":[{"role":"user","content":"q"}],"tools":[{"type":"function","function":{"name":"f"}}]}`))
	o := AnthropicOptions{Capabilities: LookupCapabilities("anthropic", "claude-opus-5-5")}
	q, err := ToAnthropic(r, o)
	if err != nil {
		t.Fatal(err)
	}
	const answer = `{"type":"message","content":[{"type":"thinking","thinking":"1","signature":"s1"},{"type":"text","text":"so"},{"type":"thinking","thinking":"2","signature":"s2"},{"type":"tool_use","id":"c1","name":"f","input":{}},{"type":"thinking","thinking":"3","signature":"s3"},{"type":"tool_use","id":"c2","name":"f","input":{}}],"stop_reason":"tool_use"}`
	streamed, err := Join(FromAnthropicStream(q, AnthropicEvents([]byte(answer)), AnswerHead{}))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := FromAnthropic(q, []byte(answer), AnswerHead{})
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range [][]byte{streamed, whole.Data} {
		message := gjson.GetBytes(got, "choices.0.message").Raw
		again, err := ParseRequest([]byte(`{"model":"m","messages":[{"role":"user","content":"q"},` + message +
			`,{"role":"tool","tool_call_id":"c1","content":"1"},{"role":"tool","tool_call_id":"c2","content":"2"}],"tools":[{"type":"function","function":{"name":"f"}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		q, err := ToAnthropic(again, o)
		if err != nil {
			t.Fatal(err)
		}
		if kinds := gjson.GetBytes(q.Body, "messages.1.content.#.type").Raw; kinds != `["thinking","text","thinking","tool_use","thinking","tool_use"]` {
			t.Errorf("%s became %s", message, kinds)
		}
	}
}

func TestAReplayedPrefixIsNotRewritten(t *testing.T) {
	const turns = `"messages":[{"role":"system","content":"A"},{"role":"user","content":"q"},{"role":"assistant","content":"r","thinking_blocks":[{"type":"thinking","thinking":"","signature":"s"}]},{"role":"developer","content":"B"},{"role":"user","content":"z"}],"tools":[{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"b"}}]`
	for _, more := range []string{"", `,"tool_choice":"none"`, `,"tool_choice":"required"`, `,"tool_choice":{"type":"function","function":{"name":"b"}}`} {
		r, err := ParseRequest([]byte(`{"model":"m",` + turns + more + `}`))
		if err != nil {
			t.Fatal(err)
		}
		q, err := ToBedrock(r, BedrockOptions{Capabilities: LookupCapabilities("bedrock", "us.anthropic.claude-opus-5-5")})
		if err != nil {
			t.Fatal(err)
		}
		root := gjson.ParseBytes(q.Body)
		if root.Get("system").Raw != `[{"text":"A"}]` || root.Get("toolConfig.tools.#").Int() != 2 || root.Get("messages.#.role").Raw != `["user","assistant","system","user"]` {
			t.Errorf("%s: sent %s", more, q.Body)
		}
	}
}

func TestJSONOfAModelThatCannotBeForcedIsUnwrapped(t *testing.T) {
	r, _ := ParseRequest([]byte(`{"model":"m","messages":[{"role":"user","content":"q"}],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{"a":{"type":"integer"}}}}}}`))
	q, err := ToBedrock(r, BedrockOptions{Capabilities: LookupCapabilities("bedrock", "us.anthropic.claude-opus-5-5")})
	if err != nil {
		t.Fatal(err)
	}
	call := `{"toolUse":{"toolUseId":"t","name":"` + jsonToolName + `","input":{"a":1}}}`
	for content, want := range map[string]string{
		call:                   `{"a":1}`,
		`{"text":"{\"a\":1}"}`: `{"a":1}`,
		`{"text":"` + "```json\\n{\\\"a\\\":1}\\n```" + `"}`: `{"a":1}`,
		`{"text":"Here it is."},` + call:                     `{"a":1}`,
		`{"text":"I cannot."}`:                               `I cannot.`,
	} {
		answer := []byte(`{"output":{"message":{"role":"assistant","content":[` + content + `]}},"stopReason":"end_turn"}`)
		whole, err := FromBedrock(q, answer, AnswerHead{})
		if err != nil {
			t.Fatal(err)
		}
		streamed, err := Join(FromBedrockStream(q, WholeEvents(answer), AnswerHead{}))
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range [][]byte{whole.Data, streamed} {
			choice := gjson.GetBytes(got, "choices.0")
			if choice.Get("message.content").Str != want || choice.Get("finish_reason").Str != "stop" {
				t.Errorf("%s: got %s, want %s", content, choice.Raw, want)
			}
		}
	}
}

func TestANextVersionIsAGuess(t *testing.T) {
	for model, want := range map[string]string{
		"claude-opus-5": "", "claude-opus-5-5": "", "claude-sonnet-4-5-20250929": "", "claude-opus-5-7": "anthropic", "claude-opus-6": "anthropic",
	} {
		if got := GuessedCapabilities("anthropic", model); got != want {
			t.Errorf("%s: a guess by %q, want %q", model, got, want)
		}
	}
}

func TestDailyLimitsAreAQuota(t *testing.T) {
	e := BedrockError("ThrottlingException", 429, []byte(`{"message":"Too many tokens per day, please wait before trying again."}`))
	if e.Kind != KindQuota {
		t.Errorf("got %s", e.Kind)
	}
}

// Some servers of either API give a call's arguments as text.
func TestArgumentsThatAreTextAreTakenAsTheyAre(t *testing.T) {
	r, _ := ParseRequest([]byte(`{"model":"m","messages":[{"role":"user","content":"q"}],"tools":[{"type":"function","function":{"name":"f"}}]}`))
	bedrock, err := ToBedrock(r, BedrockOptions{Capabilities: LookupCapabilities("bedrock", "moonshotai.kimi-k2.5")})
	if err != nil {
		t.Fatal(err)
	}
	claude, err := ToAnthropic(r, AnthropicOptions{Capabilities: LookupCapabilities("anthropic", "claude-opus-5")})
	if err != nil {
		t.Fatal(err)
	}
	for input, want := range map[string]string{
		`"{\"a\":9007199254740993}"`: `{"a":9007199254740993}`,
		`{"a":1.0}`:                  `{"a":1.0}`,
		`"{}"`:                       `{}`,
		`""`:                         `{}`,
		`{}`:                         `{}`,
		`null`:                       `{}`,
	} {
		converse := []byte(`{"output":{"message":{"role":"assistant","content":[{"toolUse":{"toolUseId":"t","name":"f","input":` + input + `}}]}},"stopReason":"tool_use"}`)
		messages := []byte(`{"type":"message","content":[{"type":"tool_use","id":"t","name":"f","input":` + input + `}],"stop_reason":"tool_use"}`)
		delta := input
		if delta == "null" || delta == "{}" {
			delta = `""`
		}
		frames := func(yield func(BedrockEvent, error) bool) {
			for _, e := range [][2]string{
				{"messageStart", `{"role":"assistant"}`},
				{"contentBlockStart", `{"contentBlockIndex":0,"start":{"toolUse":{"toolUseId":"t","name":"f"}}}`},
				{"contentBlockDelta", `{"contentBlockIndex":0,"delta":{"toolUse":{"input":` + delta + `}}}`},
				{"contentBlockStop", `{"contentBlockIndex":0}`},
				{"messageStop", `{"stopReason":"tool_use"}`},
			} {
				if !yield(BedrockEvent{Type: e[0], Payload: []byte(e[1])}, nil) {
					return
				}
			}
		}
		whole := func(c Chunk, err error) ([]byte, error) { return c.Data, err }
		for name, give := range map[string]func() ([]byte, error){
			"Converse":                func() ([]byte, error) { return whole(FromBedrock(bedrock, converse, AnswerHead{})) },
			"Converse, made a stream": func() ([]byte, error) { return Join(FromBedrockStream(bedrock, WholeEvents(converse), AnswerHead{})) },
			"ConverseStream":          func() ([]byte, error) { return Join(FromBedrockStream(bedrock, frames, AnswerHead{})) },
			"Messages":                func() ([]byte, error) { return whole(FromAnthropic(claude, messages, AnswerHead{})) },
			"Messages, made a stream": func() ([]byte, error) {
				return Join(FromAnthropicStream(claude, AnthropicEvents(messages), AnswerHead{}))
			},
		} {
			got, err := give()
			if err != nil {
				t.Errorf("%s of %s: %v", name, input, err)
				continue
			}
			if a := gjson.GetBytes(got, "choices.0.message.tool_calls.0.function.arguments").Str; a != want {
				t.Errorf("%s of %s: arguments %s, want %s", name, input, a, want)
			}
		}
	}
}

func TestAFamilyGivesTheRulesOfItsProvider(t *testing.T) {
	family := CapabilityOverrides{Family: "claude-opus-5"}
	for _, provider := range []string{"bedrock", "anthropic"} {
		got := family.Apply(provider, LookupCapabilities(provider, "proxy-model"))
		if want := LookupCapabilities(provider, "anthropic.claude-opus-5"); got != want {
			t.Errorf("%s: got %+v, want %+v", provider, got, want)
		}
	}
}
