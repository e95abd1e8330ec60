package main

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// user is somebody with a budget, and what upstreams have billed for them.
type user struct {
	name   string
	limit  budget.Nanodollars
	header string // X-Router-Budget-USD; "" leaves the configured budget

	invoice   atomic.Int64 // billed by the upstreams, in nano-dollars
	charged   atomic.Int64 // what the router owes to charge for that
	uncertain atomic.Int64 // attempts whose bill only the upstream knows
	refusals  atomic.Int64 // 429, budget exceeded

	mu sync.Mutex
	// Only of users with small budgets:
	past    []*request         // those whose part of the budget may still change
	settled budget.Nanodollars // the part of the others
	served  map[*replica]bool
}

// poor gives the user a small budget.
func (u *user) poor(limit float64) {
	u.limit = budget.Nanodollars(max(limit, 10*averageCost))
	u.header = u.limit.USD()
	u.served = map[*replica]bool{}
}

func (u *user) isRich() bool { return u.header == "" }

// request is one request of a client and all that becomes of it.
type request struct {
	id       int64
	user     *user
	model    string
	stream   bool
	outcomes [4]outcome // by attempt
	late     time.Duration
	tokens   int64 // of the answer, where the limit allows
	body     []byte
	input    int64 // bound of the prompt, in tokens, as the router counts

	attempts atomic.Int32
	charged  atomic.Int64 // what the router owes to charge, by the attempts made
	held     atomic.Int64 // what it may hold for them at most
	chunks   atomic.Int32 // sent before an upstream waits for the client to leave
	reached  chan struct{}
	once     sync.Once

	// Guarded by user.mu once the request is among the user's past.
	began, ended time.Time
	by           *replica
	answered     bool // there was an answer: the router settles by itself
	denied       bool // nothing was held
}

// attempt counts an attempt and says what becomes of it.
func (q *request) attempt() outcome {
	n := int(q.attempts.Add(1)) - 1
	if n >= len(q.outcomes) {
		return answers
	}
	return q.outcomes[n]
}

// bill writes the invoice, before anything is sent: billed is what the
// upstream asks for, charge what the router owes to charge its user.
func (q *request) bill(billed, charge budget.Nanodollars) {
	q.user.invoice.Add(int64(billed))
	q.user.charged.Add(int64(charge))
	q.charged.Add(int64(charge))
}

// worstCase bounds what the router can hold for a request that reached no
// upstream, whichever model was meant for it.
func (q *request) worstCase() budget.Nanodollars {
	return models["c"].price.WorstCase(q.input, mostOutput)
}
