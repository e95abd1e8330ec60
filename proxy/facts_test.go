package proxy_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/routing"
)

// oldBooks is a replica's memory of budgets that others have changed since.
type oldBooks struct {
	*budget.Memory
	spent budget.Nanodollars // as last seen
	asked atomic.Int64       // times the store was
}

func (b *oldBooks) Seen(limits []budget.Limit) []budget.Status {
	var seen []budget.Status
	for _, l := range limits {
		seen = append(seen, budget.Status{Limit: l, Spent: b.spent})
	}
	return seen
}

func (b *oldBooks) Status(ctx context.Context, limits []budget.Limit) ([]budget.Status, error) {
	b.asked.Add(1)
	return b.Memory.Status(ctx, limits)
}

func TestADecisionByAnOldReadingIsMadeAnewFromTheReservationItself(t *testing.T) {
	const limit = budget.Nanodollars(1e9)
	for _, c := range []struct {
		name  string
		seen  budget.Nanodollars
		spent budget.Nanodollars
		hard  bool
		tier  string // "" is refused
		asked int64
	}{
		{"nothing has changed", 0, 0, false, "powerful", 0},
		{"others have spent since", 0, limit * 96 / 100, false, "fast", 0},
		{"others have spent since, and the budget is hard", 0, limit * 96 / 100, true, "fast", 0},
		{"it was reset since", limit * 96 / 100, 0, false, "powerful", 0},
		{"it was used up and reset since", limit, 0, true, "powerful", 1},
		{"it is used up", limit, limit, true, "", 1},
		{"it was used up since", 0, limit, true, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			books := &oldBooks{spent: c.seen}
			s := newStage(t, threeTiers(), func(p *proxy.Config, r *routing.Config) {
				books.Memory = p.Ledger.(*budget.Memory)
				p.Books = books
				p.Budgets = []proxy.Budget{{Scope: budget.ScopeUser, Amount: limit, Hard: c.hard}}
				r.Strategies = []routing.Strategy{routing.NewCost(routing.CostConfig{DowngradeAt: 0.8, FloorAt: 0.95}),
					routing.NewComplexity(routing.ComplexityConfig{Rules: []routing.Rule{{Tier: "powerful", Low: 0, High: 10}}})}
			})
			user := []budget.Limit{{Scope: budget.ScopeUser, Subject: "ann", Amount: limit}}
			held, err := s.ledger.Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: c.spent, Limits: user})
			if err != nil {
				t.Fatal(err)
			}
			if err := held.Settle(t.Context(), c.spent); err != nil {
				t.Fatal(err)
			}
			resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hello", `"max_tokens":100`), "X-Router-User", "ann")
			want := 200
			if c.tier == "" {
				want = 429
			}
			if resp.StatusCode != want || resp.Header.Get("X-Router-Tier") != c.tier && c.tier != "" {
				t.Errorf("got %d by %q, want %d by %q: %s", resp.StatusCode, resp.Header.Get("X-Router-Tier"), want, c.tier, body)
			}
			if got := books.asked.Load(); got != c.asked {
				t.Errorf("the store was asked %d times beside the reservation, want %d", got, c.asked)
			}
			state, err := s.ledger.Status(t.Context(), user)
			if err != nil || state[0].Reserved != 0 {
				t.Errorf("left behind: %+v, %v", state, err)
			}
		})
	}
}
