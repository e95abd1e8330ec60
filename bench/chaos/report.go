package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// report is a run in figures.
type report struct {
	rows    [][2]string
	verdict *verdict
}

func newReport(s *stage, a *sampler, v *verdict) *report {
	r := &report{verdict: v}
	t := s.tally
	if a.over > 0 {
		v.fail("spent and reserved exceeded a limit by %d nano-dollars", a.over)
	}
	if a.fell > 0 {
		v.fail("what only grows has fallen (%d times)", a.fell)
	}
	took := s.lastEnded.Sub(s.began)
	r.row("seed, policy", "%d, %s", s.plan.seed, s.plan.onLoss)
	r.row("replicas, users", "%d, %d", s.plan.replicas, len(s.plan.users))
	r.row("requests", "%d in %s (%.0f a second)", t.requests(), took.Round(time.Second), float64(t.requests())/took.Seconds())
	r.row("  answered", "%d", t.answered.Load())
	r.row("  cut short by an upstream", "%d", t.cutShort.Load())
	r.row("  left by their client", "%d", t.hungUp.Load())
	r.row("  budget used up (429)", "%d", t.denied.Load())
	r.row("  other errors", "%d", t.limited.Load()+t.badReq.Load()+t.failed.Load())
	r.row("  lost with a killed replica", "%d", t.lost.Load())
	r.row("refused while Redis was lost (503)", "%d", t.refused.Load())
	r.row("upstream calls", "%d", s.upstreams.calls.Load())
	r.row("replicas killed", "%d", s.killed.Load())
	r.row("faults of Redis", "%d", s.faults.Load())
	names := map[string]int64{}
	s.broken.Range(func(name, n any) bool {
		names[name.(string)] = n.(*atomic.Int64).Load()
		return true
	})
	for _, name := range slices.Sorted(maps.Keys(names)) {
		r.row("  "+name, "%d", names[name])
	}
	r.row("slowest answer, beyond its plan", "%s", time.Duration(t.slowest.Load()).Round(time.Millisecond))
	r.row("samples of spent + reserved", "%d, over a limit: %d nano-dollars", a.samples, max(0, a.over))
	r.money(v, len(s.plan.users))
	r.row("requests denied falsely", "%d", t.falseDeny.Load())
	r.row("nothing reserved", "%.1f s after the last request", v.released.Seconds())
	return r
}

func (r *report) money(v *verdict, users int) {
	dollars := func(n int64) string { return "$" + budget.Nanodollars(n).USD() }
	r.row("billed by upstreams", "%s", dollars(v.invoice))
	r.row("owed for that, unknown outcomes and all", "%s", dollars(v.charged))
	r.row("counted by the ledger", "%s", dollars(v.spent))
	r.row("  of it, leases of dead replicas", "%s, %d leases", dollars(v.expired), v.leases)
	r.row("  counted = owed, to the nano-dollar", "%d of %d users", v.asOwed, users)
	r.row("  the others, between owed and leases", "%d", v.inBounds)
	r.row("OVERSPEND", "%d nano-dollars", v.overspend)
}

func (r *report) row(name, format string, args ...any) {
	r.rows = append(r.rows, [2]string{name, fmt.Sprintf(format, args...)})
}

func (r *report) String() string {
	var b strings.Builder
	for _, row := range r.rows {
		fmt.Fprintf(&b, "%-42s%s\n", row[0], row[1])
	}
	for _, e := range r.verdict.errors {
		b.WriteString("WRONG: " + e + "\n")
	}
	if len(r.verdict.errors) == 0 {
		b.WriteString("every invariant held\n")
	}
	return b.String()
}

// countAny counts the lines that have one of the texts in them.
func countAny(log []byte, texts ...string) (n int) {
	for line := range bytes.Lines(log) {
		if slices.ContainsFunc(texts, func(t string) bool { return bytes.Contains(line, []byte(t)) }) {
			n++
		}
	}
	return n
}
