package translate

import (
	"errors"
	"iter"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// sse turns data into events.
func sse(data ...string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for _, d := range data {
			if !yield(Event{Data: []byte(d)}, nil) {
				return
			}
		}
	}
}

// collect reads an answer to its end. Data is copied, for it is reused.
func collect(answer Chunks) (chunks []Chunk, data []string, err error) {
	for c, e := range answer {
		if e != nil {
			return chunks, data, e
		}
		if len(c.Data) > 0 {
			data = append(data, string(c.Data))
		}
		chunks = append(chunks, c)
	}
	return chunks, data, nil
}

const (
	delta      = `{"id":"c","choices":[{"index":0,"delta":{"content":"h\u00e9\n"},"finish_reason":null}],"usage":null}`
	deltaClean = `{"id":"c","choices":[{"index":0,"delta":{"content":"h\u00e9\n"},"finish_reason":null}]}`
	stop       = `{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	usage      = `{"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":2}}}`
)

func TestFromOpenAIPassesEventsOn(t *testing.T) {
	chunks, data, err := collect(FromOpenAI(sse(delta, stop, usage, "[DONE]"), OpenAIOptions{RequestID: "r"}))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(data, "\n"), strings.Join([]string{delta, stop, usage}, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if h := chunks[0].Head; h == nil || h.RequestID != "r" || chunks[1].Head != nil {
		t.Errorf("heads: %v, then %v; want one on the first chunk", h, chunks[1].Head)
	}
	if got := chunks[0].OutputBytes; got < 4 || got > 6 {
		t.Errorf("OutputBytes = %d, want about the 4 of %q", got, "hé\n")
	}
	if chunks[1].Finish != "stop" {
		t.Errorf("Finish = %q, want stop", chunks[1].Finish)
	}
	if u := chunks[2].Usage; u == nil || *u != (Usage{InputTokens: 9, OutputTokens: 4, CachedTokens: 3, ReasoningTokens: 2}) {
		t.Errorf("Usage = %+v", u)
	}
	if last := chunks[len(chunks)-1]; !last.Done || last.Data != nil {
		t.Errorf("last chunk = %+v, want Done", last)
	}
}

func TestFromOpenAIHidesUsageThatTheClientDidNotAskFor(t *testing.T) {
	for _, c := range []struct{ name, event, want string }{
		{"null usage at the end", delta, deltaClean},
		{"null usage in the middle", `{"id":"c", "usage": null , "choices":[]}`, `{"id":"c", "choices":[]}`},
		{"null usage at the start", `{ "usage":null,"choices":[]}`, `{ "choices":[]}`},
		{"null usage alone", `{"usage":null}`, `{}`},
		{"the usage chunk", usage, ""},
		{"the usage chunk without choices", `{"id":"c","usage":{"prompt_tokens":1,"completion_tokens":1}}`, ""},
		{"the usage chunk with null choices", `{"id":"c","choices":null,"usage":{"prompt_tokens":1,"completion_tokens":1}}`, ""},
		{"usage beside choices", `{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`, `{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`},
		{"usage inside a choice", `{"choices":[{"delta":{"usage":null}}]}`, `{"choices":[{"delta":{"usage":null}}]}`},
		{"no usage", stop, stop},
		{"broken JSON", `{"usage":null`, `{"usage":null`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, data, err := collect(FromOpenAI(sse(c.event, stop, "[DONE]"), OpenAIOptions{HideUsage: true}))
			if err != nil {
				t.Fatal(err)
			}
			got := data[0]
			if c.want == "" && len(data) == 1 && got == stop {
				return
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestFromOpenAIReadsUsage(t *testing.T) {
	for _, c := range []struct {
		name, usage string
		want        *Usage
	}{
		{"zero is zero", `{"prompt_tokens":0,"completion_tokens":0}`, &Usage{}},
		{"whole numbers written as fractions", `{"prompt_tokens":5.0,"completion_tokens":1e1}`, &Usage{InputTokens: 5, OutputTokens: 10}},
		{"reasoning that only the total counts", `{"prompt_tokens":5,"completion_tokens":10,"total_tokens":100}`, &Usage{InputTokens: 5, OutputTokens: 95}},
		{"no completion but a total", `{"prompt_tokens":5,"total_tokens":5}`, &Usage{InputTokens: 5}},
		{"details that are null", `{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":null,"completion_tokens_details":null}`, &Usage{InputTokens: 5, OutputTokens: 1}},
		{"DeepSeek's cache", `{"prompt_tokens":5,"completion_tokens":1,"prompt_cache_hit_tokens":4}`, &Usage{InputTokens: 5, OutputTokens: 1, CachedTokens: 4}},
		{"cache writes", `{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cache_write_tokens":2}}`, &Usage{InputTokens: 5, OutputTokens: 1, CacheWriteTokens: 2}},
		{"more cached than there is", `{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":50}}`, &Usage{InputTokens: 5, OutputTokens: 1, CachedTokens: 5}},
		{"negative", `{"prompt_tokens":-1,"completion_tokens":1}`, nil},
		{"a fraction", `{"prompt_tokens":1.5,"completion_tokens":1}`, nil},
		{"infinite", `{"prompt_tokens":1,"completion_tokens":1e400}`, nil},
		{"text", `{"prompt_tokens":"1","completion_tokens":1}`, nil},
		{"beyond 2^53", `{"prompt_tokens":9223372036854775808,"completion_tokens":1}`, nil},
		{"empty", `{}`, nil},
		{"no object", `[]`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for where, event := range map[string]string{
				"at the top":     `{"choices":[],"usage":` + c.usage + `}`,
				"in a choice":    `{"choices":[{"usage":` + c.usage + `}]}`,
				"in x_groq":      `{"choices":[],"x_groq":{"id":"x","usage":` + c.usage + `}}`,
				"whole, at last": `{"choices":[],"usage":` + c.usage + `}`,
			} {
				chunks, _, err := collect(FromOpenAI(sse(event, stop), OpenAIOptions{}))
				if err != nil {
					t.Fatal(err)
				}
				got := chunks[0].Usage
				if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
					t.Errorf("%s: got %+v, want %+v", where, got, c.want)
				}
				if chunks[0].Malformed != (c.want == nil) {
					t.Errorf("%s: Malformed = %v", where, chunks[0].Malformed)
				}
			}
		})
	}
}

func TestFromOpenAIEnds(t *testing.T) {
	cut := errors.New("cut")
	for _, c := range []struct {
		name   string
		events []string
		kind   Kind // "" for a good end
		billed Billed
	}{
		{"with [DONE]", []string{delta, stop, "[DONE]"}, "", 0},
		{"with [DONE] and no finish_reason", []string{delta, "[DONE]"}, "", 0},
		{"after a finish_reason without [DONE]", []string{delta, stop}, "", 0},
		{"before a finish_reason", []string{delta}, KindInterrupted, BilledPartly},
		{"before anything", nil, KindBadResponse, BilledUnknown},
		{"with [DONE] at once", []string{"[DONE]"}, KindBadResponse, BilledUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := collect(FromOpenAI(sse(c.events...), OpenAIOptions{}))
			checkUpstreamError(t, err, c.kind, c.billed)
		})
	}
	t.Run("with the reader's own error", func(t *testing.T) {
		_, _, err := collect(FromOpenAI(func(yield func(Event, error) bool) { yield(Event{}, cut) }, OpenAIOptions{}))
		if err != cut {
			t.Errorf("got %v, want %v", err, cut)
		}
	})
}

