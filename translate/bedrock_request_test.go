package translate

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

const (
	claude45 = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
	claude46 = "us.anthropic.claude-sonnet-4-6"
	claude48 = "us.anthropic.claude-opus-4-8"
	claude37 = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"
	nova     = "us.amazon.nova-pro-v1:0"
	nova2    = "us.amazon.nova-2-lite-v1:0"
	llama    = "us.meta.llama3-3-70b-instruct-v1:0"
	mistral  = "mistral.mistral-large-2407-v1:0"
	oldM     = "mistral.mistral-7b-instruct-v0:2"
	titan    = "amazon.titan-text-express-v1"
	gptOSS   = "openai.gpt-oss-120b-1:0"
	qwen     = "qwen.qwen3-32b-v1:0"
	r1       = "us.deepseek.r1-v1:0"
	opaque   = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
)

// want is what stands where in a body: JSON by gjson path, "" for nothing.
type want map[string]string

// requestRow is one row of the request tables: what a client sends to a model,
// and what becomes of it.
type requestRow struct {
	name    string
	model   string // claude45 when empty
	request string // the request's members; messages are added when missing
	options Options
	says    CapabilityOverrides // of the operator
	want    want
	dropped string // names, joined by commas
	refused string // the param of the InvalidError, "-" for one without
	code    string // its code, when it matters
}

// withMessages completes a request.
func withMessages(members string) string {
	if !strings.Contains(members, `"messages"`) {
		members = strings.TrimPrefix(`"messages":[{"role":"user","content":"hi"}],`+members, ",")
	}
	return "{" + strings.TrimSuffix(members, ",") + "}"
}

func toBedrock(t *testing.T, row requestRow) (*BedrockRequest, error) {
	t.Helper()
	if row.model == "" {
		row.model = claude45
	}
	body := withMessages(row.request)
	if !json.Valid([]byte(body)) {
		t.Fatalf("the test's own request is not JSON: %s", body)
	}
	stream := gjson.Get(body, "stream").Bool()
	return ToBedrock(&Request{Body: []byte(body), Stream: stream},
		BedrockOptions{Options: row.options, Capabilities: row.says.Apply("bedrock", LookupCapabilities("bedrock", row.model))})
}

// runRequestRows checks the rows, and their bodies against a golden file, which
// the fake Bedrock's own test judges by AWS's model of the request.
func runRequestRows(t *testing.T, rows []requestRow) {
	t.Helper()
	var bodies strings.Builder
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			q, err := toBedrock(t, row)
			if row.refused != "" {
				checkRefused(t, row, err)
				return
			}
			if err != nil {
				t.Fatalf("got %v", err)
			}
			if !json.Valid(q.Body) {
				t.Fatalf("the body is not JSON: %s", q.Body)
			}
			title := row.name
			if q.Stream {
				title += " (streamed)"
			}
			bodies.WriteString("# " + title + "\n" + string(q.Body) + "\n")
			checkNoEmpty(t, q.Body)
			for path, value := range row.want {
				if got := gjson.GetBytes(q.Body, path).Raw; !sameJSON(got, value) {
					t.Errorf("%s: got %s, want %s in %s", path, got, value, q.Body)
				}
			}
			if got := strings.Join(q.Dropped, ","); got != row.dropped {
				t.Errorf("got dropped %q, want %q", got, row.dropped)
			}
		})
	}
	golden(t, "testdata/bedrock/"+t.Name()+".requests", []byte(bodies.String()))
}

func checkRefused(t *testing.T, row requestRow, err error) {
	t.Helper()
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("got error %v, want an InvalidError for %s", err, row.refused)
	}
	if param := strings.TrimPrefix(row.refused, "-"); invalid.Param != param {
		t.Errorf("got param %q (%s), want %q", invalid.Param, invalid.Message, param)
	}
	if row.code != "" && invalid.Code != row.code {
		t.Errorf("got code %q, want %q", invalid.Code, row.code)
	}
	if invalid.Param != "" && !strings.Contains(invalid.Message, invalid.Param) {
		t.Errorf("message %q does not name %s", invalid.Message, invalid.Param)
	}
}

// sameJSON compares texts, or else values without regard to white space.
func sameJSON(a, b string) bool {
	if a == b {
		return true
	}
	var x, y any
	decode := func(s string, v *any) bool {
		d := json.NewDecoder(strings.NewReader(s))
		d.UseNumber() // 1.0 is not 1
		return d.Decode(v) == nil
	}
	return decode(a, &x) && decode(b, &y) && reflect.DeepEqual(x, y)
}

// checkNoEmpty holds for every body: Bedrock refuses blank text, and lists and
// objects that are there but empty.
func checkNoEmpty(t *testing.T, body []byte) {
	t.Helper()
	for _, path := range []string{"system", "toolConfig.tools", "inferenceConfig", "inferenceConfig.stopSequences", "additionalModelRequestFields", "requestMetadata", "outputConfig"} {
		if v := gjson.GetBytes(body, path); v.Exists() && (v.Raw == "[]" || v.Raw == "{}") {
			t.Errorf("%s is there but empty: %s", path, body)
		}
	}
	previous := ""
	for i, m := range gjson.GetBytes(body, "messages").Array() {
		role := m.Get("role").Str
		if i == 0 && role != "user" || role == previous {
			t.Errorf("message %d is the %s's after the %s's: %s", i, role, previous, body)
		}
		previous = role
		if len(m.Get("content").Array()) == 0 {
			t.Errorf("message %d has no content: %s", i, body)
		}
		for _, b := range m.Get("content").Array() {
			if text := b.Get("text"); text.Exists() && strings.TrimSpace(text.Str) == "" {
				t.Errorf("message %d has blank text: %s", i, body)
			}
			if v := b.Get("toolResult.content"); v.Exists() && v.Raw == "[]" {
				t.Errorf("message %d has an empty tool result: %s", i, body)
			}
			if len(b.Map()) != 1 {
				t.Errorf("message %d has a block with %d members: %s", i, len(b.Map()), b.Raw)
			}
		}
	}
}

