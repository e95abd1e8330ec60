package main

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// latencyRouting prefers the first tier while it is fast enough.
const latencyRouting = `strategy:
  - latency: {sla_ms: 100, preferred_tier: fast, fallback_tier: powerful, window_size: 50, min_samples: 5}
`

func TestReplicasAgreeOnLatencyAndRouteAwayTogether(t *testing.T) {
	var slow atomic.Bool
	b := newBench(t, func(path string) {
		if slow.Load() && !strings.HasPrefix(path, "/c/") {
			time.Sleep(150 * time.Millisecond) // a model that has become slow
		}
	})
	var replicas []*replica
	for range 3 {
		replicas = append(replicas, b.router("", "closed", latencyRouting))
	}
	for _, r := range replicas {
		if tier := r.askedTier(t); tier != "fast" {
			t.Fatalf("before anything was slow: routed to %q", tier)
		}
	}
	slow.Store(true)
	for range 20 { // one replica alone finds out
		replicas[0].askedTier(t)
	}
	found := time.Now()
	for _, r := range replicas[1:] {
		for r.window(t) != replicas[0].window(t) {
			if time.Since(found) > 5*time.Second {
				t.Fatalf("window of %s is %v, that of %s %v", r.name, r.window(t), replicas[0].name, replicas[0].window(t))
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	agreed := time.Since(found)
	want := replicas[0].window(t)
	if want.p90 < 150 || want.samples < 5 {
		t.Errorf("window %+v, want some answers of 150 ms and more", want)
	}
	for _, r := range replicas {
		r.wantAway(t)
	}
	late := b.router("", "closed", latencyRouting)
	listening := time.Now()
	for late.window(t) != replicas[0].window(t) {
		if time.Since(listening) > 5*time.Second {
			t.Fatalf("a replica started later has %v, the others %v", late.window(t), replicas[0].window(t))
		}
		time.Sleep(time.Millisecond)
	}
	knew := time.Since(listening)
	late.wantAway(t)
	t.Logf("three replicas agree on %+v after %v; a fourth knew it %v after it listened", want, agreed, knew)
	if agreed > time.Second || knew > time.Second {
		t.Errorf("agreed after %v, the late one after %v; want a second at most", agreed, knew)
	}
}

// askedTier sends a request and says which tier answered.
func (r *replica) askedTier(t *testing.T) string {
	t.Helper()
	reply := r.ask(t, "ann", false)
	if reply.status != http.StatusOK {
		t.Fatalf("status %d: %s", reply.status, reply.body)
	}
	return reply.header.Get("X-Router-Tier")
}

// wantAway wants requests to go to the other tier; one in twenty may be a
// probe.
func (r *replica) wantAway(t *testing.T) {
	t.Helper()
	slow := 0
	for range 10 {
		if r.askedTier(t) != "powerful" {
			slow++
		}
	}
	if slow > 2 {
		t.Errorf("%s sent %d of 10 requests to the slow tier", r.name, slow)
	}
}

// window is what the router shows of the first tier.
type window struct {
	p90     float64 // ms
	samples int64
}

func (r *replica) window(t *testing.T) window {
	t.Helper()
	tier := gjson.GetBytes(r.get(t, "/tiers"), "tiers.fast")
	return window{tier.Get("p90_ms").Float(), tier.Get("samples").Int()}
}
