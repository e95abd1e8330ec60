package proxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"go.uber.org/goleak"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dollars per million tokens, as prices are stated.
func price(input, output int64) budget.Price {
	return budget.FlatPrice(input*1e9, output*1e9)
}

// stage is a server in front of scripted upstreams.
type stage struct {
	*proxy.Server
	url    string
	ledger *budget.Memory
	state  *routing.State
}

// tiers are a stage's tiers; each has one deployment, named test/<tier>.
func tiers(upstreams map[string]proxy.Upstream) []proxy.Tier {
	prices := map[string]budget.Price{"fast": price(1, 2), "balanced": price(3, 15), "powerful": price(10, 50)}
	var list []proxy.Tier
	for _, name := range []string{"fast", "balanced", "powerful"} {
		if u := upstreams[name]; u != nil {
			list = append(list, proxy.Tier{Name: name, Deployments: []proxy.Deployment{
				{Name: "test/" + name, Provider: "test", Model: name + "-model", Upstream: u, Price: prices[name]},
			}})
		}
	}
	return list
}

// newStage starts a server of tiers; configure may change its configuration.
func newStage(t *testing.T, list []proxy.Tier, configure func(*proxy.Config, *routing.Config)) *stage {
	t.Helper()
	s := newUnserved(t, list, configure)
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// newUnserved is a stage without a listener.
func newUnserved(t *testing.T, list []proxy.Tier, configure func(*proxy.Config, *routing.Config)) *stage {
	t.Helper()
	s := &stage{ledger: budget.NewMemory(budget.MemoryConfig{}), state: routing.NewState()}
	rc := routing.Config{State: s.state}
	for _, tier := range list {
		rt := routing.Tier{Name: tier.Name}
		for _, d := range tier.Deployments {
			rt.Deployments = append(rt.Deployments, routing.Deployment{Name: d.Name})
			rt.Price = max(rt.Price, d.Price.Blended())
		}
		rc.Tiers = append(rc.Tiers, rt)
	}
	c := proxy.Config{Version: "test", Tiers: list, Ledger: s.ledger, Books: s.ledger}
	if configure != nil {
		configure(&c, &rc)
	}
	var err error
	if c.Router, err = routing.New(rc); err != nil {
		t.Fatal(err)
	}
	if s.Server, err = proxy.New(c); err != nil {
		t.Fatal(err)
	}
	return s
}

// client is OpenAI's own client, unchanged but for the base URL.
func (s *stage) client(opts ...option.RequestOption) openai.Client {
	return openai.NewClient(append([]option.RequestOption{option.WithBaseURL(s.url + "/v1"), option.WithAPIKey("any"), option.WithMaxRetries(0)}, opts...)...)
}

// post sends body and returns the answer with its body read.
func (s *stage) post(t *testing.T, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	return s.do(t, "POST", path, body, headers...)
}

func (s *stage) do(t *testing.T, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header[headers[i]] = append(r.Header[headers[i]], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// says answers with text, whole or streamed, and reports usage.
func says(text string, usage translate.Usage) proxy.UpstreamFunc {
	return func(ctx context.Context, r *translate.Request) translate.Chunks {
		return func(yield func(translate.Chunk, error) bool) {
			content, _ := json.Marshal(text)
			head := &translate.Head{RequestID: "up-1"}
			counts := fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, usage.InputTokens, usage.OutputTokens, usage.InputTokens+usage.OutputTokens)
			if !r.Stream {
				yield(translate.Chunk{Whole: true, Head: head, Finish: "stop", Usage: &usage, OutputBytes: int64(len(text)), Data: fmt.Appendf(nil,
					`{"id":"c1","object":"chat.completion","created":1,"model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%s},"finish_reason":"stop"}],"usage":%s}`,
					r.Model, content, counts)}, nil)
				return
			}
			event := func(delta, finish string) translate.Chunk {
				return translate.Chunk{Data: fmt.Appendf(nil,
					`{"id":"c1","object":"chat.completion.chunk","created":1,"model":%q,"choices":[{"index":0,"delta":%s,"finish_reason":%s}]}`, r.Model, delta, finish)}
			}
			first := event(`{"role":"assistant","content":""}`, "null")
			first.Head = head
			if !yield(first, nil) {
				return
			}
			piece := event(`{"content":`+string(content)+`}`, "null")
			piece.OutputBytes = int64(len(text))
			if !yield(piece, nil) || !yield(event(`{}`, `"stop"`), nil) {
				return
			}
			last := translate.Chunk{Usage: &usage}
			if r.IncludeUsage || r.IncludeCost {
				last.Data = fmt.Appendf(nil, `{"id":"c1","object":"chat.completion.chunk","created":1,"model":%q,"choices":[],"usage":%s}`, r.Model, counts)
			}
			yield(last, nil)
		}
	}
}

// fails answers with err.
func fails(err error) proxy.UpstreamFunc {
	return func(context.Context, *translate.Request) translate.Chunks {
		return func(yield func(translate.Chunk, error) bool) { yield(translate.Chunk{}, err) }
	}
}

func chatBody(model, prompt string, extra ...string) string {
	p, _ := json.Marshal(prompt)
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%s}]`, model, p)
	for _, e := range extra {
		body += "," + e
	}
	return body + "}"
}

// wantError checks an answer's status, OpenAI error type and code.
func wantError(t *testing.T, resp *http.Response, body string, status int, kind, code string) {
	t.Helper()
	var e struct {
		Error struct{ Message, Type, Code string }
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if resp.StatusCode != status || e.Error.Type != kind || e.Error.Code != code || e.Error.Message == "" {
		t.Errorf("got %d %s, want %d %s %s", resp.StatusCode, body, status, kind, code)
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func withResponse(resp **http.Response) option.RequestOption { return option.WithResponseInto(resp) }