func TestRequestFields(t *testing.T) {
	runRequestRows(t, []requestRow{
		{name: "messages: one user message", request: ``, want: want{"messages": `[{"role":"user","content":[{"text":"hi"}]}]`, "inferenceConfig": "", "toolConfig": "", "system": ""}},
		{name: "messages: empty", request: `"messages":[]`, refused: "messages", code: "empty_array"},
		{name: "max_completion_tokens wins over max_tokens", request: `"max_tokens":10,"max_completion_tokens":20`, want: want{"inferenceConfig.maxTokens": "20"}},
		{name: "max_completion_tokens wins also when it comes first", request: `"max_completion_tokens":20,"max_tokens":10`, want: want{"inferenceConfig.maxTokens": "20"}},
		{name: "max_tokens alone", request: `"max_tokens":10`, want: want{"inferenceConfig": `{"maxTokens":10}`}},
		{name: "max_tokens 10.0 is an integer", request: `"max_tokens":10.0`, want: want{"inferenceConfig.maxTokens": "10"}},
		{name: "max_tokens null is absent", request: `"max_tokens":null`, want: want{"inferenceConfig": ""}},
		{name: "max_tokens zero or less", request: `"max_tokens":-1`, refused: "max_tokens"},
		{name: "trap 41: max_tokens above the model's limit is clamped", request: `"max_tokens":1000000`, want: want{"inferenceConfig.maxTokens": "64000"}},
		{name: "temperature as it is", request: `"temperature":0.7`, want: want{"inferenceConfig.temperature": "0.7"}},
		{name: "temperature above 1 is clamped and named", request: `"temperature":1.5`, want: want{"inferenceConfig.temperature": "1"}, dropped: "temperature"},
		{name: "temperature above 2", request: `"temperature":2.5`, refused: "temperature"},
		{name: "trap 36: temperature on a Claude that takes none", model: claude48, request: `"temperature":0.7,"top_p":0.5,"top_k":5`, want: want{"inferenceConfig": "", "additionalModelRequestFields": ""}, dropped: "temperature,top_p,top_k"},
		{name: "trap 36: an unknown Claude takes none", model: "anthropic.claude-saga-9", request: `"temperature":0.7`, want: want{"inferenceConfig": ""}, dropped: "temperature"},
		{name: "temperature 1 is what a model does anyway", model: claude48, request: `"temperature":1`, want: want{"inferenceConfig": ""}},
		{name: "trap 35: temperature and top_p on Claude 4.5: temperature stays", request: `"temperature":0.3,"top_p":0.9`, want: want{"inferenceConfig": `{"temperature":0.3}`}, dropped: "top_p"},
		{name: "temperature 1 gives way to top_p", request: `"temperature":1,"top_p":0.9`, want: want{"inferenceConfig": `{"topP":0.9}`}},
		{name: "top_p 1 beside a temperature changes nothing", request: `"temperature":0.3,"top_p":1`, want: want{"inferenceConfig": `{"temperature":0.3}`}},
		{name: "temperature and top_p on a model that takes both", model: claude37, request: `"temperature":0.3,"top_p":0.9`, want: want{"inferenceConfig": `{"temperature":0.3,"topP":0.9}`}},
		{name: "stop: a string becomes a list", request: `"stop":"END"`, want: want{"inferenceConfig.stopSequences": `["END"]`}},
		{name: "stop: a list", request: `"stop":["A","B"]`, want: want{"inferenceConfig.stopSequences": `["A","B"]`}},
		{name: "stop: null", request: `"stop":null`, want: want{"inferenceConfig": ""}},
		{name: "stop: empty strings are left out", request: `"stop":["","B"]`, want: want{"inferenceConfig.stopSequences": `["B"]`}},
		{name: "stop: white space on Claude", request: `"stop":["\n\n","B"]`, want: want{"inferenceConfig.stopSequences": `["B"]`}, dropped: "stop"},
		{name: "stop: white space elsewhere", model: nova, request: `"stop":["\n\n"]`, want: want{"inferenceConfig.stopSequences": `["\n\n"]`}},
		{name: "trap 37: stop on a model without", model: gptOSS, request: `"stop":"END"`, want: want{"inferenceConfig": ""}, dropped: "stop"},
		{name: "n: 1", request: `"n":1`},
		{name: "n: null", request: `"n":null`},
		{name: "n: 2 is refused", request: `"n":2`, refused: "n", code: "unsupported_parameter"},
		{name: "n: 2 is dropped when the operator says so", request: `"n":2`, options: Options{Unsupported: "drop"}, dropped: "n"},
		{name: "tools: an empty list is none", request: `"tools":[]`, want: want{"toolConfig": ""}},
		{name: "parallel_tool_calls false on Claude 4.5", request: `"tools":[{"type":"function","function":{"name":"f"}}],"parallel_tool_calls":false`,
			want: want{"additionalModelRequestFields": `{"tool_choice":{"type":"auto","disable_parallel_tool_use":true}}`}},
		{name: "parallel_tool_calls false beside a choice does not name it again", request: `"tools":[{"type":"function","function":{"name":"f"}}],"parallel_tool_calls":false,"tool_choice":{"type":"function","function":{"name":"f"}}`,
			want: want{"additionalModelRequestFields.tool_choice": `{"disable_parallel_tool_use":true}`}},
		{name: "parallel_tool_calls false elsewhere is kept by us", model: nova, request: `"tools":[{"type":"function","function":{"name":"f"}}],"parallel_tool_calls":false`,
			want: want{"additionalModelRequestFields": ""}},
		{name: "parallel_tool_calls true", request: `"tools":[{"type":"function","function":{"name":"f"}}],"parallel_tool_calls":true`, want: want{"additionalModelRequestFields": ""}},
		{name: "verbosity", request: `"verbosity":"low"`, dropped: "verbosity"},
		{name: "verbosity on a model that has it", model: "openai.gpt-5.6", request: `"verbosity":"low"`, want: want{"additionalModelRequestFields.verbosity": `"low"`}},
		{name: "verbosity unknown", request: `"verbosity":"loud"`, refused: "verbosity"},
		{name: "seed is ignored", request: `"seed":42`},
		{name: "logprobs false", request: `"logprobs":false`},
		{name: "logprobs true", request: `"logprobs":true`, refused: "logprobs"},
		{name: "top_logprobs", request: `"top_logprobs":3`, refused: "top_logprobs"},
		{name: "logit_bias empty", request: `"logit_bias":{}`},
		{name: "logit_bias", request: `"logit_bias":{"50256":-100}`, dropped: "logit_bias"},
		{name: "penalties of zero", request: `"presence_penalty":0,"frequency_penalty":0.0`},
		{name: "penalties", request: `"presence_penalty":0.5,"frequency_penalty":-0.5`, dropped: "presence_penalty,frequency_penalty"},
		{name: "penalties are refused when the operator says so", request: `"presence_penalty":0.5`, options: Options{Unsupported: "reject"}, refused: "presence_penalty"},
		{name: "dropped fields come in the request's order", request: `"verbosity":"low","presence_penalty":1,"logit_bias":{"1":1},"temperature":1.2`, dropped: "verbosity,presence_penalty,logit_bias,temperature"},
		{name: "user, safety_identifier, metadata, store are not sent", request: `"user":"u","safety_identifier":"s","metadata":{"a":"b"},"store":true`, want: want{"requestMetadata": ""}},
		{name: "trap 42: service_tier auto is left out", request: `"service_tier":"auto"`, want: want{"serviceTier": ""}},
		{name: "service_tier scale is left out", request: `"service_tier":"scale"`, want: want{"serviceTier": ""}},
		{name: "trap 42: service_tier is an object", request: `"service_tier":"flex"`, want: want{"serviceTier": `{"type":"flex"}`}},
		{name: "service_tier default", request: `"service_tier":"default"`, want: want{"serviceTier": `{"type":"default"}`}},
		{name: "service_tier priority", request: `"service_tier":"priority"`, want: want{"serviceTier": `{"type":"priority"}`}},
		{name: "service_tier fast is priority", request: `"service_tier":"fast"`, want: want{"serviceTier": `{"type":"priority"}`}},
		{name: "service_tier reserved", request: `"service_tier":"reserved"`, want: want{"serviceTier": `{"type":"reserved"}`}},
		{name: "service_tier unknown", request: `"service_tier":"gold"`, refused: "service_tier"},
		{name: "trap 89: service_tier on a GPT model", model: gptOSS, request: `"service_tier":"flex"`, want: want{"serviceTier": ""}, dropped: "service_tier"},
		{name: "prediction is ignored", request: `"prediction":{"type":"content","content":"x"}`},
		{name: "modalities text", request: `"modalities":["text"]`},
		{name: "modalities audio", request: `"modalities":["text","audio"],"audio":{"voice":"alloy","format":"wav"}`, refused: "modalities"},
		{name: "audio alone is ignored", request: `"audio":{"voice":"alloy","format":"wav"}`},
		{name: "web_search_options", request: `"web_search_options":{}`, refused: "web_search_options"},
		{name: "moderation scores", request: `"moderation":{"model":"m","policy":{"mode":"score"}}`, dropped: "moderation"},
		{name: "moderation that blocks", request: `"moderation":{"model":"m","policy":{"mode":"block"}}`, refused: "moderation"},
		{name: "moderation that blocks, with a guardrail", request: `"moderation":{"policy":"block"},"guardrailConfig":{"guardrailIdentifier":"g","guardrailVersion":"1"}`,
			want: want{"guardrailConfig": `{"guardrailIdentifier":"g","guardrailVersion":"1"}`}},
		{name: "prompt_cache_key is ignored", request: `"prompt_cache_key":"k"`},
		{name: "prompt_cache_retention 24h stretches cache points", request: `"prompt_cache_retention":"24h","messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}]`,
			want: want{"messages.0.content.1": `{"cachePoint":{"type":"default","ttl":"1h"}}`}},
		{name: "prompt_cache_retention without cache points", request: `"prompt_cache_retention":"24h"`, want: want{"messages.0.content.1": ""}},
		{name: "prompt_cache_options ttl 30m is a minimum", request: `"prompt_cache_options":{"mode":"explicit","ttl":"30m"},"messages":[{"role":"user","content":[{"type":"text","text":"a","prompt_cache_breakpoint":{"mode":"explicit"}}]}]`,
			want: want{"messages.0.content.1": `{"cachePoint":{"type":"default","ttl":"1h"}}`}},
		{name: "top_k on Claude", request: `"top_k":5`, want: want{"additionalModelRequestFields": `{"top_k":5}`}},
		{name: "top_k on Nova", model: nova, request: `"top_k":5`, want: want{"additionalModelRequestFields": `{"inferenceConfig":{"topK":5}}`}},
		{name: "top_k on Cohere", model: "cohere.command-r-v1:0", request: `"top_k":5`, want: want{"additionalModelRequestFields": `{"k":5}`}},
		{name: "top_k on a model without", model: gptOSS, request: `"top_k":5`, want: want{"additionalModelRequestFields": ""}, dropped: "top_k"},
		{name: "guardrail_config", request: `"guardrail_config":{"guardrailIdentifier":"g","guardrailVersion":"2","trace":"enabled"}`,
			want: want{"guardrailConfig": `{"guardrailIdentifier":"g","guardrailVersion":"2","trace":"enabled"}`}},
		{name: "a guardrail beside a stream", request: `"stream":true,"guardrailConfig":{"guardrailIdentifier":"g","guardrailVersion":"2","streamProcessingMode":"async"}`,
			want: want{"guardrailConfig": `{"guardrailIdentifier":"g","guardrailVersion":"2","streamProcessingMode":"async"}`}},
		{name: "a guardrail before a stream, as is the default", request: `"stream":true,"guardrail_config":{"guardrailIdentifier":"g","guardrailVersion":"2","streamProcessingMode":"sync"}`,
			want: want{"guardrailConfig": `{"guardrailIdentifier":"g","guardrailVersion":"2"}`}},
		{name: "a stream's mode without a stream, which Converse refuses", request: `"guardrailConfig":{"guardrailIdentifier":"g","guardrailVersion":"2","streamProcessingMode":"async"}`,
			want: want{"guardrailConfig": `{"guardrailIdentifier":"g","guardrailVersion":"2"}`}},
		{name: "an unknown mode of a guardrail", request: `"guardrailConfig":{"guardrailIdentifier":"g","streamProcessingMode":"later"}`, refused: "guardrailConfig.streamProcessingMode"},
		{name: "performanceConfig", request: `"performanceConfig":{"latency":"optimized"}`, want: want{"performanceConfig": `{"latency":"optimized"}`}},
		{name: "additionalModelRequestFields is not the client's to send", request: `"additionalModelRequestFields":{"thinking":{"type":"enabled"}}`, want: want{"additionalModelRequestFields": ""}},
		{name: "trap 34: unknown members are ignored, not an error", request: `"frobnicate":{"x":[1]}`},
	})
}

