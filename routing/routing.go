// Package routing decides which tier answers a request and in which order its
// deployments are tried. It thinks in plain facts: it knows nothing of HTTP,
// JSON, prices or budgets.
package routing

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Request holds the facts a decision may use.
type Request struct {
	// Prompt is the newest user turn's text. It is scored, never recorded.
	Prompt string
	// Tokens estimates the whole prompt, history included.
	Tokens int64
	Output int64 // the output limit in tokens, 0 when the client named none
	Stream bool
	Images bool
	Audio  bool
	Tools  bool // tools, or a JSON schema for the answer
	Turns  int  // messages in the conversation

	// Tier and Upstream force the decision when set (by header or model name).
	Tier     string
	Upstream string // a deployment's name
	// Allowed are the tiers this caller may use; nil means all.
	Allowed []string
	// Session is the conversation this request belongs to; "" when unknown.
	Session string

	// Used is the largest fraction used over the budgets that apply, 0 to 1
	// and above.
	Used       float64
	UsedBudget string // the scope of that budget: global, user or key
	// Exhausted says that a budget is used up whose policy is to reject.
	Exhausted bool
}

// Tier is a set of deployments that are good enough for the same requests.
type Tier struct {
	Name        string
	Deployments []Deployment
	Balance     Balance
	// Price orders tiers by cost: US dollars per million tokens, input and
	// output blended.
	Price float64

	rank  int // its place among the tiers, 0 for the least capable
	whole *window
	ttft  *window
}

// Deployment is a model at an upstream, as far as routing cares.
type Deployment struct {
	Name    string // unique over all tiers: provider/model, or the name configured
	Weight  int    // for BalanceWeighted; 0 means 1
	Context int64  // the context window in tokens; 0 when unknown
	Images  bool   // takes image parts
	Audio   bool   // takes audio parts

	tier *Tier
	live *live
}

// Balance is the order in which a tier's deployments are tried.
type Balance string

// Orders of a tier's deployments.
const (
	BalanceOrdered  Balance = "ordered"  // as listed
	BalanceWeighted Balance = "weighted" // at random, by weight
	BalanceFastest  Balance = "fastest"  // by recent latency
)

// Decision is what was decided and why. Its JSON is the shape that
// /v1/route, `explain -json` and the decision log share.
type Decision struct {
	ID         string    `json:"decision"`
	Time       time.Time `json:"time"`
	Tier       string    `json:"tier"`     // the tier that is to answer; "" when none is allowed
	Upstream   string    `json:"upstream"` // the deployment tried first
	Forced     bool      `json:"forced"`
	Scored     bool      `json:"-"` // a complexity strategy took part: Score and Breakdown mean something
	Score      float64   `json:"score"`
	Breakdown  Breakdown `json:"breakdown"`
	Strategies []Step    `json:"strategies"`
	Reason     string    `json:"reason"`
	Strategy   string    `json:"-"` // X-Router-Strategy: ChainStrategy, ..., manual
	Plan       []Target  `json:"-"` // deployments in the order to try them
	Tiers      []string  `json:"-"` // allowed tiers, best first
}

// Breakdown is the complexity score by its dimensions.
type Breakdown struct {
	Length    float64 `json:"length"`
	Questions float64 `json:"questions"`
	Reasoning float64 `json:"reasoning"`
	Code      float64 `json:"code"`
	Simple    float64 `json:"simple"`
}

// Step is one strategy's part in a decision.
type Step struct {
	Name    string   `json:"name"`
	Allowed []string `json:"allowed"`
	Reason  string   `json:"reason"`
}

// Target is one place to try.
type Target struct {
	Tier       string
	Deployment string
	Fallback   bool // outside the decided tier
}

// Outcome is how one attempt ended, for latency windows, breakers and
// sessions.
type Outcome struct {
	Tier       string
	Deployment string
	Stream     bool
	Session    string
	Result     Result
	// RetryAfter is how long a limited (at most 60 s, 0 means 1 s) or
	// misconfigured (at most 5 min, 0 means 30 s) deployment is left alone.
	RetryAfter time.Duration
	TTFT       time.Duration // time to the first event; 0 when none came
	Latency    time.Duration // whole answer; for ResultSlow how long was waited; else 0 when it did not complete
}

