package conformance

import (
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/proxy/upstream"
	"github.com/inference-router/inference-router/proxy/upstream/anthropictest"
	"github.com/inference-router/inference-router/routing"
)

// Every client does everything through the router, whichever dialect the model
// behind it speaks.
func TestClientsThroughTheRouter(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Node and Python")
	}
	for name, connect := range map[string]func(*testing.T) proxy.Upstream{
		"an OpenAI-compatible API, passed through": func(t *testing.T) proxy.Upstream {
			return must(upstream.NewOpenAI(upstream.OpenAIConfig{Name: "player", Provider: "openai", BaseURL: OpenAI(t), APIKey: "sk-player"}))(t)
		},
		"Anthropic's Messages, with a thinking budget": func(t *testing.T) proxy.Upstream {
			return must(upstream.NewAnthropic(upstream.AnthropicConfig{Name: "player", Model: "claude-sonnet-4-5", Endpoint: Anthropic(t), APIKey: anthropictest.Key}))(t)
		},
		"Anthropic's Messages, with adaptive thinking": func(t *testing.T) proxy.Upstream {
			return must(upstream.NewAnthropic(upstream.AnthropicConfig{Name: "player", Model: "claude-opus-4-6", Endpoint: Anthropic(t), APIKey: anthropictest.Key}))(t)
		},
		"Bedrock's Converse": func(t *testing.T) proxy.Upstream {
			return must(upstream.NewBedrock(upstream.BedrockConfig{
				Name: "player", Model: "us.anthropic.claude-sonnet-4-5-20250929-v1:0", Region: "us-east-1", Endpoint: Bedrock(t),
				Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
			}))(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			Run(t, Target{BaseURL: router(t, connect(t)) + "/v1", APIKey: "sk-client", Model: "auto", EmbeddingModel: "embed"})
		})
	}
}

// must ends the test unless the upstream could be made, and closes it with the
// test.
func must[U interface {
	proxy.Upstream
	Close()
}](u U, err error) func(*testing.T) proxy.Upstream {
	return func(t *testing.T) proxy.Upstream {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(u.Close)
		return u
	}
}

// router starts a router with one model and one embedding model, and returns
// its root.
func router(t *testing.T, u proxy.Upstream) string {
	t.Helper()
	ledger := budget.NewMemory(budget.MemoryConfig{})
	embedder, err := upstream.NewOpenAIEmbeddings(upstream.OpenAIConfig{Name: "embed", Provider: "openai", BaseURL: OpenAI(t), APIKey: "sk-player"}, "e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(embedder.Close)
	decide, err := routing.New(routing.Config{
		State: routing.NewState(),
		Tiers: []routing.Tier{{Name: "only", Deployments: []routing.Deployment{{Name: "test/player"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	server, err := proxy.New(proxy.Config{
		Version: "test", Router: decide, Ledger: ledger, Books: ledger,
		Tiers: []proxy.Tier{{Name: "only", Deployments: []proxy.Deployment{
			{Name: "test/player", Provider: "test", Model: "player", Upstream: u, Price: budget.FlatPrice(1e9, 2e9)},
		}}},
		Embeddings: []proxy.Deployment{{Name: "test/embed", Provider: "test", Model: "embed", Embedder: embedder, Price: budget.FlatPrice(1e9, 0)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server.Handler())
	t.Cleanup(front.Close)
	return front.URL
}
