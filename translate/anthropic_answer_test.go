package translate

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/tidwall/gjson"
)

// anthropicRequests are the requests that recorded answers answer, where that
// matters to them.
var anthropicRequests = map[string]string{
	"aliased_and_custom_tools": `,"tools":[{"type":"function","function":{"name":"mcp.server/read"}},{"type":"custom","custom":{"name":"sh"}}]`,
	"legacy_function":          `,"functions":[{"name":"f"}]`,
	"json_tool":                `,"response_format":{"type":"json_schema","json_schema":{"name":"r","schema":{"type":"object","properties":{"city":{"type":"string"}}}}}`,
	"json_tool_empty":          `,"response_format":{"type":"json_schema","json_schema":{"name":"r","schema":{"type":"object","properties":{"city":{"type":"string"}}}}}`,
	"placeholder_called": `,"x":0,"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":""}}]},` +
		`{"role":"tool","tool_call_id":"c","content":"b"}]`,
}

func anthropicRequest(t testing.TB, name string, stream bool) *AnthropicRequest {
	t.Helper()
	body := `{"model":"claude-3-5-sonnet-20241022"` + anthropicRequests[name]
	if !strings.Contains(body, `"messages"`) {
		body += `,"messages":[{"role":"user","content":"hi"}]`
	}
	if stream {
		body += `,"stream":true,"stream_options":{"include_usage":true}`
	}
	r, err := ParseRequest([]byte(body + "}"))
	if err != nil {
		t.Fatal(err)
	}
	q, err := ToAnthropic(r, AnthropicOptions{Capabilities: LookupCapabilities("anthropic", r.Model)})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

var anthropicHead = AnswerHead{ID: "chatcmpl-1", Model: "anthropic/claude", Created: 1700000000, RequestID: "req_1"}

// recorded reads the events of a file.
func recorded(data []byte) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for block := range bytes.SplitSeq(data, []byte("\n\n")) {
			var e Event
			for line := range bytes.SplitSeq(block, []byte("\n")) {
				if text, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
					e.Name = string(text)
				}
				if text, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
					e.Data = text
				}
			}
			if e.Data != nil && !yield(e, nil) {
				return
			}
		}
	}
}

// A .sse file is a recorded stream and its .golden file what the client gets,
// the usage asked for.
func TestFromAnthropicStreamGolden(t *testing.T) {
	files, _ := filepath.Glob("testdata/anthropic/*.sse")
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".sse")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			var stream openai.ChatCompletionAccumulator
			finishes, done := 0, false
			for c, err := range FromAnthropicStream(anthropicRequest(t, name, true), recorded(data), anthropicHead) {
				if err != nil {
					t.Fatal(err)
				}
				done = c.Done
				if c.Finish != "" {
					finishes++
				}
				if c.Comment {
					out.WriteString(": " + string(c.Data) + "\n")
				} else if len(c.Data) > 0 {
					out.WriteString(string(c.Data) + "\n")
					accumulate(t, &stream, c.Data)
				}
			}
			if finishes != 1 || !done {
				t.Errorf("got %d chunks with a finish_reason, done %v; want 1, true", finishes, done)
			}
			golden(t, strings.TrimSuffix(file, ".sse")+".golden", []byte(out.String()))
		})
	}
}

// accumulate lets the official client judge a chunk.
func accumulate(t *testing.T, stream *openai.ChatCompletionAccumulator, data []byte) {
	t.Helper()
	var chunk openai.ChatCompletionChunk
	if err := json.Unmarshal(data, &chunk); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	if !stream.AddChunk(chunk) {
		t.Errorf("the client refuses %s", data)
	}
}