// Result classes an attempt's end.
type Result int

// Results of an attempt.
const (
	ResultOK            Result = iota
	ResultFailed               // the upstream's fault: counts against it
	ResultSlow                 // a timeout: counts against it, and as a slow sample
	ResultLimited              // 429: cools down for RetryAfter, does not trip the breaker
	ResultMisconfigured        // credential refused, model missing, quota used up: out for RetryAfter
	ResultNeutral              // the client's own mistake, or the client left: no verdict
)

// Config is what a Router is made of.
type Config struct {
	Tiers []Tier // from least to most capable
	// Fallback is the tier tried when every deployment of the others has
	// failed; "" means the first.
	Fallback string
	// Strategies are evaluated in order; none means complexity with its
	// default rules.
	Strategies []Strategy
	// State carries what an earlier Router has learned; nil means nothing yet.
	State *State
	// MaxAttempts is how many deployments the caller tries for one request; the
	// plan keeps the fallback tier within them. 0 means 4.
	MaxAttempts int
}

// Router decides. It is safe for concurrent use.
type Router struct {
	tiers       []*Tier // by rank
	byName      map[string]*Tier
	deployments map[string]*Deployment
	fallback    *Tier
	strategies  []placed
	name        string // X-Router-Strategy
	state       *State
	attempts    int
	latency     *Latency    // the chain's, nil when it has none
	complexity  *Complexity // the chain's, else one with the default rules
	context     int64       // the smallest known context window
	weighsCost  bool        // a cost strategy is in the chain
}

// placed is a strategy at its place in the chain.
type placed struct {
	name string // in a Step
	Strategy
}

// binder is a strategy that wants to know the Router it works for. bind
// returns a copy that does; first says that no strategy before it has ordered
// the tiers.
type binder interface {
	bind(rt *Router, first bool) (Strategy, error)
}

// New checks c and returns a Router. Errors name the strategy, tier or
// deployment that is wrong.
func New(c Config) (*Router, error) {
	rt := &Router{
		byName:      map[string]*Tier{},
		deployments: map[string]*Deployment{},
		state:       c.State,
		attempts:    cmp.Or(max(c.MaxAttempts, 0), 4),
	}
	if rt.state == nil {
		rt.state = NewState()
	}
	if err := rt.addTiers(c.Tiers); err != nil {
		return nil, err
	}
	if rt.fallback = rt.tiers[0]; c.Fallback != "" {
		if rt.fallback = rt.byName[c.Fallback]; rt.fallback == nil {
			return nil, fmt.Errorf("fallback: %w", rt.unknown(c.Fallback))
		}
	}
	strategies := c.Strategies
	if len(strategies) == 0 {
		strategies = []Strategy{NewComplexity(ComplexityConfig{})}
	}
	if err := rt.addStrategies(strategies); err != nil {
		return nil, err
	}
	if rt.complexity == nil {
		if _, err := NewComplexity(ComplexityConfig{}).bind(rt, false); err != nil {
			return nil, err
		}
	}
	judge := rule{size: defaultWindow}
	for _, t := range rt.tiers {
		whole, ttft := judge, judge
		if rt.latency != nil {
			whole, ttft = rt.latency.rules(t)
		}
		t.whole.setRule(whole)
		t.ttft.setRule(ttft)
	}
	return rt, nil
}

func (rt *Router) addTiers(tiers []Tier) error {
	if len(tiers) == 0 {
		return errors.New("no tiers")
	}
	if len(tiers) > maxTiers {
		return fmt.Errorf("%d tiers are more than %d", len(tiers), maxTiers)
	}
	for _, t := range tiers {
		if t.Name == "" || rt.byName[t.Name] != nil {
			return fmt.Errorf("tier %q: the name is empty or used twice", t.Name)
		}
		if len(t.Deployments) == 0 {
			return fmt.Errorf("tier %q has no deployments", t.Name)
		}
		windows := rt.state.windows(t.Name)
		own := &t // t is this iteration's copy
		own.rank, own.whole, own.ttft = len(rt.tiers), &windows.whole, &windows.ttft
		own.Deployments = slices.Clone(t.Deployments)
		rt.tiers = append(rt.tiers, own)
		rt.byName[t.Name] = own
		if err := rt.addDeployments(own); err != nil {
			return err
		}
	}
	return nil
}

