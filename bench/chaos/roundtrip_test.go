package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// counter stands between a router and Redis. It counts the round trips that
// have to do with reservations, and can keep replies back.
type counter struct {
	address string

	mu      sync.Mutex
	trips   int           // requests sent to Redis that name a reservation
	opened  chan struct{} // closed when replies may pass
	settles int           // of them, while replies were kept back
}

func newCounter(t *testing.T, redis string) *counter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c := &counter{address: l.Addr().String(), opened: make(chan struct{})}
	close(c.opened)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", redis)
			if err != nil {
				_ = client.Close()
				continue
			}
			go c.pass(server, client, c.sent)
			go c.pass(client, server, c.answered)
		}
	}()
	return c
}

// pass copies what comes, and tells of it first.
func (c *counter) pass(to, from net.Conn, tell func([]byte)) {
	defer func() { _ = to.Close() }()
	buf := make([]byte, 256<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		tell(buf[:n])
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// sent looks at what goes to Redis. The ledger sends what belongs to one round
// trip at once, and every reservation's key has :i: in it.
func (c *counter) sent(b []byte) {
	if !bytes.Contains(b, []byte(":i:")) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trips++
	select {
	case <-c.opened:
	default:
		c.settles++
	}
}

func (c *counter) answered([]byte) {
	c.mu.Lock()
	opened := c.opened
	c.mu.Unlock()
	<-opened
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trips
}

// keepBack holds replies until the function it returns is called.
func (c *counter) keepBack() (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	opened := make(chan struct{})
	c.opened = opened
	return sync.OnceFunc(func() { close(opened) })
}

func TestOneRoundTripBeforeTheUpstreamCallAndNoneIsWaitedForAfterIt(t *testing.T) {
	var c *counter
	var before int
	var trips []int
	var release func()
	b := newBench(t, func(string) {
		trips = append(trips, c.count()-before)
		release = c.keepBack() // what is sent from here on gets no reply
	})
	c = newCounter(t, b.redis.address)
	r := b.router(c.address, "closed", "")
	r.wantStatus(t, "bob", http.StatusOK) // loads the scripts
	release()
	b.spent("bob")
	time.Sleep(100 * time.Millisecond) // what was given up is sent again within this time
	trips, c.settles = nil, 0
	const rounds = 60
	var after []time.Duration
	for i := range rounds {
		for began := time.Now(); !isSettled(b, i); time.Sleep(time.Millisecond) {
			if time.Since(began) > 10*time.Second {
				t.Fatalf("%d requests are not settled", i)
			}
		}
		before = c.count()
		reply := r.ask(t, "ann", i%2 == 1)
		c.awaitSettlement(i + 1)
		release()
		if reply.status != http.StatusOK {
			t.Fatalf("status %d: %s", reply.status, reply.body)
		}
		after = append(after, reply.took)
	}
	for i, n := range trips {
		if n != 1 {
			t.Errorf("request %d made %d round trips before its upstream was called, want 1", i, n)
		}
	}
	// A reply of Redis that is kept back is given up after 50 ms.
	if m := median(after); m > 25*time.Millisecond {
		t.Errorf("a request took %v (median) while Redis did not answer: its settlement was waited for", m)
	}
	if got, want := b.spent("ann"), rounds*testCost(); got != want {
		t.Errorf("%d counted, %d answers cost %d", got, rounds, want)
	}
	if c.settles < rounds/2 {
		t.Errorf("%d settlements were sent while replies were kept back: too few to show anything", c.settles)
	}
	t.Logf("one round trip each; a request took %v (median), with %d settlements under way that got no reply", median(after), c.settles)
}

// awaitSettlement waits until so many settlements were sent, but not so long
// that the ledger gives up the reply.
func (c *counter) awaitSettlement(n int) {
	for began := time.Now(); time.Since(began) < 20*time.Millisecond; time.Sleep(100 * time.Microsecond) {
		c.mu.Lock()
		settles := c.settles
		c.mu.Unlock()
		if settles >= n {
			return
		}
	}
}

// isSettled says whether the first n requests are.
func isSettled(b *bench, n int) bool {
	if n == 0 {
		return true
	}
	all, err := accounts(b.t.Context(), b.redis.client)
	if err != nil {
		b.t.Fatal(err)
	}
	a := all[keyOf(budget.ScopeUser, "ann")]
	return a.reserved == 0 && a.spent() == int64(testCost())*int64(n)
}

// Latency on the way to Redis comes once, whatever the request does.
func TestLatencyOfRedisIsPaidOnce(t *testing.T) {
	b := newBench(t, func(string) {})
	r := b.router("", "closed", "")
	for _, ms := range []int{5, 30} {
		var without, with []time.Duration
		for range 20 {
			without = append(without, r.wantStatus(t, "ann", http.StatusOK))
		}
		toxic := fmt.Sprintf(`{"name":"x","toxicity":1,"type":"latency","stream":"downstream","attributes":{"latency":%d}}`, ms)
		if _, err := r.link.Toxics.AddToxicJson(bytes.NewReader([]byte(toxic))); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			with = append(with, r.wantStatus(t, "ann", http.StatusOK))
		}
		if err := r.link.Toxics.RemoveToxic(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		more, delay := median(with)-median(without), time.Duration(ms)*time.Millisecond
		t.Logf("%v to Redis make a request %v slower", delay, more)
		if more > delay+delay/2+3*time.Millisecond {
			t.Errorf("%v to Redis make a request %v slower: more than one round trip", delay, more)
		}
	}
}
