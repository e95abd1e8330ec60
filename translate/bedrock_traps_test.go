package translate

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// goldenChunks is what a client gets of a recorded stream: its chunks, joined in
// one JSON array.
func goldenChunks(t *testing.T, name string) gjson.Result {
	t.Helper()
	data, err := os.ReadFile("testdata/bedrock/" + name + ".sse")
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.ReplaceAll(bytes.TrimSpace(data), []byte("\n\n"), []byte(","))
	return gjson.Parse("[" + string(bytes.ReplaceAll(data, []byte("data: "), nil)) + "]")
}

// TestTrapsOfStreams looks for each trap that others have fallen into in the
// recorded streams. Paths are into the array of chunks; rows with the want ""
// want nothing there.
func TestTrapsOfStreams(t *testing.T) {
	const calls = "#.choices.0.delta.tool_calls"
	for _, row := range []struct{ name, stream, path, want string }{
		{"trap 1: calls are numbered densely, whatever the blocks' indices", "index_gap_before_the_call", calls + ".#.index|@flatten|@flatten", `[0,0,1,1]`},
		{"trap 2: there is one choice, 0", "appendix_a_calls_after_text", "#.choices.#.index|@flatten", `[0,0,0,0,0,0,0,0]`},
		{"trap 3: arguments come as they come", "appendix_a_calls_after_text", "3.choices.0.delta.tool_calls.0", `{"index":0,"function":{"arguments":"{\"city\":"}}`},
		{"trap 4: a call without arguments gets an object", "appendix_a_calls_after_text", "6.choices.0.delta.tool_calls.0.function.arguments", `"{}"`},
		{"trap 5: an aliased name comes back", "aliased_tool_name_comes_back", "1.choices.0.delta.tool_calls.0.function.name", `"mcp.server/` + strings.Repeat("x", 60) + `"`},
		{"trap 13: the placeholder's call is dropped", "placeholder_call_is_dropped", calls, `[]`},
		{"trap 17: tool_use without a call is stop", "tool_use_without_a_call_is_stop", "#(choices.0.finish_reason!=null).choices.0.finish_reason", `"stop"`},
		{"trap 45: the signature is kept", "reasoning_signed", "#.choices.0.delta.thinking_blocks|@flatten", `[{"type":"thinking","thinking":"Let me think.","signature":"c2ln"}]`},
		{"trap 46: a signature alone is kept", "reasoning_signature_only", "#.choices.0.delta.thinking_blocks|@flatten", `[{"type":"thinking","thinking":"","signature":"c2ln"}]`},
		{"trap 47: there is no empty reasoning_content", "reasoning_signature_only", "#.choices.0.delta.reasoning_content", `[]`},
		{"trap 48: thoughts are not content", "reasoning_unsigned", "#.choices.0.delta.content", `["","Done."]`},
		{"trap 50: our JSON tool is content", "json_tool_becomes_the_text", calls, `[]`},
		{"trap 51: and streams as it comes", "json_tool_becomes_the_text", "#.choices.0.delta.content", `["","{\"a\"",":1}"]`},
		{"our JSON tool without input is an empty object", "json_tool_with_empty_input", "#.choices.0.delta.content", `["","{}"]`},
		{"and counts once", "json_tool_called_twice", "#.choices.0.delta.content", `["","{\"a\":1}"]`},
		{"trap 53: a guardrail's word is content_filter", "guardrail_is_content_filter", "#.choices.0.finish_reason", `[null,null,"content_filter"]`},
		{"trap 55: cached tokens count into the prompt", "cached_tokens_are_part_of_the_prompt", "#.usage.prompt_tokens", `[2403]`},
		{"trap 56: cache writes are details of the prompt", "cached_tokens_are_part_of_the_prompt", "3.usage.prompt_tokens_details", `{"cached_tokens":100,"cache_write_tokens":2296}`},
		{"trap 57: usage comes from the metadata", "plain_text", "4.usage.total_tokens", `120`},
		{"trap 58: no usage where none was asked for", "usage_not_asked_for", "#.usage", `[]`},
		{"trap 60: the finish comes also without usage", "usage_not_asked_for", "2.choices.0.finish_reason", `"stop"`},
		{"trap 61: usage comes after the finish", "plain_text", "4.choices", `[]`},
		{"trap 62: the finish comes when the usage is lost", "no_metadata", "#.choices.0.finish_reason", `[null,null,"stop"]`},
		{"trap 85: an unknown block says nothing", "unknown_events_and_blocks_are_skipped", "#.choices.0.delta.content", `["","a"]`},
		{"trap 88: no chunk has an error member", "plain_text", "#.error", `[]`},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := goldenChunks(t, row.stream).Get(row.path).Raw; got != row.want {
				t.Errorf("%s of %s: got %s, want %s", row.path, row.stream, got, row.want)
			}
		})
	}
}

