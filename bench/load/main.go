// Command load sends chat completions to one address and prints, as JSON, how
// many were answered and how long they took.
//
// Without -rate it is a closed loop: each connection sends its next request as
// soon as it has the answer to the one before. With -rate it is an open loop:
// requests are due at fixed instants, and latency counts from when a request
// was due, so that a stalled server is charged for the requests it kept
// waiting (no coordinated omission).
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// Result is what is printed. Times are in microseconds.
type Result struct {
	Requests   int     `json:"requests"`
	Errors     int     `json:"errors"`
	FirstError string  `json:"first_error,omitempty"`
	Seconds    float64 `json:"seconds"`
	P50        float64 `json:"p50"`
	P99        float64 `json:"p99"`
	FirstP50   float64 `json:"first_p50"` // to the first byte of the answer's body
}

// options are the command line.
type options struct {
	address string
	conns   int
	rate    float64
	length  time.Duration
	body    body
}

func main() {
	var o options
	flag.StringVar(&o.address, "to", "", "`host:port` to send to")
	flag.IntVar(&o.conns, "conns", 32, "connections")
	flag.Float64Var(&o.rate, "rate", 0, "requests per second; 0 is a closed loop")
	flag.DurationVar(&o.length, "for", 2*time.Second, "how long")
	flag.IntVar(&o.body.size, "size", 1024, "bytes of a request's body")
	flag.IntVar(&o.body.chunks, "chunks", 0, "ask for a stream of so many chunks; 0 is a whole answer")
	flag.DurationVar(&o.body.pace, "pace", 0, "ask for this time between chunks")
	flag.Parse()
	result, err := run(o)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// run opens all connections, sends for o.length, and waits for the last
// answers.
func run(o options) (*Result, error) {
	workers := make([]*worker, o.conns)
	for i := range workers {
		c, err := dial(o.address)
		if err != nil {
			return nil, err
		}
		defer c.close()
		workers[i] = &worker{client: c, request: o.body.request(o.address, fmt.Sprintf("user-%d", i))}
	}
	start := time.Now()
	var wait sync.WaitGroup
	if o.rate > 0 {
		due := make(chan time.Time, int(o.rate*o.length.Seconds())+1) // never full: the schedule does not wait
		for _, w := range workers {
			wait.Go(func() { w.openLoop(due) })
		}
		schedule(due, start, o.rate, o.length)
	} else {
		for _, w := range workers {
			wait.Go(func() { w.closedLoop(start.Add(o.length)) })
		}
	}
	wait.Wait()
	return summary(workers, time.Since(start)), nil
}

// worker is a connection and what came over it.
type worker struct {
	client  *client
	request []byte
	latency []time.Duration
	first   []time.Duration
	errors  int
	err     error
}

func (w *worker) closedLoop(until time.Time) {
	for now := time.Now(); now.Before(until); now = time.Now() {
		w.send(now)
	}
}

func (w *worker) openLoop(due <-chan time.Time) {
	for at := range due {
		w.send(at)
	}
}

// send makes one request, whose time counts from at.
func (w *worker) send(at time.Time) {
	first, err := w.client.do(w.request)
	if err != nil {
		w.errors++
		w.err = err
		time.Sleep(time.Millisecond) // a server that is gone is not to be hammered
		return
	}
	w.latency = append(w.latency, time.Since(at))
	w.first = append(w.first, first.Sub(at))
}

func summary(workers []*worker, elapsed time.Duration) *Result {
	r := &Result{Seconds: elapsed.Seconds()}
	var latency, first []time.Duration
	for _, w := range workers {
		latency = append(latency, w.latency...)
		first = append(first, w.first...)
		r.Errors += w.errors
		if w.err != nil {
			r.FirstError = w.err.Error()
		}
	}
	r.Requests = len(latency)
	r.P50, r.P99, r.FirstP50 = percentile(latency, 50), percentile(latency, 99), percentile(first, 50)
	return r
}

// percentile is in microseconds, 0 of nothing. It sorts d.
func percentile(d []time.Duration, p int) float64 {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return float64(d[(len(d)-1)*p/100]) / float64(time.Microsecond)
}
