package redisledger

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/internal/redisclient"
)

// OnLoss says what happens to requests under a hard budget while Redis is
// lost. Requests that only soft budgets apply to are always let in then.
type OnLoss string

// The policies for a lost store.
const (
	// OnLossClosed refuses them.
	OnLossClosed OnLoss = "closed"
	// OnLossBounded admits them to what this replica set aside beforehand, so
	// that nothing is overspent.
	OnLossBounded OnLoss = "bounded"
	// OnLossOpen lets them in and counts them as unenforced.
	OnLossOpen OnLoss = "open"
)

// Config configures a Redis. Only URL is required.
type Config struct {
	// URL, Username, Password and TLS are as in redisclient.Config.
	URL, Username, Password string
	TLS                     *tls.Config
	// Prefix begins every key; "" means router.
	Prefix string
	// OnLoss is what to do without Redis; "" means bounded.
	OnLoss OnLoss
	// Lease is how long a reservation lives without Renew; then it is charged
	// in full. 0 means DefaultLease.
	Lease time.Duration
	// Logger is told when the store is lost and found, and what is wrong with
	// its set-up. nil means slog.Default.
	Logger *slog.Logger
	// Timeout is how long a reservation waits for Redis, retries and reconnects
	// included. 0 means a second.
	Timeout time.Duration
}

// Redis is the ledger of many replicas, which share their budgets. Safe for
// concurrent use.
//
// Every change is a script with an id that takes effect once, however often it
// is sent: an error never tells whether a command was carried out. A request
// waits for one round trip, its reservation; what it settles is queued, and
// sent along with later reservations or soon after by itself.
type Ledger struct {
	config Config
	log    *slog.Logger
	store  *store
	views  *views
	self   string // this replica's name among the others
	// epochKey is the epoch's. Tagged, as the keys beside it, for one slot.
	epochKey string

	queue      queue
	allotments allotments
	open       openLeases

	heartbeats       sync.Mutex // one beat at a time
	lastLook         time.Time  // when the last one began; guarded by heartbeats
	epoch            atomic.Pointer[epoch]
	lastHeartbeat    atomic.Int64  // local ms
	restored         string        // the data set that it brought back into what it knew; guarded by heartbeats
	expectedReplicas int64         // replicas before the last loss of data, or unknown; guarded by heartbeats
	recalled         []string      // budgets of which slices are wanted; guarded by heartbeats
	loggedDown       atomic.Bool   // what the log was told last: lost
	wake             chan struct{} // asks for a beat
	stop             chan struct{}
	stopped          sync.WaitGroup
	closed           atomic.Bool
	alarmed          atomic.Int64 // local ms

	// freshFor is how old a local reading may be before the store is asked.
	freshFor time.Duration
}

const (
	// A reservation that allotments can admit waits no longer for Redis.
	allotmentWait = 50 * time.Millisecond
	// The time between two tries of a reservation.
	retryPause = 10 * time.Millisecond
	// Scripts refuse a reservation that reaches them this late: whoever sent
	// it has given up.
	staleAfter = 2 * time.Second
	// The time between looks at the epoch.
	heartbeatEvery = 250 * time.Millisecond
	// Requests that wait for a data set to be complete do not look more often.
	heartbeatAtMost = 5 * time.Millisecond
	// Counts that cannot be read are logged no more often.
	alarmEvery = 10 * time.Second
	// After a loss of data the replicas get this long to bring back what they
	// know, less if all have done so. One may find Redis so much later than
	// another: go-redis dials once a second when it has failed often, and the
	// breaker probes every 0.8 seconds.
	recoveryWait = 2 * time.Second
	// As many replicas there are not: who has not seen how many there were waits
	// for all of that time.
	unknown = 1 << 30
	// A settle whose fate is unknown is sent as certain for this long, a little
	// less than its tombstone lives.
	certainFor = 4 * time.Minute
)

// New makes a ledger. A Redis that does not answer is no error: the
// policy for its loss applies until it does.
func New(c Config) (*Ledger, error) {
	r, err := newLedger(c)
	if err != nil {
		return nil, err
	}
	_ = r.heartbeat(context.Background(), "") // tried again by the loop
	r.report()
	r.stopped.Go(r.heartbeatLoop)
	r.stopped.Go(r.queue.loop)
	r.stopped.Go(func() { r.allotments.loop(r) })
	r.stopped.Go(func() { r.store.inspect(r.log) })
	return r, nil
}