func TestMessagesByRole(t *testing.T) {
	runRequestRows(t, []requestRow{
		{name: "system and developer become system text in order", request: `"messages":[{"role":"system","content":"A"},{"role":"developer","content":[{"type":"text","text":"B"},{"type":"text","text":"C"}]},{"role":"user","content":"hi"}]`,
			want: want{"system": `[{"text":"A"},{"text":"B"},{"text":"C"}]`}},
		{name: "trap 24: blank system text is left out", request: `"messages":[{"role":"system","content":"  "},{"role":"user","content":"hi"}]`, want: want{"system": ""}},
		{name: "system in the middle is lifted", request: `"messages":[{"role":"user","content":"a"},{"role":"system","content":"S"},{"role":"user","content":"b"}]`,
			want: want{"system": `[{"text":"S"}]`, "messages": `[{"role":"user","content":[{"text":"a"},{"text":"b"}]}]`}},
		{name: "system only becomes the user's", request: `"messages":[{"role":"system","content":"S"}]`, want: want{"system": "", "messages": `[{"role":"user","content":[{"text":"S"}]}]`}},
		{name: "no place for system text", model: titan, request: `"messages":[{"role":"system","content":"S"},{"role":"user","content":"hi"}]`,
			want: want{"system": "", "messages": `[{"role":"user","content":[{"text":"S"},{"text":"hi"}]}]`}},
		{name: "no place for system text on an old Mistral", model: oldM, request: `"messages":[{"role":"system","content":"S"},{"role":"user","content":"hi"}]`,
			want: want{"system": "", "messages.0.content.0.text": `"S"`}},
		{name: "assistant text, refusal part and refusal", request: `"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"text","text":"b"},{"type":"refusal","refusal":"no"}],"refusal":"never"},{"role":"user","content":"c"}]`,
			want: want{"messages.1.content": `[{"text":"b"},{"text":"no"},{"text":"never"}]`}},
		{name: "assistant without content is left out", request: `"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null},{"role":"user","content":"c"}]`,
			want: want{"messages": `[{"role":"user","content":[{"text":"a"},{"text":"c"}]}]`}},
		{name: "trap 23: blank assistant text is left out", request: `"messages":[{"role":"user","content":"a"},{"role":"assistant","content":" \n"},{"role":"user","content":"c"}]`,
			want: want{"messages": `[{"role":"user","content":[{"text":"a"},{"text":"c"}]}]`}},
		{name: "assistant calls after text, numbers exact", request: `"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"t","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"n\":9007199254740993,\"x\":1.0,\"y\":1e-7}"}}]},{"role":"tool","tool_call_id":"c1","content":"r"}],"tools":[{"type":"function","function":{"name":"f"}}]`,
			want: want{"messages.1.content": `[{"text":"t"},{"toolUse":{"toolUseId":"c1","name":"f","input":{"n":9007199254740993,"x":1.0,"y":1e-7}}}]`,
				"messages.1.content.1.toolUse.input": `{"n":9007199254740993,"x":1.0,"y":1e-7}`}},
		{name: "trap 4: calls without arguments", request: callHistory(""), want: want{"messages.1.content.0.toolUse.input": `{}`}},
		{name: "calls with null for arguments", request: callHistory("null"), want: want{"messages.1.content.0.toolUse.input": `{}`}},
		{name: "calls with blank arguments", request: callHistory("  "), want: want{"messages.1.content.0.toolUse.input": `{}`}},
		{name: "calls whose arguments are no object", request: callHistory("[1,2]"), want: want{"messages.1.content.0.toolUse.input": `{"value":[1,2]}`}},
		{name: "trap 90: calls whose arguments are not JSON", request: callHistory(`{x`), want: want{"messages.1.content.0.toolUse.input": `{"_invalid_arguments":"{x"}`}},
		{name: "calls of a custom tool", request: `"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"c1","type":"custom","custom":{"name":"sh","input":"ls \"x\""}}]},{"role":"tool","tool_call_id":"c1","content":"r"}],"tools":[{"type":"custom","custom":{"name":"sh"}}]`,
			want: want{"messages.1.content.0.toolUse": `{"toolUseId":"c1","name":"sh","input":{"input":"ls \"x\""}}`}},
		{name: "legacy function_call and function", request: `"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}},{"role":"function","name":"f","content":"r"}],"functions":[{"name":"f"}]`,
			want: want{"messages.1.content": `[{"toolUse":{"toolUseId":"fc_1","name":"f","input":{}}}]`, "messages.2.content": `[{"toolResult":{"toolUseId":"fc_1","content":[{"text":"r"}]}}]`}},
		{name: "a legacy function result alone becomes text", request: `"messages":[{"role":"function","name":"f","content":"r"}]`, want: want{"messages": `[{"role":"user","content":[{"text":"r"}]}]`}},
		{name: "assistant audio alone", request: `"messages":[{"role":"user","content":"a"},{"role":"assistant","audio":{"id":"x"}},{"role":"user","content":"b"}]`, refused: "messages[1].audio"},
		{name: "assistant audio beside empty text", request: `"messages":[{"role":"user","content":"a"},{"role":"assistant","audio":{"id":"x"},"content":""},{"role":"user","content":"b"}]`, refused: "messages[1].audio"},
		{name: "assistant audio beside text", request: `"messages":[{"role":"user","content":"a"},{"role":"assistant","audio":{"id":"x"},"content":"said"},{"role":"user","content":"b"}]`, want: want{"messages.1.content": `[{"text":"said"}]`}},
		{name: "tool result with several parts", request: toolResult(`[{"type":"text","text":"a"},{"type":"text","text":"b"}]`), want: want{"messages.2.content.0.toolResult.content": `[{"text":"a"},{"text":"b"}]`}},
		{name: "tool result with an image", request: toolResult(`[{"type":"image_url","image_url":{"url":"` + pngURL + `"}}]`), want: want{"messages.2.content.0.toolResult.content.0.image.format": `"png"`}},
		{name: "tool result of JSON text stays text", request: toolResult(`"{\"a\":1}"`), want: want{"messages.2.content.0.toolResult.content": `[{"text":"{\"a\":1}"}]`}},
		{name: "tool result that is blank", request: toolResult(`" "`), want: want{"messages.2.content.0.toolResult.content": `[{"json":{}}]`, "messages.2.content.0.toolResult.status": ""}},
		{name: "tool result that is an empty list", request: toolResult(`[]`), want: want{"messages.2.content.0.toolResult.content": `[{"json":{}}]`}},
		{name: "tool result of an error gets no status", request: toolResult(`"Error: no"`), want: want{"messages.2.content.0.toolResult.status": ""}},
		{name: "names of speakers are ignored", request: `"messages":[{"role":"user","name":"Ann","content":"hi"}]`, want: want{"messages": `[{"role":"user","content":[{"text":"hi"}]}]`}},
	})
}

func callHistory(arguments string) string {
	quoted, _ := json.Marshal(arguments)
	return `"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"c1","function":{"name":"f","arguments":` + string(quoted) +
		`}}]},{"role":"tool","tool_call_id":"c1","content":"r"}],"tools":[{"type":"function","function":{"name":"f"}}]`
}

func toolResult(content string) string {
	return `"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c1","content":` +
		content + `}],"tools":[{"type":"function","function":{"name":"f"}}]`
}

// Files that are just enough of one to be known as such.
var (
	pngURL  = dataURL("image/png", "\x89PNG\r\n\x1a\n0000")
	jpegRaw = "\xff\xd8\xff\xe0aaaa"
	pdfRaw  = "%PDF-1.7 aaaa"
	zipRaw  = "PK\x03\x04aaaaaaaa"
	oleRaw  = "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1aaaa"
)

func dataURL(mime, raw string) string {
	return "data:" + mime + ";base64," + base64.StdEncoding.EncodeToString([]byte(raw))
}

func userPart(part string) string {
	return `"messages":[{"role":"user","content":[{"type":"text","text":"see"},` + part + `]}]`
}

func imagePart(url string) string {
	return userPart(`{"type":"image_url","image_url":{"url":"` + url + `","detail":"high"}}`)
}

func filePart(data, name string) string {
	return userPart(`{"type":"file","file":{"file_data":"` + data + `","filename":"` + name + `"}}`)
}

func TestUserContentParts(t *testing.T) {
	const block = "messages.0.content.1"
	pngData := base64.StdEncoding.EncodeToString([]byte("\x89PNG\r\n\x1a\n0000"))
	runRequestRows(t, []requestRow{
		{name: "text: blank is left out", request: `"messages":[{"role":"user","content":[{"type":"text","text":""},{"type":"text","text":"a"}]}]`, want: want{"messages.0.content": `[{"text":"a"}]`}},
		{name: "image: png", request: imagePart(pngURL), want: want{block: `{"image":{"format":"png","source":{"bytes":"` + base64.StdEncoding.EncodeToString([]byte("\x89PNG\r\n\x1a\n0000")) + `"}}}`}},
		{name: "trap 28: image/jpg is jpeg", request: imagePart(dataURL("image/jpg", "????????")), want: want{block + ".image.format": `"jpeg"`}},
		{name: "trap 28: the bytes count, not the label", request: imagePart(dataURL("image/png", jpegRaw)), want: want{block + ".image.format": `"jpeg"`}},
		{name: "image: gif", request: imagePart(dataURL("image/gif", "GIF89aaaa")), want: want{block + ".image.format": `"gif"`}},
		{name: "image: webp", request: imagePart(dataURL("image/webp", "RIFF0000WEBPVP8 ")), want: want{block + ".image.format": `"webp"`}},
		{name: "image: parameters, upper case", request: imagePart("DATA:IMAGE/PNG;charset=utf-8;BASE64,iVBORw0KGgowMDAw"), want: want{block + ".image.format": `"png"`}},
		{name: "image: URL-safe alphabet without padding", request: imagePart("data:image/jpeg;base64,_9j_4GFhYWE"), want: want{block + ".image": `{"format":"jpeg","source":{"bytes":"/9j/4GFhYWE="}}`}},
		{name: "image: line breaks in base64", request: imagePart(`data:image/jpeg;base64,/9j/\n4GFhYWE=`), want: want{block + ".image.source.bytes": `"/9j/4GFhYWE="`}},
		{name: "trap 30: a PDF as image is a document", request: imagePart(dataURL("application/pdf", pdfRaw)), want: want{block + ".document.format": `"pdf"`}},
		{name: "image: svg", request: imagePart(dataURL("image/svg+xml", "<svg/>")), refused: "messages[0].content[1].image_url.url"},
		{name: "image: bmp", request: imagePart(dataURL("image/png", "BM000000")), refused: "messages[0].content[1].image_url.url"},
		{name: "image: tiff", request: imagePart(dataURL("image/tiff", "II*\x00aaaa")), refused: "messages[0].content[1].image_url.url"},
		{name: "image: heic", request: imagePart(dataURL("image/heic", "0000ftypheic")), refused: "messages[0].content[1].image_url.url"},
		{name: "image: not base64", request: imagePart("data:image/png;base64,%%%"), refused: "messages[0].content[1].image_url.url"},
		{name: "image: no payload", request: imagePart("data:image/png;base64,"), refused: "messages[0].content[1].image_url.url"},
		{name: "trap 29: image by URL is refused unless allowed", request: imagePart("https://example.com/a.png"), refused: "messages[0].content[1].image_url.url", code: "image_url_not_supported"},
		{name: "image: S3", request: imagePart("s3://bucket/a.png"), want: want{block: `{"image":{"format":"png","source":{"s3Location":{"uri":"s3://bucket/a.png"}}}}`}},
		{name: "image: S3 of unknown kind", request: imagePart("s3://bucket/a"), refused: "messages[0].content[1].image_url.url"},
		{name: "image: another scheme", request: imagePart("file:///etc/passwd"), refused: "messages[0].content[1].image_url.url"},
		{name: "image: on a model that cannot see", model: gptOSS, request: imagePart(pngURL), refused: "messages[0].content[1]"},
		{name: "image: on Qwen-VL", model: "qwen.qwen3-vl-235b-a22b", request: imagePart(pngURL), want: want{block: `{"image":{"format":"png","source":{"bytes":"` + pngData + `"}}}`}},
		{name: "image: on Kimi K2.5", model: "moonshotai.kimi-k2.5", request: imagePart(pngURL), want: want{block: `{"image":{"format":"png","source":{"bytes":"` + pngData + `"}}}`}},
		{name: "image: on Kimi K3 of a region", model: "us.moonshotai.kimi-k3", request: imagePart(pngURL), want: want{block + ".image.format": `"png"`}},
		{name: "image: on a Qwen that cannot see", model: qwen, request: imagePart(pngURL), refused: "messages[0].content[1]"},
		{name: "image: on a Kimi that cannot see", model: "moonshot.kimi-k2-thinking", request: imagePart(pngURL), refused: "messages[0].content[1]"},
		{name: "input_audio on a model that cannot hear", request: userPart(`{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}`), refused: "messages[0].content[1]"},
		{name: "input_audio of unknown format", request: userPart(`{"type":"input_audio","input_audio":{"data":"AAAA","format":"ogg"}}`), refused: "messages[0].content[1].input_audio.format"},
		{name: "file: pdf", request: filePart(dataURL("application/pdf", pdfRaw), "Report Q1.v2.pdf"), want: want{block + ".document.format": `"pdf"`, block + ".document.name": `"Report Q1-v2"`}},
		{name: "file: bare base64", request: filePart(base64.StdEncoding.EncodeToString([]byte(pdfRaw)), "a.pdf"), want: want{block + ".document.format": `"pdf"`}},
		{name: "trap 30: xlsx labelled pdf", request: filePart(dataURL("application/pdf", zipRaw), "a.xlsx"), want: want{block + ".document.format": `"xlsx"`}},
		{name: "file: docx", request: filePart(dataURL("application/vnd.openxmlformats-officedocument.wordprocessingml.document", zipRaw), ""), want: want{block + ".document.format": `"docx"`, block + ".document.name": `"document"`}},
		{name: "file: doc and xls", request: filePart(dataURL("application/msword", oleRaw), "a"), want: want{block + ".document.format": `"doc"`}},
		{name: "file: csv", request: filePart(dataURL("text/csv", "a,b\n1,2\n"), "a.csv"), want: want{block + ".document.format": `"csv"`}},
		{name: "file: html", request: filePart(dataURL("text/html", "<p>a</p>"), "a.html"), want: want{block + ".document.format": `"html"`}},
		{name: "file: markdown by its name", request: filePart(base64.StdEncoding.EncodeToString([]byte("# a")), "a.md"), want: want{block + ".document.format": `"md"`}},
		{name: "file: other text is txt", request: filePart(dataURL("application/json", `{\"a\":1}`), "a.json"), want: want{block + ".document.format": `"txt"`}},
		{name: "file: an image", request: filePart(dataURL("image/png", "\x89PNG\r\n\x1a\n0000"), "a.png"), want: want{block + ".image.format": `"png"`}},
		{name: "file: zip", request: filePart(dataURL("application/zip", zipRaw), "a.zip"), refused: "messages[0].content[1].file.file_data"},
		{name: "file: binary", request: filePart(dataURL("application/octet-stream", "\x00\x01\x02\x03"), "a.bin"), refused: "messages[0].content[1].file.file_data"},
		{name: "file: by id", request: userPart(`{"type":"file","file":{"file_id":"file-1"}}`), refused: "messages[0].content[1].file.file_id"},
		{name: "file: on a model that cannot read", model: gptOSS, request: filePart(dataURL("text/plain", "a"), "a.txt"), refused: "messages[0].content[1]"},
		{name: "trap 31: names of documents are unique, in any case", request: `"messages":[{"role":"user","content":[{"type":"text","text":"t"},` + strings.Repeat(`{"type":"file","file":{"file_data":"`+base64.StdEncoding.EncodeToString([]byte(pdfRaw))+`","filename":"a.pdf"}},`, 2) +
			`{"type":"file","file":{"file_data":"` + base64.StdEncoding.EncodeToString([]byte(pdfRaw)) + `","filename":"A.pdf"}}]}]`,
			want: want{"messages.0.content.#.document.name": `["a","a-2","A-3"]`}},
		{name: "documents want text beside them", request: `"messages":[{"role":"user","content":[{"type":"file","file":{"file_data":"` + base64.StdEncoding.EncodeToString([]byte(pdfRaw)) + `","filename":"a.pdf"}}]}]`,
			want: want{"messages.0.content.#": "2", "messages.0.content.0.text": `"See the document."`}},
		{name: "an unknown kind of part", request: userPart(`{"type":"video_url","video_url":{"url":"x"}}`), refused: "messages[0].content[1].type"},
	})
}