func (rt *Router) addDeployments(t *Tier) error {
	switch t.Balance {
	case "", BalanceOrdered, BalanceWeighted, BalanceFastest:
	default:
		return fmt.Errorf("tier %q: balance %q is none of ordered, weighted, fastest", t.Name, t.Balance)
	}
	for i := range t.Deployments {
		d := &t.Deployments[i]
		if d.Name == "" || rt.deployments[d.Name] != nil {
			return fmt.Errorf("tier %q: deployment %q: the name is empty or used twice", t.Name, d.Name)
		}
		d.tier, d.live = t, rt.state.deployment(d.Name)
		rt.deployments[d.Name] = d
		if d.Context > 0 && (rt.context == 0 || d.Context < rt.context) {
			rt.context = d.Context
		}
	}
	return nil
}

func (rt *Router) addStrategies(strategies []Strategy) error {
	for i, s := range strategies {
		step, single := names(s)
		if n, ok := s.(named); ok {
			s = n.Strategy
		}
		if b, ok := s.(binder); ok {
			bound, err := b.bind(rt, i == 0)
			if err != nil {
				return fmt.Errorf("strategy %d (%s): %w", i+1, step, err)
			}
			s = bound
		}
		if _, ok := s.(*Cost); ok {
			rt.weighsCost = true
		}
		rt.strategies = append(rt.strategies, placed{step, s})
		rt.name = single
	}
	if len(strategies) > 1 {
		rt.name = "ChainStrategy"
	}
	return nil
}

func (rt *Router) unknown(tier string) error {
	known := make([]string, len(rt.tiers))
	for i, t := range rt.tiers {
		known[i] = t.Name
	}
	return fmt.Errorf("unknown tier %q; the tiers are %s", tier, strings.Join(known, ", "))
}

// Decide decides on a request. It keeps nothing of r.
func (rt *Router) Decide(r *Request) *Decision {
	d := &Decision{ID: newID(), Time: time.Now(), Strategy: rt.name, Strategies: make([]Step, 0, len(rt.strategies)+2)}
	j := newJourney(rt, r, d)
	defer j.done()
	if d.Forced = r.Tier != "" || r.Upstream != ""; d.Forced {
		d.Strategy = "manual"
	}
	switch {
	case r.Exhausted:
		d.Reason = "the hard budget of " + scope(r) + " is used up"
	case r.Upstream != "":
		j.forceUpstream()
	case r.Tier != "":
		j.forceTier()
	default:
		j.route()
	}
	d.Reason = plain(d.Reason)
	return d
}

// Strategy names how the router decides: ChainStrategy, or the one strategy's
// own name.
func (rt *Router) Strategy() string { return rt.name }

// Classify scores a prompt and names the tier it wants by the rules of the
// chain's complexity strategy, or by the default rules when there is none.
// Nothing else is looked at; harness text is left out.
func (rt *Router) Classify(prompt string) (Score, string) {
	prompt, _ = rt.complexity.strip.strip(prompt)
	score := ScorePrompt(prompt)
	return score, rt.complexity.wanted(score.Value).Name
}

// Acquire asks to try a deployment now. False means that it is to be skipped:
// it is cooling down, its breaker is open, or another request is probing it.
// last says that nothing else is left to try; then the answer is true. After
// true the caller reports how the attempt ended to Observe, always.
func (rt *Router) Acquire(deployment string, last bool) bool {
	d := rt.deployments[deployment]
	return d == nil || d.live.breaker.acquire(rt.state.now(), last)
}