func checkUpstreamError(t *testing.T, err error, kind Kind, billed Billed) {
	t.Helper()
	if kind == "" {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	var up *UpstreamError
	if !errors.As(err, &up) || up.Kind != kind || up.Billed != billed || up.Message == "" {
		t.Fatalf("got %#v, want kind %s, billed %d", err, kind, billed)
	}
}

func TestFromOpenAIErrorEvents(t *testing.T) {
	for _, c := range []struct {
		name, event string
		kind        Kind
	}{
		{"a rate limit", `{"error":{"message":"slow","type":"rate_limit_error"}}`, KindRateLimited},
		{"a numeric code", `{"error":{"message":"x","code":429},"choices":[]}`, KindRateLimited},
		{"a code in digits", `{"error":{"message":"x","code":"503"}}`, KindOverloaded},
		{"our quota", `{"error":{"code":"insufficient_quota"}}`, KindQuota},
		{"overload", `{"error":{"type":"overloaded_error"}}`, KindOverloaded},
		{"overload, OpenAI's way", `{"error":{"code":"server_is_overloaded","type":"server_error"}}`, KindOverloaded},
		{"a prompt that is too long", `{"error":{"code":"context_length_exceeded","message":"too long"}}`, KindInvalid},
		{"bare text", `{"error":"secret-host:8000 refused"}`, KindServer},
		{"a timeout", `{"error":{"type":"timeout"}}`, KindTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := collect(FromOpenAI(sse(c.event), OpenAIOptions{}))
			checkUpstreamError(t, err, c.kind, BilledNothing)
			if strings.Contains(err.Error(), "secret-host") {
				t.Errorf("the upstream's words leak: %v", err)
			}
			chunks, _, err := collect(FromOpenAI(sse(delta, c.event, stop, "[DONE]"), OpenAIOptions{}))
			checkUpstreamError(t, err, c.kind, BilledPartly)
			if len(chunks) != 1 {
				t.Errorf("%d chunks before the error, want 1", len(chunks))
			}
			_, err = WholeOpenAI([]byte(c.event))
			checkUpstreamError(t, err, c.kind, BilledNothing)
		})
	}
	t.Run("an event of that name", func(t *testing.T) {
		_, _, err := collect(FromOpenAI(func(yield func(Event, error) bool) {
			yield(Event{Name: "error", Data: []byte(`{"message":"x","type":"overloaded_error"}`)}, nil)
		}, OpenAIOptions{}))
		checkUpstreamError(t, err, KindOverloaded, BilledNothing)
	})
	t.Run("null is no error", func(t *testing.T) {
		_, _, err := collect(FromOpenAI(sse(`{"error":null,"choices":[{"finish_reason":"stop"}]}`), OpenAIOptions{}))
		checkUpstreamError(t, err, "", 0)
	})
}

