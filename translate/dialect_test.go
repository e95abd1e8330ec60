package translate

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

var testSeal, _ = NewSeal([]byte("a key of sixteen bytes or more"))

// chatEvents are the chunks of a chat answer with thoughts, text and two calls.
func chatEvents() []string {
	return []string{
		`{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`,
		`{"id":"c","choices":[{"index":0,"delta":{"reasoning_content":"hm"},"finish_reason":null}]}`,
		`{"id":"c","choices":[{"index":0,"delta":{"thinking_blocks":[{"type":"thinking","thinking":"hm","signature":"c2ln"}]},"finish_reason":null}]}`,
		`{"id":"c","choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}`,
		`{"id":"c","choices":[{"index":0,"delta":{"content":"lo \u00e9\n"},"finish_reason":null}]}`,
		`{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]},"finish_reason":null}]}`,
		`{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":"}}]},"finish_reason":null}]}`,
		`{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"p","arguments":"{\"input\":"}}]},"finish_reason":null}]}`,
		`{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]},"finish_reason":null}]}`,
		`{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"\"*** patch\"}"}}]},"finish_reason":null}]}`,
		`{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`,
		usage, "[DONE]",
	}
}

const (
	messagesBody  = `{"model":"m","max_tokens":100,"stream":true,"messages":[{"role":"user","content":"hi"}]}`
	responsesBody = `{"model":"m","stream":true,"input":"hi","include":["reasoning.encrypted_content"],"tools":[{"type":"function","name":"f","parameters":{"type":"object"}},{"type":"custom","name":"p","format":{"type":"grammar","syntax":"lark","definition":"start: x"}}]}`
)

