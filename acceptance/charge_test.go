package acceptance

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// used is a whole answer with that usage, and more members at its top.
func used(usage string, more ...string) http.HandlerFunc {
	body := `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":` + usage
	for _, m := range more {
		body += "," + m
	}
	return answersWith(200, body+"}")
}

const thousands = `{"prompt_tokens":1000,"completion_tokens":1000,"total_tokens":2000}`

// charges asks once and compares what the answer says it cost, and what the
// user's budget says.
func charges(t *testing.T, config, usage, want string, more ...string) {
	t.Helper()
	f := newFake(t, used(usage, more...))
	s := serveConfig(t, strings.ReplaceAll(config, "FAKE", f.URL+"/v1")+"budgets: [{scope: user, usd: 10000, per: day}]\n")
	s.chat(t, asking("auto", "x")).wantHeader(t, "X-Router-Cost-Usd", want)
	if spent := s.nothingReservedOf(t, "anonymous"); spent != want {
		t.Errorf("booked %s, want %s", spent, want)
	}
}

func flat(provider, model, price string) string {
	return loopback + "tiers: {fast: [{provider: " + provider + ", model: '" + model + "', base_url: 'FAKE', api_key: k" + price + "}]}\n"
}

const oneAndTen = ", price: {input: 1, output: 10, cached_input: 0.1}"

func TestContract11_ReportedUsageIsCharged(t *testing.T) {
	for _, c := range []struct{ name, config, usage, want, more string }{
		{"64,000 reasoning tokens of gpt-5", flat("openai", "gpt-5", ""),
			`{"prompt_tokens":100,"completion_tokens":64000,"completion_tokens_details":{"reasoning_tokens":63999}}`, "0.640125", ""},
		{"up to 100 million tokens", flat("openai", "m", oneAndTen), `{"prompt_tokens":1000000,"completion_tokens":99000000}`, "991", ""},
		{"Moonshot's cached tokens", flat("openai", "m", oneAndTen), `{"prompt_tokens":1000,"completion_tokens":10,"cached_tokens":900}`, "0.00029", ""},
		{"flex is half", flat("openai", "m", oneAndTen), thousands, "0.0055", `"service_tier":"flex"`},
		{"priority is twice", flat("openai", "m", oneAndTen), thousands, "0.022", `"service_tier":"priority"`},
		{"default is the plain price", flat("openai", "m", oneAndTen), thousands, "0.011", `"service_tier":"default"`},
		{"a listed model's own factor, 1.8", flat("openai", "gpt-5-mini", ", price: {input: 1, output: 10}"), thousands, "0.0198", `"service_tier":"priority"`},
		{"OpenRouter's cost", flat("openrouter", "m", oneAndTen), `{"prompt_tokens":1000,"completion_tokens":1000,"cost":0.5,"cost_details":{"upstream_inference_cost":null}}`, "0.5", ""},
		{"OpenRouter's cost of nothing", flat("openrouter", "m", oneAndTen), `{"prompt_tokens":1000,"completion_tokens":1000,"cost":0}`, "0", ""},
		{"OpenRouter with a key of one's own", flat("openrouter", "m", oneAndTen), `{"prompt_tokens":1,"completion_tokens":1,"cost":1.5e-05,"is_byok":true,"cost_details":{"upstream_inference_cost":0.001}}`, "0.001015", ""},
		{"OpenRouter's cost below 0", flat("openrouter", "m", oneAndTen), `{"prompt_tokens":1000,"completion_tokens":1000,"cost":-1}`, "0.011", ""},
		{"the word of others is not taken", flat("openai", "m", oneAndTen), `{"prompt_tokens":1000,"completion_tokens":1000,"cost":0.5}`, "0.011", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.more == "" {
				charges(t, c.config, c.usage, c.want)
			} else {
				charges(t, c.config, c.usage, c.want, c.more)
			}
		})
	}
}

// TestContract11_MalformedUsage: what cannot be is charged by the reservation.
func TestContract11_MalformedUsage(t *testing.T) {
	for _, usage := range []string{
		`{"prompt_tokens":1,"completion_tokens":100000000}`, // 100,000,001 in all
		`{"prompt_tokens":-1,"completion_tokens":1}`,
		`{"prompt_tokens":1,"completion_tokens":1.5}`,
		`{"prompt_tokens":"many","completion_tokens":1}`,
		`{"prompt_tokens":1,"completion_tokens":1e300}`,
		`[]`,
	} {
		t.Run(usage, func(t *testing.T) {
			f := newFake(t, used(usage))
			s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+"budgets: [{scope: user, usd: 1, per: day}]\n")
			a := s.chat(t, asking("auto", "x", `"max_tokens":1000`))
			if cost := nano(t, a.header.Get("X-Router-Cost-Usd")); cost < 10_000_000 || cost > 11_000_000 {
				t.Errorf("charged %d nano-dollars, want the reservation of 1,000 output tokens", cost)
			}
		})
	}
}