func TestFromOpenAIPassesMalformedEventsOn(t *testing.T) {
	for _, bad := range []string{`{"a":`, `hello`, `[1]`, `{"a":1}}`} {
		chunks, data, err := collect(FromOpenAI(sse(delta, bad, stop, "[DONE]"), OpenAIOptions{HideUsage: true}))
		if err != nil || len(data) != 3 || data[1] != bad || !chunks[1].Malformed {
			t.Errorf("%s: got %q, %v", bad, data, err)
		}
	}
}

func TestFromOpenAIPassesPiecesOn(t *testing.T) {
	events := []Event{
		{Data: []byte(`{"choices":[{"finish_reason":"stop","x":"`), Partial: true},
		{Data: []byte(`more`), Partial: true},
		{Data: []byte(`"}]}`)},
	}
	chunks, data, err := collect(FromOpenAI(func(yield func(Event, error) bool) {
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
	}, OpenAIOptions{HideUsage: true}))
	if err != nil || strings.Join(data, "") != `{"choices":[{"finish_reason":"stop","x":"more"}]}` {
		t.Fatalf("got %q, %v", data, err)
	}
	if !chunks[0].Partial || !chunks[1].Partial || chunks[2].Partial || chunks[0].Finish != "stop" {
		t.Errorf("got %+v", chunks)
	}
}

