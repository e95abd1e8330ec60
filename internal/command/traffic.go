package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// mostTraffic is the most requests a second that the demo sends itself.
const mostTraffic = 1000

// samplePrompts are what the demo asks itself, from trivial to hard.
var samplePrompts = []string{
	"hello",
	"what is the capital of France?",
	"translate \"good morning\" into Spanish",
	"summarize this in one sentence: the meeting moved from Tuesday to Thursday because two of us travel",
	"write a Python function that removes duplicates from a list and keeps the order",
	"why does this loop never end? `for i := uint(3); i >= 0; i-- { fmt.Println(i) }` Explain the cause and fix it.",
	"compare B-trees vs LSM trees, explain tradeoffs",
	"prove step by step that there are infinitely many primes, then analyze why the proof needs no axiom of choice",
	"design a distributed rate limiter, analyze its failure modes step by step and compare it with a token bucket on one node",
}

// traffic is the demo's own client: sample requests at a steady rate.
type traffic struct {
	client *http.Client
	random *rand.Rand
	every  time.Duration
}

// newTraffic returns a client that sends rate requests a second to address.
func newTraffic(address net.Addr, rate, seed uint64) *traffic {
	var dialer net.Dialer
	return &traffic{
		client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{
			MaxIdleConnsPerHost: 100,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, address.Network(), address.String())
			},
		}},
		random: rand.New(rand.NewPCG(seed, 1)),
		every:  time.Second / time.Duration(rate),
	}
}

// run sends until ctx ends, and returns when nothing of it is under way. What
// becomes of a request is for the dashboard to show.
func (t *traffic) run(ctx context.Context) {
	defer t.client.CloseIdleConnections()
	var sent sync.WaitGroup
	defer sent.Wait()
	tick := time.NewTicker(t.every)
	defer tick.Stop()
	for {
		user, body := t.draw()
		sent.Go(func() { t.send(ctx, user, body) })
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// draw makes a request up: a few users ask most, and half of the answers are
// streamed.
func (t *traffic) draw() (user string, body []byte) {
	prompt := samplePrompts[t.random.IntN(len(samplePrompts))]
	user = fmt.Sprintf("user-%d", 1+min(t.random.IntN(8), t.random.IntN(8)))
	body, _ = json.Marshal(map[string]any{ // strings and numbers always have JSON
		"model": "auto", "stream": t.random.IntN(2) == 0, "max_tokens": 40 + t.random.IntN(100),
		"messages": []map[string]string{{"role": "user", "content": prompt}},
	})
	return user, body
}

func (t *traffic) send(ctx context.Context, user string, body []byte) {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("X-Router-User", user)
	resp, err := t.client.Do(q)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // an answer cut short is on the dashboard
}
