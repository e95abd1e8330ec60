package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/proxy/upstream/anthropictest"
	"github.com/inference-router/inference-router/translate"
)

// claude makes the upstream of a fake.
func claude(t *testing.T, fake *anthropictest.Server, change ...func(*AnthropicConfig)) *Anthropic {
	t.Helper()
	c := AnthropicConfig{Name: "test", Model: "claude-sonnet-4-5", Endpoint: fake.URL, APIKey: anthropictest.Key}
	for _, f := range change {
		f(&c)
	}
	a, err := NewAnthropic(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// listen reads an answer to its end: the chunks' data, and the last error.
func listen(answer translate.Chunks) (data []string, chunks []translate.Chunk, err error) {
	for c, e := range answer {
		if e != nil {
			return data, chunks, e
		}
		if len(c.Data) > 0 && !c.Comment {
			data = append(data, string(c.Data))
		}
		c.Data = nil // it does not outlive the loop
		chunks = append(chunks, c)
	}
	return data, chunks, nil
}

func upstreamError(t *testing.T, err error) *translate.UpstreamError {
	t.Helper()
	var failed *translate.UpstreamError
	if !errors.As(err, &failed) {
		t.Fatalf("got %v, want an *translate.UpstreamError", err)
	}
	if strings.Contains(failed.Message, anthropictest.Key) {
		t.Errorf("the message tells our key: %s", failed.Message)
	}
	return failed
}

var hello = anthropictest.Answer{Message: anthropictest.Message{
	Blocks: []anthropictest.Block{anthropictest.Text("Hello", " there.")},
	Usage:  anthropictest.Usage{Input: 10, Output: 5},
}}

func TestAnthropicAnswersWhole(t *testing.T) {
	fake := anthropictest.New(t, hello)
	a := claude(t, fake, func(c *AnthropicConfig) {
		c.Betas = []string{"a-1", "b-2"}
		c.Headers = map[string]string{"X-Extra": "1"}
	})
	r := request(t, `{"model":"auto","seed":1,"verbosity":"low","messages":[{"role":"user","content":"hi"}]}`)
	r.AnswerModel = "my-claude"
	data, chunks, err := listen(a.Chat(t.Context(), r))
	if err != nil {
		t.Fatal(err)
	}
	if len(data) != 1 || !chunks[0].Whole || gjson.Get(data[0], "choices.0.message.content").Str != "Hello there." {
		t.Errorf("got %v, want one whole answer", data)
	}
	if got := gjson.Get(data[0], "model").Str; got != "my-claude" {
		t.Errorf("got model %q, want what the proxy calls it", got)
	}
	head := chunks[0].Head
	if head == nil || head.RequestID != "req_test" || strings.Join(head.Dropped, " ") != "verbosity" || head.Created == 0 {
		t.Errorf("got head %+v", head)
	}
	sent := fake.Requests()[0]
	for name, want := range map[string]string{
		"X-Api-Key": anthropictest.Key, "Anthropic-Version": "2023-06-01", "Anthropic-Beta": "a-1,b-2",
		"X-Extra": "1", "Authorization": "", "Content-Type": "application/json",
	} {
		if got := sent.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := gjson.GetBytes(sent.Body, "model").Str; got != "claude-sonnet-4-5" || sent.Path != "/v1/messages" {
		t.Errorf("got model %q at %s", got, sent.Path)
	}
}

func TestAnthropicAnswersInAStream(t *testing.T) {
	noisy := hello
	noisy.Noise = true
	for name, answer := range map[string]anthropictest.Answer{"plain": hello, "with pings and events still unknown": noisy} {
		t.Run(name, func(t *testing.T) {
			a := claude(t, anthropictest.New(t, answer))
			data, chunks, err := listen(a.Chat(t.Context(), request(t, askStream)))
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			for _, d := range data {
				text += gjson.Get(d, "choices.0.delta.content").Str
			}
			if text != "Hello there." || len(data) != 4 {
				t.Errorf("got %q in %v, want role, two texts, finish", text, data)
			}
			if chunks[0].Head == nil || !chunks[len(chunks)-1].Done {
				t.Errorf("got head %v first and done %v last", chunks[0].Head, chunks[len(chunks)-1].Done)
			}
		})
	}
}

// Reasoning, calls and their results make the way there and back: the fake
// refuses turns that are not paired and thoughts without their signature.
func TestAToolLoopThroughAnthropic(t *testing.T) {
	calls := anthropictest.Answer{Message: anthropictest.Message{
		Blocks: []anthropictest.Block{
			anthropictest.Thinking("c2ln", "I must ", "\"look\"."), anthropictest.Redacted("AAEC"), anthropictest.Text("Let me look."),
			anthropictest.ToolUse("toolu_1", "get_weather", `{"city":`, `"Paris","id":9007199254740993}`), anthropictest.ToolUse("toolu_2", "now"),
		},
		Stop: "tool_use", Usage: anthropictest.Usage{Input: 100, Output: 50},
	}}
	const tools = `"reasoning_effort":"low","tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object"}}},{"type":"function","function":{"name":"now"}}]`
	const asked = `{"role":"user","content":"Weather?"}`
	for name, stream := range map[string]string{"whole": "", "streamed": `"stream":true,`} {
		t.Run(name, func(t *testing.T) {
			fake := anthropictest.New(t, calls, hello)
			a := claude(t, fake)
			whole, err := translate.Join(a.Chat(t.Context(), request(t, `{"model":"m",`+stream+tools+`,"messages":[`+asked+`]}`)))
			if err != nil {
				t.Fatal(err)
			}
			message := gjson.GetBytes(whole, "choices.0.message")
			turns := asked + "," + message.Raw + `,{"role":"tool","tool_call_id":"toolu_2","content":"noon"},{"role":"tool","tool_call_id":"toolu_1","content":"18"}`
			if _, _, err := listen(a.Chat(t.Context(), request(t, `{"model":"m",`+stream+tools+`,"messages":[`+turns+`]}`))); err != nil {
				t.Fatalf("%v, for %s", err, turns)
			}
			got := gjson.GetBytes(fake.Requests()[1].Body, "messages.1.content").Raw
			want := `[{"type":"thinking","thinking":"I must \"look\".","signature":"c2ln"},{"type":"redacted_thinking","data":"AAEC"},{"type":"text","text":"Let me look."},` +
				`{"type":"tool_use","id":"toolu_1","name":"get_weather","input":{"city":"Paris","id":9007199254740993}},{"type":"tool_use","id":"toolu_2","name":"now","input":{}}]`
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// What translation writes is what the API is documented to accept.
func TestTheFakeAcceptsEveryTranslatedRequest(t *testing.T) {
	files, _ := filepath.Glob("../../translate/testdata/anthropic/*.requests.golden")
	checked := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := ""
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSpace(line)
			if text, ok := strings.CutPrefix(line, "# "); ok {
				name = text
			}
			if !strings.HasPrefix(line, "{") {
				continue
			}
			checked++
			if err := anthropictest.Check([]byte(line)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d requests were checked", checked)
	}
}

func TestAnthropicRefusals(t *testing.T) {
	refuse := func(status int, kind, message string) anthropictest.Answer {
		return anthropictest.Answer{Status: status, Body: anthropictest.ErrorBody(kind, message), Header: map[string]string{"Retry-After": "7"}}
	}
	for name, tt := range map[string]struct {
		answer anthropictest.Answer
		kind   translate.Kind
		wait   time.Duration
	}{
		"overloaded":   {refuse(529, "overloaded_error", "Overloaded"), translate.KindOverloaded, 7 * time.Second},
		"rate limited": {refuse(429, "rate_limit_error", "x"), translate.KindRateLimited, 7 * time.Second},
		"invalid":      {refuse(400, "invalid_request_error", "messages.0: no"), translate.KindInvalid, 7 * time.Second},
		"HTML for 502": {anthropictest.Answer{Status: 502, Body: "<html>"}, translate.KindServer, 0},
		"HTML for 200": {anthropictest.Answer{Status: 200, Header: map[string]string{"Content-Type": "text/html"}, Body: "<html>"}, translate.KindBadResponse, 0},
		"broken JSON":  {anthropictest.Answer{Status: 200, Body: `{"type":"message","content":[`}, translate.KindBadResponse, 0},
	} {
		for kind, body := range map[string]string{"whole": ask, "streamed": askStream} {
			t.Run(name+", "+kind, func(t *testing.T) {
				data, _, err := listen(claude(t, anthropictest.New(t, tt.answer)).Chat(t.Context(), request(t, body)))
				failed := upstreamError(t, err)
				if failed.Kind != tt.kind || failed.RetryAfter != tt.wait || len(data) > 0 {
					t.Errorf("got %s, retry after %v, data %v; want %s, %v and none", failed.Kind, failed.RetryAfter, data, tt.kind, tt.wait)
				}
			})
		}
	}
}

func TestAnthropicCredentials(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*AnthropicConfig)
		client translate.Secret
		kind   translate.Kind // "" when it is fine
		code   string
	}{
		"our key":                     {func(*AnthropicConfig) {}, "sk-client", "", ""},
		"our key as a bearer token":   {func(c *AnthropicConfig) { c.Bearer = true }, "", "", ""},
		"our key is wrong":            {func(c *AnthropicConfig) { c.APIKey = "sk-wrong" }, "", translate.KindAuth, "upstream_auth_error"},
		"the client's key":            {func(c *AnthropicConfig) { c.APIKey = ""; c.ForwardClientKey = true }, anthropictest.Key, "", ""},
		"the client's key is wrong":   {func(c *AnthropicConfig) { c.ForwardClientKey = true }, "sk-client", translate.KindInvalid, "invalid_api_key"},
		"the client's key is missing": {func(c *AnthropicConfig) { c.ForwardClientKey = true }, "", translate.KindInvalid, "invalid_api_key"},
	} {
		t.Run(name, func(t *testing.T) {
			fake := anthropictest.New(t)
			r := request(t, ask)
			r.ClientKey = tt.client
			r.Forward = map[string]string{"Traceparent": "tp", "Anthropic-Version": "1999-01-01"}
			_, _, err := listen(claude(t, fake, tt.change).Chat(t.Context(), r))
			if got := fake.Requests()[0].Header.Get("Traceparent"); got != "tp" {
				t.Errorf("got traceparent %q, want it passed on", got)
			}
			if tt.kind == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if failed := upstreamError(t, err); failed.Kind != tt.kind || failed.Code != tt.code {
				t.Errorf("got %s, %s; want %s, %s", failed.Kind, failed.Code, tt.kind, tt.code)
			}
		})
	}
}

func TestAnthropicStreamsThatBreak(t *testing.T) {
	broken := func(fault anthropictest.Fault, after int) anthropictest.Answer {
		a := hello
		a.Fault, a.After = fault, after
		return a
	}
	for name, tt := range map[string]struct {
		answer anthropictest.Answer
		kind   translate.Kind
		billed translate.Billed
		data   int // chunks the client gets
	}{
		"an error is all that comes":        {broken(anthropictest.ErrorEvent, 0), translate.KindOverloaded, translate.BilledNothing, 0},
		"an error in the middle":            {broken(anthropictest.ErrorEvent, 3), translate.KindOverloaded, translate.BilledPartly, 2},
		"nothing comes":                     {broken(anthropictest.Cut, 0), translate.KindBadResponse, translate.BilledUnknown, 0},
		"cut in the middle":                 {broken(anthropictest.Cut, 3), translate.KindInterrupted, translate.BilledPartly, 2},
		"cut just before message_stop":      {broken(anthropictest.Cut, 6), translate.KindInterrupted, translate.BilledPartly, 3},
		"a reset in the middle":             {broken(anthropictest.Reset, 3), translate.KindInterrupted, translate.BilledPartly, 2},
		"a reset before anything came back": {broken(anthropictest.Reset, 0), translate.KindUnknownState, translate.BilledUnknown, 0},
	} {
		t.Run(name, func(t *testing.T) {
			data, _, err := listen(claude(t, anthropictest.New(t, tt.answer)).Chat(t.Context(), request(t, askStream)))
			failed := upstreamError(t, err)
			if failed.Kind != tt.kind || failed.Billed != tt.billed || len(data) != tt.data {
				t.Errorf("got %s, billed %v, after %d chunks; want %s, %v, %d (%v)", failed.Kind, failed.Billed, len(data), tt.kind, tt.billed, tt.data, err)
			}
		})
	}
}

func TestAStreamThatIsAnsweredWholeIsMadeOne(t *testing.T) {
	whole := anthropictest.Answer{Status: 200, Body: hello.Message.JSON()}
	data, chunks, err := listen(claude(t, anthropictest.New(t, whole)).Chat(t.Context(), request(t, askStream)))
	if err != nil {
		t.Fatal(err)
	}
	if len(data) != 3 || gjson.Get(data[1], "choices.0.delta.content").Str != "Hello there." || chunks[0].Whole || !chunks[len(chunks)-1].Done {
		t.Errorf("got %v, want role, text and finish", data)
	}
}

func TestTheClientsLeavingEndsTheCallToAnthropic(t *testing.T) {
	held := hello
	held.Hold, held.After = make(chan struct{}), 3
	t.Run("by its context", func(t *testing.T) {
		fake := anthropictest.New(t, held)
		gone := errors.New("client gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		chunks := 0
		var last error
		for _, err := range claude(t, fake).Chat(ctx, request(t, askStream)) {
			if last = err; err == nil {
				if chunks++; chunks == 2 {
					cancel(gone)
				}
			}
		}
		if !errors.Is(last, gone) {
			t.Errorf("got %v, want the cause", last)
		}
		<-fake.Gone()
	})
	t.Run("by leaving the loop", func(t *testing.T) {
		fake := anthropictest.New(t, held)
		for range claude(t, fake).Chat(t.Context(), request(t, askStream)) {
			break
		}
		<-fake.Gone()
	})
}

func TestAModelThatLacksAFieldIsAskedOnceMoreWithout(t *testing.T) {
	refusal := anthropictest.Answer{Status: 400, Body: anthropictest.ErrorBody("invalid_request_error", "`temperature` is deprecated for this model.")}
	fake := anthropictest.New(t, refusal)
	a := claude(t, fake)
	r := request(t, `{"model":"m","temperature":0.5,"messages":[{"role":"user","content":"hi"}]}`)
	for range 2 {
		_, chunks, err := listen(a.Chat(t.Context(), r))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(chunks[0].Head.Dropped, " "); got != "temperature" {
			t.Errorf("got dropped %q, want temperature", got)
		}
	}
	var sent []bool
	for _, r := range fake.Requests() {
		sent = append(sent, gjson.GetBytes(r.Body, "temperature").Exists())
	}
	if len(sent) != 3 || !sent[0] || sent[1] || sent[2] {
		t.Errorf("temperature was sent in %v; want it once, and not again once it was refused", sent)
	}
}

func TestWhatAnthropicCannotSayIsRefusedBeforeACall(t *testing.T) {
	fake := anthropictest.New(t)
	_, _, err := listen(claude(t, fake).Chat(t.Context(), request(t, `{"model":"m","n":2,"messages":[{"role":"user","content":"hi"}]}`)))
	var invalid *translate.InvalidError
	if !errors.As(err, &invalid) || invalid.Param != "n" || len(fake.Requests()) != 0 {
		t.Errorf("got %v after %d calls, want n to be refused", err, len(fake.Requests()))
	}
}

func TestAnOperatorsCapabilitiesWin(t *testing.T) {
	fake := anthropictest.New(t)
	a := claude(t, fake, func(c *AnthropicConfig) {
		c.Capabilities = translate.CapabilityOverrides{Sampling: "none", MaxOutput: 500}
		c.MaxTokens = 1000
	})
	if _, _, err := listen(a.Chat(t.Context(), request(t, `{"model":"m","temperature":0.5,"messages":[{"role":"user","content":"hi"}]}`))); err != nil {
		t.Fatal(err)
	}
	body := fake.Requests()[0].Body
	if gjson.GetBytes(body, "temperature").Exists() || gjson.GetBytes(body, "max_tokens").Int() != 500 {
		t.Errorf("got %s, want no temperature and at most 500 tokens", body)
	}
}

func TestNewAnthropicRefuses(t *testing.T) {
	for name, c := range map[string]AnthropicConfig{
		"no model":              {},
		"an endpoint with /v1":  {Model: "m", Endpoint: "https://api.anthropic.com/v1/"},
		"an endpoint of no URL": {Model: "m", Endpoint: "api.anthropic.com"},
		"a header in two lines": {Model: "m", Headers: map[string]string{"X": "a\r\nb"}},
		"a key in two lines":    {Model: "m", APIKey: "a\nb"},
		"unknown capabilities":  {Model: "m", Capabilities: translate.CapabilityOverrides{Sampling: "maybe"}},
	} {
		c.Name = "mine"
		if _, err := NewAnthropic(c); err == nil || !strings.Contains(err.Error(), "mine") {
			t.Errorf("%s: got %v, want an error that names the upstream", name, err)
		}
	}
	if _, err := NewAnthropic(AnthropicConfig{Model: "m"}); err != nil {
		t.Errorf("the provider's own endpoint: %v", err)
	}
}

func TestAnthropicsKeyIsNotPrinted(t *testing.T) {
	c := AnthropicConfig{APIKey: "sk-secret"}
	text, err := json.Marshal(c)
	if err != nil || strings.Contains(string(text), "sk-secret") {
		t.Errorf("got %s, %v", text, err)
	}
}

func BenchmarkAnthropicChat(b *testing.B) {
	fake := anthropictest.New(b)
	a, err := NewAnthropic(AnthropicConfig{Name: "test", Model: "claude-sonnet-4-5", Endpoint: fake.URL, APIKey: anthropictest.Key})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	r, err := translate.ParseRequest([]byte(ask))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range a.Chat(context.Background(), r) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// What a model refuses is left out at once, and from the next request on.
func TestAnthropicRefusedOnceIsNeverSentAgain(t *testing.T) {
	const tool = `"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}}}]`
	const format = `"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}}}`
	for name, tt := range map[string]struct {
		model, fields string
		refusals      []string
		gone          []string // paths of what is not sent again
	}{
		"forced tools":        {"claude-opus-5", tool + `,"tool_choice":"required"`, []string{`tool_choice: type "tool" and "any" are not supported for this model.`}, []string{"tool_choice"}},
		"strict tools":        {"claude-opus-5", tool, []string{"tools.0.custom.strict: Extra inputs are not permitted"}, []string{"tools.0.strict"}},
		"schemas":             {"claude-opus-5", format, []string{"output_config.format: Extra inputs are not permitted"}, []string{"output_config.format"}},
		"sampling":            {"claude-opus-4-6", `"temperature":0.5`, []string{"`temperature` is not supported for this model."}, []string{"temperature"}},
		"the greatest effort": {"claude-opus-5", `"reasoning_effort":"max"`, []string{"output_config.effort: 'max' is not supported by this model."}, []string{`output_config.#(effort=="max")`}},
		"disabled thinking":   {"claude-opus-5", `"reasoning_effort":"none"`, []string{`"thinking.type.disabled" is not supported for this model.`}, []string{"thinking"}},
		"several at once": {"claude-opus-5", tool + `,` + format + `,"tool_choice":"required"`, []string{
			"tools.0.custom.strict: Extra inputs are not permitted",
			"output_config.format: Extra inputs are not permitted",
			`tool_choice: type "tool" and "any" are not supported for this model.`,
		}, []string{"tools.0.strict", "output_config.format", "tool_choice"}},
	} {
		for kind, stream := range map[string]string{"whole": "", "streamed": `"stream":true,`} {
			t.Run(name+", "+kind, func(t *testing.T) {
				var script []anthropictest.Answer
				for _, refusal := range tt.refusals {
					script = append(script, anthropictest.Answer{Status: 400, Body: anthropictest.ErrorBody("invalid_request_error", refusal)})
				}
				fake := anthropictest.New(t, script...)
				a := claude(t, fake, func(c *AnthropicConfig) { c.Model = tt.model })
				for i := range 2 {
					if _, _, err := listen(a.Chat(t.Context(), request(t, `{"model":"m",`+stream+`"messages":[{"role":"user","content":"hi"}],`+tt.fields+`}`))); err != nil {
						t.Fatal(err)
					}
					if got, want := len(fake.Requests()), len(tt.refusals)+1+i; got != want {
						t.Errorf("request %d: %d calls in all, want %d", i, got, want)
					}
				}
				first, last := fake.Requests()[0].Body, fake.Requests()[len(tt.refusals)+1].Body
				for _, path := range tt.gone {
					if path == `output_config.#(effort=="max")` {
						path = "output_config.effort"
						if gjson.GetBytes(first, path).Str != "max" || gjson.GetBytes(last, path).Str != "xhigh" {
							t.Errorf("sent %s, then %s", first, last)
						}
						continue
					}
					if !gjson.GetBytes(first, path).Exists() && len(tt.refusals) == 1 || gjson.GetBytes(last, path).Exists() {
						t.Errorf("%s: sent %s, then %s", path, first, last)
					}
				}
			})
		}
	}
}
