package redisledger

import (
	"testing"

	"github.com/inference-router/inference-router/budget"
)

func TestSeenIsWhatThisReplicaHeardLast(t *testing.T) {
	m := budget.NewMemory(budget.MemoryConfig{})
	limit := userDay("ann", dollar)
	settle(t, reserve(t, m, 3*cent, limit), cent)
	if got := m.Seen([]budget.Limit{limit}); got[0].Spent != cent {
		t.Errorf("memory: seen %d spent, want %d", got[0].Spent, cent)
	}

	s := startRedis(t)
	st := redisStage(t, Config{URL: s.url(), OnLoss: OnLossClosed})
	a, b := st.A.(*Ledger), st.B.(*Ledger)
	settle(t, reserve(t, a, 3*cent, limit), cent)
	if got := a.Seen([]budget.Limit{limit}); got[0].Spent != cent || got[0].Limit != limit {
		t.Errorf("its own settlement: seen %+v, want %d spent", got, cent)
	}
	st.Flush()
	if got := b.Seen([]budget.Limit{limit}); got[0].Spent != 0 {
		t.Errorf("before it asked for anything: seen %d spent", got[0].Spent)
	}
	held := reserve(t, b, cent, limit)
	if got := b.Seen([]budget.Limit{limit}); got[0].Spent != cent || got[0].Reserved != cent || held.Budgets[0].Spent != cent {
		t.Errorf("after its reservation: seen %+v, was told %+v", got, held.Budgets)
	}
}
