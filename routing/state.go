package routing

import (
	"errors"
	"hash/maphash"
	"sync"
	"time"
)

// State is what routing has learned from the answers so far: latency windows,
// the health of deployments, and where running conversations are. It is kept
// by name and outlives a Router, so that a new configuration starts with it.
type State struct {
	start    time.Time
	sessions sessions

	mu          sync.Mutex
	tiers       map[string]*tierWindows
	deployments map[string]*live
	shared      *Shared
}

// tierWindows are a tier's latencies: of whole answers, and the time to the
// first token of streams.
type tierWindows struct{ whole, ttft window }

// live is what is known of one deployment.
type live struct {
	breaker breaker
	whole   average
	ttft    average
}

// NewState returns a State that knows nothing yet.
func NewState() *State {
	return &State{
		start:       time.Now(),
		sessions:    sessions{seed: maphash.MakeSeed()},
		tiers:       map[string]*tierWindows{},
		deployments: map[string]*live{},
	}
}

// now is the monotonic clock all of routing runs on. It starts well above 0,
// so that a reading is never mistaken for "never".
func (s *State) now() time.Duration { return time.Since(s.start) + time.Hour }

// wall is the time of a reading of now.
func (s *State) wall(t time.Duration) time.Time { return s.start.Add(t - time.Hour) }

func (s *State) windows(tier string) *tierWindows {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.tiers[tier]
	if w == nil {
		w = &tierWindows{}
		s.tiers[tier] = w
		if s.shared != nil {
			s.shared.join(tier, w)
		}
	}
	return w
}

func (s *State) deployment(name string) *live {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.deployments[name]
	if l == nil {
		l = &live{}
		s.deployments[name] = l
	}
	return l
}

// resetLatency forgets all latencies.
func (s *State) resetLatency() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.tiers {
		w.whole.reset()
		w.ttft.reset()
	}
	if s.shared != nil {
		s.shared.askReset()
	}
}

// share has the windows shared from now on.
func (s *State) share(with *Shared) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared != nil {
		return errors.New("shared latency: the state is shared already")
	}
	s.shared = with
	for tier, w := range s.tiers {
		with.join(tier, w)
	}
	return nil
}

const (
	sessionLife = time.Hour       // how long a conversation's tier is remembered
	sessionWarm = 5 * time.Minute // how long its prompt cache is taken to be warm
	sessionMost = 50_000          // conversations in each of two generations
)

// sessions remembers the tier and the deployment of each conversation, by a
// keyed hash of its name. Two generations bound it: when the younger is full or
// old it becomes the older, and the older is forgotten.
type sessions struct {
	seed maphash.Seed

	mu     sync.Mutex
	turned time.Duration
	young  map[uint64]session
	old    map[uint64]session
}

type session struct {
	tier       string
	deployment string // its last answer came from there
	at         time.Duration
}

// last is the conversation's tier, and whether its cache is still warm; "" when
// nothing is known.
func (s *sessions) last(name string, now time.Duration) (tier string, warm bool) {
	found := s.find(name, now)
	return found.tier, found.tier != "" && now-found.at <= sessionWarm
}

// find is what is remembered of a conversation; the zero session when nothing
// is.
func (s *sessions) find(name string, now time.Duration) session {
	if name == "" {
		return session{}
	}
	key := maphash.String(s.seed, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.young[key]
	if !ok {
		found = s.old[key]
	}
	if now-found.at > sessionLife {
		return session{}
	}
	return found
}

// note records that a deployment answered. One of a lower tier than before does
// not take its place until the cache there has gone cold: it may have stood in
// for a failure.
func (s *sessions) note(name string, now time.Duration, d *Deployment, rank func(string) int) {
	tier := d.tier
	if name == "" {
		return
	}
	key := maphash.String(s.seed, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.young == nil || len(s.young) >= sessionMost || now-s.turned > sessionLife {
		s.old, s.young, s.turned = s.young, map[uint64]session{}, now
	}
	before, ok := s.young[key]
	if !ok {
		before = s.old[key]
	}
	if rank(before.tier) > tier.rank && now-before.at <= sessionWarm {
		return
	}
	s.young[key] = session{tier: tier.Name, deployment: d.Name, at: now}
}
