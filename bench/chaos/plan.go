package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// settings are the command line.
type settings struct {
	seed     uint64
	replicas int
	users    int
	requests int
	kills    int
	faults   int
	workers  int
	onLoss   string
	lease    time.Duration
	fsync    string         // Redis' appendfsync
	losses   bool           // Redis is also made to lose what it has acknowledged
	duration time.Duration  // goes on for at least this long; 0 is once through the plan
	router   string         // a binary to test; "" builds this tree's
	only     *regexp.Regexp // of faults' names; nil is all
	keep     string         // directory to leave logs in; "" is a temporary one
	verbose  bool
}

// outcome is what an upstream does with one attempt.
type outcome int

const (
	answers outcome = iota
	answersLate
	withoutUsage // a whole answer that does not say what it used
	serverError
	rateLimited
	refuses     // 400: the client's own mistake
	resetBilled // reads the request, bills it, and closes the connection
	resetFree   // the same, but bills nothing
	cut         // a stream that ends in the middle
	hangUp      // waits for the client to leave
)

// isUncertain says whether nobody but the upstream knows what it bills.
func (o outcome) isUncertain() bool {
	return o == withoutUsage || o == resetBilled || o == resetFree || o == cut || o == hangUp
}

// plan is everything that a seed decides: who asks for what, what upstreams do
// about it, and when something breaks. What it cannot decide is timing.
type plan struct {
	settings
	users []*user
	hot   int // the first so many users have small budgets and ask often
}

const (
	richLimit = 1000 * budget.Nanodollars(1e9) // the configured budget: nobody can use it up
	// What an average request comes to, to give small budgets a size that is
	// used up about when it should be.
	averageCost = 60_000
	hotShare    = 0.15 // of all requests are made by the hot users
	poorShare   = 0.2  // of the other users have a small budget
	mostOutput  = 48   // tokens, as clients ask for
)

func newPlan(s settings) *plan {
	p := &plan{settings: s, hot: max(1, min(10, s.users/20))}
	random := rand.New(rand.NewPCG(s.seed, 1))
	perHot := hotShare * float64(s.requests) / float64(p.hot)
	perUser := (1 - hotShare) * float64(s.requests) / float64(s.users)
	for i := range s.users {
		u := &user{name: fmt.Sprintf("user-%d-%d", s.seed, i), limit: richLimit}
		switch {
		case i < p.hot:
			u.poor(perHot * averageCost * (0.2 + 0.5*random.Float64()))
		case random.Float64() < poorShare:
			u.poor(perUser * averageCost * (0.1 + 1.2*random.Float64()))
		}
		p.users = append(p.users, u)
	}
	return p
}

// request makes the n-th request.
func (p *plan) request(n int64) *request {
	random := rand.New(rand.NewPCG(p.seed, uint64(n)<<8|2))
	q := &request{id: n, stream: random.Float64() < 0.3, model: "auto", reached: make(chan struct{})}
	if random.Float64() < hotShare {
		q.user = p.users[random.IntN(p.hot)]
	} else {
		q.user = p.users[random.IntN(len(p.users))]
	}
	switch v := random.Float64(); {
	case v < 0.1:
		q.model = "fast"
	case v < 0.2:
		q.model = "powerful"
	}
	for i := range q.outcomes {
		q.outcomes[i] = drawOutcome(random, q.stream, i == 0)
	}
	q.late = time.Duration(50+random.IntN(1000)) * time.Millisecond
	q.tokens = 1 + random.Int64N(mostOutput)
	filler := strings.Repeat("tell me more ", random.IntN(12))
	q.body = fmt.Appendf(nil, `{"model":%q,"messages":[{"role":"user","content":"r%d %s"}],"max_tokens":%d,"stream":%t}`,
		q.model, n, filler, mostOutput, q.stream)
	q.input = int64(len(q.body)) + 16 // what the router takes for a message at most, in tokens
	return q
}

func drawOutcome(random *rand.Rand, stream, first bool) outcome {
	v := random.Float64()
	for _, o := range []struct {
		outcome outcome
		share   float64
		can     bool
	}{
		{refuses, 0.005, true},
		{serverError, 0.025, true},
		{rateLimited, 0.0005, true},
		{resetBilled, 0.005, true},
		{resetFree, 0.005, true},
		{cut, 0.03, stream},
		{withoutUsage, 0.01, !stream},
		{hangUp, 0.02, first},
		{answersLate, 0.02, true},
	} {
		if !o.can {
			continue
		}
		if v < o.share {
			return o.outcome
		}
		v -= o.share
	}
	return answers
}

// event is a kill or a fault, at the time when so many requests were answered.
type event struct {
	at    int64
	fault *fault // nil is the kill of a replica
	seed  uint64
}

// events are spread over the requests of one chapter; a run that goes on after
// the first repeats with other draws.
func (p *plan) events(chapter int) []event {
	random := rand.New(rand.NewPCG(p.seed, uint64(chapter)<<8|3))
	var all []event
	spread := func(count int, e func() event) {
		for i := range count {
			next := e()
			// Not at the very ends, so that there is traffic before and after.
			place := (float64(i) + 0.2 + 0.6*random.Float64()) / float64(count)
			next.at = int64((float64(chapter) + 0.02 + 0.96*place) * float64(p.requests))
			next.seed = random.Uint64()
			all = append(all, next)
		}
	}
	spread(p.kills, func() event { return event{} })
	possible := p.possible()
	random.Shuffle(len(possible), func(i, j int) { possible[i], possible[j] = possible[j], possible[i] })
	i := 0
	spread(p.faults, func() event {
		i++
		return event{fault: possible[i%len(possible)]}
	})
	slices.SortStableFunc(all, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	return all
}

// possible are the faults that the run is to have.
func (p *plan) possible() []*fault {
	var all []*fault
	for i := range faults {
		if (p.losses || !faults[i].loses) && (p.only == nil || p.only.MatchString(faults[i].name)) {
			all = append(all, &faults[i])
		}
	}
	return all
}
