package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/inference-router/inference-router/budget"
)

// globalLimit is the budget that all users share; nobody can use it up.
const globalLimit = 8_000_000 * budget.Nanodollars(1e9)

// keyOf is how Redis knows a budget, up to its window.
func keyOf(scope budget.Scope, subject string) string {
	sum := sha256.Sum256([]byte(string(scope) + "\x00" + subject))
	return prefix + ":{b:" + hex.EncodeToString(sum[:16]) + "}:"
}

// account is one window of a budget as Redis has it.
type account struct {
	gross, corrected, reserved int64
	expired                    int64 // charged because a lease ran out, and not corrected since
	leases                     int64 // how many those are
}

func (a account) spent() int64 { return a.gross - a.corrected }

// sampler looks into Redis during a run: nothing may ever exceed a limit, and
// what only grows must not fall.
type sampler struct {
	redis     *redis.Client
	limits    map[string]*user // by key without window
	forgetful *atomic.Bool     // Redis has lost something that is not yet back

	mu      sync.Mutex
	keys    []string
	last    map[string]account
	samples int64
	over    budget.Nanodollars // the largest excess seen
	fell    int64
}

func newSampler(s *stage) *sampler {
	a := &sampler{redis: s.redis.client, limits: map[string]*user{}, forgetful: &s.forgetful, last: map[string]account{}}
	for _, u := range s.plan.users {
		a.limits[keyOf(budget.ScopeUser, u.name)] = u
	}
	a.limits[keyOf(budget.ScopeGlobal, "")] = &user{limit: globalLimit}
	return a
}

// run samples until ctx ends.
func (a *sampler) run(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		if i%100 == 0 {
			a.find(ctx)
		}
		a.look(ctx, i)
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// find learns which budgets there are.
func (a *sampler) find(ctx context.Context) {
	keys, err := allKeys(ctx, a.redis)
	if err != nil {
		return // Redis is broken just now
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = keys
}

func allKeys(ctx context.Context, client *redis.Client) ([]string, error) {
	var keys []string
	for cursor := uint64(0); ; {
		page, next, err := client.Scan(ctx, cursor, prefix+":{b:*}:*:a", 2000).Result()
		if err != nil {
			return nil, err
		}
		keys = append(keys, page...)
		if cursor = next; cursor == 0 {
			return keys, nil
		}
	}
}

// look reads some budgets; every command sees its budget at one moment.
func (a *sampler) look(ctx context.Context, turn int) {
	const atOnce = 100
	a.mu.Lock()
	var keys []string
	for i := range min(atOnce, len(a.keys)) {
		keys = append(keys, a.keys[(turn*atOnce+i)%len(a.keys)])
	}
	a.mu.Unlock()
	pipe := a.redis.Pipeline()
	replies := make([]*redis.SliceCmd, len(keys))
	for i, key := range keys {
		replies[i] = pipe.HMGet(ctx, key, "s", "c", "r")
	}
	_, _ = pipe.Exec(ctx) // its error is one of the commands'
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, key := range keys {
		v, err := replies[i].Result()
		if err != nil {
			continue
		}
		a.judge(key, account{gross: integer(v[0]), corrected: integer(v[1]), reserved: integer(v[2])})
	}
}

func (a *sampler) judge(key string, now account) {
	a.samples++
	u := a.limits[withoutWindow(key)]
	if u == nil {
		a.over = max(a.over, 1) // a budget that nobody has
		return
	}
	// While replicas bring back what Redis has lost nothing is admitted, and the
	// counts are neither whole nor without what is settled.
	if a.forgetful.Load() {
		return
	}
	a.over = max(a.over, budget.Nanodollars(now.spent()+now.reserved)-u.limit)
	before := a.last[key]
	if now.gross < before.gross || now.corrected < before.corrected || now.reserved < 0 {
		a.fell++
	}
	a.last[key] = now
}

// withoutWindow is prefix:{b:hash}: of a key.
func withoutWindow(key string) string {
	end := strings.IndexByte(key, '}')
	return key[:end+2]
}

func integer(v any) int64 {
	text, _ := v.(string)
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// accounts reads all budgets, by key without window, windows added up.
func accounts(ctx context.Context, client *redis.Client) (map[string]account, error) {
	keys, err := allKeys(ctx, client)
	if err != nil {
		return nil, err
	}
	all := map[string]account{}
	for _, key := range keys {
		fields, err := client.HGetAll(ctx, key).Result()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", key, err)
		}
		a := all[withoutWindow(key)]
		a.gross += integer(fields["s"])
		a.corrected += integer(fields["c"])
		a.reserved += integer(fields["r"])
		for name, value := range fields {
			if strings.HasPrefix(name, "X") {
				amount, _, _ := strings.Cut(value, "@")
				a.expired += integer(amount)
				a.leases++
			}
		}
		// One member that never ends keeps the set from vanishing.
		leases, err := client.ZCount(ctx, strings.TrimSuffix(key, "a")+"z", "-inf", "(+inf").Result()
		if err != nil {
			return nil, err
		}
		if leases > 0 && a.reserved == 0 {
			a.reserved = 1 // a lease without a reservation is no better
		}
		all[withoutWindow(key)] = a
	}
	return all, nil
}
