package budget

import (
	"testing"
	"time"
)

// What a replica has set aside when it dies is charged. That must not be much,
// however large the budget.
func TestASliceIsWhatSomeRequestsNeedAndNotMore(t *testing.T) {
	s := startRedis(t)
	r := newReplica(t, RedisConfig{URL: s.url(), Prefix: "test-" + NewID(), OnLoss: OnLossBounded, Timeout: patient})
	for _, c := range []struct {
		name        string
		limit, want Nanodollars
	}{
		{"large", 1000 * dollar, sliceRequests * cent},
		{"small", 10 * dollar, 10 * dollar / sliceOfLimit},
		{"tiny", 20 * cent, 2 * cent},
	} {
		settle(t, reserve(t, r, cent, userDay(c.name, c.limit)), cent)
		var got, largest Nanodollars
		eventually(t, 2*time.Second, "a slice of a budget that is "+c.name, func() bool {
			for _, have := range r.slices.list() {
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
