package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// replica is one router process with its way to Redis.
type replica struct {
	process
	link      link
	transport *http.Transport
	up        atomic.Bool // to be sent requests

	mu    sync.Mutex
	downs []span // when it was dead
}

// span is a time; an end of zero is yet to come.
type span struct{ from, to time.Time }

// replicaConfig is what differs between runs.
type replicaConfig struct {
	binary   string
	dir      string
	redis    string // address of the server
	upstream string
	onLoss   string
	lease    time.Duration
	more     string // further configuration
}

func newReplica(name string, c replicaConfig) (*replica, error) {
	r := &replica{process: process{name: name, log: filepath.Join(c.dir, name+".log")}}
	var err error
	if r.address, err = freeAddress(); err != nil {
		return nil, err
	}
	if r.link, err = newLink(name, c.redis); err != nil {
		return nil, err
	}
	file := filepath.Join(c.dir, name+".yaml")
	if err := os.WriteFile(file, c.configuration(r.address, r.link.Listen), 0o600); err != nil {
		return nil, err
	}
	r.command = []string{c.binary, "serve", "-config", file}
	r.transport = &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	if err := r.start(); err != nil {
		r.link.Stop()
		return nil, err
	}
	r.up.Store(true)
	return r, nil
}

// configuration is one that a user might have: two upstreams in a tier, a
// dearer tier, budgets that are never to be exceeded.
func (c replicaConfig) configuration(listen, redis string) []byte {
	upstream := func(path string) string {
		m := models[path]
		return fmt.Sprintf("{provider: openai, model: %s, base_url: \"http://%s/%s/v1\", api_key: sk-chaos, price: {input: %s, output: %s}}",
			m.name, c.upstream, path, m.input, m.output)
	}
	global := ""
	if c.onLoss == "closed" {
		global = fmt.Sprintf("\n  - {scope: global, usd: %s, per: day, on_exhausted: reject}", globalLimit.USD())
	}
	more := c.more
	if more == "" {
		more = "strategy:\n  - complexity:\n      rules: {fast: [0, 6], powerful: [6, 10]}\n"
	}
	return fmt.Appendf(nil, `server: {listen: "%s", drain_delay: 500ms, drain_timeout: 20s}
tiers:
  fast:
    - %s
    - %s
  powerful:
    - %s
budgets:
  - {scope: user, usd: %s, per: day, on_exhausted: reject}%s
redis: {url: "redis://%s", prefix: %s, on_loss: %s, lease: %s}
timeouts: {connect: 2s, first_event: 15s, idle: 15s, total: 30s}
log: {level: warn}
%s`, listen, upstream("a"), upstream("b"), upstream("c"), richLimit.USD(), global, redis, prefix, c.onLoss, c.lease, more)
}

// crash kills the process; what it was doing is lost.
func (r *replica) crash() {
	r.up.Store(false)
	r.mu.Lock()
	r.downs = append(r.downs, span{from: time.Now()})
	r.mu.Unlock()
	r.kill()
	r.transport.CloseIdleConnections()
}

// revive starts it again.
func (r *replica) revive() error {
	err := r.start()
	r.mu.Lock()
	if n := len(r.downs); n > 0 {
		r.downs[n-1].to = time.Now()
	}
	r.mu.Unlock()
	r.up.Store(err == nil)
	return err
}

// diedIn says whether the replica was killed, or was dead, at some time between
// the two.
func (r *replica) diedIn(from, to time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.downs {
		if d.from.Before(to) && (d.to.IsZero() || d.to.After(from)) {
			return true
		}
	}
	return false
}

func (r *replica) stop() {
	r.kill()
	r.transport.CloseIdleConnections()
	r.link.Stop()
}
