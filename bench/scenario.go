package main

import (
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

// scenario is a load and the figures it yields.
type scenario struct {
	name   string
	args   []string // of bench/load
	chunks int      // of a request's answer, for figures per chunk; 0 for whole answers
	open   bool     // an open loop: its times count, also without a proxy
	idle   int      // streams that only wait, to see what they hold
}

func allScenarios(only *regexp.Regexp) []scenario {
	all := []scenario{
		{name: "2000/s", args: []string{"-size", "1024", "-rate", "2000", "-conns", "64"}, open: true},
		{name: "1 KB", args: []string{"-size", "1024"}},
		{name: "10 KB", args: []string{"-size", "10240"}},
		{name: "100 KB", args: []string{"-size", "102400"}},
		{name: "stream", args: []string{"-size", "1024", "-chunks", "500", "-conns", "8"}, chunks: 500},
		{name: "paced stream", args: []string{"-size", "1024", "-chunks", "50", "-pace", "10ms", "-rate", "100", "-conns", "100"}, chunks: 50, open: true},
		{name: "idle stream", args: []string{"-size", "10240", "-chunks", "2", "-pace", "2s", "-conns", "2000"}, idle: 2000},
	}
	return slices.DeleteFunc(all, func(s scenario) bool { return only != nil && !only.MatchString(s.name) })
}

// reading is one measurement.
type reading struct {
	cpu      float64 // microseconds of the proxy's CPU time per request, or per chunk
	p50, p99 float64 // microseconds
	first    float64 // microseconds to the first byte, median
	rss      float64 // megabytes, the most seen
}

// load is what bench/load prints.
type load struct {
	Requests   int     `json:"requests"`
	Errors     int     `json:"errors"`
	FirstError string  `json:"first_error"`
	P50        float64 `json:"p50"`
	P99        float64 `json:"p99"`
	FirstP50   float64 `json:"first_p50"`
}

// key names the readings of a scenario through a proxy.
type key struct{ scenario, proxy string }

// measure runs every scenario through every proxy once a round. The first
// time, a short run before it fills connection pools and caches. Idle
// streams come last and once: they leave a large heap behind, and memory
// hardly varies.
func (b *bed) measure(s settings, scenarios []scenario) (map[key][]reading, error) {
	results := map[key][]reading{}
	take := func(sc scenario, p *proxy) error {
		r, err := b.once(sc, p, s.length)
		results[key{sc.name, p.name}] = append(results[key{sc.name, p.name}], r)
		return err
	}
	for round := range s.rounds {
		for sc, p := range b.pairs(scenarios, false) {
			if round == 0 {
				if _, err := b.once(sc, p, 300*time.Millisecond); err != nil {
					return nil, err
				}
			}
			if err := take(sc, p); err != nil {
				return nil, err
			}
		}
		fmt.Printf("round %d of %d\n", round+1, s.rounds)
	}
	for sc, p := range b.pairs(scenarios, true) {
		if err := take(sc, p); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// pairs yields each scenario with each proxy it measures something of.
func (b *bed) pairs(scenarios []scenario, idle bool) iter.Seq2[scenario, *proxy] {
	return func(yield func(scenario, *proxy) bool) {
		for _, sc := range scenarios {
			for _, p := range b.proxies {
				if (sc.idle > 0) != idle || p.process == nil && !sc.open {
					continue // without a proxy there is nothing but latency to measure
				}
				if idle && p.redis {
					continue // holds as much; and so many reservations in one instant are more than a shared core answers in time
				}
				if !yield(sc, p) {
					return
				}
			}
		}
	}
}

// once runs a scenario through a proxy.
func (b *bed) once(sc scenario, p *proxy, length time.Duration) (reading, error) {
	before, err := p.process.cpu()
	if err != nil {
		return reading{}, err
	}
	most := p.process.watchRSS()
	out, err := b.command(others, "load", append([]string{"-to", p.address, "-for", length.String()}, sc.args...)...).Output()
	rss := most()
	if err != nil {
		return reading{}, fmt.Errorf("load on %s, %s: %w", p.name, sc.name, err)
	}
	after, err := p.process.cpu()
	if err != nil {
		return reading{}, err
	}
	var l load
	if err := json.Unmarshal(out, &l); err != nil {
		return reading{}, err
	}
	if l.Errors > 0 || l.Requests == 0 {
		return reading{}, fmt.Errorf("load on %s, %s: %d of %d requests failed: %s", p.name, sc.name, l.Errors, l.Errors+l.Requests, l.FirstError)
	}
	count := float64(l.Requests * max(1, sc.chunks))
	return reading{
		cpu: float64((after-before)/time.Microsecond) / count,
		p50: l.P50, p99: l.P99, first: l.FirstP50,
		rss: rss,
	}, nil
}

// row is a line of the table: one figure for each proxy.
type row struct {
	name   string
	figure func(reading) float64
	format string
	of     func([]float64) float64 // what is shown of several rounds
}

func (s scenario) rows() []row {
	cpu := row{s.name + ", CPU µs per request", func(r reading) float64 { return r.cpu }, "%.1f", median}
	if s.chunks > 0 {
		cpu.name, cpu.format = s.name+", CPU µs per chunk", "%.2f"
	}
	switch {
	case s.idle > 0:
		// Against the few megabytes a proxy starts with, thousands of streams
		// make nearly all of it.
		return []row{{s.name + ", KB each", func(r reading) float64 { return r.rss * 1024 / float64(s.idle) }, "%.0f", median}}
	case !s.open:
		return []row{cpu}
	case s.chunks > 0:
		return []row{cpu, {s.name + ", first byte p50 µs", func(r reading) float64 { return r.first }, "%.0f", median}}
	}
	return []row{
		{s.name + ", p50 µs", func(r reading) float64 { return r.p50 }, "%.0f", median},
		{s.name + ", p99 µs", func(r reading) float64 { return r.p99 }, "%.0f", median},
		cpu,
		// The least is the first round's, before the heaps of larger loads.
		{s.name + ", RSS MB", func(r reading) float64 { return r.rss }, "%.0f", slices.Min[[]float64]},
	}
}

// table prints each figure by proxy, and behind those of the
// routers how they compare to the bare proxy.
func table(proxies []*proxy, scenarios []scenario, results map[key][]reading) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-34s", "")
	for _, p := range proxies {
		fmt.Fprintf(&b, "%16s", p.name)
	}
	b.WriteString("\n")
	for _, sc := range scenarios {
		for _, row := range sc.rows() {
			fmt.Fprintf(&b, "%-34s", row.name)
			bare := row.over(results[key{sc.name, bareName}])
			for _, p := range proxies {
				b.WriteString(cell(row.over(results[key{sc.name, p.name}]), bare, row.format, p.router))
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// cell is a figure and, for a router, its ratio to the bare proxy's.
func cell(figure, bare float64, format string, router bool) string {
	if math.IsNaN(figure) || figure == 0 {
		return fmt.Sprintf("%16s", "")
	}
	text := fmt.Sprintf(format, figure)
	if router && bare > 0 {
		text += fmt.Sprintf(" %5.2f×", figure/bare)
	}
	return fmt.Sprintf("%16s", text)
}

// over is the row's figure over the rounds, NaN when there are none.
func (r row) over(readings []reading) float64 {
	if len(readings) == 0 {
		return math.NaN()
	}
	values := make([]float64, 0, len(readings))
	for _, reading := range readings {
		values = append(values, r.figure(reading))
	}
	return r.of(values)
}

// median sorts values.
func median(values []float64) float64 {
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}