// newLedger makes a ledger that does nothing by itself yet.
func newLedger(c Config) (*Ledger, error) {
	if c.Prefix == "" {
		c.Prefix = "router"
	}
	if c.OnLoss == "" {
		c.OnLoss = OnLossBounded
	}
	if c.OnLoss != OnLossClosed && c.OnLoss != OnLossBounded && c.OnLoss != OnLossOpen {
		return nil, fmt.Errorf("on_loss %q: want closed, bounded or open", c.OnLoss)
	}
	if c.Lease <= 0 {
		c.Lease = budget.DefaultLease
	}
	if c.Timeout <= 0 {
		c.Timeout = redisclient.DefaultTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	r := &Ledger{
		config: c, log: c.Logger, self: budget.NewID(), freshFor: heartbeatEvery, expectedReplicas: unknown,
		epochKey: c.Prefix + ":{epoch}:e", wake: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	var err error
	if r.store, err = openStore(c); err != nil {
		return nil, err
	}
	r.views = newViews(r.store.cluster, c.Prefix)
	r.epoch.Store(&epoch{})
	r.queue.init(r)
	r.allotments.byView = map[*view]*allotment{}
	r.allotments.asked = make(chan *lease, looksInFlight)
	r.open.byID = map[string]openLease{}
	return r, nil
}

// Reserve holds h.Amount against all of h.Limits, or none: it returns an
// *ExceededError when a hard one has no room, and an error wrapping
// ErrUnavailable when Redis is lost and the policy is to refuse. The same id
// gets the same answer. An Amount of 0 reads, mostly without asking Redis, and
// is never denied; it may be extended.
func (r *Ledger) Reserve(ctx context.Context, h budget.Hold) (*budget.Reservation, error) {
	if h.ID == "" {
		h.ID = budget.NewID()
	}
	l := r.newLease(h)
	h.Amount = budget.Clamp(h.Amount)
	if len(h.Limits) == 0 {
		return &l.Reservation, nil
	}
	if h.Amount == 0 {
		r.refresh(ctx, l)
		l.Budgets = l.statuses()
		return &l.Reservation, nil
	}
	if err := l.hold(ctx, h.Amount); err != nil {
		return nil, err
	}
	r.allotments.tend(l)
	return &l.Reservation, nil
}

// Status reads budgets without changing them, in the order of limits: as this
// replica saw them within the last quarter of a second, or as Redis has them,
// or, when that is lost, as this replica last saw them.
func (r *Ledger) Status(ctx context.Context, limits []budget.Limit) ([]budget.Status, error) {
	l := r.newLease(budget.Hold{Limits: limits})
	r.refresh(ctx, l)
	return l.statuses(), nil
}

// Seen is what budgets stood at when this replica last heard of them, in the
// order of limits. It asks nobody: of a budget that is new to this replica
// nothing seems spent.
func (r *Ledger) Seen(limits []budget.Limit) []budget.Status {
	all, now := make([]budget.Status, len(limits)), r.store.now()
	for i, limit := range limits {
		v := r.views.get(limit, now)
		v.mu.Lock()
		all[i] = v.status(limit)
		v.mu.Unlock()
	}
	return all
}

// Known is the budgets this replica has used lately, at most about a thousand,
// as it last saw them.
func (r *Ledger) Known() []budget.Status { return r.views.known(r.store.now()) }

// Reset sets what is spent to 0 for all replicas. Open reservations stay and
// settle into the new count.
func (r *Ledger) Reset(ctx context.Context) error {
	early, cancel := context.WithTimeout(ctx, r.store.patience())
	defer cancel()
	_ = r.queue.flush(early) // what is settled later counts anew
	if err := r.heartbeat(ctx, "reset"); err != nil {
		return fmt.Errorf("reset budgets: %w: %w", budget.ErrUnavailable, err)
	}
	if r.store.cluster {
		// The others learn of it by their next beat, not by their next call.
		r.queue.pause(heartbeatEvery + r.store.patience())
	}
	return nil
}

// Close sends what is still to be settled, until ctx ends, and lets go of
// Redis. The ledger must not be used any more.
func (r *Ledger) Close(ctx context.Context) error {
	if r.closed.Swap(true) {
		return nil
	}
	r.allotments.giveBackAll()
	err := r.queue.flush(ctx)
	r.queue.end()
	close(r.stop)
	r.stopped.Wait()
	if cerr := r.store.client.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close redis: %w", cerr)
	}
	return err
}

// Up says whether Redis can be used now.
func (r *Ledger) Up() bool {
	return r.store.breaker.allows() && r.epoch.Load().usable(r.store.now())
}

// refresh asks Redis for what l's budgets stand at, unless this replica knows.
func (r *Ledger) refresh(ctx context.Context, l *lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bind(r.store.now())
	for i := range l.shares {
		if time.Since(l.shares[i].view.seenAt()) > r.freshFor {
			_ = l.ask(ctx, 0) // when it fails, the old reading has to do
			return
		}
	}
}

// bucketTag is a hash tag, so that all budgets of a subject are in one slot of
// a cluster. A hash, so that no name can steer keys or stand in them.
func bucketTag(scope budget.Scope, subject string) string {
	sum := sha256.Sum256([]byte(string(scope) + "\x00" + subject))
	return "{b:" + hex.EncodeToString(sum[:16]) + "}"
}

// Stats reads the counters.
func (r *Ledger) Stats() budget.StoreStats {
	c := &r.store.count
	s := budget.StoreStats{
		Up: r.Up(), Unenforced: c.unenforced.Load(), UnenforcedSpent: budget.Nanodollars(c.unenforcedSpent.Load()),
		Allotted: c.allotted.Load(), Refused: c.refused.Load(), Failures: c.failures.Load(), Opened: c.opened.Load(),
		Corrupt: c.corrupt.Load(), Recovered: c.recovered.Load(), Late: c.late.Load(), Lost: c.lost.Load(),
	}
	s.Unsent, s.OldestUnsent = r.queue.unsent()
	return s
}

var errClosed = errors.New("the ledger is closed")
