package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// bench is a Redis, an upstream that the test scripts, and routers, started one
// by one.
type bench struct {
	t        *testing.T
	dir      string
	redis    *redisServer
	upstream *httptest.Server
	binary   string
	count    int
}

// newBench starts a Redis and an upstream. Whatever path it is asked for, it
// answers after play has returned.
func newBench(t *testing.T, play func(path string)) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), binary: routerBinary(t)}
	b.upstream = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		play(r.URL.Path)
		q := &request{input: testInput, stream: bytes.Contains(body, []byte(`"stream":true`)), user: &user{}}
		c := &call{q: q, m: models[strings.SplitN(r.URL.Path, "/", 3)[1]], limit: mostOutput, w: w, r: r}
		c.answer(testTokens, true)
	}))
	t.Cleanup(b.upstream.Close)
	var err error
	if b.redis, err = startRedis(b.dir, "everysec"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.redis.stop)
	return b
}

const (
	testInput  = 100
	testTokens = 8
)

// testCost is what an answer of model a costs.
func testCost() budget.Nanodollars {
	return models["a"].price.Cost(budget.Usage{Input: testInput / bytesPerToken, Output: testTokens})
}

// router starts one more router. redis is its address, "" for the server's own.
func (b *bench) router(redis, onLoss, more string) *replica {
	b.t.Helper()
	if redis == "" {
		redis = b.redis.address
	}
	b.count++
	r, err := newReplica(fmt.Sprintf("replica-%d", b.count), replicaConfig{
		binary: b.binary, dir: b.dir, redis: redis, upstream: b.upstream.Listener.Addr().String(),
		onLoss: onLoss, lease: 10 * time.Second, more: more,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(r.stop)
	return r
}

// reply is an answer as its client saw it.
type reply struct {
	status int
	header http.Header
	body   []byte
	took   time.Duration
}

// ask sends a request and reads the answer to its end.
func (r *replica) ask(t *testing.T, user string, stream bool) reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	body := fmt.Sprintf(`{"model":"auto","messages":[{"role":"user","content":"hello"}],"max_tokens":%d,"stream":%t}`, mostOutput, stream)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.address+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Router-User", user)
	began := time.Now()
	resp, err := r.transport.RoundTrip(req)
	if err != nil {
		t.Fatalf("a request that hangs, or whose connection broke: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, text, time.Since(began)}
}

// get reads a page of the router.
func (r *replica) get(t *testing.T, path string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", path, resp.StatusCode, err)
	}
	return body
}

// spent waits until nothing of a user's budget is reserved, and reads what is
// spent.
func (b *bench) spent(user string) budget.Nanodollars {
	b.t.Helper()
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(10 * time.Millisecond) {
		all, err := accounts(b.t.Context(), b.redis.client)
		if err != nil {
			b.t.Fatal(err)
		}
		// Slices are given back when they have not been used for a while.
		if a := all[keyOf(budget.ScopeUser, user)]; a.reserved == 0 {
			return budget.Nanodollars(a.spent())
		}
	}
	b.t.Fatalf("something of %s's budget stays reserved", user)
	return 0
}