func TestTrap29ImagesAreFetchedWhereAllowed(t *testing.T) {
	body := []byte("{" + imagePart("https://example.com/a") + "}")
	options := BedrockOptions{Options: Options{RemoteImages: true}, Capabilities: LookupCapabilities("bedrock", claude45)}
	options.FetchImage = func(url string) ([]byte, error) {
		if url != "https://example.com/a" {
			t.Errorf("got %s", url)
		}
		return []byte(jpegRaw), nil
	}
	q, err := ToBedrock(&Request{Body: body}, options)
	if err != nil || gjson.GetBytes(q.Body, "messages.0.content.1.image.format").Str != "jpeg" {
		t.Fatalf("got %v, %v", q, err)
	}
	options.FetchImage = func(string) ([]byte, error) { return []byte("<html>"), nil }
	var invalid *InvalidError
	if _, err = ToBedrock(&Request{Body: body}, options); !errors.As(err, &invalid) || invalid.Param != "messages[0].content[1].image_url.url" {
		t.Errorf("got %v for HTML, want an InvalidError", err)
	}
	options.FetchImage = func(string) ([]byte, error) { return nil, &InvalidError{Message: "no"} }
	if _, err = ToBedrock(&Request{Body: body}, options); !errors.As(err, &invalid) || invalid.Param != "messages[0].content[1].image_url.url" {
		t.Errorf("got %v for a failed fetch, want an InvalidError with its place", err)
	}
}

func functionTool(members string) string {
	return `"tools":[{"type":"function","function":{"name":"f",` + members + `}}]`
}

func TestTools(t *testing.T) {
	const schema = "toolConfig.tools.0.toolSpec.inputSchema.json"
	long := strings.Repeat("x", 65)
	runRequestRows(t, []requestRow{
		{name: "a function", request: functionTool(`"description":"d","parameters":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`),
			want: want{"toolConfig": `{"tools":[{"toolSpec":{"name":"f","description":"d","inputSchema":{"json":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}}}}]}`}},
		{name: "trap 8: an empty description is left out", request: functionTool(`"description":" "`), want: want{"toolConfig.tools.0.toolSpec.description": ""}},
		{name: "no name", request: `"tools":[{"type":"function","function":{"name":""}}]`, refused: "tools[0].function.name"},
		{name: "two of one name", request: `"tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"f"}}]`, refused: "tools[1]"},
		{name: "parameters missing", request: functionTool(`"description":"d"`), want: want{schema: `{"type":"object","properties":{}}`}},
		{name: "parameters null", request: functionTool(`"parameters":null`), want: want{schema: `{"type":"object","properties":{}}`}},
		{name: "parameters empty", request: functionTool(`"parameters":{}`), want: want{schema: `{"type":"object","properties":{}}`}},
		{name: "parameters of the wrong type", request: functionTool(`"parameters":"{}"`), refused: "tools[0].function.parameters"},
		{name: "trap 18: root without type, properties null, $schema and $id", request: functionTool(`"parameters":{"$schema":"s","$id":"i","properties":null,"additionalProperties":false}`),
			want: want{schema: `{"type":"object","properties":{},"additionalProperties":false}`}},
		{name: "trap 84: numbers and their order survive", request: functionTool(`"parameters":{"type":"object","properties":{"z":{"maximum":9007199254740993,"default":1.0},"a":{"multipleOf":1e-7}}}`),
			want: want{schema + ".properties.z": `{"maximum":9007199254740993,"default":1.0}`, schema + ".properties.a.multipleOf": "1e-7", schema + ".properties": `{"z":{"maximum":9007199254740993,"default":1.0},"a":{"multipleOf":1e-7}}`}},
		{name: "choices at the root are merged for Claude", request: functionTool(`"parameters":{"type":"object","anyOf":[{"properties":{"a":{"type":"string"}},"required":["a","k"]},{"properties":{"b":{"type":"string"}},"required":["k"]}]}`),
			want: want{schema: `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}},"required":["k"]}`}},
		{name: "parts at the root are merged for Claude", request: functionTool(`"parameters":{"allOf":[{"properties":{"a":{"type":"string"}},"required":["a"]},{"$ref":"#/$defs/b"}],"$defs":{"b":{"properties":{"b":{"type":"string"}},"required":["b"]}}}`),
			want: want{schema + ".properties": `{"a":{"type":"string"},"b":{"type":"string"}}`, schema + ".required": `["a","b"]`, schema + ".allOf": ""}},
		{name: "trap 19: Nova wants a flat root", model: nova, request: functionTool(`"parameters":{"type":"object","properties":{"a":{"$ref":"#/definitions/A"}},"required":["a"],"definitions":{"A":{"type":"object","properties":{"n":{"$ref":"#/$defs/N"}}}},"$defs":{"N":{"type":"integer"}},"additionalProperties":false}`),
			want: want{schema: `{"type":"object","properties":{"a":{"type":"object","properties":{"n":{"type":"integer"}}}},"required":["a"]}`}},
		{name: "trap 19: a root that is itself a reference", model: nova, request: functionTool(`"parameters":{"$ref":"#/$defs/A%3CB%3E","$defs":{"A<B>":{"type":"object","properties":{"n":{"$ref":"#/$defs/N"}},"required":["n"]},"N":{"type":"integer"}}}`),
			want: want{schema: `{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}`}},
		{name: "trap 19: a schema within itself", model: nova, request: functionTool(`"parameters":{"type":"object","properties":{"a":{"$ref":"#/$defs/A"}},"$defs":{"A":{"type":"object","properties":{"next":{"$ref":"#/$defs/A"}}}}}`),
			want: want{schema + ".properties": `{"a":{"type":"object","properties":{"next":{"type":"object"}}}}`}},
		{name: "trap 19: a property may be called definitions or $ref", model: nova, request: functionTool(`"parameters":{"type":"object","properties":{"definitions":{"type":"string"},"$ref":{"type":"object","properties":{"$defs":{"type":"string"}}}}}`),
			want: want{schema + ".properties": `{"definitions":{"type":"string"},"$ref":{"type":"object","properties":{"$defs":{"type":"string"}}}}`}},
		{name: "a reference that leads nowhere", model: nova, request: functionTool(`"parameters":{"type":"object","properties":{"a":{"$ref":"#/$defs/none"},"b":{"$ref":"http://x"}}}`),
			want: want{schema + ".properties": `{"a":{"type":"object"},"b":{"type":"object"}}`}},
		{name: "strict on a model that knows it", request: functionTool(`"strict":true`), want: want{"toolConfig.tools.0.toolSpec.strict": "true"}},
		{name: "trap 20: strict on another", model: nova, request: functionTool(`"strict":true`), want: want{"toolConfig.tools.0.toolSpec.strict": ""}},
		{name: "a custom tool", request: `"tools":[{"type":"custom","custom":{"name":"sh","description":"d"}}]`,
			want: want{"toolConfig.tools.0.toolSpec": `{"name":"sh","description":"d","inputSchema":{"json":{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}}}`}},
		{name: "a custom tool with a grammar", request: `"tools":[{"type":"custom","custom":{"name":"sh","format":{"type":"grammar"}}}]`, refused: "tools[0].custom.format.type"},
		{name: "cache_control on a tool", request: `"tools":[{"type":"function","function":{"name":"f"},"cache_control":{"type":"ephemeral"}}]`, want: want{"toolConfig.tools.1": `{"cachePoint":{"type":"default"}}`, "toolConfig.tools.0.cachePoint": ""}},
		{name: "cache_control within the function", request: functionTool(`"cache_control":{"type":"ephemeral","ttl":"1h"}`), want: want{"toolConfig.tools.1": `{"cachePoint":{"type":"default","ttl":"1h"}}`}},
		{name: "trap 22: no cache points among Nova's tools", model: nova, request: functionTool(`"cache_control":{"type":"ephemeral"}`), want: want{"toolConfig.tools.1": ""}},
		{name: "a provider's own tool", request: `"tools":[{"type":"web_search_20250305","name":"w"}]`, refused: "tools[0].type"},
		{name: "tools on a model without", model: titan, request: functionTool(`"strict":false`), refused: "tools"},
		{name: "functions on a model without", model: titan, request: `"functions":[{"name":"f"}]`, refused: "functions"},
		{name: "trap 12, 13: calls in the history, no tools now", request: `"messages":` + gjson.Get("{"+callHistory("{}")+"}", "messages").Raw,
			want: want{"toolConfig": `{"tools":[{"toolSpec":{"name":"no_tool_available","description":"Do not call.","inputSchema":{"json":{"type":"object","properties":{}}}}}]}`}},
		{name: "calls in the history on a model without tools", model: titan, request: `"messages":` + gjson.Get("{"+callHistory("{}")+"}", "messages").Raw, refused: "messages"},
		{name: "functions are tools", request: `"functions":[{"name":"f","parameters":{}}]`, want: want{"toolConfig.tools.0.toolSpec.name": `"f"`}},
		{name: "trap 5: a name that is too long", request: `"tools":[{"type":"function","function":{"name":"` + long + `"}}],"tool_choice":{"type":"function","function":{"name":"` + long + `"}}`,
			want: want{"toolConfig.toolChoice.tool.name": `"` + aliasName(long) + `"`, "toolConfig.tools.0.toolSpec.name": `"` + aliasName(long) + `"`}},
	})
}

