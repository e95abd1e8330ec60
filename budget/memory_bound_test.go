package budget

import (
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
