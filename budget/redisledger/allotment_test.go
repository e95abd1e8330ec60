package redisledger

import (
	"testing"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/budget/ledgertest"
)

// awaitAllotment waits until a replica has set something aside in a budget. It
// asks again, for nothing, as traffic would: what is set aside right after
// another replica wanted it goes back with the next beat, and only a request has
// the replica look again.
func awaitAllotment(t *testing.T, r *Ledger, limit budget.Limit) *allotment {
	t.Helper()
	v := r.views.get(limit, r.store.now())
	var have *allotment
	eventually(t, 20*time.Second, "an allotment", func() bool {
		v.mu.Lock()
		due := time.Since(v.tended) > tendEvery
		have = v.allotment
		v.mu.Unlock()
		if have == nil && due {
			settle(t, reserve(t, r, cent, limit), 0)
			flushed(t, r)
		}
		return have != nil
	})
	return have
}

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
		have := awaitAllotment(t, r, userDay(c.name, c.limit))
		have.view.mu.Lock()
		got, largest := have.amount, have.view.largest
		have.view.mu.Unlock()
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
			awaitAllotment(t, r, limit)
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

// A replica that is killed is charged what its requests had reserved. What is set
// aside is shown to the others, and of a budget in no danger nothing is.
func TestAKilledReplicaIsChargedWhatItReserved(t *testing.T) {
	s := startRedis(t)
	config := Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossBounded, Timeout: patient}
	a, killed := newReplica(t, config), newReplica(t, config)
	killed.store.trouble.Store(0)
	safe, scarce := userDay("safe", 1000*dollar), userDay("scarce", dollar)
	settle(t, reserve(t, killed, 5*cent, safe), 3*cent)
	settle(t, reserve(t, killed, cent, scarce), 60*cent) // requests are small, or nothing useful could be set aside
	flushed(t, killed)
	have := awaitAllotment(t, killed, scarce) // 40 of 100 cents are left
	// One worker looks at one request after the other: it has seen to the first.
	reserve(t, killed, 7*cent, safe)

	status := func() (safely, scarcely budget.Status) {
		t.Helper()
		got, err := a.Status(t.Context(), []budget.Limit{safe, scarce})
		if err != nil {
			t.Fatal(err)
		}
		return got[0], got[1]
	}
	one, two := status()
	if one.Spent != 3*cent || one.Reserved != 7*cent || one.Allotted != 0 {
		t.Errorf("in no danger: spent %d, reserved %d, allotted %d", one.Spent, one.Reserved, one.Allotted)
	}
	if two.Spent != 60*cent || two.Allotted != have.amount || two.Remaining() != 40*cent {
		t.Errorf("near its end: spent %d, allotted %d of %d, remaining %d", two.Spent, two.Allotted, have.amount, two.Remaining())
	}
	_ = killed.store.client.Close() // nothing is given back or renewed any more
	a.store.shift.Add((2 * ledgertest.LeaseTime).Milliseconds())
	one, two = status()
	if one.Spent != 10*cent || one.Reserved != 0 {
		t.Errorf("killed: spent %d, reserved %d, want what was settled and what was reserved", one.Spent, one.Reserved)
	}
	if two.Spent != 60*cent+have.amount || two.Allotted != 0 {
		t.Errorf("killed near its end: spent %d, allotted %d", two.Spent, two.Allotted)
	}
}