func TestToolChoice(t *testing.T) {
	two := `"tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}]`
	const choice = "toolConfig.toolChoice"
	runRequestRows(t, []requestRow{
		{name: "absent", request: two, want: want{choice: ""}},
		{name: "auto is left out", request: two + `,"tool_choice":"auto"`, want: want{choice: ""}},
		{name: "trap 15: none withholds the tools", request: two + `,"tool_choice":"none"`, want: want{"toolConfig": ""}},
		{name: "none with calls in the history", request: callHistory("{}") + `,"tool_choice":"none"`, want: want{"toolConfig.tools.#": "1", "toolConfig.tools.0.toolSpec.name": `"no_tool_available"`}},
		{name: "required", request: two + `,"tool_choice":"required"`, want: want{choice: `{"any":{}}`}},
		{name: "required on a model that cannot be forced", model: llama, request: two + `,"tool_choice":"required"`, dropped: "tool_choice", want: want{choice: "", "system.0.text": `"Answer by calling at least one of the tools, and in no other way."`}},
		{name: "a function", request: two + `,"tool_choice":{"type":"function","function":{"name":"g"}}`, want: want{choice: `{"tool":{"name":"g"}}`}},
		{name: "a function that is not there", request: two + `,"tool_choice":{"type":"function","function":{"name":"h"}}`, refused: "tool_choice"},
		{name: "a function on a model that only knows any", model: mistral, request: two + `,"tool_choice":{"type":"function","function":{"name":"g"}}`, want: want{choice: `{"any":{}}`, "toolConfig.tools.#.toolSpec.name": `["g"]`}},
		{name: "a custom tool", request: `"tools":[{"type":"custom","custom":{"name":"sh"}}],"tool_choice":{"type":"custom","custom":{"name":"sh"}}`, want: want{choice: `{"tool":{"name":"sh"}}`}},
		{name: "allowed_tools auto", request: two + `,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"g"}}]}}`, want: want{choice: "", "toolConfig.tools.#.toolSpec.name": `["g"]`}},
		{name: "allowed_tools required", request: two + `,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"g"}}]}}`, want: want{choice: `{"any":{}}`, "toolConfig.tools.#.toolSpec.name": `["g"]`}},
		{name: "allowed_tools with an unknown name", request: two + `,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"h"}}]}}`, refused: "tool_choice.allowed_tools.tools"},
		{name: "trap 14: auto without tools", request: `"tool_choice":"auto"`, want: want{"toolConfig": ""}},
		{name: "trap 14: none without tools", request: `"tool_choice":"none"`, want: want{"toolConfig": ""}},
		{name: "required without tools", request: `"tool_choice":"required"`, refused: "tool_choice"},
		{name: "a function without tools", request: `"tool_choice":{"type":"function","function":{"name":"f"}}`, refused: "tool_choice"},
		{name: "any other string", request: two + `,"tool_choice":"f"`, refused: "tool_choice"},
		{name: "a number", request: two + `,"tool_choice":1`, refused: "tool_choice"},
		{name: "an object without name", request: two + `,"tool_choice":{"type":"function"}`, refused: "tool_choice.function.name"},
		{name: "trap 16: forced choice and reasoning_effort", request: two + `,"tool_choice":"required","reasoning_effort":"high"`, want: want{choice: `{"any":{}}`, "additionalModelRequestFields": ""}, dropped: "reasoning_effort"},
		{name: "trap 16: forced choice and thinking", request: two + `,"tool_choice":"required","thinking":{"type":"enabled","budget_tokens":2000}`, refused: "thinking"},
		{name: "legacy function_call none", request: `"functions":[{"name":"f"}],"function_call":"none"`, want: want{"toolConfig": ""}},
		{name: "legacy function_call auto", request: `"functions":[{"name":"f"}],"function_call":"auto"`, want: want{choice: ""}},
		{name: "legacy function_call of a name", request: `"functions":[{"name":"f"}],"function_call":{"name":"f"}`, want: want{choice: `{"tool":{"name":"f"}}`}},
		{name: "legacy function_call of an unknown name", request: `"functions":[{"name":"f"}],"function_call":{"name":"g"}`, refused: "function_call"},
	})
}

// turns writes messages: "u:text", "a:text", "a!id" (a call), "t!id" (its result), "s:text".
func turns(spec ...string) string {
	var list []string
	for _, s := range spec {
		role, rest := s[:1], s[2:]
		quoted, _ := json.Marshal(rest)
		switch {
		case s[1] == '!' && role == "a":
			list = append(list, `{"role":"assistant","tool_calls":[{"id":`+string(quoted)+`,"type":"function","function":{"name":"f","arguments":"{}"}}]}`)
		case s[1] == '!':
			list = append(list, `{"role":"tool","tool_call_id":`+string(quoted)+`,"content":"r"}`)
		default:
			name := map[string]string{"u": "user", "a": "assistant", "s": "system"}[role]
			list = append(list, `{"role":"`+name+`","content":`+string(quoted)+`}`)
		}
	}
	return `"messages":[` + strings.Join(list, ",") + `],"tools":[{"type":"function","function":{"name":"f"}}]`
}

func TestNormalization(t *testing.T) {
	const useA = `{"toolUse":{"toolUseId":"A","name":"f","input":{}}}`
	const useB = `{"toolUse":{"toolUseId":"B","name":"f","input":{}}}`
	const resA = `{"toolResult":{"toolUseId":"A","content":[{"text":"r"}]}}`
	const resB = `{"toolResult":{"toolUseId":"B","content":[{"text":"r"}]}}`
	runRequestRows(t, []requestRow{
		{name: "neighbours of one role are joined block by block", request: turns("u:a", "u:b", "a:c", "a:d", "u:e"),
			want: want{"messages": `[{"role":"user","content":[{"text":"a"},{"text":"b"}]},{"role":"assistant","content":[{"text":"c"},{"text":"d"}]},{"role":"user","content":[{"text":"e"}]}]`}},
		{name: "trap 9: parallel results go into one turn", request: turns("u:a", "a!A", "a!B", "t!B", "t!A"), want: want{"messages.1.content": "[" + useA + "," + useB + "]", "messages.2.content": "[" + resB + "," + resA + "]"}},
		{name: "results and the next user message are one turn", request: turns("u:a", "a!A", "t!A", "u:b"), want: want{"messages.2.content": "[" + resA + `,{"text":"b"}]`}},
		{name: "a user message between call and result moves behind", request: turns("u:a", "a!A", "u:b", "t!A"), want: want{"messages.2.content": "[" + resA + `,{"text":"b"}]`}},
		{name: "results and other content apart, where they must be", model: mistral, request: turns("u:a", "a!A", "t!A", "u:b"),
			want: want{"messages.#.role": `["user","assistant","user","assistant","user"]`, "messages.2.content": "[" + resA + "]", "messages.4.content": `[{"text":"b"}]`}},
		{name: "trap 25: the assistant speaks first", request: turns("a:hello", "u:hi"), want: want{"messages.0": `{"role":"user","content":[{"text":"Continue."}]}`, "messages.#": "3"}},
		{name: "a start of the answer on a model that takes it", request: turns("u:a", "a:The answer is \n"), want: want{"messages.#": "2", "messages.1.content": `[{"text":"The answer is"}]`}},
		{name: "trap 26: a start of the answer on Claude 4.6", model: claude46, request: turns("u:a", "a:The answer is"), want: want{"messages.#": "3", "messages.2": `{"role":"user","content":[{"text":"Continue."}]}`}},
		{name: "a start of the answer with thinking", request: turns("u:a", "a:The answer is") + `,"reasoning_effort":"low"`, want: want{"messages.#": "3"}},
		{name: "a start of the answer with a schema", request: turns("u:a", "a:{") + `,"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}`, want: want{"messages.#": "3"}},
		{name: "a last user message that is blank", request: turns("u:a", "a:b", "u: "), refused: "messages[2].content"},
		{name: "a last user message that is blank after another", request: turns("u:a", "u:"), refused: "messages[1].content"},
		{name: "nothing but blank messages", request: turns("a:"), refused: "messages"},
		{name: "trap 11: a call without result", request: turns("u:a", "a!A", "u:b"), refused: "messages"},
		{name: "a call at the end", request: turns("u:a", "a!A"), refused: "messages"},
		{name: "a result without call", request: turns("u:a", "t!A"), refused: "messages"},
		{name: "a result of an earlier turn", request: turns("u:a", "a!A", "t!A", "a:b", "t!A"), refused: "messages"},
		{name: "trap 10: two results of one call", request: turns("u:a", "a!A", "t!A", "t!A"), refused: "messages"},
		{name: "two calls of one id", request: turns("u:a", "a!A", "a!A", "t!A"), refused: "messages[2].tool_calls[0].id"},
		{name: "an id that an earlier turn has used", request: turns("u:a", "a!A", "t!A", "a!A", "a!B", "t!B", "t!A", "a!A_2", "a!A", "t!A", "t!A_2", "u:b"),
			want: want{"messages.#.content.#.toolUse.toolUseId|@flatten": `["A","A_2","B","A_2_2","A_3"]`, "messages.#.content.#.toolResult.toolUseId|@flatten": `["A","B","A_2","A_3","A_2_2"]`}},
		{name: "trap 6: an id from elsewhere", request: turns("u:a", "a!call_x|fc_y", "t!call_x|fc_y"),
			want: want{"messages.1.content.0.toolUse.toolUseId": `"` + aliasID("call_x|fc_y") + `"`, "messages.2.content.0.toolResult.toolUseId": `"` + aliasID("call_x|fc_y") + `"`}},
		{name: "trap 7: an illegal name in the history", request: `"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"A","function":{"name":"mcp.x/y","arguments":""}}]},{"role":"tool","tool_call_id":"A","content":"r"}]`,
			want: want{"messages.1.content.0.toolUse.name": `"` + aliasName("mcp.x/y") + `"`}},
	})
}

