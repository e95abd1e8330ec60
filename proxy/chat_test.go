package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"

	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/translate"
)

func threeTiers() []proxy.Tier {
	return tiers(map[string]proxy.Upstream{
		"fast":     says("fast says hi", translate.Usage{InputTokens: 10, OutputTokens: 5}),
		"balanced": says("balanced says hi", translate.Usage{InputTokens: 10, OutputTokens: 5}),
		"powerful": says("powerful says hi", translate.Usage{InputTokens: 10, OutputTokens: 5}),
	})
}

func TestOpenAIClientGetsAWholeAnswer(t *testing.T) {
	s := newStage(t, threeTiers(), nil)
	var resp *http.Response
	client := s.client()
	got, err := client.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{
		Model: "auto", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("what is the capital of France?")},
	}, withResponse(&resp))
	if err != nil {
		t.Fatal(err)
	}
	if got.Choices[0].Message.Content != "fast says hi" || got.Usage.TotalTokens != 15 {
		t.Errorf("got %s", got.RawJSON())
	}
	for name, want := range map[string]string{
		"X-Router-Tier": "fast", "X-Router-Model": "test/fast-model", "X-Router-Strategy": "ComplexityStrategy",
		"X-Router-Score": "0.0", "X-Router-Fallback": "false", "X-Router-Attempts": "1",
		"X-Router-Cost-Usd": "0.00002", "X-Router-Upstream-Request-Id": "up-1",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"X-Request-Id", "X-Router-Decision", "X-Router-Reason", "X-Router-Latency-Ms", "X-Router-Overhead-Ms"} {
		if resp.Header.Get(name) == "" {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestOpenAIClientGetsAStream(t *testing.T) {
	s := newStage(t, threeTiers(), nil)
	client := s.client()
	stream := client.Chat.Completions.NewStreaming(t.Context(), openai.ChatCompletionNewParams{
		Model: "powerful", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")},
		StreamOptions: openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)},
	})
	acc := openai.ChatCompletionAccumulator{}
	for stream.Next() {
		if !acc.AddChunk(stream.Current()) {
			t.Errorf("chunk not accepted: %s", stream.Current().RawJSON())
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if acc.Choices[0].Message.Content != "powerful says hi" || acc.Usage.TotalTokens != 15 {
		t.Errorf("got %+v", acc.ChatCompletion)
	}
}

func TestStreamEndsWithDoneAndTrailers(t *testing.T) {
	s := newStage(t, threeTiers(), nil)
	resp, body := s.post(t, "/v1/chat/completions", chatBody("fast", "hi", `"stream":true`, `"usage":{"include":true}`))
	if !strings.HasSuffix(body, "data: [DONE]\n\n") {
		t.Errorf("got %q", body)
	}
	if !strings.Contains(body, `"cost":0.00002`) {
		t.Errorf("no cost in %q", body)
	}
	if got := resp.Trailer.Get("X-Router-Cost-USD"); got != "0.00002" {
		t.Errorf("cost trailer: got %q", got)
	}
	if resp.Trailer.Get("X-Router-Latency-Ms") == "" || resp.Trailer.Get("X-Router-Overhead-Ms") == "" {
		t.Errorf("trailers: got %v", resp.Trailer)
	}
}
