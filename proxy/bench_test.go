package proxy_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

// discard is a client that takes everything and keeps nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Flush()                      {}

// benchmarked is the three-strategy chain with a user budget, as most would run
// it, over an upstream that costs nothing.
func benchmarked(b *testing.B, upstream proxy.UpstreamFunc) http.Handler {
	b.Helper()
	ledger := budget.NewMemory(budget.MemoryConfig{})
	list := tiers(map[string]proxy.Upstream{"fast": upstream, "balanced": upstream, "powerful": upstream})
	rc := routing.Config{Strategies: []routing.Strategy{
		routing.NewCost(routing.CostConfig{}), routing.NewLatency(routing.LatencyConfig{SLA: 1e9}), routing.NewComplexity(routing.ComplexityConfig{}),
	}}
	for _, t := range list {
		rc.Tiers = append(rc.Tiers, routing.Tier{Name: t.Name, Price: t.Deployments[0].Price.Blended(), Deployments: []routing.Deployment{{Name: t.Deployments[0].Name}}})
	}
	router, err := routing.New(rc)
	if err != nil {
		b.Fatal(err)
	}
	s, err := proxy.New(proxy.Config{Tiers: list, Router: router, Ledger: ledger, Books: ledger, Log: slog.New(slog.NewJSONHandler(io.Discard, nil)),
		Budgets: []proxy.Budget{{Scope: budget.ScopeUser, Amount: 1e15, Hard: true}}})
	if err != nil {
		b.Fatal(err)
	}
	return s.Handler()
}

// BenchmarkChat is the router's own work for a whole answer, without the
// network.
func BenchmarkChat(b *testing.B) {
	answer := []byte(wholeAnswer)
	usage := &translate.Usage{InputTokens: 3, OutputTokens: 2}
	h := benchmarked(b, func(context.Context, *translate.Request) translate.Chunks {
		return func(yield func(translate.Chunk, error) bool) {
			yield(translate.Chunk{Whole: true, Data: answer, Usage: usage, Finish: "stop", OutputBytes: 5, Head: &translate.Head{}}, nil)
		}
	})
	for _, size := range []int{1 << 10, 10 << 10, 100 << 10} {
		body := chatBody("auto", strings.Repeat("some words to read, ", size/20))
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(body))
				r.Header.Set("X-Router-User", "ann")
				h.ServeHTTP(&discard{http.Header{}}, r)
			}
		})
	}
}