func TestFromOpenAICountsOutput(t *testing.T) {
	for _, c := range []struct {
		name, delta string
		low, high   int64
	}{
		{"text", `{"role":"assistant","content":"hello"}`, 5, 5},
		{"escaped letters", `{"content":"\u65e5\u672c"}`, 6, 8},
		{"reasoning told twice", `{"reasoning":"abc","reasoning_content":"abc"}`, 3, 3},
		{"a tool call", `{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]}`, 8, 8},
		{"a refusal", `{"refusal":"no"}`, 2, 2},
		{"nothing", `{"content":null}`, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			chunks, _, err := collect(FromOpenAI(sse(`{"choices":[{"delta":`+c.delta+`}]}`, stop), OpenAIOptions{}))
			if err != nil {
				t.Fatal(err)
			}
			if got := chunks[0].OutputBytes; got < c.low || got > c.high {
				t.Errorf("OutputBytes = %d, want %d to %d", got, c.low, c.high)
			}
		})
	}
}

func TestWholeOpenAI(t *testing.T) {
	body := ` {"id":"x","choices":[{"message":{"content":"hello","tool_calls":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}} `
	c, err := WholeOpenAI([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if string(c.Data) != body || !c.Whole || c.Finish != "stop" || c.OutputBytes != 5 || c.Usage == nil || c.Usage.OutputTokens != 2 {
		t.Errorf("got %+v", c)
	}
	for _, bad := range []string{``, `<html>`, `{}`, `{"choices":[`, `"x"`, `{"choices":{}}`} {
		_, err := WholeOpenAI([]byte(bad))
		checkUpstreamError(t, err, KindBadResponse, BilledUnknown)
	}
}

func TestOpenAIError(t *testing.T) {
	const secret = "org-123 at 10.0.0.7"
	for _, c := range []struct {
		name   string
		status int
		body   string
		kind   Kind
		code   string
	}{
		{"a redirect", 302, ``, KindBadResponse, "upstream_redirect"},
		{"the client's mistake", 400, `{"error":{"message":"bad","param":"x","code":"c"}}`, KindInvalid, "c"},
		{"too large", 413, `<html>`, KindInvalid, ""},
		{"unprocessable", 422, `{"detail":[]}`, KindInvalid, ""},
		{"our key", 401, `{"error":{"message":"` + secret + `"}}`, KindAuth, "upstream_auth_error"},
		{"our key, Gemini's way", 400, `[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key."}}]`, KindAuth, "upstream_auth_error"},
		{"forbidden", 403, ``, KindAuth, "upstream_auth_error"},
		{"no credit", 402, ``, KindQuota, "upstream_quota_exceeded"},
		{"no model", 404, `{"error":{"message":"` + secret + `"}}`, KindNotFound, "model_not_found"},
		{"timeout", 408, ``, KindTimeout, "upstream_timeout"},
		{"gateway timeout", 504, secret, KindTimeout, "upstream_timeout"},
		{"conflict", 409, ``, KindServer, "upstream_error"},
		{"limited", 429, `{"error":{"message":"` + secret + `"}}`, KindRateLimited, "rate_limit_exceeded"},
		{"our quota", 429, `{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}`, KindQuota, "upstream_quota_exceeded"},
		{"broken", 500, secret, KindServer, "upstream_error"},
		{"bad gateway", 502, secret, KindServer, "upstream_error"},
		{"overloaded", 503, secret, KindOverloaded, "upstream_overloaded"},
		{"overloaded, Anthropic's way", 529, ``, KindOverloaded, "upstream_overloaded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := OpenAIError(c.status, 2*time.Second, "application/json", []byte(c.body))
			if e.Kind != c.kind || e.Code != c.code || e.Status != c.status || e.RetryAfter != 2*time.Second || e.Billed != BilledNothing {
				t.Errorf("got %+v", e)
			}
			if e.Message == "" || strings.Contains(e.Message, secret) {
				t.Errorf("message %q", e.Message)
			}
			relayed := (c.kind == KindInvalid || c.kind == KindNotFound) && strings.HasPrefix(c.body, "{")
			if relayed != (e.Body != nil) || relayed && string(e.Body) != c.body {
				t.Errorf("body %q, want relayed = %v", e.Body, relayed)
			}
		})
	}
}

func FuzzFromOpenAI(f *testing.F) {
	f.Add(delta+"\n"+stop+"\n[DONE]", true)
	f.Add(usage+"\n"+`{"error":{"code":429}}`, false)
	f.Add(`{ "usage" : null }`+"\n"+`{"a":1,"usage":null,"b":2}`, true)
	f.Fuzz(func(t *testing.T, stream string, hide bool) {
		events := strings.Split(stream, "\n")
		next := 0
		done := false
		for c, err := range FromOpenAI(sse(events...), OpenAIOptions{HideUsage: hide}) {
			if done {
				t.Fatal("something came after the end")
			}
			if err != nil {
				done = true
				continue
			}
			if done = c.Done; done || len(c.Data) == 0 {
				continue
			}
			for next < len(events) && !passedOn(events[next], string(c.Data), hide) {
				next++
			}
			if next == len(events) {
				t.Fatalf("%q is none of the events", c.Data)
			}
			next++
			if c.OutputBytes < 0 || c.OutputBytes > int64(len(stream)) {
				t.Fatalf("OutputBytes = %d", c.OutputBytes)
			}
		}
		if !done {
			t.Fatal("neither an end nor an error")
		}
	})
}

var nullUsage = regexp.MustCompile(`^[, \t\r]*"usage"[ \t\r]*:[ \t\r]*null[, \t\r]*$`)

// passedOn reports whether got is the event, or the event without a null usage.
func passedOn(event, got string, hide bool) bool {
	if event == got {
		return true
	}
	cut := len(event) - len(got)
	for i := 0; hide && cut > 0 && i <= len(got); i++ {
		if event[:i] == got[:i] && event[i+cut:] == got[i:] && nullUsage.MatchString(event[i:i+cut]) {
			return rawjson.Valid(string(event), maxRequestDepth) == rawjson.Valid(string(got), maxRequestDepth)
		}
	}
	return false
}

func BenchmarkFromOpenAI(b *testing.B) {
	chunk := []byte(`{"id":"chatcmpl-BxyzABCDEFGHIJKLMNOPQRSTUVW12","object":"chat.completion.chunk","created":1763800000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_1234567890","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}],"usage":null}`)
	for _, hide := range []bool{false, true} {
		b.Run(map[bool]string{false: "as it is", true: "cutting usage"}[hide], func(b *testing.B) {
			b.ReportAllocs()
			n := b.N
			for range FromOpenAI(func(yield func(Event, error) bool) {
				for range n {
					if !yield(Event{Data: chunk}, nil) {
						return
					}
				}
			}, OpenAIOptions{HideUsage: hide}) {
			}
		})
	}
}

func TestSplitOpenAI(t *testing.T) {
	const body = `{ "id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi","tool_calls":[{"id":"a"},{}]},"finish_reason":"stop"},{},{"index":2,"message":{}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`
	const first = `{"object":"chat.completion.chunk","id":"x","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"hi","tool_calls":[{"index":0,"id":"a"},{"index":1}]},"finish_reason":"stop"},{},{"index":2,"delta":{}}]}`
	const second = `{"object":"chat.completion.chunk","id":"x","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}`
	whole, err := WholeOpenAI([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		hide bool
		want []string
	}{
		{"with usage", false, []string{first, second}},
		{"without", true, []string{first}},
	} {
		t.Run(c.name, func(t *testing.T) {
			chunks, data, err := collect(SplitOpenAI(whole, OpenAIOptions{HideUsage: c.hide, RequestID: "r"}))
			if err != nil || strings.Join(data, "\n") != strings.Join(c.want, "\n") {
				t.Fatalf("got\n%s\n%v, want\n%s", strings.Join(data, "\n"), err, strings.Join(c.want, "\n"))
			}
			for _, d := range data {
				if !rawjson.Valid(string(d), maxRequestDepth) {
					t.Errorf("not JSON: %s", d)
				}
			}
			if chunks[0].Head.RequestID != "r" || chunks[0].Finish != "stop" || chunks[1].Usage == nil || !chunks[len(chunks)-1].Done {
				t.Errorf("got %+v", chunks)
			}
		})
	}
}

func FuzzSplitOpenAI(f *testing.F) {
	f.Add(`{"choices":[{"message":{"tool_calls":[{}]}}],"usage":{}}`)
	f.Fuzz(func(t *testing.T, body string) {
		whole, err := WholeOpenAI([]byte(body))
		if err != nil || !rawjson.Valid(string(body), maxRequestDepth) {
			return
		}
		_, data, _ := collect(SplitOpenAI(whole, OpenAIOptions{}))
		for _, d := range data {
			if !rawjson.Valid(string(d), maxRequestDepth) {
				t.Fatalf("%s became %s", body, d)
			}
		}
	})
}

func TestPassingAChunkOnAllocatesNothing(t *testing.T) {
	data := []byte(delta)
	events := func(yield func(Event, error) bool) {
		for yield(Event{Data: data}, nil) {
		}
	}
	next, stop := iter.Pull2(FromOpenAI(events, OpenAIOptions{HideUsage: true}))
	defer stop()
	next()
	if got := testing.AllocsPerRun(100, func() { next() }); got != 0 {
		t.Errorf("%v allocations a chunk, want none", got)
	}
}

func TestOpenAIErrorInPlainText(t *testing.T) {
	for _, c := range []struct {
		name, contentType, body string
		status, want            int
		message                 string
	}{
		{"text", "text/plain", "Bad request: no\n", 400, 400, "Bad request: no"},
		{"HTML", "text/html; charset=utf-8", "<html><head><title>x</title></head><body><h1>400 Bad&nbsp;Request</h1><p>No such &lt;field&gt;</p></body></html>", 400, 400, "400 Bad Request No such <field>"},
		{"an address is hidden", "", "see http://10.1.2.3:80/x?key=1", 422, 422, "see [hidden]"},
		{"FastAPI", "application/json", `{"detail":"no such field"}`, 400, 400, "no such field"},
		{"not implemented", "text/plain", "Not Implemented", 501, 501, "Not Implemented"},
		{"a 500 that means no", "application/json", `{"error":{"message":"audio is not supported by this model","type":"server_error"}}`, 500, 400, "audio is not supported by this model"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := OpenAIError(c.status, 0, c.contentType, []byte(c.body))
			if e.Kind != KindInvalid || e.Status != c.want || e.Message != c.message {
				t.Errorf("got %s %d %q", e.Kind, e.Status, e.Message)
			}
		})
	}
	if e := OpenAIError(500, 0, "application/json", []byte(`{"error":{"message":"context size exceeded"}}`)); e.Kind != KindServer || e.Cause() != "500 context size exceeded" {
		t.Errorf("got %s, %q", e.Kind, e.Cause())
	}
}

func TestCausesHideSecretsAndAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"Incorrect API key provided: sk-proj-abcdefghijkl1234.": "401 Incorrect API key provided: [hidden].",
		"dial tcp 10.0.0.1:443: connect: refused":               "401 dial tcp [hidden]: connect: refused",
		"dial tcp [fd00::1]:443: refused":                       "401 dial tcp [hidden]: refused",
		"Authorization: Bearer abc.def":                         "401 Authorization: [hidden]",
		"two\nlines\t\x1b[31mred":                               "401 two lines [31mred",
		strings.Repeat("é", 400):                                "401 " + strings.Repeat("é", 148) + "…",
	} {
		if got := (&UpstreamError{Status: 401, Words: text}).Cause(); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestOpenAIErrorReadsHowLongToWait(t *testing.T) {
	for body, want := range map[string]time.Duration{
		`{"error":{"message":"Rate limit reached. Please try again in 6.5s."}}`: 6500 * time.Millisecond,
		`{"error":{"message":"try again in 1m2s"}}`:                             62 * time.Second,
		`[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.07s"}]}}]`: 34070 * time.Millisecond,
		`{"error":{"message":"slow","retry_after":3}}`: 3 * time.Second,
		`{"error":{"message":"slow down"}}`:            0,
		`{"error":{"code":429,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"-34s"}],"status":"RESOURCE_EXHAUSTED"}}`: 0,
	} {
		if e := OpenAIError(429, 0, "application/json", []byte(body)); e.RetryAfter != want {
			t.Errorf("%s: got %v, want %v", body, e.RetryAfter, want)
		}
	}
}
