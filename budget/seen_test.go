package budget

import (
	"testing"
)

func TestSeenIsWhatThisReplicaHeardLast(t *testing.T) {
	m := NewMemory(MemoryConfig{})
	limit := userDay("ann", dollar)
	settle(t, reserve(t, m, 3*cent, limit), cent)
	if got := m.Seen([]Limit{limit}); got[0].Spent != cent {
		t.Errorf("memory: seen %d spent, want %d", got[0].Spent, cent)
	}

	s := startRedis(t)
	st := redisStage(t, RedisConfig{URL: s.url(), OnLoss: OnLossClosed})
	a, b := st.a.(*Redis), st.b.(*Redis)
	settle(t, reserve(t, a, 3*cent, limit), cent)
	if got := a.Seen([]Limit{limit}); got[0].Spent != cent || got[0].Limit != limit {
		t.Errorf("its own settlement: seen %+v, want %d spent", got, cent)
	}
	st.flush()
	if got := b.Seen([]Limit{limit}); got[0].Spent != 0 {
		t.Errorf("before it asked for anything: seen %d spent", got[0].Spent)
	}
	held := reserve(t, b, cent, limit)
	if got := b.Seen([]Limit{limit}); got[0].Spent != cent || got[0].Reserved != cent || held.Budgets[0].Spent != cent {
		t.Errorf("after its reservation: seen %+v, was told %+v", got, held.Budgets)
	}
}
