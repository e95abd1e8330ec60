// Command upstream puts an API of one's own behind the router: shout is all
// there is to an upstream.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"strings"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

// shout answers with the prompt in capitals. A real one would call its API
// with ctx here and yield what comes, one chunk for each piece.
func shout(_ context.Context, r *translate.Request) translate.Chunks {
	return func(yield func(translate.Chunk, error) bool) {
		text := strings.ToUpper(r.Prompt())
		content, _ := json.Marshal(text) // a string always marshals
		object, part := "chat.completion", "message"
		if r.Stream {
			object, part = "chat.completion.chunk", "delta"
		}
		yield(translate.Chunk{
			Data: fmt.Appendf(nil, `{"id":"shout","object":%q,"created":0,"model":"shout","choices":[{"index":0,%q:{"role":"assistant","content":%s},"finish_reason":"stop"}]}`,
				object, part, content),
			Whole:       !r.Stream,
			Finish:      "stop",
			OutputBytes: int64(len(text)),
			Usage:       &translate.Usage{InputTokens: int64(len(r.Prompt())), OutputTokens: int64(len(text))},
			Head:        &translate.Head{RequestID: "shout"},
		}, nil)
	}
}

// newServer has one tier with that upstream in it.
func newServer() (*proxy.Server, error) {
	decider, err := routing.New(routing.Config{Tiers: []routing.Tier{{Name: "loud", Deployments: []routing.Deployment{{Name: "own/shout"}}}}})
	if err != nil {
		return nil, err
	}
	ledger := budget.NewMemory(budget.MemoryConfig{})
	return proxy.New(proxy.Config{
		Tiers: []proxy.Tier{{Name: "loud", Deployments: []proxy.Deployment{
			{Name: "own/shout", Provider: "own", Model: "shout", Upstream: proxy.UpstreamFunc(shout), Price: budget.FlatPrice(1e9, 1e9)},
		}}},
		Router: decider, Ledger: ledger, Books: ledger, Loopback: true,
	})
}

func main() {
	server, err := newServer()
	if err != nil {
		log.Fatal(err)
	}
	log.Print("serving on http://127.0.0.1:8080/v1")
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", server.Handler()))
}
