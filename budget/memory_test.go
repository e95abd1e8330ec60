package budget_test

import (
	"errors"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/budget/ledgertest"
	"pgregory.net/rapid"
)

// memoryStage is a ledger of one process, in a bubble's time.
func memoryStage() ledgertest.Stage {
	m := budget.NewMemory(budget.MemoryConfig{Lease: ledgertest.LeaseTime})
	return ledgertest.Stage{A: m, B: m, Flush: func() {}, Advance: time.Sleep}
}

func TestMemoryKeepsTheContract(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T, test func(*testing.T, ledgertest.Stage)) {
		synctest.Test(t, func(t *testing.T) { test(t, memoryStage()) })
	})
}

func TestMemoryAgreesWithTheModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Only the methods of rapid.TB: a bubble has no deadline to ask for.
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) { ledgertest.RunModel(t, memoryStage()) })
	})
}

func TestMemoryKnowsRecentUsersAndAllNamedBudgets(t *testing.T) {
	m := budget.NewMemory(budget.MemoryConfig{})
	ledgertest.Reserve(t, m, ledgertest.Cent, ledgertest.GlobalDay(1e6*ledgertest.Dollar), budget.Limit{Scope: budget.ScopeKey, Subject: "k", Amount: ledgertest.Dollar})
	for i := range 3 * 1024 {
		ledgertest.Reserve(t, m, ledgertest.Cent, ledgertest.UserDay(strconv.Itoa(i), ledgertest.Dollar))
	}
	scopes := map[budget.Scope]int{}
	last := false
	for _, s := range m.Known() {
		scopes[s.Limit.Scope]++
		last = last || s.Limit.Subject == strconv.Itoa(3*1024-1)
	}
	if scopes[budget.ScopeGlobal] != 1 || scopes[budget.ScopeKey] != 1 || scopes[budget.ScopeUser] != 1024 || !last {
		t.Errorf("known: %v, the last user among them: %v", scopes, last)
	}
}

func TestMemoryRefusesNonsense(t *testing.T) {
	m := budget.NewMemory(budget.MemoryConfig{})
	var exceeded *budget.ExceededError
	if _, err := m.Reserve(t.Context(), budget.Hold{Amount: 1<<63 - 1, Limits: []budget.Limit{ledgertest.UserDay("ann", ledgertest.Dollar)}}); !errors.As(err, &exceeded) {
		t.Errorf("a reservation of everything: %v, want a denial", err)
	}
	r := ledgertest.Reserve(t, m, -5, ledgertest.UserDay("ann", ledgertest.Dollar))
	ledgertest.Settle(t, r, -7)
	for range 3 {
		ledgertest.Settle(t, ledgertest.Reserve(t, m, 1<<63-1, budget.Limit{Scope: budget.ScopeUser, Subject: "ann", Amount: ledgertest.Cent}), 1<<62)
	}
	ledgertest.Refuse(t, m, 1, ledgertest.UserDay("ann", ledgertest.Dollar))
}

func BenchmarkMemory(b *testing.B) {
	m := budget.NewMemory(budget.MemoryConfig{})
	limits := []budget.Limit{
		{Scope: budget.ScopeUser, Subject: "ann", Amount: budget.MaxLimit - 1, Hard: true},
		{Scope: budget.ScopeGlobal, Amount: budget.MaxLimit - 1, Hard: true},
	}
	ctx := b.Context()
	run := func(b *testing.B) {
		r, err := m.Reserve(ctx, budget.Hold{ID: budget.NewID(), Amount: 100, Limits: limits})
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Settle(ctx, 1); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("reserve and settle", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			run(b)
		}
	})
	b.Run("in parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				run(b)
			}
		})
	})
	b.Run("status", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := m.Status(ctx, limits); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkMemoryManyUsers(b *testing.B) {
	m := budget.NewMemory(budget.MemoryConfig{})
	ctx := b.Context()
	names := make([]string, 1_000_000)
	for i := range names {
		names[i] = "user-" + strconv.Itoa(i)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		limits := []budget.Limit{
			{Scope: budget.ScopeUser, Subject: names[i%len(names)], Amount: budget.MaxLimit - 1, Hard: true},
			{Scope: budget.ScopeGlobal, Amount: budget.MaxLimit - 1, Hard: true},
		}
		r, err := m.Reserve(ctx, budget.Hold{ID: budget.NewID(), Amount: 100, Limits: limits})
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Settle(ctx, 1); err != nil {
			b.Fatal(err)
		}
		i++
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(min(i, len(names))), "B/user")
	runtime.KeepAlive(m)
}
