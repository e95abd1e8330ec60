// Command chaos breaks everything but the money:
//
//	go run ./bench/chaos                     a few minutes
//	go run ./bench/chaos -seed 7 -on-loss bounded
//	go run ./bench/chaos -duration 3h        goes on that long
//
// Several routers share their budgets in a Redis. Clients of many users send
// them requests; upstreams answer, fail, or cut connections off, and keep an
// invoice. Meanwhile routers are killed, and Redis is killed, frozen, cut off
// and made to lose its replies. In the end what Redis has counted is compared
// with the invoice, user by user, to the nano-dollar.
//
// The seed decides who asks for what, what upstreams do and what breaks when;
// timing is the machine's. The exit status is 1 if anything was wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

func main() {
	var s settings
	flag.Uint64Var(&s.seed, "seed", 1, "decides everything but timing")
	flag.IntVar(&s.replicas, "replicas", 6, "routers")
	flag.IntVar(&s.users, "users", 2000, "users, each with a budget")
	flag.IntVar(&s.requests, "requests", 300_000, "requests, without those refused because Redis is lost")
	flag.IntVar(&s.kills, "kills", 50, "kill -9 of a router, which is started again")
	flag.IntVar(&s.faults, "redis-faults", 20, "faults of Redis and of the way to it")
	flag.IntVar(&s.workers, "clients", 64, "requests at once")
	flag.StringVar(&s.onLoss, "on-loss", "closed", "the routers' `policy` without Redis: closed or bounded")
	flag.DurationVar(&s.lease, "lease", 10*time.Second, "lease of a reservation")
	flag.StringVar(&s.fsync, "appendfsync", "everysec", "of Redis")
	flag.BoolVar(&s.losses, "losses", false, "Redis is also made to lose writes that it has acknowledged")
	flag.DurationVar(&s.duration, "duration", 0, "go on for at least this long, with kills and faults in the same measure")
	flag.Func("only", "only the faults that match this `regexp`", func(text string) (err error) {
		s.only, err = regexp.Compile(text)
		return err
	})
	flag.StringVar(&s.router, "router", "", "test this `binary`, not the tree's")
	flag.StringVar(&s.keep, "keep", "", "`directory` to leave logs in")
	flag.BoolVar(&s.verbose, "v", false, "say what happens")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := run(ctx, s)
	if r != nil {
		fmt.Print(r)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	case len(r.verdict.errors) > 0:
		os.Exit(1)
	}
}

// run performs a plan and audits it.
func run(ctx context.Context, s settings) (*report, error) {
	if s.onLoss != "closed" && s.onLoss != "bounded" {
		return nil, errors.New("-on-loss: want closed or bounded")
	}
	if s.replicas < 1 || s.users < 1 || s.requests < 1 || s.workers < 1 {
		return nil, errors.New("want at least one replica, user, request and client")
	}
	p := newPlan(s)
	if s.faults > 0 && len(p.possible()) == 0 {
		return nil, errors.New("-only matches no fault")
	}
	dir := s.keep
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "router-chaos-"); err != nil {
			return nil, err
		}
		defer func() { _ = os.RemoveAll(dir) }()
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	binary, err := buildRouter(ctx, dir, s.router)
	if err != nil {
		return nil, err
	}
	st, err := raise(p, dir, binary)
	if err != nil {
		return nil, err
	}
	defer st.stop()
	sample := newSampler(st)
	sampling, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		sample.run(sampling)
	}()
	err = st.perform(ctx)
	stop()
	<-done
	if err != nil {
		return nil, err
	}
	v, err := st.audit(ctx)
	if err != nil {
		return nil, err
	}
	return newReport(st, sample, v), nil
}
