package budget

import (
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryForgetsEndedWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryConfig{})
		hour, err := ParseWindow("hour", nil)
		if err != nil {
			t.Fatal(err)
		}
		for hours := range 5 {
			for i := range 20_000 {
				limit := Limit{Scope: ScopeUser, Subject: strconv.Itoa(hours) + "-" + strconv.Itoa(i), Window: hour, Amount: 100, Hard: true}
				r, err := m.Reserve(t.Context(), Hold{Amount: 1, Limits: []Limit{limit}})
				if err != nil || r.Settle(t.Context(), 1) != nil {
					t.Fatal(err)
				}
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

func TestMemoryTakesSoManyUsersAndForgetsNoneWithinTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1000
		m := NewMemory(MemoryConfig{MaxUsers: most})
		hour, err := ParseWindow("hour", nil)
		if err != nil {
			t.Fatal(err)
		}
		limit := func(i int) Limit {
			return Limit{Scope: ScopeUser, Subject: strconv.Itoa(i), Window: hour, Amount: 100, Hard: true}
		}
		spend := func(i int, amount Nanodollars) error {
			r, err := m.Reserve(t.Context(), Hold{Amount: amount, Limits: []Limit{limit(i), {Scope: ScopeGlobal, Window: hour, Amount: MaxLimit}}})
			if err != nil {
				return err
			}
			return r.Settle(t.Context(), amount)
		}
		for i := range most {
			if err := spend(i, 60); err != nil {
				t.Fatal(err)
			}
		}
		var full *FullError
		for i := most; i < 2*most; i++ {
			time.Sleep(time.Second) // all may be swept again; the hour is not over
			if err := spend(i, 60); !errors.As(err, &full) || full.MaxUsers != most {
				t.Fatalf("user %d of %d: %v", i, most, err)
			}
		}
		read, err := m.Reserve(t.Context(), Hold{Limits: []Limit{limit(most)}})
		if err != nil || read.Budgets[0].Limit != limit(most) || read.Budgets[0].Spent != 0 {
			t.Errorf("a new user's budget reads %+v, %v", read, err)
		}
		if err := read.Extend(t.Context(), 1); !errors.As(err, &full) {
			t.Errorf("extended without a budget that is counted: %v", err)
		}
		var exceeded *ExceededError
		for i := range most {
			if err := spend(i, 60); !errors.As(err, &exceeded) {
				t.Fatalf("user %d spends 120 of 100: %v", i, err)
			}
		}
		time.Sleep(time.Hour)
		for i := most; i < most+most/2; i++ {
			if err := spend(i, 60); err != nil {
				t.Fatalf("new user %d, the others' hour being over: %v", i, err)
			}
		}
		counted := 0
		for i := range m.buckets {
			for key := range m.buckets[i].byKey {
				if key.scope == ScopeUser {
					counted++
				}
			}
		}
		if got := m.users.Load(); int(got) != counted || counted > most {
			t.Errorf("%d users counted as %d, of at most %d", counted, got, most)
		}
	})
}
