package budget

import (
	"errors"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// memoryStage is a ledger of one process, in a bubble's time.
func memoryStage() stage {
	m := NewMemory(MemoryConfig{Lease: testLease})
	return stage{a: m, b: m, flush: func() {}, advance: time.Sleep}
}

func TestMemoryKeepsTheContract(t *testing.T) {
	testLedger(t, func(t *testing.T, test func(*testing.T, stage)) {
		synctest.Test(t, func(t *testing.T) { test(t, memoryStage()) })
	})
}

func TestMemoryAgreesWithTheModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Only the methods of rapid.TB: a bubble has no deadline to ask for.
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) { runModel(t, memoryStage()) })
	})
}

func TestMemoryForgetsEndedWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryConfig{})
		hour, err := ParseWindow("hour", nil)
		if err != nil {
			t.Fatal(err)
		}
		for hours := range 5 {
			for i := range 20_000 {
				limit := Limit{Scope: ScopeUser, Subject: strconv.Itoa(hours) + "-" + strconv.Itoa(i), Window: hour, Amount: dollar, Hard: true}
				settle(t, reserve(t, m, cent, limit), cent)
			}
			time.Sleep(time.Hour)
		}
		kept := 0
		for i := range m.buckets {
			kept += len(m.buckets[i].byKey)
		}
		if kept > 60_000 {
			t.Errorf("%d buckets kept of 100,000, of which 20,000 are of the last hour", kept)
		}
		answers := 0
		for i := range m.leases {
			answers += len(m.leases[i].byID)
		}
		if answers > memoryShards*keptAnswers {
			t.Errorf("%d answers kept, want at most %d", answers, memoryShards*keptAnswers)
		}
	})
}

func TestMemoryKnowsRecentUsersAndAllNamedBudgets(t *testing.T) {
	m := NewMemory(MemoryConfig{})
	reserve(t, m, cent, globalDay(1e6*dollar), Limit{Scope: ScopeKey, Subject: "k", Amount: dollar})
	for i := range 3 * knownBuckets {
		reserve(t, m, cent, userDay(strconv.Itoa(i), dollar))
	}
	scopes := map[Scope]int{}
	last := false
	for _, s := range m.Known() {
		scopes[s.Limit.Scope]++
		last = last || s.Limit.Subject == strconv.Itoa(3*knownBuckets-1)
	}
	if scopes[ScopeGlobal] != 1 || scopes[ScopeKey] != 1 || scopes[ScopeUser] != knownBuckets || !last {
		t.Errorf("known: %v, the last user among them: %v", scopes, last)
	}
}

func TestMemoryRefusesNonsense(t *testing.T) {
	m := NewMemory(MemoryConfig{})
	var exceeded *ExceededError
	if _, err := m.Reserve(t.Context(), Hold{Amount: 1<<63 - 1, Limits: []Limit{userDay("ann", dollar)}}); !errors.As(err, &exceeded) {
		t.Errorf("a reservation of everything: %v, want a denial", err)
	}
	r := reserve(t, m, -5, userDay("ann", dollar))
	settle(t, r, -7)
	for range 3 {
		settle(t, reserve(t, m, 1<<63-1, Limit{Scope: ScopeUser, Subject: "ann", Amount: cent}), 1<<62)
	}
	refuse(t, m, 1, userDay("ann", dollar))
}

func BenchmarkMemory(b *testing.B) {
	m := NewMemory(MemoryConfig{})
	limits := []Limit{
		{Scope: ScopeUser, Subject: "ann", Amount: MaxLimit - 1, Hard: true},
		{Scope: ScopeGlobal, Amount: MaxLimit - 1, Hard: true},
	}
	ctx := b.Context()
	run := func(b *testing.B) {
		r, err := m.Reserve(ctx, Hold{ID: NewID(), Amount: 100, Limits: limits})
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
	m := NewMemory(MemoryConfig{})
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
		limits := []Limit{
			{Scope: ScopeUser, Subject: names[i%len(names)], Amount: MaxLimit - 1, Hard: true},
			{Scope: ScopeGlobal, Amount: MaxLimit - 1, Hard: true},
		}
		r, err := m.Reserve(ctx, Hold{ID: NewID(), Amount: 100, Limits: limits})
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