// TestHostileSchemasStaySmall: references that double at each step, and many
// of them into a large schema.
func TestHostileSchemasStaySmall(t *testing.T) {
	var doubling strings.Builder
	doubling.WriteString(`"parameters":{"type":"object","properties":{"a":{"$ref":"#/$defs/d0"}},"$defs":{"d40":{}`)
	for i := range 40 {
		next := strconv.Itoa(i + 1)
		doubling.WriteString(`,"d` + strconv.Itoa(i) + `":{"anyOf":[{"$ref":"#/$defs/d` + next + `"},{"$ref":"#/$defs/d` + next + `"}]}`)
	}
	doubling.WriteString(`}}`)
	many := `"parameters":{"type":"object","anyOf":[` + strings.Repeat(`{"$ref":"#/x"},`, 100_000) + `{}],"required":[` + strings.Repeat(`"a",`, 100_000) + `"a"]}`
	again := `"parameters":{"type":"object","anyOf":[` + strings.Repeat(`{"$ref":"#/$defs/a"},`, 100_000) + `{}],"$defs":{"a":{"properties":{` + strings.Repeat(`"p":{},`, 100_000) + `"q":{}}}}}`
	for name, schema := range map[string]string{"doubling": doubling.String(), "many": many, "one again and again": again} {
		start := time.Now()
		q, err := toBedrock(t, requestRow{model: nova, request: functionTool(schema)})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); len(q.Body) > 2*maxInlined || took > 5*time.Second {
			t.Errorf("%s: %d bytes after %v", name, len(q.Body), took)
		}
	}
}

// A type is compared, never looked up: a look-up's path may tell the JSON
// library to rewrite what it finds, over and over, at twice the size each time.
func TestHostileTypesAreNotLookedUp(t *testing.T) {
	path := strings.Repeat("@tostr|", 16) + "@this"
	for param, request := range map[string]string{
		"tools[0].type": `"tools":[{"type":"` + path + `"}]`,
		"tool_choice.allowed_tools.tools[0].type": `"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"` + path + `"}]}}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := toBedrock(t, requestRow{request: request})
		runtime.ReadMemStats(&after)
		checkRefused(t, requestRow{refused: param}, err)
		if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
			t.Errorf("%s: %d bytes allocated for a request of %d", param, got, len(request))
		}
	}
}

func TestAliasesAreFitAndStable(t *testing.T) {
	for _, name := range []string{"", "a.b", "a/b", "é", strings.Repeat("y", 65), "call_1|fc_2", strings.Repeat("-.", 100)} {
		for kind, alias := range map[string]func(string) string{"name": aliasName, "id": aliasID} {
			got := alias(name)
			if !fitName(got) || got != alias(name) || alias(got) != got {
				t.Errorf("%s %q: got %q, want a fit and stable one", kind, name, got)
			}
		}
	}
	if aliasName("a.b") == aliasName("a/b") {
		t.Error("two names have one alias")
	}
}

func thought(message string, more ...string) string {
	return `"messages":[{"role":"user","content":"a"},` + message + `,` + strings.Join(append(more, `{"role":"user","content":"b"}`), ",") + `]`
}

func TestReasoningRoundTrip(t *testing.T) {
	const first = "messages.1.content.0"
	signed := `{"role":"assistant","content":"c","thinking_blocks":[{"type":"thinking","thinking":"th","signature":"sig"}]}`
	runRequestRows(t, []requestRow{
		{name: "signed thoughts go first", request: thought(signed), want: want{"messages.1.content": `[{"reasoningContent":{"reasoningText":{"text":"th","signature":"sig"}}},{"text":"c"}]`}},
		{name: "trap 46: a signature without text", request: thought(`{"role":"assistant","content":"c","thinking_blocks":[{"type":"thinking","thinking":"","signature":"sig"}]}`), want: want{first: `{"reasoningContent":{"reasoningText":{"text":"","signature":"sig"}}}`}},
		{name: "redacted thoughts", request: thought(`{"role":"assistant","content":"c","thinking_blocks":[{"type":"redacted_thinking","data":"AAEC"}]}`), want: want{first: `{"reasoningContent":{"redactedContent":"AAEC"}}`}},
		{name: "redacted thoughts that are not base64", request: thought(`{"role":"assistant","content":"c","thinking_blocks":[{"type":"redacted_thinking","data":"?"}]}`), refused: "messages[1].thinking_blocks[0].data"},
		{name: "thoughts as parts of the content", request: thought(`{"role":"assistant","content":[{"type":"text","text":"c"},{"type":"thinking","text":"th","signature":"sig"},{"type":"redacted_thinking","data":"AAEC"}]}`),
			want: want{"messages.1.content": `[{"reasoningContent":{"reasoningText":{"text":"th","signature":"sig"}}},{"reasoningContent":{"redactedContent":"AAEC"}},{"text":"c"}]`}},
		{name: "reasoning_content with reasoning_signature", request: thought(`{"role":"assistant","content":"c","reasoning_content":"th","reasoning_signature":"sig"}`), want: want{first: `{"reasoningContent":{"reasoningText":{"text":"th","signature":"sig"}}}`}},
		{name: "blocks win over reasoning_content", request: thought(`{"role":"assistant","content":"c","reasoning_content":"th","thinking_blocks":[{"type":"thinking","thinking":"th","signature":"sig"}]}`), want: want{"messages.1.content.#": "2"}},
		{name: "unsigned thoughts are left out", request: thought(`{"role":"assistant","content":"c","reasoning_content":"th"}`), want: want{"messages.1.content": `[{"text":"c"}]`}},
		{name: "trap 27: a turn of unsigned thoughts only goes too", request: thought(`{"role":"assistant","content":"","reasoning_content":"th"}`), want: want{"messages": `[{"role":"user","content":[{"text":"a"},{"text":"b"}]}]`}},
		{name: "unsigned thoughts elsewhere", model: r1, request: thought(`{"role":"assistant","content":"c","reasoning":"th"}`), want: want{"messages.1.content": `[{"text":"c"}]`}},
		{name: "redacted thoughts elsewhere", model: r1, request: thought(`{"role":"assistant","content":"c","thinking_blocks":[{"type":"redacted_thinking","data":"AAEC"}]}`), want: want{"messages.1.content": `[{"text":"c"}]`}},
		{name: "trap 49: GPT takes only redacted thoughts back", model: "openai.gpt-5.6", request: thought(`{"role":"assistant","content":"c","thinking_blocks":[{"type":"thinking","thinking":"th","signature":"sig"},{"type":"redacted_thinking","data":"AAEC"}]}`),
			want: want{"messages.1.content": `[{"reasoningContent":{"redactedContent":"AAEC"}},{"text":"c"}]`}},
		{name: "thoughts that Claude signed are left out elsewhere", model: nova2, request: thought(signed), want: want{"messages.1.content": `[{"text":"c"}]`}},
		{name: "but kept for a model that may be Claude", model: opaque, request: thought(signed), want: want{"messages.1.content.#": "2"}},
		{name: "a turn of signed thoughts only, cut short, goes", request: thought(`{"role":"assistant","content":"","thinking_blocks":[{"type":"thinking","thinking":"th","signature":"sig"},{"type":"redacted_thinking","data":"AAEC"}]}`),
			want: want{"messages": `[{"role":"user","content":[{"text":"a"},{"text":"b"}]}]`}},
		{name: "so do thoughts at the end of a turn", request: thought(signed, `{"role":"assistant","thinking_blocks":[{"type":"thinking","thinking":"more","signature":"sig2"}]}`, `{"role":"user","content":"b"}`),
			want: want{"messages.1.content": `[{"reasoningContent":{"reasoningText":{"text":"th","signature":"sig"}}},{"text":"c"}]`}},
		{name: "thoughts apart from what they led to stay", request: thought(`{"role":"assistant","thinking_blocks":[{"type":"thinking","thinking":"th","signature":"sig"}]}`, `{"role":"assistant","content":"c"}`, `{"role":"user","content":"b"}`),
			want: want{"messages.1.content": `[{"reasoningContent":{"reasoningText":{"text":"th","signature":"sig"}}},{"text":"c"}]`}},
		{name: "nothing but thoughts", request: `"messages":[{"role":"assistant","thinking_blocks":[{"type":"thinking","thinking":"th","signature":"sig"}]}]`, refused: "messages"},
		{name: "trap 39: a call that lost its thoughts ends thinking", request: turns("u:a", "a!A", "t!A") + `,"reasoning_effort":"high"`, want: want{"additionalModelRequestFields": ""}, dropped: "reasoning_effort"},
		{name: "a call that kept its thoughts does not", request: `"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"A","function":{"name":"f"}}],"thinking_blocks":[{"type":"thinking","thinking":"th","signature":"sig"}]},{"role":"tool","tool_call_id":"A","content":"r"}],"tools":[{"type":"function","function":{"name":"f"}}],"reasoning_effort":"low"`,
			want: want{"additionalModelRequestFields.thinking.type": `"enabled"`}},
	})
}

func cached(text, ttl string) string {
	mark := `{"type":"ephemeral"}`
	if ttl != "" {
		mark = `{"type":"ephemeral","ttl":"` + ttl + `"}`
	}
	return `{"type":"text","text":"` + text + `","cache_control":` + mark + `}`
}