// dialectAnswer translates a chat answer to the dialect.
func dialectAnswer(t *testing.T, d Dialect, body string, events ...string) ([]Chunk, error) {
	t.Helper()
	r, err := Parse(d, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	o := ChatOptions{Extended: true, Family: "claude", Seal: testSeal}
	chat, err := r.InChat(o)
	if err != nil {
		t.Fatal(err)
	}
	answer := FromOpenAI(sse(events...), OpenAIOptions{HideUsage: true})
	if !r.Stream {
		answer = func(yield func(Chunk, error) bool) { yield(WholeOpenAI([]byte(events[0]))) }
	}
	var chunks []Chunk
	for c, err := range InDialect(answer, r, chat, AnswerHead{ID: "resp_1", Model: "m", Created: 7}, o) {
		if err != nil {
			return chunks, err
		}
		if len(c.Data) > 0 && !json.Valid(c.Data) {
			t.Fatalf("not JSON: %s", c.Data)
		}
		c.Data = []byte(strings.Clone(string(c.Data)))
		chunks = append(chunks, c)
	}
	return chunks, nil
}

func TestMessagesStreamIsOneBlockAfterTheOther(t *testing.T) {
	chunks, err := dialectAnswer(t, DialectMessages, messagesBody, chatEvents()...)
	if err != nil {
		t.Fatal(err)
	}
	open, next := int64(-1), int64(0)
	text, input := "", map[int64]string{}
	for _, c := range chunks {
		if len(c.Data) == 0 {
			continue
		}
		e := gjson.ParseBytes(c.Data)
		if e.Get("type").Str != c.Event {
			t.Errorf("event %s is of type %s", c.Event, e.Get("type").Str)
		}
		switch c.Event {
		case "content_block_start":
			if open >= 0 || e.Get("index").Int() != next {
				t.Fatalf("%s while %d is open and %d is next", c.Data, open, next)
			}
			open, next = next, next+1
		case "content_block_delta":
			if e.Get("index").Int() != open {
				t.Fatalf("%s while %d is open", c.Data, open)
			}
			text += e.Get("delta.text").Str
			input[open] += e.Get("delta.partial_json").Str
		case "content_block_stop":
			open = -1
		}
	}
	if text != "Hello é\n" || input[2] != `{"x":1}` || input[3] != `{"input":"*** patch"}` {
		t.Errorf("text %q, inputs %v", text, input)
	}
	last := chunks[len(chunks)-1]
	if !last.Done || last.Event != "message_stop" {
		t.Errorf("last is %+v", last)
	}
	delta := gjson.ParseBytes(chunks[len(chunks)-2].Data)
	if delta.Get("delta.stop_reason").Str != "tool_use" || delta.Get("usage.input_tokens").Int() != 6 || delta.Get("usage.cache_read_input_tokens").Int() != 3 {
		t.Errorf("message_delta is %s", delta.Raw)
	}
}

func TestResponsesStreamKeepsItsOrder(t *testing.T) {
	chunks, err := dialectAnswer(t, DialectResponses, responsesBody, chatEvents()...)
	if err != nil {
		t.Fatal(err)
	}
	sequence := int64(0)
	items := map[int64]string{}
	done := map[int64]string{}
	text := ""
	for _, c := range chunks {
		if len(c.Data) == 0 {
			continue
		}
		e := gjson.ParseBytes(c.Data)
		if n := e.Get("sequence_number").Int(); n != sequence || c.Sequence != n || e.Get("type").Str != c.Event {
			t.Fatalf("number %d in %s: want %d", c.Sequence, c.Data, sequence)
		}
		sequence++
		index := e.Get("output_index").Int()
		switch c.Event {
		case "response.output_item.added":
			items[index] = e.Get("item.id").Str
		case "response.output_item.done":
			if items[index] != e.Get("item.id").Str || done[index] != "" {
				t.Errorf("done: %s", c.Data)
			}
			done[index] = e.Get("item").Raw
		case "response.output_text.delta":
			text += e.Get("delta").Str
			fallthrough
		default:
			if id := e.Get("item_id"); id.Exists() && items[index] != id.Str {
				t.Errorf("not announced: %s", c.Data)
			}
		}
	}
	last := chunks[len(chunks)-1]
	response := gjson.GetBytes(last.Data, "response")
	if !last.Done || last.Event != "response.completed" || len(items) != 4 || len(done) != 4 || text != "Hello é\n" {
		t.Fatalf("%d items, %d done, text %q, last %s", len(items), len(done), text, last.Data)
	}
	for i, item := range response.Get("output").Array() {
		if done[int64(i)] != item.Raw {
			t.Errorf("item %d differs:\n%s\n%s", i, done[int64(i)], item.Raw)
		}
	}
	if item := response.Get("output.3"); item.Get("type").Str != "custom_tool_call" || item.Get("input").Str != "*** patch" {
		t.Errorf("the custom call is %s", item.Raw)
	}
	if response.Get("usage.total_tokens").Int() != 13 {
		t.Errorf("usage is %s", response.Get("usage").Raw)
	}

	// Given back as input, nothing of it is lost.
	input := `{"model":"m","input":[{"role":"user","content":"hi"},` + strings.Trim(response.Get("output").Raw, "[]") + `,
		{"type":"function_call_output","call_id":"a","output":"1"},{"type":"custom_tool_call_output","call_id":"b","output":"ok"}]}`
	r, err := Parse(DialectResponses, []byte(input))
	if err != nil {
		t.Fatal(err)
	}
	for family, thoughts := range map[string]int{"claude": 1, "other": 0} {
		chat, err := r.InChat(ChatOptions{Extended: true, Family: family, Seal: testSeal})
		if err != nil {
			t.Fatal(err)
		}
		turn := gjson.GetBytes(chat.Body, "messages.1")
		if turn.Get("content").Str != text || len(turn.Get("tool_calls").Array()) != 2 || len(turn.Get("thinking_blocks").Array()) != thoughts ||
			turn.Get("tool_calls.0.function.arguments").Str != `{"x":1}` {
			t.Errorf("%s: the turn became %s", family, turn.Raw)
		}
	}
}

func TestTranslatedStreamCutShortHasNoEnd(t *testing.T) {
	for d, body := range map[Dialect]string{DialectMessages: messagesBody, DialectResponses: responsesBody} {
		chunks, err := dialectAnswer(t, d, body, chatEvents()[:5]...)
		var up *UpstreamError
		if !errors.As(err, &up) {
			t.Errorf("%s: got %v", d, err)
		}
		for _, c := range chunks {
			if c.Done || strings.Contains(c.Event, "stop") && c.Event != "content_block_stop" || c.Event == "response.completed" {
				t.Errorf("%s: %s", d, c.Data)
			}
		}
	}
}

func TestWholeAnswerEqualsItsStream(t *testing.T) {
	whole := `{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hello é\n","thinking_blocks":[{"type":"thinking","thinking":"hm","signature":"c2ln"}],"reasoning_content":"hm",
		"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"b","type":"function","function":{"name":"p","arguments":"{\"input\":\"*** patch\"}"}}]},"finish_reason":"tool_calls"}],
		"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":2}}}`
	stream, err := dialectAnswer(t, DialectResponses, responsesBody, chatEvents()...)
	if err != nil {
		t.Fatal(err)
	}
	one, err := dialectAnswer(t, DialectResponses, strings.Replace(responsesBody, `"stream":true`, `"stream":false`, 1), whole)
	if err != nil {
		t.Fatal(err)
	}
	strip := func(v gjson.Result) string { // what is sealed differs each time
		var out []string
		for _, item := range v.Get("output").Array() {
			if item.Get("encrypted_content").Str != "" {
				out = append(out, item.Get("summary").Raw)
				continue
			}
			out = append(out, item.Raw)
		}
		return strings.Join(out, "\n") + v.Get("usage").Raw
	}
	got, want := strip(gjson.ParseBytes(one[0].Data)), strip(gjson.GetBytes(stream[len(stream)-1].Data, "response"))
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	message, err := dialectAnswer(t, DialectMessages, strings.Replace(messagesBody, `"stream":true`, `"stream":false`, 1), whole)
	if err != nil {
		t.Fatal(err)
	}
	m := gjson.ParseBytes(message[0].Data)
	if m.Get("content.#").Int() != 4 || m.Get("content.0.signature").Str != "c2ln" || m.Get("content.2.input.x").Int() != 1 || m.Get("stop_reason").Str != "tool_use" {
		t.Errorf("message: %s", m.Raw)
	}
}

func TestNativeRequestKeepsItsBytes(t *testing.T) {
	body := `{ "model":"claude-auto", "max_tokens":100,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral","scope":"x"}}],"new_field": {"a":[1.0,2e3]} ,"messages":[{"role":"user","content":[{"type":"text","text":"hi é"}]}]}`
	r, err := Parse(DialectMessages, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if r.Prompt() != "hi é" || r.MaxTokens != 100 || r.Model != "claude-auto" {
		t.Errorf("facts: %+v", r)
	}
	got := string(r.For(Edit{Model: "m", AskUsage: true, LimitField: "max_completion_tokens"}).WithoutForeignThoughts().Body)
	if want := strings.Replace(body, `"claude-auto"`, `"m"`, 1); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	got = string(r.For(Edit{MaxTokens: 50}).Body)
	if want := strings.Replace(body, `"max_tokens":100`, `"max_tokens":50`, 1); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSealOpensOnlyItsOwn(t *testing.T) {
	sealed := testSeal.Close("claude", []byte("x"))
	other, _ := NewSeal([]byte("another key of sixteen bytes"))
	if got, ok := testSeal.Open("claude", sealed); !ok || string(got) != "x" || !IsSealed(sealed) {
		t.Errorf("got %q, %v", got, ok)
	}
	for name, try := range map[string]func() bool{
		"another purpose": func() bool { _, ok := testSeal.Open("openai", sealed); return ok },
		"another key":     func() bool { _, ok := other.Open("claude", sealed); return ok },
		"changed":         func() bool { _, ok := testSeal.Open("claude", sealed[:len(sealed)-8]+"AAAAAAA="); return ok },
		"foreign":         func() bool { _, ok := testSeal.Open("claude", "gAAAAABo"); return ok },
	} {
		if try() {
			t.Errorf("%s is opened", name)
		}
	}
}

func TestForeignThoughtsAreTakenOut(t *testing.T) {
	r, err := Parse(DialectMessages, []byte(`{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":""},{"type":"thinking","thinking":"u","signature":"c2ln"},{"type":"text","text":"a"}]},{"role":"user","content":"r"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	blocks := gjson.GetBytes(r.WithoutForeignThoughts().Body, "messages.1.content")
	if blocks.Get("#").Int() != 2 || blocks.Get("0.thinking").Str != "u" {
		t.Errorf("got %s", blocks.Raw)
	}
}

func FuzzDialects(f *testing.F) {
	f.Add(0, []byte(messagesBody))
	f.Add(1, []byte(responsesBody))
	f.Add(2, []byte(`{"model":"m","prompt":"hi"}`))
	f.Fuzz(func(t *testing.T, d int, body []byte) {
		dialect := []Dialect{DialectMessages, DialectResponses, DialectCompletions}[uint(d)%3]
		r, err := Parse(dialect, body)
		if err != nil {
			return
		}
		if same := r.For(Edit{KeepUsageField: true}); string(same.Body) != string(body) {
			t.Errorf("an empty edit changed %q to %q", body, same.Body)
		}
		for _, extended := range []bool{false, true} {
			chat, err := r.InChat(ChatOptions{Extended: extended, Seal: testSeal, Family: "claude"})
			if err != nil {
				var bad *InvalidError
				if !errors.As(err, &bad) {
					t.Errorf("%T: %v", err, err)
				}
				continue
			}
			if !json.Valid(chat.Body) {
				t.Errorf("not JSON: %s", chat.Body)
			}
		}
		r.WithoutForeignThoughts()
	})
}

func BenchmarkTranslatedStream(b *testing.B) {
	for d, body := range map[Dialect]string{DialectMessages: messagesBody, DialectResponses: responsesBody} {
		b.Run(d.String(), func(b *testing.B) {
			r, _ := Parse(d, []byte(body))
			chat, _ := r.InChat(ChatOptions{})
			n := 0
			chunk := Chunk{Data: []byte(delta)}
			b.ReportAllocs()
			b.ResetTimer()
			for range InDialect(func(yield func(Chunk, error) bool) {
				for range b.N {
					if !yield(chunk, nil) {
						return
					}
				}
			}, r, chat, AnswerHead{ID: "x", Model: "m"}, ChatOptions{}) {
				n++
			}
		})
	}
}