// What a stream says, collected, is what the same answer says whole.
func TestAJoinedAnthropicStreamEqualsTheWholeAnswer(t *testing.T) {
	files, _ := filepath.Glob("testdata/anthropic/*.sse")
	compared := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".sse")
		whole, err := os.ReadFile(strings.TrimSuffix(file, ".sse") + ".json")
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		compared++
		t.Run(name, func(t *testing.T) {
			c, err := FromAnthropic(anthropicRequest(t, name, false), whole, anthropicHead)
			if err != nil {
				t.Fatal(err)
			}
			if !c.Whole || c.Head == nil || c.Head.RequestID != "req_1" || c.Usage == nil {
				t.Errorf("got %+v, want a whole chunk with head and usage", c)
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for kind, events := range map[string]iter.Seq2[Event, error]{"recorded": recorded(data), "made of the whole": AnthropicEvents(whole)} {
				joined, usage := joinAnthropic(t, name, events)
				if got, want := anyJSON(t, joined), anyJSON(t, c.Data); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: joined\n%s\nwhole\n%s", kind, joined, c.Data)
				}
				if *usage != *c.Usage {
					t.Errorf("%s: streamed usage %+v, whole %+v", kind, usage, c.Usage)
				}
			}
		})
	}
	if compared == 0 {
		t.Fatal("no twins")
	}
}