func TestCachePoints(t *testing.T) {
	const point = `{"cachePoint":{"type":"default"}}`
	pdf := `{"type":"file","file":{"file_data":"` + base64.StdEncoding.EncodeToString([]byte(pdfRaw)) + `","filename":"a.pdf"},"cache_control":{"type":"ephemeral"}}`
	txt := `{"type":"file","file":{"file_data":"` + base64.StdEncoding.EncodeToString([]byte("aa")) + `","filename":"a.txt"},"cache_control":{"type":"ephemeral"}}`
	user := func(parts ...string) string {
		return `"messages":[{"role":"user","content":[` + strings.Join(parts, ",") + `]}]`
	}
	runRequestRows(t, []requestRow{
		{name: "after the part", request: user(cached("a", ""), `{"type":"text","text":"b"}`), want: want{"messages.0.content": `[{"text":"a"},` + point + `,{"text":"b"}]`}},
		{name: "on the message", request: `"messages":[{"role":"user","content":"a","cache_control":{"type":"ephemeral"}}]`, want: want{"messages.0.content": `[{"text":"a"},` + point + `]`}},
		{name: "in system text", request: `"messages":[{"role":"system","content":[` + cached("s", "") + `]},{"role":"user","content":"a"}]`, want: want{"system": `[{"text":"s"},` + point + `]`}},
		{name: "trap 21: beside a tool result, not within", request: toolResult(`[` + cached("r", "") + `]`), want: want{"messages.2.content": `[{"toolResult":{"toolUseId":"c1","content":[{"text":"r"}]}},` + point + `]`}},
		{name: "on a tool message", request: strings.Replace(toolResult(`"r"`), `"role":"tool",`, `"role":"tool","cache_control":{"type":"ephemeral"},`, 1), want: want{"messages.2.content.1": point}},
		{name: "beside a legacy result, not within", request: `"messages":[{"role":"user","content":"a"},{"role":"assistant","function_call":{"name":"f","arguments":""}},{"role":"function","name":"f","content":"r","cache_control":{"type":"ephemeral"}}],"functions":[{"name":"f"}]`,
			want: want{"messages.2.content": `[{"toolResult":{"toolUseId":"fc_1","content":[{"text":"r"}]}},` + point + `]`}},
		{name: "on a tool call", request: `"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"c1","cache_control":{"type":"ephemeral"},"function":{"name":"f"}}]},{"role":"tool","tool_call_id":"c1","content":"r"}],"tools":[{"type":"function","function":{"name":"f"}}]`,
			want: want{"messages.1.content.1": point}},
		{name: "not after a thought", request: `"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[` + cached("", "") + `],"tool_calls":[{"id":"c1","function":{"name":"f"}}],"thinking_blocks":[{"type":"thinking","thinking":"th","signature":"sig"}]},{"role":"tool","tool_call_id":"c1","content":"r"}],"tools":[{"type":"function","function":{"name":"f"}}]`,
			want: want{"messages.1.content.#": "2", "messages.1.content.1.toolUse.toolUseId": `"c1"`}},
		{name: "of the whole request: after its last block", request: `"cache_control":{"type":"ephemeral"},"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":[{"type":"text","text":"c"},{"type":"text","text":"d"}]}]`,
			want: want{"messages.0.content": `[{"text":"a"}]`, "messages.2.content": `[{"text":"c"},{"text":"d"},` + point + `]`}},
		{name: "of the whole request, for an hour", request: `"cache_control":{"type":"ephemeral","ttl":"1h"}`, want: want{"messages.0.content.1": `{"cachePoint":{"type":"default","ttl":"1h"}}`}},
		{name: "of the whole request, where the last block has its own", request: `"cache_control":{"type":"ephemeral"},` + user(cached("a", "1h")), want: want{"messages.0.content": `[{"text":"a"},{"cachePoint":{"type":"default","ttl":"1h"}}]`}},
		{name: "of the whole request, after a tool's result", request: `"cache_control":{"type":"ephemeral"},` + toolResult(`"r"`), want: want{"messages.2.content.1": point}},
		{name: "of the whole request, on a model without", model: llama, request: `"cache_control":{"type":"ephemeral"}`, want: want{"messages.0.content": `[{"text":"hi"}]`}},
		{name: "of the whole request, of unknown lifetime", request: `"cache_control":{"type":"ephemeral","ttl":"1y"}`, refused: "cache_control.ttl"},
		{name: "an hour", request: user(cached("a", "1h")), want: want{"messages.0.content.1.cachePoint.ttl": `"1h"`}},
		{name: "five minutes is the default", request: user(cached("a", "5m")), want: want{"messages.0.content.1": point}},
		{name: "an unknown lifetime", request: user(cached("a", "1y")), refused: "messages[0].content[0].cache_control.ttl"},
		{name: "at most four, the latest", request: user(cached("a", ""), cached("b", ""), cached("c", ""), cached("d", ""), cached("e", "")),
			want: want{"messages.0.content": `[{"text":"a"},{"text":"b"},` + point + `,{"text":"c"},` + point + `,{"text":"d"},` + point + `,{"text":"e"},` + point + `]`}},
		{name: "none lives longer than one before it", request: user(cached("a", ""), cached("b", "1h")), want: want{"messages.0.content.3": point}},
		{name: "an hour on a model without", model: claude37, request: user(cached("a", "1h")), want: want{"messages.0.content.1": point}},
		{name: "none on a model without", model: llama, request: user(cached("a", "")), want: want{"messages.0.content": `[{"text":"a"}]`}},
		{name: "after text only on Nova", model: nova, request: user(cached("a", ""), pdf), want: want{"messages.0.content.1": point, "messages.0.content.3": ""}},
		{name: "after a PDF", request: user(`{"type":"text","text":"a"}`, pdf), want: want{"messages.0.content.2": point}},
		{name: "trap 32: not right after another document", request: user(txt, `{"type":"text","text":"a"}`), want: want{"messages.0.content.1.text": `"a"`, "messages.0.content.2": point}},
	})
}

func TestReasoningControls(t *testing.T) {
	const fields = "additionalModelRequestFields"
	runRequestRows(t, []requestRow{
		{name: "budget: none is left out", request: `"reasoning_effort":"none"`, want: want{fields: ""}},
		{name: "budget: minimal", request: `"reasoning_effort":"minimal"`, want: want{fields: `{"thinking":{"type":"enabled","budget_tokens":1024}}`, "inferenceConfig.maxTokens": "5120"}},
		{name: "budget: low", request: `"reasoning_effort":"low"`, want: want{fields + ".thinking.budget_tokens": "1024"}},
		{name: "budget: medium", request: `"reasoning_effort":"medium"`, want: want{fields + ".thinking.budget_tokens": "2048"}},
		{name: "budget: high", request: `"reasoning_effort":"high"`, want: want{fields + ".thinking.budget_tokens": "4096"}},
		{name: "budget: xhigh", request: `"reasoning_effort":"xhigh"`, want: want{fields + ".thinking.budget_tokens": "8192"}},
		{name: "budget: max", request: `"reasoning_effort":"max"`, want: want{fields + ".thinking.budget_tokens": "16384", "inferenceConfig.maxTokens": "20480"}},
		{name: "trap 38: the budget stays under the limit", request: `"reasoning_effort":"high","max_tokens":2000`, want: want{fields + ".thinking.budget_tokens": "1999", "inferenceConfig.maxTokens": "2000"}},
		{name: "no room for thinking", request: `"reasoning_effort":"high","max_tokens":1024`, want: want{fields: ""}, dropped: "reasoning_effort"},
		{name: "thinking rules out sampling", request: `"reasoning_effort":"low","temperature":0.2,"top_p":0.5,"top_k":3`, want: want{"inferenceConfig.temperature": "", "inferenceConfig.topP": "", fields + ".top_k": ""}, dropped: "temperature,top_p,top_k"},
		{name: "an explicit thinking object", request: `"thinking":{"type":"enabled","budget_tokens":3000}`, want: want{fields + ".thinking": `{"type":"enabled","budget_tokens":3000}`, "inferenceConfig.maxTokens": "7096"}},
		{name: "an explicit budget under the least", request: `"thinking":{"type":"enabled","budget_tokens":5}`, want: want{fields + ".thinking.budget_tokens": "1024"}},
		{name: "an explicit budget over the limit", request: `"thinking":{"type":"enabled","budget_tokens":9000},"max_tokens":4000`, want: want{fields + ".thinking.budget_tokens": "3999"}},
		{name: "thinking disabled", request: `"thinking":{"type":"disabled"}`, want: want{fields: ""}},
		{name: "thinking of unknown kind", request: `"thinking":{"type":"deep"}`, refused: "thinking.type"},
		{name: "adaptive: high", model: claude46, request: `"reasoning_effort":"high"`, want: want{fields: `{"thinking":{"type":"adaptive"}}`, "outputConfig": `{"effort":"high"}`, "inferenceConfig": ""}},
		{name: "adaptive: minimal is low", model: claude48, request: `"reasoning_effort":"minimal"`, want: want{"outputConfig.effort": `"low"`}},
		{name: "adaptive: max, clamped to the platform's greatest", model: claude48, request: `"reasoning_effort":"max"`, want: want{"outputConfig.effort": `"xhigh"`}},
		{name: "adaptive: none", model: claude48, request: `"reasoning_effort":"none"`, want: want{fields: "", "outputConfig": `{"effort":"low"}`}},
		{name: "adaptive: an explicit budget becomes adaptive", model: claude48, request: `"thinking":{"type":"enabled","budget_tokens":3000}`, want: want{fields: `{"thinking":{"type":"adaptive"}}`}},
		{name: "adaptive: display", model: claude48, request: `"thinking":{"type":"adaptive","display":"summarized"}`, want: want{fields: `{"thinking":{"type":"adaptive","display":"summarized"}}`}},
		{name: "adaptive: disabled caps the effort", model: claude48, request: `"thinking":{"type":"disabled"},"reasoning_effort":"max"`, want: want{fields: "", "outputConfig.effort": `"high"`}},
		{name: "Nova 2: medium", model: nova2, request: `"reasoning_effort":"medium","max_tokens":50`, want: want{fields: `{"reasoningConfig":{"type":"enabled","maxReasoningEffort":"medium"}}`, "inferenceConfig.maxTokens": "50"}},
		{name: "Nova 2: none", model: nova2, request: `"reasoning_effort":"none"`, want: want{fields: `{"reasoningConfig":{"type":"disabled"}}`}},
		{name: "Nova 2: minimal is low", model: nova2, request: `"reasoning_effort":"minimal"`, want: want{fields + ".reasoningConfig.maxReasoningEffort": `"low"`}},
		{name: "trap 40: Nova 2 at high effort takes no limit and no sampling", model: nova2, request: `"reasoning_effort":"xhigh","max_tokens":50,"temperature":0.5,"top_k":5`, want: want{fields: `{"reasoningConfig":{"type":"enabled","maxReasoningEffort":"high"}}`, "inferenceConfig": ""}, dropped: "max_tokens,temperature,top_k"},
		{name: "gpt-oss: high", model: gptOSS, request: `"reasoning_effort":"xhigh"`, want: want{fields: `{"reasoning_effort":"high"}`}},
		{name: "gpt-oss: none is low", model: gptOSS, request: `"reasoning_effort":"none"`, want: want{fields: `{"reasoning_effort":"low"}`}},
		{name: "DeepSeek V3: medium", model: "deepseek.v3-v1:0", request: `"reasoning_effort":"medium"`, want: want{fields: `{"reasoning_effort":"medium"}`}},
		{name: "an opaque model that the operator knows: adaptive", model: opaque, says: CapabilityOverrides{Reasoning: "adaptive", Sampling: "none"}, request: `"reasoning_effort":"high","temperature":0.5`,
			want: want{fields: `{"thinking":{"type":"adaptive"}}`, "outputConfig": `{"effort":"high"}`, "inferenceConfig": ""}, dropped: "temperature"},
		{name: "an opaque model that the operator knows: none", model: opaque, says: CapabilityOverrides{Reasoning: "adaptive"}, request: `"reasoning_effort":"none"`, want: want{fields: "", "outputConfig": `{"effort":"low"}`}},
		{name: "an opaque model that the operator knows: budget", model: opaque, says: CapabilityOverrides{Reasoning: "budget"}, request: `"reasoning_effort":"low","temperature":0.5`,
			want: want{fields: `{"thinking":{"type":"enabled","budget_tokens":1024}}`, "outputConfig": "", "inferenceConfig": `{"maxTokens":5120}`}, dropped: "temperature"},
		{name: "a Claude that the operator says knows effort", says: CapabilityOverrides{Reasoning: "effort"}, request: `"reasoning_effort":"medium"`, want: want{fields: "", "outputConfig": `{"effort":"medium"}`}},
		{name: "others: ignored", model: llama, request: `"reasoning_effort":"high"`, want: want{fields: ""}},
		{name: "others: an explicit thinking object is named", model: llama, request: `"thinking":{"type":"enabled","budget_tokens":3000}`, want: want{fields: ""}, dropped: "thinking"},
		{name: "trap 33: garbage", request: `"reasoning_effort":"turbo"`, refused: "reasoning_effort"},
	})
}