// TestTrapsOfWholeAnswers does the same for whole ones.
func TestTrapsOfWholeAnswers(t *testing.T) {
	for _, row := range []struct{ name, answer, path, want string }{
		{"trap 2: there is one choice, 0", "appendix_a_calls_after_text", "choices.#.index", `[0]`},
		{"trap 4: a call without input gets an object", "appendix_a_calls_after_text", "choices.0.message.tool_calls.1.function.arguments", `"{}"`},
		{"text of several blocks is joined without anything between", "several_text_blocks_are_one_text", "choices.0.message.content", `"OneTwo"`},
		{"content is null beside calls only", "index_gap_before_the_call", "choices.0.message.content", `null`},
		{"content is empty where nothing was said", "the_model_says_nothing", "choices.0.message.content", `""`},
		{"there is no empty list of calls", "plain_text", "choices.0.message.tool_calls", ``},
		{"there is no empty function_call", "plain_text", "choices.0.message.function_call", ``},
		{"logprobs is null, not missing", "plain_text", "choices.0.logprobs", `null`},
		{"refusal is null, not missing", "plain_text", "choices.0.message.refusal", `null`},
		{"there is no system_fingerprint", "plain_text", "system_fingerprint", ``},
		{"there is no service_tier unless Bedrock says so", "plain_text", "service_tier", ``},
		{"the reserved tier is OpenAI's scale", "service_tier", "service_tier", `"scale"`},
		{"trap 45: the signature is kept", "reasoning_signed", "choices.0.message.thinking_blocks.0.signature", `"c2ln"`},
		{"trap 47: there is no empty reasoning_content", "reasoning_signature_only", "choices.0.message.reasoning_content", ``},
		{"trap 85: an unknown block says nothing, and not its neighbour's words", "unknown_events_and_blocks_are_skipped", "choices.0.message.content", `"a"`},
		{"usage is left out when it makes no sense", "absurd_usage_is_none", "usage", ``},
		{"usage of zero is zero", "usage_of_zero_is_zero", "usage", `{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}`},
		{"reasoning tokens are not made up", "reasoning_signed", "usage.completion_tokens_details", ``},
		{"an unknown stop reason does not leak", "unknown_stop_reason_is_stop", "choices.0.finish_reason", `"stop"`},
		{"a call with end_turn is tool_calls", "end_turn_with_a_call_is_tool_calls", "choices.0.finish_reason", `"tool_calls"`},
		{"citations' text is content", "citations_text", "choices.0.message.content", `"As said there."`},
	} {
		t.Run(row.name, func(t *testing.T) {
			data, err := os.ReadFile("testdata/bedrock/" + row.answer + ".json")
			if err != nil {
				t.Fatal(err)
			}
			if got := gjson.GetBytes(data, row.path).Raw; got != row.want {
				t.Errorf("%s of %s: got %s, want %s", row.path, row.answer, got, row.want)
			}
		})
	}
}

func TestTrap84NumbersOfArgumentsSurvive(t *testing.T) {
	c := bedrockCase{request: `{"messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":{"name":"f"}}]}`}
	const input = `{"n":9007199254740993,"x":1.0,"y":1e-7,"z":{"b":1,"a":[1E400]}}`
	got, err := FromBedrock(c.ask(t), []byte(`{"output":{"message":{"content":[{"toolUse":{"toolUseId":"t","name":"f","input":`+input+`}}]}},"stopReason":"tool_use"}`), testHead)
	if err != nil {
		t.Fatal(err)
	}
	if a := gjson.GetBytes(got.Data, "choices.0.message.tool_calls.0.function.arguments").Str; a != input {
		t.Errorf("got %s, want %s", a, input)
	}
}

// Strict readers refuse a whole request for half a surrogate pair, which JSON
// from a client, and arguments that a model once wrote, may hold.
func TestHalfSurrogatePairsAreNotSent(t *testing.T) {
	const object, whole = `{"a":["\ud83d","\uD83D\uD83D\uDE00","\\ud83d\n"]}`, `{"a":["\ufffd","\ufffd\uD83D\uDE00","\\ud83d\n"]}`
	schema := func(s string) string { return `{"type":"object","properties":` + s + `}` }
	history := strings.Replace(callHistory(object), `"name":"f"}`, `"name":"f","parameters":`+schema(object)+`}`, 1)
	q, err := toBedrock(t, requestRow{request: history + `,"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":` + schema(object) + `}}`})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"messages.1.content.0.toolUse.input":                  whole,
		"toolConfig.tools.0.toolSpec.inputSchema.json":        schema(whole),
		"outputConfig.textFormat.structure.jsonSchema.schema": `{"type":"object","properties":` + whole + `,"additionalProperties":false}`,
	} {
		got := gjson.GetBytes(q.Body, path)
		if got.Type == gjson.String && got.Str != want || got.Type != gjson.String && got.Raw != want {
			t.Errorf("%s: got %s, want %s", path, got.Raw, want)
		}
	}
}