func joinAnthropic(t *testing.T, name string, events iter.Seq2[Event, error]) (joined []byte, usage *Usage) {
	t.Helper()
	joined, err := Join(func(yield func(Chunk, error) bool) {
		for c, err := range FromAnthropicStream(anthropicRequest(t, name, true), events, anthropicHead) {
			if c.Usage != nil {
				usage = c.Usage
			}
			if !yield(c, err) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return joined, usage
}

func anyJSON(t *testing.T, data []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return v
}

func TestUsageTellsHowLongCachesLast(t *testing.T) {
	answer := func(usage string) *Usage {
		data := `{"id":"m","type":"message","role":"assistant","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn","usage":` + usage + `}`
		c, err := FromAnthropic(anthropicRequest(t, "", false), []byte(data), anthropicHead)
		if err != nil {
			t.Fatal(err)
		}
		return c.Usage
	}
	known := answer(`{"input_tokens":1,"output_tokens":2,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":5}}`)
	if want := (Usage{InputTokens: 10, OutputTokens: 2, CacheWriteTokens: 9, CacheWriteHourTokens: 5, CacheTTLKnown: true}); *known != want {
		t.Errorf("got %+v, want %+v", *known, want)
	}
	if unknown := answer(`{"input_tokens":1,"output_tokens":2,"cache_creation_input_tokens":9}`); unknown.CacheTTLKnown || unknown.CacheWriteHourTokens != 0 {
		t.Errorf("got %+v from an answer that does not say", *unknown)
	}
	bedrock := converseUsage(gjson.Parse(`{"usage":{"inputTokens":1,"outputTokens":2,"cacheWriteInputTokens":9,"cacheDetails":[{"ttl":"1h","inputTokens":5},{"ttl":"5m","inputTokens":4}]}}`))
	if bedrock == nil || *bedrock != *known {
		t.Errorf("got %+v of Bedrock, want %+v", bedrock, *known)
	}
	for _, details := range []string{`[]`, `[{"ttl":"5m","inputTokens":4}]`, `[{"ttl":"1h","inputTokens":5},{"ttl":"5m","inputTokens":-4}]`} {
		if u := converseUsage(gjson.Parse(`{"usage":{"inputTokens":1,"outputTokens":2,"cacheWriteInputTokens":9,"cacheDetails":` + details + `}}`)); u.CacheTTLKnown {
			t.Errorf("%s tells of 9 tokens: %+v", details, *u)
		}
	}
}

// The running total at the end of a stream may be higher than what was told of
// at its beginning, where lifetimes are.
func TestALaterCacheWriteIsOfUnknownLifetime(t *testing.T) {
	begin := `{"type":"message_start","message":{"usage":{"input_tokens":1,"output_tokens":1,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":5}}}}`
	for delta, known := range map[string]bool{`{"output_tokens":2}`: true, `{"output_tokens":2,"cache_creation_input_tokens":9}`: true, `{"output_tokens":2,"cache_creation_input_tokens":19}`: false} {
		stream := "data: " + begin + "\n\ndata: " + `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":` + delta + "}\n\ndata: " + `{"type":"message_stop"}` + "\n\n"
		_, usage := joinAnthropic(t, "", recorded([]byte(stream)))
		if usage == nil || usage.CacheTTLKnown != known || usage.CacheWriteHourTokens != 5 {
			t.Errorf("%s: got %+v, want lifetimes known %v", delta, usage, known)
		}
	}
}

func TestAnthropicUsageCountsTheCacheAsInput(t *testing.T) {
	data, err := os.ReadFile("testdata/anthropic/tools_after_text.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := FromAnthropic(anthropicRequest(t, "", false), data, anthropicHead)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Usage{InputTokens: 157, OutputTokens: 20, CachedTokens: 50, CacheWriteTokens: 7}); *c.Usage != want {
		t.Errorf("got %+v, want %+v", *c.Usage, want)
	}
}

const (
	messageStart = `{"type":"message_start","message":{"id":"m","usage":{"input_tokens":9,"cache_read_input_tokens":4,"output_tokens":1}}}`
	textStart    = `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`
	textDelta    = `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}`
	blockStop    = `{"type":"content_block_stop","index":0}`
	endTurn      = `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}`
	messageStop  = `{"type":"message_stop"}`
)

func TestAStreamsUsageIsItsLastOne(t *testing.T) {
	chunks, _, err := collect(FromAnthropicStream(anthropicRequest(t, "", true), sse(messageStart, textStart, textDelta, blockStop, endTurn, messageStop), anthropicHead))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range chunks {
		want := Usage{InputTokens: 13, OutputTokens: 5, CachedTokens: 4}
		switch {
		case i == len(chunks)-2 && (c.Usage == nil || *c.Usage != want):
			t.Errorf("got %+v, want %+v: later counts replace earlier ones, absent ones leave them", c.Usage, want)
		case i != len(chunks)-2 && c.Usage != nil:
			t.Errorf("chunk %d: got %+v before the end", i, *c.Usage)
		}
	}
}

// Why an answer ended comes with the final count: after it nothing is guessed.
func TestAStreamThatBreaksAfterItsLastCount(t *testing.T) {
	chunks, _, err := collect(FromAnthropicStream(anthropicRequest(t, "", true), sse(messageStart, textStart, textDelta, textDelta, textDelta, textDelta, blockStop, endTurn), anthropicHead))
	if err == nil {
		t.Fatal("got no error")
	}
	if last := chunks[len(chunks)-1]; last.Usage == nil || last.Usage.OutputTokens != 5 {
		t.Errorf("got %+v, want the 5 tokens that were counted", last.Usage)
	}
}

// The client may leave in the middle, or the stream may break: what was
// delivered until then is charged, not the output count of the first event.
func TestABrokenStreamIsAccountedForByWhatCame(t *testing.T) {
	chunks, data, err := collect(FromAnthropicStream(anthropicRequest(t, "", true), sse(messageStart, textStart, textDelta, textDelta), anthropicHead))
	if err == nil {
		t.Fatal("got no error")
	}
	last := chunks[len(chunks)-1]
	if want := (Usage{InputTokens: 13, OutputTokens: 4, CachedTokens: 4}); last.Usage == nil || *last.Usage != want {
		t.Errorf("got %+v, want %+v: the input as reported and four bytes of output", last.Usage, want)
	}
	if len(last.Data) != 0 || len(data) != 3 {
		t.Errorf("got %v, want the client to see nothing of it", data)
	}
}

func TestUsageThatIsIncompleteOrAbsurdIsNone(t *testing.T) {
	for name, usage := range map[string]string{
		"no output":        `{}`,
		"output as text":   `{"output_tokens":"5"}`,
		"negative output":  `{"output_tokens":-5}`,
		"a huge output":    `{"output_tokens":1e300}`,
		"half a token":     `{"output_tokens":0.5}`,
		"an array":         `[5]`,
		"nothing but null": `null`,
	} {
		t.Run(name, func(t *testing.T) {
			end := `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":` + usage + `}`
			chunks, data, err := collect(FromAnthropicStream(anthropicRequest(t, "", true), sse(messageStart, textStart, textDelta, blockStop, end, messageStop), anthropicHead))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range chunks[1:] {
				if c.Usage != nil {
					t.Errorf("got %+v, want none: the first event's output count is not the answer's", *c.Usage)
				}
			}
			if last := data[len(data)-1]; gjson.Get(last, "choices.#").Int() != 1 {
				t.Errorf("got a usage chunk: %s", last)
			}
		})
	}
}

func TestNoUsageChunkUnlessAskedFor(t *testing.T) {
	r, err := ParseRequest([]byte(`{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	q, err := ToAnthropic(r, AnthropicOptions{Capabilities: LookupCapabilities("anthropic", "m")})
	if err != nil {
		t.Fatal(err)
	}
	chunks, data, err := collect(FromAnthropicStream(q, sse(messageStart, textStart, textDelta, blockStop, endTurn, messageStop), anthropicHead))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range data {
		if gjson.Get(d, "usage").Exists() || gjson.Get(d, "choices.#").Int() != 1 {
			t.Errorf("got %s, want one choice and no usage", d)
		}
	}
	if u := chunks[len(chunks)-2].Usage; u == nil || u.OutputTokens != 5 {
		t.Errorf("got usage %+v, want it for accounting all the same", u)
	}
}

func TestAnthropicStreamFails(t *testing.T) {
	overloaded := `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`
	for name, tt := range map[string]struct {
		events []string
		kind   Kind
		billed Billed
		chunks int
	}{
		"when nothing comes":                              {nil, KindBadResponse, BilledUnknown, 0},
		"when an error is the first event":                {[]string{overloaded}, KindOverloaded, BilledNothing, 0},
		"when an error follows a ping":                    {[]string{`{"type":"ping"}`, overloaded}, KindOverloaded, BilledNothing, 0},
		"when an error comes in its middle":               {[]string{messageStart, textStart, textDelta, overloaded}, KindOverloaded, BilledPartly, 2},
		"when it ends without message_stop":               {[]string{messageStart, textStart, textDelta, blockStop, endTurn}, KindInterrupted, BilledPartly, 2},
		"when it ends after its first event":              {[]string{messageStart}, KindInterrupted, BilledPartly, 1},
		"when an event is not JSON":                       {[]string{messageStart, `{"type":`}, KindBadResponse, BilledUnknown, 1},
		"when an event is no object":                      {[]string{`[1]`}, KindBadResponse, BilledUnknown, 0},
		"when it is a stream of OpenAI's":                 {[]string{`{"id":"c","choices":[]}`, "[DONE]"}, KindBadResponse, BilledUnknown, 0},
		"when it begins in its middle":                    {[]string{textDelta}, KindBadResponse, BilledUnknown, 0},
		"when it says nothing and gives no reason":        {[]string{messageStart, messageStop}, KindBadResponse, BilledUnknown, 1},
		"when an error of the client's comes as an event": {[]string{`{"type":"error","error":{"type":"invalid_request_error","message":"no"}}`}, KindInvalid, BilledNothing, 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, data, err := collect(FromAnthropicStream(anthropicRequest(t, "", true), sse(tt.events...), anthropicHead))
			var failed *UpstreamError
			if !errors.As(err, &failed) {
				t.Fatalf("got %v, want an *UpstreamError", err)
			}
			if failed.Kind != tt.kind || failed.Billed != tt.billed || len(data) != tt.chunks {
				t.Errorf("got %s, billed %v, after %d chunks; want %s, %v, %d", failed.Kind, failed.Billed, len(data), tt.kind, tt.billed, tt.chunks)
			}
			for _, d := range data {
				if gjson.Get(d, "choices.0.finish_reason").Type != gjson.Null {
					t.Errorf("got a finish_reason in %s", d)
				}
			}
		})
	}
}

func TestAnErrorOfTheTransportIsPassedOn(t *testing.T) {
	lost := errors.New("lost")
	events := func(yield func(Event, error) bool) {
		_ = yield(Event{Data: []byte(messageStart)}, nil) && yield(Event{}, lost)
	}
	if _, _, err := collect(FromAnthropicStream(anthropicRequest(t, "", true), events, anthropicHead)); !errors.Is(err, lost) {
		t.Errorf("got %v, want it as it came", err)
	}
}

func TestLeavingAnAnthropicStreamEndsIt(t *testing.T) {
	all := []string{messageStart, textStart, textDelta, blockStop, endTurn, messageStop}
	for stop := 1; stop <= 5; stop++ {
		read := 0
		events := func(yield func(Event, error) bool) {
			for _, d := range all {
				read++
				if !yield(Event{Data: []byte(d)}, nil) {
					return
				}
			}
		}
		chunks := 0
		for range FromAnthropicStream(anthropicRequest(t, "", true), events, anthropicHead) {
			if chunks++; chunks == stop {
				break
			}
		}
		if chunks != stop {
			t.Fatalf("got %d chunks, want to leave after %d", chunks, stop)
		}
		if stop == 1 && read != 1 {
			t.Errorf("%d events were read for the first chunk, want 1", read)
		}
	}
}

func TestChunksSayWhenMoreIsAtHand(t *testing.T) {
	events := func(yield func(Event, error) bool) {
		for i, d := range []string{messageStart, textStart, textDelta, blockStop, endTurn, messageStop} {
			if !yield(Event{Data: []byte(d), More: i == 0}, nil) {
				return
			}
		}
	}
	chunks, _, err := collect(FromAnthropicStream(anthropicRequest(t, "", true), events, anthropicHead))
	if err != nil {
		t.Fatal(err)
	}
	var got []bool
	for _, c := range chunks {
		got = append(got, c.More)
	}
	// Role, text, finish before usage, usage, done.
	if want := []bool{true, false, true, false, false}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFromAnthropicRefusesWhatIsNoMessage(t *testing.T) {
	for name, body := range map[string]string{
		"HTML":                 `<html>`,
		"an array":             `[]`,
		"an empty object":      `{}`,
		"no content":           `{"type":"message","content":null}`,
		"nothing said":         `{"type":"message","content":[],"stop_reason":null}`,
		"brackets without end": strings.Repeat("[", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := FromAnthropic(anthropicRequest(t, "", false), []byte(body), anthropicHead)
			var failed *UpstreamError
			if !errors.As(err, &failed) || failed.Kind != KindBadResponse {
				t.Errorf("got %v, want a bad response", err)
			}
			_, _, err = collect(FromAnthropicStream(anthropicRequest(t, "", true), AnthropicEvents([]byte(body)), anthropicHead))
			if !errors.As(err, &failed) || failed.Kind != KindBadResponse {
				t.Errorf("as a stream: got %v, want a bad response", err)
			}
		})
	}
	_, err := FromAnthropic(anthropicRequest(t, "", false), []byte(`{"type":"error","error":{"type":"api_error","message":"x"}}`), anthropicHead)
	var failed *UpstreamError
	if !errors.As(err, &failed) || failed.Kind != KindServer {
		t.Errorf("an error with status 200: got %v, want the error", err)
	}
}

func TestAnthropicErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		status        int
		kind, message string // of theirs
		want          Kind
		code, says    string
	}{
		"an invalid request":          {400, "invalid_request_error", "messages.0: wrong", KindInvalid, "", "messages.0: wrong"},
		"too long a prompt":           {400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", KindInvalid, "context_length_exceeded", "prompt is too long: 210000 tokens > 200000 maximum"},
		"prompt and limit too long":   {400, "invalid_request_error", "input length and `max_tokens` exceed context limit: 1 + 2 > 3", KindInvalid, "context_length_exceeded", "input length"},
		"our account is empty":        {400, "invalid_request_error", "Your credit balance is too low to access the API.", KindQuota, "upstream_quota_exceeded", "quota"},
		"our account's own limit":     {400, "invalid_request_error", "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.", KindQuota, "upstream_quota_exceeded", "quota"},
		"our account is closed":       {400, "invalid_request_error", "This organization has been disabled.", KindAuth, "upstream_auth_error", "credential"},
		"our key is wrong":            {401, "authentication_error", "invalid x-api-key", KindAuth, "upstream_auth_error", "credential"},
		"our key may not":             {403, "permission_error", "org-123 may not", KindAuth, "upstream_auth_error", "credential"},
		"billing":                     {402, "billing_error", "pay", KindQuota, "upstream_quota_exceeded", "quota"},
		"no such model":               {404, "not_found_error", "model: claude-9", KindNotFound, "model_not_found", "model"},
		"too large":                   {413, "request_too_large", "32 MB", KindInvalid, "request_too_large", "32 MB"},
		"rate limited":                {429, "rate_limit_error", "org-123 used 50,000 tokens", KindRateLimited, "rate_limit_exceeded", "limiting"},
		"an internal error":           {500, "api_error", "x", KindServer, "upstream_error", "failed"},
		"a timeout":                   {504, "timeout_error", "x", KindTimeout, "upstream_timeout", "in time"},
		"overloaded":                  {529, "overloaded_error", "Overloaded", KindOverloaded, "upstream_overloaded", "overloaded"},
		"overloaded by type alone":    {500, "overloaded_error", "Overloaded", KindOverloaded, "upstream_overloaded", "overloaded"},
		"529 without a type":          {529, "", "", KindOverloaded, "upstream_overloaded", "overloaded"},
		"a type still unknown":        {418, "teapot_error", "x", KindServer, "upstream_error", "failed"},
		"a redirect":                  {302, "", "", KindBadResponse, "upstream_redirect", "redirect"},
		"a bad gateway before theirs": {502, "", "", KindServer, "upstream_error", "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			message, _ := json.Marshal(tt.message)
			body := `{"type":"error","error":{"type":"` + tt.kind + `","message":` + string(message) + `},"request_id":"r"}`
			if tt.kind == "" {
				body = "<html>"
			}
			e := AnthropicError(tt.status, 3*time.Second, []byte(body))
			if e.Kind != tt.want || e.Code != tt.code || e.Status != tt.status || e.RetryAfter != 3*time.Second || e.Billed != BilledNothing {
				t.Errorf("got %+v, want kind %s, code %s", *e, tt.want, tt.code)
			}
			if tt.kind != "" && (e.Err == nil || !strings.Contains(e.Err.Error(), tt.message)) {
				t.Errorf("got %v for our log, want their own words", e.Err)
			}
			if !strings.Contains(e.Message, tt.says) || strings.Contains(e.Message, "org-123") {
				t.Errorf("got message %q, want it to say %q and nothing of our account", e.Message, tt.says)
			}
		})
	}
}

func TestRelaxLearnsFromRefusals(t *testing.T) {
	o := AnthropicOptions{Capabilities: LookupCapabilities("anthropic", "claude-sonnet-4-5")}
	for message, changed := range map[string]func(Capabilities) bool{
		"`temperature` is deprecated for this model.":           func(c Capabilities) bool { return c.Sampling == "none" },
		"tools.0.custom.strict: Extra inputs are not permitted": func(c Capabilities) bool { return !c.StrictTools },
		"output_config: Extra inputs are not permitted":         func(c Capabilities) bool { return c.StructuredOutput == "tool" },
	} {
		relaxed, ok := o.Relax(&UpstreamError{Kind: KindInvalid, Message: message})
		if !ok || !changed(relaxed.Capabilities) {
			t.Errorf("%s: got %v, %+v", message, ok, relaxed.Capabilities)
		}
		if _, again := relaxed.Relax(&UpstreamError{Kind: KindInvalid, Message: message}); again {
			t.Errorf("%s: relaxed twice", message)
		}
	}
	if _, ok := o.Relax(&UpstreamError{Kind: KindInvalid, Message: "messages: wrong"}); ok {
		t.Error("another refusal: got options, want none")
	}
}

func FuzzToAnthropic(f *testing.F) {
	files, _ := filepath.Glob("testdata/anthropic/*.requests.json")
	for _, file := range files {
		for _, c := range anthropicCases(f, file) {
			f.Add([]byte(c.Get("request").Raw), c.Get("model").Str)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, model string) {
		r, err := ParseRequest(body)
		if err != nil {
			return
		}
		q, err := ToAnthropic(r, AnthropicOptions{Capabilities: LookupCapabilities("anthropic", model)})
		if err != nil {
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("got %T, want *InvalidError", err)
			}
			return
		}
		if !json.Valid(q.Body) {
			t.Fatalf("%s became %s", body, q.Body)
		}
	})
}

func FuzzFromAnthropicStream(f *testing.F) {
	files, _ := filepath.Glob("testdata/anthropic/*.sse")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		finishes, done := 0, false
		for c, err := range FromAnthropicStream(anthropicRequest(t, "aliased_and_custom_tools", true), recorded(data), anthropicHead) {
			if err != nil {
				if finishes > 0 {
					t.Fatal("an error after the finish")
				}
				return
			}
			if len(c.Data) > 0 && !c.Comment && !json.Valid(c.Data) {
				t.Fatalf("not JSON: %s", c.Data)
			}
			if c.Finish != "" {
				finishes++
			}
			done = c.Done
		}
		if finishes != 1 || !done {
			t.Fatalf("got %d finishes, done %v; want 1, true", finishes, done)
		}
	})
}

func FuzzFromAnthropic(f *testing.F) {
	files, _ := filepath.Glob("testdata/anthropic/*.json")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := FromAnthropic(anthropicRequest(t, "aliased_and_custom_tools", false), data, anthropicHead)
		for c, err := range FromAnthropicStream(anthropicRequest(t, "", true), AnthropicEvents(data), anthropicHead) {
			if err == nil && len(c.Data) > 0 && !json.Valid(c.Data) {
				t.Fatalf("%s became %s", data, c.Data)
			}
		}
		if err == nil && (!json.Valid(c.Data) || c.Finish == "") {
			t.Fatalf("%s became %s", data, c.Data)
		}
		AnthropicError(400, 0, data)
	})
}

func BenchmarkFromAnthropicStream(b *testing.B) {
	q := anthropicRequest(b, "", true)
	all := []string{messageStart, textStart}
	for range 1000 {
		all = append(all, textDelta)
	}
	all = append(all, blockStop, endTurn, messageStop)
	events := sse(all...)
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range FromAnthropicStream(q, events, anthropicHead) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/event")
}

func BenchmarkToAnthropic(b *testing.B) {
	text := strings.Repeat("some words ", 100)
	r, err := ParseRequest([]byte(`{"model":"claude-sonnet-4-5","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"` + text + `"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]}`))
	if err != nil {
		b.Fatal(err)
	}
	o := AnthropicOptions{Capabilities: LookupCapabilities("anthropic", r.Model)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ToAnthropic(r, o); err != nil {
			b.Fatal(err)
		}
	}
}
