package redisledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// epoch says which data set Redis has. The scripts refuse a caller who knows
// another, so that a replica brings back what it remembers before anything is
// admitted against counts that are too low.
type epoch struct {
	text    string
	gen     int64  // the last reset
	servers string // run id, or of a cluster's the beginnings
	made    string // servers and time: another one is another data set
	till    int64  // replicas bring back what they know until then, Redis' ms
}

func parseEpoch(text string) (*epoch, error) {
	f := strings.Split(text, ":")
	if len(f) != 4 {
		return nil, fmt.Errorf("epoch %q", text)
	}
	gen, err := strconv.ParseInt(f[0], 10, 64)
	till, err2 := strconv.ParseInt(f[3], 10, 64)
	if err := errors.Join(err, err2); err != nil {
		return nil, fmt.Errorf("epoch %q: %w", text, err)
	}
	return &epoch{text: text, gen: gen, servers: f[1], made: f[1] + ":" + f[2], till: till}, nil
}

func (e *epoch) usable(now int64) bool { return e.text != "" && now >= e.till }

// current is the epoch for what is sent now: one that scripts refuse while the
// replicas bring back what they know, for a charge that came before that would
// vanish in it.
func (r *Ledger) current() *epoch {
	e := r.epoch.Load()
	if e.usable(r.store.now()) {
		return e
	}
	none := *e
	none.text, none.servers = "none", "none"
	return &none
}

// sayEpoch appends the epoch to a script's arguments. In a cluster its key is
// in one slot and theirs are in others: there they are told which servers are
// known, and each budget's own counts say when they are new.
func (r *Ledger) sayEpoch(c *call, e *epoch) {
	c.epoch = e
	if r.store.cluster {
		c.text(&e.servers)
		return
	}
	c.text(&e.text)
}

// unknownServer notes that a call met a server of a cluster that its epoch does not
// speak of, or counts that a server of it has lost.
func (r *Ledger) unknownServer(c *call, lost bool) {
	if !r.store.cluster || c.epoch.made != r.epoch.Load().made {
		return
	}
	if lost {
		r.store.lost.Store(c.epoch)
	}
	r.store.strange.Store(true)
}

// usable says whether Redis can be asked, after a look where that may change
// the answer.
func (r *Ledger) usable(ctx context.Context) bool {
	if r.closed.Load() {
		return false
	}
	if r.Up() && !r.store.strange.Load() {
		return true
	}
	justLooked := r.epoch.Load().text != "" && !r.store.strange.Load() && r.store.local()-r.lastHeartbeat.Load() < heartbeatAtMost.Milliseconds()
	if justLooked || !r.store.breaker.allows() {
		return false
	}
	r.refreshEpoch(ctx)
	return r.Up() && !r.store.strange.Load()
}