// Observe learns from the end of an attempt. Names that are not configured
// (any more) are ignored.
func (rt *Router) Observe(o Outcome) {
	d := rt.deployments[o.Deployment]
	if d == nil {
		return
	}
	now := rt.state.now()
	d.live.breaker.observe(now, &o)
	if o.Result != ResultOK && o.Result != ResultSlow {
		return
	}
	if o.Result == ResultOK {
		rt.state.sessions.note(o.Session, now, d, rt.rank)
	}
	rt.observeLatency(d, &o, now)
}

// observeLatency adds an answer to the windows. A timeout counts as an answer
// that took at least twice what is allowed.
func (rt *Router) observeLatency(d *Deployment, o *Outcome, now time.Duration) {
	whole, ttft := o.Latency, o.TTFT
	byTTFT := o.Stream && rt.latency != nil && rt.latency.config.TTFTSLA > 0
	if o.Result == ResultSlow {
		waited := max(whole, ttft)
		whole, ttft = waited, waited
		if rt.latency != nil {
			byWhole, byTTFT := rt.latency.rules(d.tier)
			whole, ttft = max(waited, 2*byWhole.sla), max(waited, 2*byTTFT.sla)
		}
	}
	probe := rt.latency != nil && rt.latency.probed(d.tier)
	if o.Stream {
		d.tier.ttft.add(ttft, probe)
		d.live.ttft.add(ttft, now)
	}
	if !byTTFT {
		d.tier.whole.add(whole, probe)
	}
	d.live.whole.add(whole, now)
}

// rank is a tier's rank, -1 when it is not configured.
func (rt *Router) rank(tier string) int {
	if t := rt.byName[tier]; t != nil {
		return t.rank
	}
	return -1
}

// Reset forgets all latencies, of all replicas where they are shared. Breakers,
// cool-downs and conversations stay.
func (rt *Router) Reset() { rt.state.resetLatency() }

// TierStatus is how a tier is doing.
type TierStatus struct {
	Name        string
	P90         time.Duration // of the latest whole answers; 0 when there are none
	Samples     int
	SLA         time.Duration // 0 when latency takes no part in routing
	TTFTP90     time.Duration // time to the first token of the latest streams
	TTFTSamples int
	TTFTSLA     time.Duration
	Healthy     bool // within its SLAs, and a deployment is in use
	Deployments []DeploymentStatus
}

// DeploymentStatus is how a deployment is doing, as this process sees it.
type DeploymentStatus struct {
	Name      string
	Healthy   bool
	State     string    // StateClosed, ...
	CoolUntil time.Time // when it may be used again; zero when it may now
}

// Tiers returns the state of every tier, from least to most capable.
func (rt *Router) Tiers() []TierStatus {
	now := rt.state.now()
	all := make([]TierStatus, len(rt.tiers))
	for i, t := range rt.tiers {
		s := TierStatus{
			Name:        t.Name,
			P90:         time.Duration(t.whole.p90.Load()),
			Samples:     int(t.whole.count.Load()),
			TTFTP90:     time.Duration(t.ttft.p90.Load()),
			TTFTSamples: int(t.ttft.count.Load()),
		}
		within := true
		if rt.latency != nil {
			whole, ttft := rt.latency.rules(t)
			s.SLA, s.TTFTSLA = whole.sla, ttft.sla
			within = !t.whole.over(whole.sla) && !t.ttft.over(ttft.sla)
		}
		for _, d := range t.Deployments {
			state, until := d.live.breaker.state(now)
			ds := DeploymentStatus{Name: d.Name, State: state, Healthy: state == StateClosed}
			if until > 0 {
				ds.CoolUntil = rt.state.wall(until)
			}
			s.Healthy = s.Healthy || ds.Healthy
			s.Deployments = append(s.Deployments, ds)
		}
		s.Healthy = s.Healthy && within
		all[i] = s
	}
	return all
}

func newID() string {
	var b [12]byte
	binary.LittleEndian.PutUint64(b[:], rand.Uint64())
	binary.LittleEndian.PutUint32(b[8:], rand.Uint32())
	return hex.EncodeToString(b[:])
}
