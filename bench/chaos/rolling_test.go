package main

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"
)

// A rolling restart: each replica is told to end, ends when its requests have,
// and is started again, while clients that keep their connections go on.
func TestARollingRestartLosesNothing(t *testing.T) {
	s := small(t)
	s.kills, s.faults, s.requests = 0, 0, 1<<40
	st, err := raise(newPlan(s), t.TempDir(), s.router)
	if err != nil {
		t.Fatal(err)
	}
	defer st.stop()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	for _, r := range st.replicas {
		running.Go(func() { r.watch(ctx) })
	}
	for range s.workers {
		running.Go(func() { st.work(ctx) })
	}
	for _, r := range st.replicas {
		before := st.tally.requests()
		for st.tally.requests() < before+500 {
			time.Sleep(time.Millisecond)
		}
		r.terminate()
		if err := r.start(); err != nil {
			t.Fatal(err)
		}
	}
	before := st.tally.requests()
	for st.tally.requests() < before+500 {
		time.Sleep(time.Millisecond)
	}
	stop()
	running.Wait()
	st.lastEnded = time.Now()
	v, err := st.audit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range v.errors {
		t.Error(e)
	}
	if lost := st.tally.lost.Load(); lost > 0 || v.asOwed != int64(s.users) {
		t.Errorf("%d of %d requests were lost; %d of %d users were charged what they owe", lost, st.tally.requests(), v.asOwed, s.users)
	}
	t.Logf("%d requests, none lost, every user charged to the nano-dollar", st.tally.requests())
}

// watch does what a load balancer does: it asks whether the replica is ready,
// and sends nothing where it is not.
func (r *replica) watch(ctx context.Context) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for ctx.Err() == nil {
		ready := false
		if resp, err := client.Get("http://" + r.address + "/readyz"); err == nil {
			ready = resp.StatusCode == http.StatusOK
			_ = resp.Body.Close()
		}
		r.up.Store(ready)
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}
