package redisledger

import (
	"testing"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// What a replica has set aside when it dies is charged. That must not be much,
// however large the budget.
func TestASliceIsWhatSomeRequestsNeedAndNotMore(t *testing.T) {
	s := startRedis(t)
	r := newReplica(t, Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossBounded, Timeout: patient})
	for _, c := range []struct {
		name        string
		limit, want budget.Nanodollars
	}{
		{"large", 1000 * dollar, allotmentRequests * cent},
		{"small", 10 * dollar, 10 * dollar / allotmentOfLimit},
		{"tiny", 20 * cent, 2 * cent},
	} {
		settle(t, reserve(t, r, cent, userDay(c.name, c.limit)), cent)
		var got, largest budget.Nanodollars
		eventually(t, 2*time.Second, "a slice of a budget that is "+c.name, func() bool {
			for _, have := range r.allotments.list() {
				if have.view.limit.Subject == c.name {
					have.view.mu.Lock()
					got, largest = have.amount, have.view.largest
					have.view.mu.Unlock()
				}
			}
			return got > 0
		})
		if got != c.want {
			t.Errorf("a slice of %d was set aside of %d, want %d", got, c.limit, c.want)
		}
		if largest != cent { // or the next slice would be larger
			t.Errorf("the largest request counts as %d, want %d", largest, cent)
		}
	}
}

// A replica that was refused, and so has just asked for the others' slices, must
// not be refused for one that was set aside since.
func TestNobodyIsRefusedForASliceThatIsNew(t *testing.T) {
	s := startRedis(t)
	config := Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossBounded, Timeout: patient}
	a, b, c := newReplica(t, config), newReplica(t, config), newReplica(t, config)
	for name, ask := range map[string]func(limit budget.Limit) error{
		"reserve": func(limit budget.Limit) error {
			_, err := a.Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: 97 * cent, Limits: []budget.Limit{limit}})
			return err
		},
		"extend": func(limit budget.Limit) error {
			return reserve(t, a, cent, limit).Extend(t.Context(), 96*cent)
		},
	} {
		limit := userDay(name, dollar)
		for i, r := range []*Ledger{b, c} {
			settle(t, reserve(t, r, cent, limit), cent)
			flushed(t, r)
			v := r.views.get(limit, r.store.now())
			eventually(t, 20*time.Second, "an allotment", func() bool {
				v.mu.Lock()
				defer v.mu.Unlock()
				return v.allotment != nil
			})
			if i == 0 {
				refuse(t, a, dollar, limit) // 99 cents are left
			}
		}
		if err := ask(limit); err != nil { // 98 cents are left, 2 of them set aside
			t.Errorf("%s: %v", name, err)
		}
		refuse(t, a, 2*cent, limit)
	}
}