func TestStructuredOutput(t *testing.T) {
	format := `"response_format":{"type":"json_schema","json_schema":{"name":"n","description":"d","strict":true,"schema":{"$schema":"s","type":"object","properties":{"a":{"type":"object","properties":{"b":{"type":"integer","maximum":9007199254740993}}},"l":{"type":"array","items":{"type":"object","properties":{}}}},"$defs":{"D":{"type":"object","properties":{}}},"required":["a"]}}}`
	const closed = `{"type":"object","properties":{"a":{"type":"object","properties":{"b":{"type":"integer","description":"{maximum: 9007199254740993}"}},"additionalProperties":false},"l":{"type":"array","items":{"type":"object","properties":{},"additionalProperties":false}}},"$defs":{"D":{"type":"object","properties":{},"additionalProperties":false}},"required":["a"],"additionalProperties":false}`
	quoted, _ := json.Marshal(closed)
	tools := `,"tools":[{"type":"function","function":{"name":"f"}}]`
	runRequestRows(t, []requestRow{
		{name: "text", request: `"response_format":{"type":"text"}`, want: want{"outputConfig": "", "system": ""}},
		{name: "native: the schema as text, closed", request: format, want: want{"outputConfig.textFormat": `{"type":"json_schema","structure":{"jsonSchema":{"schema":` + string(quoted) + `,"name":"n","description":"d"}}}`}},
		{name: "native beside tools and thinking", request: format + tools + `,"reasoning_effort":"low"`, want: want{"outputConfig.textFormat.type": `"json_schema"`, "toolConfig.toolChoice": "", "additionalModelRequestFields.thinking.type": `"enabled"`}},
		{name: "native beside effort", model: claude48, request: format + `,"reasoning_effort":"low"`, want: want{"outputConfig.textFormat.type": `"json_schema"`, "outputConfig.effort": `"low"`}},
		{name: "by a tool of our own", model: claude37, request: format, want: want{"toolConfig.tools.#.toolSpec.name": `["json_tool_call"]`, "toolConfig.toolChoice": `{"tool":{"name":"json_tool_call"}}`, "outputConfig": ""}},
		{name: "trap 50: by a tool beside the client's", model: claude37, request: format + tools, want: want{"toolConfig.tools.#.toolSpec.name": `["f","json_tool_call"]`, "toolConfig.toolChoice": `{"any":{}}`}},
		{name: "by a tool when a call is forced: the call is the answer", model: claude37, request: format + tools + `,"tool_choice":"required"`, want: want{"toolConfig.tools.#.toolSpec.name": `["f"]`}},
		{name: "by a tool ends thinking", model: claude37, request: format + `,"reasoning_effort":"low"`, want: want{"additionalModelRequestFields": ""}, dropped: "reasoning_effort"},
		{name: "neither", model: "deepseek.r1-v1:0", request: format, refused: "response_format"},
		{name: "neither, dropped: the model is told", model: "deepseek.r1-v1:0", request: format, options: Options{Unsupported: "drop"}, want: want{"system.#": "1"}, dropped: "response_format"},
		{name: "json_object: the model is told", request: `"response_format":{"type":"json_object"},"messages":[{"role":"system","content":"S"},{"role":"user","content":"hi"}]`,
			want: want{"outputConfig": "", "toolConfig": "", "system": `[{"text":"S"},{"text":"Answer with a single JSON object and nothing else."}]`}},
		{name: "json_object without a place for system text", model: titan, request: `"response_format":{"type":"json_object"}`, want: want{"system": "", "messages.0.content.#": "2"}},
		{name: "no schema", request: `"response_format":{"type":"json_schema","json_schema":{"name":"n"}}`, refused: "response_format.json_schema.schema"},
		{name: "unknown", request: `"response_format":{"type":"xml"}`, refused: "response_format.type"},
	})
}

func TestOperatorsGuardrailAndMetadata(t *testing.T) {
	body := `{"messages":[{"role":"user","content":"hi"}],"stream":true,"user":"ann","metadata":{"team\u0000":"a|b","":"x"},"guardrailConfig":{"guardrailIdentifier":"client","guardrailVersion":"1"}}`
	q, err := ToBedrock(&Request{Body: []byte(body), Stream: true}, BedrockOptions{
		Capabilities: LookupCapabilities("bedrock", claude45), SendMetadata: true,
		Guardrail: Guardrail{ID: "ours", Version: "3", Async: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	expected := want{
		"guardrailConfig": `{"guardrailIdentifier":"ours","guardrailVersion":"3","streamProcessingMode":"async"}`,
		"requestMetadata": `{"team_":"a_b","user":"ann"}`,
	}
	for path, value := range expected {
		if got := gjson.GetBytes(q.Body, path).Raw; !sameJSON(got, value) {
			t.Errorf("%s: got %s, want %s", path, got, value)
		}
	}
}

func TestCapabilitiesAreFoundUnderEveryName(t *testing.T) {
	for _, row := range []struct{ provider, model, family, sampling, reasoning, output string }{
		{"bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0", "claude", "either", "budget", "native"},
		{"bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude", "either", "budget", "native"},
		{"bedrock", "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude", "either", "budget", "native"},
		{"bedrock", "arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/anthropic.claude-3-7-sonnet-20250219-v1:0", "claude", "both", "budget", "tool"},
		{"anthropic", "claude-sonnet-4-5-20250929", "claude", "either", "budget", "native"},
		{"anthropic", "claude-opus-4-20250514", "claude", "both", "budget", "tool"},
		{"bedrock", "us.anthropic.claude-opus-4-1-20250805-v1:0", "claude", "either", "budget", "tool"},
		{"bedrock", "us.anthropic.claude-opus-4-6-v1", "claude", "either", "adaptive", "native"},
		{"bedrock", "us.anthropic.claude-opus-4-7", "claude", "none", "adaptive", "tool"},
		{"anthropic", "claude-fable-5", "claude", "none", "adaptive", "native"},
		{"bedrock", "anthropic.claude-3-haiku-20240307-v1:0", "claude", "both", "none", "tool"},
		{"bedrock", "us.amazon.nova-2-lite-v1:0", "nova", "both", "effort", "tool"},
		{"bedrock", "meta.llama3-1-8b-instruct-v1:0", "llama", "both", "none", "tool"},
		{"bedrock", "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", "", "both", "none", "tool"},
		{"bedrock", "arn:aws:bedrock:us-east-1:123456789012:imported-model/my-claude", "", "both", "none", "tool"},
	} {
		got := LookupCapabilities(row.provider, row.model)
		if got.Family != row.family || got.Sampling != row.sampling || got.Reasoning != row.reasoning || got.StructuredOutput != row.output {
			t.Errorf("%s %s: got %s, %s, %s, %s, want %s, %s, %s, %s", row.provider, row.model,
				got.Family, got.Sampling, got.Reasoning, got.StructuredOutput, row.family, row.sampling, row.reasoning, row.output)
		}
	}
}

func TestEveryLineOfTheCapabilityTableIsReachedAndValid(t *testing.T) {
	for i, e := range capabilityTable {
		if reached, _ := lookUpEntry("bedrock", e.Match); reached != &capabilityTable[i] {
			t.Errorf("%q is hidden by %q", e.Match, reached.Match)
		}
		if e.Source == "" {
			t.Errorf("%q has no source", e.Match)
		}
		err := CapabilityOverrides{Sampling: e.caps.Sampling, Reasoning: e.caps.Reasoning, StructuredOutput: e.caps.StructuredOutput}.Validate()
		if err != nil {
			t.Errorf("%q: %v", e.Match, err)
		}
	}
}

func TestOverridesReplaceOnlyWhatTheySay(t *testing.T) {
	no := false
	base := LookupCapabilities("bedrock", claude45)
	got := CapabilityOverrides{Sampling: "none", Images: &no, MaxOutput: 100}.Apply("bedrock", base)
	expected := base
	expected.Sampling, expected.Images, expected.MaxOutput = "none", false, 100
	if got != expected {
		t.Errorf("got %+v, want %+v", got, expected)
	}
	for _, bad := range []CapabilityOverrides{{Sampling: "x"}, {Reasoning: "x"}, {StructuredOutput: "x"}, {Context: -1}, {MaxOutput: -1}} {
		if bad.Validate() == nil {
			t.Errorf("%+v passes as valid", bad)
		}
	}
}