// TestContract11_TheGreatestOfSeveralUsages is of a stream that counts as it
// goes, tells its tier once, and takes a count back at the end.
func TestContract11_TheGreatestOfSeveralUsages(t *testing.T) {
	chunk := `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":%s}],"usage":{"prompt_tokens":1000,"completion_tokens":%d}%s}`
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		sse(w, fmt.Sprintf(chunk, "null", 1, `,"service_tier":"priority"`), fmt.Sprintf(chunk, "null", 1000, ""), fmt.Sprintf(chunk, `"stop"`, 10, ""), "[DONE]")
	})
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+"budgets: [{scope: user, usd: 1, per: day}]\n")
	s.chat(t, asking("auto", "x", `"stream":true`))
	if spent := s.nothingReservedOf(t, "anonymous"); spent != "0.022" {
		t.Errorf("booked %s, want 0.022: 1,000 tokens each way at twice the price", spent)
	}
}

// TestContract11_ReservedByTier: a request for a dearer tier is held at its
// price, so that a budget for the plain one does not admit it at full length.
func TestContract11_ReservedByTier(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		tier := bodyOf(r).Get("service_tier").Str
		n := bodyOf(r).Get("max_tokens").Int()
		used(fmt.Sprintf(`{"prompt_tokens":1,"completion_tokens":%d}`, n), `"service_tier":"`+tier+`"`)(w, r)
	})
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+"budgets: [{scope: user, usd: 0.015, per: day, on_exhausted: reject}]\n")
	a := s.chat(t, asking("auto", "x", `"max_tokens":1000`, `"service_tier":"priority"`))
	if a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if spent := nano(t, s.nothingReservedOf(t, "anonymous")); spent > 15_000_000 {
		t.Errorf("booked %d nano-dollars of 15,000,000", spent)
	}
	if n := gjson.Get(f.last(t).body, "max_tokens").Int(); n > 750 || n < 500 {
		t.Errorf("%d output tokens at $20 a million admitted to $0.015", n)
	}
}

// TestContract11_NoPriceUnderAnExactBudget: what nobody has a price for is
// refused, and named; the operator's params lift that.
func TestContract11_NoPriceUnderAnExactBudget(t *testing.T) {
	const exact = "budgets: [{scope: user, usd: 1, per: day, on_exhausted: reject}]\n"
	f := newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+exact)
	for field, value := range map[string]string{
		"service_tier": `"ultrafast"`, "speed": `"ludicrous"`, "modalities": `["text","audio"]`, "web_search_options": `{}`,
		"tools": `[{"type":"web_search"}]`, "plugins": `[{"id":"web"}]`,
	} {
		a := s.chat(t, asking("auto", "x", fmt.Sprintf("%q:%s", field, value)))
		a.wantError(t, 400, "invalid_request_error", "price_unknown")
		if got := a.get("error.param").Str; got != field {
			t.Errorf("param %q, want %q", got, field)
		}
	}
	if n := len(f.seen()); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
	for _, tier := range []string{"auto", "default", "flex", "priority"} {
		if a := s.chat(t, asking("auto", "x", `"service_tier":"`+tier+`"`)); a.status != 200 {
			t.Errorf("%s: %d %s", tier, a.status, a.body)
		}
	}
	for _, params := range []string{"params: {drop: [service_tier]}", "params: {set: {service_tier: default}}"} {
		s := serveConfig(t, oneTierOf(upstreamLine(f, "m", params))+exact)
		if a := s.chat(t, asking("auto", "x", `"service_tier":"ultrafast"`)); a.status != 200 {
			t.Errorf("%s: %d %s", params, a.status, a.body)
		}
	}
	s = serveConfig(t, oneTierOf(upstreamLine(f, "m", "params: {set: {service_tier: ultrafast}}"))+exact)
	s.chat(t, asking("auto", "x")).wantError(t, 400, "invalid_request_error", "price_unknown")
}

// bodyOf is a request's JSON, which can be read again.
func bodyOf(r *http.Request) gjson.Result {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return gjson.ParseBytes(body)
}
