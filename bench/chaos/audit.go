package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// verdict is what the audit found, all in nano-dollars.
type verdict struct {
	invoice   int64 // billed by the upstreams
	charged   int64 // what the router owed to charge for that
	spent     int64 // what Redis has counted
	expired   int64 // of it, because a replica died and its leases ran out
	leases    int64 // how many those were
	overspend int64 // invoice beyond limits
	exact     int64 // users whose count is the invoice to the nano-dollar
	asOwed    int64 // users whose count is what was owed to the nano-dollar
	inBounds  int64 // users with expired leases, within their bounds
	reserved  int64 // still reserved, at the end
	released  time.Duration
	errors    []string
}

func (v *verdict) fail(format string, args ...any) {
	if len(v.errors) < 20 {
		v.errors = append(v.errors, fmt.Sprintf(format, args...))
	}
}

// audit waits until nothing is reserved any more, and compares what Redis has
// counted with what was billed.
func (s *stage) audit(ctx context.Context) (*verdict, error) {
	v := &verdict{}
	if err := s.awaitReleased(ctx, v); err != nil {
		return nil, err
	}
	all, err := accounts(ctx, s.redis.client)
	if err != nil {
		return nil, err
	}
	for _, u := range s.plan.users {
		v.user(u, all[keyOf(budget.ScopeUser, u.name)], s.plan.kills > 0, s.losses.Load())
	}
	if s.plan.onLoss == "closed" { // slices are charged to users alone
		// A settlement whose reply and whose effect were both lost is sent again,
		// and another's reply may have told of it: then it counts twice.
		if g := all[keyOf(budget.ScopeGlobal, "")]; g.spent() < v.spent || g.spent() > v.spent && s.losses.Load() == 0 {
			v.fail("the budget of all has %d nano-dollars spent, its users together %d", g.spent(), v.spent)
		}
	}
	if want := len(s.plan.users) + 1; len(all) > want {
		v.fail("redis has %d budgets for %d users", len(all), len(s.plan.users))
	}
	s.judgeRun(v)
	return v, nil
}

// user compares one user's count with the invoice. When a lease ran out, was
// charged, and Redis lost that, it is charged again.
func (v *verdict) user(u *user, a account, kills bool, losses int64) {
	invoice, charged := u.invoice.Load(), u.charged.Load()
	v.invoice += invoice
	v.charged += charged
	v.spent += a.spent()
	v.expired += a.expired
	v.leases += a.leases
	v.reserved += a.reserved
	if over := invoice - int64(u.limit); over > 0 {
		v.overspend += over
		v.fail("%s: %d billed, the limit is %d", u.name, invoice, u.limit)
	}
	if a.spent() == invoice {
		v.exact++
	}
	switch {
	case a.leases == 0 && a.spent() == charged:
		v.asOwed++
	case a.leases > 0 && kills && charged <= a.spent() && a.spent() <= charged+a.expired*(1+losses):
		v.inBounds++
	default:
		v.fail("%s: %d counted, %d owed for %d billed, %d charged for %d expired leases", u.name, a.spent(), charged, invoice, a.expired, a.leases)
	}
	if u.uncertain.Load() == 0 && a.leases == 0 && a.spent() != invoice {
		v.fail("%s: %d counted, %d billed with certainty", u.name, a.spent(), invoice)
	}
	if a.spent() > int64(u.limit) {
		v.fail("%s: %d counted, the limit is %d", u.name, a.spent(), u.limit)
	}
}

// judgeRun looks at what was noted during the run.
func (s *stage) judgeRun(v *verdict) {
	if v.reserved > 0 {
		v.fail("%d nano-dollars are reserved %v after the last request", v.reserved, time.Since(s.lastEnded).Round(time.Second))
	}
	for what, n := range s.tally.broken {
		v.fail("%s (%d times)", what, n)
	}
	for _, c := range []struct {
		what string
		n    int64
	}{
		{"requests denied although their budget had room", s.tally.falseDeny.Load()},
		{"upstream calls that nobody asked for", s.upstreams.strays.Load()},
		{"upstream calls without a usable body", s.upstreams.badBody.Load()},
		{"upstream calls that went on after their client had left", s.upstreams.kept.Load()},
		{"panics and errors in the replicas' logs", s.panics()},
	} {
		if c.n > 0 {
			v.fail("%d %s", c.n, c.what)
		}
	}
}

// panics counts what replicas logged that is never right.
func (s *stage) panics() (n int64) {
	for _, r := range s.replicas {
		text, err := os.ReadFile(filepath.Join(s.dir, r.name+".log"))
		if err != nil {
			return 1
		}
		n += int64(countAny(text, "panic", `"level":"ERROR"`))
	}
	return n
}

// awaitReleased asks for every user's budget until nothing is reserved. Leases
// that ran out are charged when their budget is next looked at.
func (s *stage) awaitReleased(ctx context.Context, v *verdict) error {
	deadline := s.lastEnded.Add(75 * time.Second)
	for {
		if err := s.lookAtAll(ctx); err != nil {
			return err
		}
		all, err := accounts(ctx, s.redis.client)
		if err != nil {
			return err
		}
		open := int64(0)
		for _, a := range all {
			open += a.reserved
		}
		v.released = time.Since(s.lastEnded)
		if open == 0 || time.Now().After(deadline) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// lookAtAll reads all budgets through replicas, as an operator would.
func (s *stage) lookAtAll(ctx context.Context) error {
	users := make(chan string)
	errs := make(chan error, 8)
	var readers sync.WaitGroup
	for i := range 8 {
		r := s.replicas[i%len(s.replicas)]
		readers.Go(func() {
			for name := range users {
				if err := r.look(ctx, name); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for _, u := range s.plan.users {
		users <- u.name
	}
	close(users)
	readers.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func (r *replica) look(ctx context.Context, user string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.address+"/budgets?user="+user, nil)
	if err != nil {
		return err
	}
	resp, err := r.transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%s: budgets: %w", r.name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: budgets: %s", r.name, resp.Status)
	}
	return nil
}