// refreshEpoch has a look at the epoch, unless another has just done so. A request
// waits for it: no longer than for an answer.
func (r *Ledger) refreshEpoch(ctx context.Context) {
	before, asked := r.epoch.Load(), time.Now()
	until := asked.Add(r.store.patience())
	for !r.heartbeats.TryLock() {
		if time.Now().After(until) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	defer r.heartbeats.Unlock()
	if r.epoch.Load() == before && r.lastLook.Before(asked) {
		_ = r.heartbeatLocked(deadline{ctx, until}, "") // its failure shows in Up
	}
}

// wakeHeartbeat has the loop look at the epoch soon.
func (r *Ledger) wakeHeartbeat() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// heartbeatLoop looks at the epoch now and then, and probes a store that is lost.
func (r *Ledger) heartbeatLoop() {
	for {
		wait := jittered(heartbeatEvery)
		if !r.store.breaker.allows() {
			wait = r.store.breaker.untilProbe()
		} else if !r.Up() {
			wait = 20 * time.Millisecond
		}
		select {
		case <-r.stop:
			return
		case <-r.wake:
		case <-time.After(wait):
		}
		if !r.store.breaker.allows() && r.store.breaker.untilProbe() > 0 {
			r.report()
			continue
		}
		if r.heartbeat(context.Background(), "") == nil {
			r.allotments.keep(r)
		}
		r.report()
	}
}

// report logs when Redis is lost or found, once.
func (r *Ledger) report() {
	up := r.Up()
	if r.loggedDown.Swap(!up) != up {
		return
	}
	if up {
		r.log.Info("redis found", "unsent_settlements", r.Stats().Unsent)
		return
	}
	r.log.Warn("redis lost", "on_loss", string(r.config.OnLoss))
}

// beat has a look at the epoch, brings back what Redis has lost, and probes.
// what may be "reset"; want are budgets of which the others' slices are wanted.
func (r *Ledger) heartbeat(ctx context.Context, what string, want ...string) error {
	r.heartbeats.Lock()
	defer r.heartbeats.Unlock()
	return r.heartbeatLocked(ctx, what, want...)
}

func (r *Ledger) heartbeatLocked(ctx context.Context, what string, want ...string) error {
	defer func() { r.lastHeartbeat.Store(r.store.local()) }()
	r.lastLook = time.Now()
	ctx = context.WithValue(ctx, anyServer{}, true)
	probing := !r.store.breaker.allows()
	next, err := r.look(ctx, what, want...)
	if probing {
		r.store.breaker.probed(err == nil)
	}
	if err != nil {
		return err
	}
	old := r.epoch.Load()
	if next.made != old.made && old.text != "" {
		if err := r.bringBack(ctx, next); err != nil {
			return err
		}
		for _, v := range r.views.all(r.store.now()) {
			v.relearn()
		}
		r.setEpoch(next)
		made := next.made
		r.restored = made
		if next, err = r.look(ctx, ""); err != nil { // says that we are done
			return err
		}
		if next.made != made {
			return errChanged
		}
	}
	if next.text != r.epoch.Load().text {
		r.setEpoch(next)
	}
	r.store.strange.Store(false)
	return nil
}

func (r *Ledger) setEpoch(e *epoch) {
	if e.gen > r.epoch.Load().gen {
		r.views.turn(e.gen)
	}
	r.epoch.Store(e)
	r.store.server.Store(&e.servers)
}

// learn takes in a generation that another replica has begun.
func (r *Ledger) raiseGeneration(gen int64) {
	for {
		e := r.epoch.Load()
		if gen <= e.gen || !r.store.cluster {
			return
		}
		next := *e
		next.gen = gen
		if r.epoch.CompareAndSwap(e, &next) {
			r.views.turn(gen)
			return
		}
	}
}

// look runs the beat script.
func (r *Ledger) look(ctx context.Context, what string, want ...string) (*epoch, error) {
	old := r.epoch.Load()
	servers, err := r.servers(ctx, old)
	if err != nil {
		return nil, err
	}
	if lost := r.store.lost.Load(); what == "" && lost != nil && lost.made == old.made {
		what = "lost"
	}
	c := newCall(heartbeatScript, 4, 9+len(want))
	for _, key := range []string{r.epochKey, r.config.Prefix + ":{epoch}:m", r.config.Prefix + ":{epoch}:b", r.config.Prefix + ":{epoch}:w"} {
		c.text(&key)
	}
	r.store.clock(c)
	c.text(&r.self)
	c.text(&old.text)
	c.int(one(r.remembers()))
	c.int(recoveryWait.Milliseconds())
	c.text(&what)
	c.int(one(r.restored == old.made))
	c.int(max(1, r.expectedReplicas))
	c.text(&servers)
	for _, key := range want {
		c.text(&key)
	}
	if err := r.store.exec(ctx, []*call{c}); err != nil {
		return nil, err
	}
	if c.err != nil {
		return nil, c.err
	}
	reply := strings.Split(c.reply, "\n")
	if len(reply) < 3 {
		return nil, fmt.Errorf("beat: reply %q", c.reply)
	}
	now, err := strconv.ParseInt(reply[1], 10, 64)
	replicas, err2 := strconv.ParseInt(reply[2], 10, 64)
	next, err3 := parseEpoch(reply[0])
	if err := errors.Join(err, err2, err3); err != nil {
		return nil, fmt.Errorf("beat: reply %q: %w", c.reply, err)
	}
	r.store.heard(now)
	r.recalled = reply[3:]
	// Not while the replicas come back one by one.
	if next.till == 0 && (old.text == "" || next.made == old.made) {
		r.expectedReplicas = replicas
	}
	return next, nil
}

// servers is what the beat script is told of them.
func (r *Ledger) servers(ctx context.Context, known *epoch) (string, error) {
	switch {
	case !r.store.cluster:
		return "-", nil
	case known.text != "" && !r.store.strange.Load():
		return "", nil
	}
	return r.store.servers(ctx)
}

func one(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// remembers says whether this replica may know of money that a new data set
// does not.
func (r *Ledger) remembers() bool { return r.views.spent.Load() || r.open.any() }

// bringBack tells a new data set what this replica knows of the old one: what
// was spent at least, what is held, and what is not held any more.
func (r *Ledger) bringBack(ctx context.Context, e *epoch) error {
	b := batch{ledger: r}
	for _, v := range r.views.all(r.store.now()) {
		if gross, corrected := v.floors(e.gen); gross > 0 || corrected > 0 {
			p := &part{tombstone: v.tag + ":i:", shares: []share{{view: v}}}
			b.add(ctx, r.holdCall(p, e, &nothing, 0, &modeBack))
		}
	}
	open, settled := r.open.all()
	for _, l := range settled {
		for i := range l.parts {
			// What it cost is in the counts above already.
			b.add(ctx, r.holdCall(&l.parts[i], e, &l.id, 0, &modeTrim))
		}
	}
	for _, l := range open {
		for i := range l.parts {
			b.add(ctx, r.holdCall(&l.parts[i], e, &l.id, l.held, &modeBack))
		}
	}
	b.send(ctx)
	if b.err != nil {
		return fmt.Errorf("bring back: %w", b.err)
	}
	r.store.count.recovered.Add(1)
	return nil
}

// restore brings back what of l's budgets is not there any more. A node of a
// cluster that lost them lost those of others, too, of which the other replicas
// know more.
func (r *Ledger) restore(ctx context.Context, l *lease) error {
	if !r.store.cluster {
		return r.restoreEvicted(ctx, l)
	}
	r.refreshEpoch(ctx)
	for _, s := range l.shares { // of windows that have ended, too
		s.view.relearn()
	}
	return nil
}

// restoreEvicted tells Redis what this replica holds in l's budgets, some of whose
// counts are not those that it knew: evicted. What was spent goes along with
// every reservation.
func (r *Ledger) restoreEvicted(ctx context.Context, l *lease) error {
	b := batch{ledger: r}
	e := r.epoch.Load()
	open, _ := r.open.all()
	for _, o := range open {
		for i := range o.parts {
			concerns := func(s share) bool {
				return slices.ContainsFunc(l.shares, func(own share) bool { return own.view == s.view })
			}
			if slices.ContainsFunc(o.parts[i].shares, concerns) {
				b.add(ctx, r.holdCall(&o.parts[i], e, &o.id, o.held, &modeBack))
			}
		}
	}
	if b.send(ctx); b.err != nil {
		return fmt.Errorf("restoreEvicted redis: %w", b.err)
	}
	for _, s := range l.shares {
		s.view.relearn()
	}
	r.store.count.recovered.Add(1)
	return nil
}

var errChanged = errors.New("the data set has changed again")

// batch gathers calls and makes a round trip for every so many.
type batch struct {
	ledger *Ledger
	calls  []*call
	err    error // the first; nothing is sent after it
}

func (b *batch) add(ctx context.Context, c *call) {
	if b.calls = append(b.calls, c); len(b.calls) >= 128 {
		b.send(ctx)
	}
}

func (b *batch) send(ctx context.Context) {
	if b.err != nil || len(b.calls) == 0 {
		return
	}
	b.err = b.ledger.store.exec(ctx, b.calls)
	for _, c := range b.calls {
		if b.err == nil && strings.HasPrefix(c.reply, "E") {
			b.ledger.store.strange.Store(true)
			b.err = errChanged
		}
	}
	b.calls = b.calls[:0]
}
