package routing

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxTiers bounds the tiers, so that a set of them is one word.
const maxTiers = 64

// planSlack is how many targets a plan holds beyond the attempts: some may be
// refused by Acquire when their turn comes.
const planSlack = 4

// journey is one request's way to its decision.
type journey struct {
	rt    *Router
	r     *Request
	d     *Decision
	now   time.Duration
	tiers []*Tier // still allowed, best first
	spare []*Tier
	needs needs
	lead  string   // the reason of the strategy that chose
	also  []string // the reasons of those that narrowed
	names []string // what Step.Allowed are cut from
	deps  []*Deployment
}

var journeys = sync.Pool{New: func() any { return new(journey) }}

func newJourney(rt *Router, r *Request, d *Decision) *journey {
	j := journeys.Get().(*journey)
	j.rt, j.r, j.d, j.now = rt, r, d, rt.state.now()
	j.names = make([]string, 0, (len(rt.strategies)+1)*len(rt.tiers))
	return j
}

// done gives the journey's scratch space back, without anything of the request.
func (j *journey) done() {
	clear(j.also)
	*j = journey{tiers: j.tiers[:0], spare: j.spare[:0], also: j.also[:0], deps: j.deps[:0]}
	journeys.Put(j)
}

// route lets the key, the capabilities and the strategies narrow all tiers, and
// plans on what is left.
func (j *journey) route() {
	j.tiers = append(j.tiers, j.rt.tiers...)
	if !j.allow() {
		return
	}
	j.demand()
	j.afford()
	probes := uint64(0)
	for i, s := range j.rt.strategies {
		v := s.Narrow(j.r, j.tiers)
		j.take(s.name, v, i == len(j.rt.strategies)-1)
		if len(j.tiers) == 0 {
			j.d.Reason = s.name + " allows no tier"
			if v.Reason != "" {
				j.d.Reason = v.Reason
			}
			return
		}
		probes |= v.probes
	}
	j.probe(probes)
	j.d.Reason = j.lead
	for _, reason := range j.also {
		j.d.Reason = joined(j.d.Reason, reason)
	}
	j.plan()
}

// allow keeps the tiers this caller may use.
func (j *journey) allow() bool {
	if j.r.Allowed == nil {
		return true
	}
	before := len(j.tiers)
	j.tiers = slices.DeleteFunc(j.tiers, func(t *Tier) bool { return !slices.Contains(j.r.Allowed, t.Name) })
	if len(j.tiers) == before {
		return true
	}
	reason := "the key may use " + list(j.tiers)
	j.step("allowed", reason)
	j.also = append(j.also, reason)
	if len(j.tiers) == 0 {
		j.d.Reason = "the key may use no tier that is configured"
		return false
	}
	return true
}

// afford keeps the cheapest tier alone once a budget that does not reject is
// used up. A cost strategy would have said so itself.
func (j *journey) afford() {
	if j.r.Used < 1 || j.rt.weighsCost {
		return
	}
	cheapest := slices.MinFunc(j.tiers, func(a, b *Tier) int { return cmp.Compare(a.Price, b.Price) })
	j.tiers = append(j.tiers[:0], cheapest)
	reason := "the " + cmp.Or(j.r.UsedBudget, "request's") + " budget is used up, which leaves " + cheapest.Name
	j.step("budget", reason)
	j.also = append(j.also, reason)
}

// take narrows to a strategy's verdict.
func (j *journey) take(name string, v Verdict, last bool) {
	offered, next, moved := uint64(0), j.spare[:0], false
	for _, t := range j.tiers {
		offered |= 1 << t.rank
	}
	for _, t := range v.Tiers {
		if t == nil || t.rank >= len(j.rt.tiers) || j.rt.tiers[t.rank] != t || offered&(1<<t.rank) == 0 {
			continue
		}
		offered &^= 1 << t.rank
		moved = moved || j.tiers[len(next)] != t
		next = append(next, t)
	}
	narrowed := len(next) < len(j.tiers)
	j.tiers, j.spare = next, j.tiers
	j.step(name, v.Reason)
	switch {
	case v.Score != nil, moved && !narrowed, last && j.lead == "":
		j.lead = v.Reason
	case narrowed:
		j.also = append(j.also, v.Reason)
	}
	if v.Score != nil {
		j.d.Scored, j.d.Score, j.d.Breakdown = true, v.Score.Value, v.Score.Breakdown
	}
	if v.floor != "" {
		j.step(v.floor, v.floorReason)
		j.also = append(j.also, v.floorReason)
	}
}

// probe lets the request go to a tier that is over its SLA if it is its turn,
// and takes that tier out of the running if another request was faster.
func (j *journey) probe(probes uint64) {
	t := j.tiers[0]
	if probes&(1<<t.rank) == 0 {
		return
	}
	if j.rt.latency.probe(t, j.now) || len(j.tiers) == 1 {
		reason := "latency probes " + t.Name
		j.step("probe", reason)
		j.also = append(j.also, reason)
		return
	}
	j.tiers = slices.Delete(j.tiers, 0, 1)
}

// forceTier plans on the tier that was asked for, and on the fallback.
func (j *journey) forceTier() {
	t := j.rt.byName[j.r.Tier]
	switch {
	case t == nil:
		j.d.Reason = "there is no tier " + j.r.Tier
	case !j.may(t):
		j.d.Reason = "the key may not use tier " + t.Name
	default:
		j.tiers = append(j.tiers, t)
		j.d.Reason = "tier " + t.Name + " was asked for"
		j.demand()
		j.plan()
	}
}

// forceUpstream plans on the one deployment that was asked for.
func (j *journey) forceUpstream() {
	d := j.rt.deployments[j.r.Upstream]
	switch {
	case d == nil:
		j.d.Reason = "there is no upstream " + j.r.Upstream
	case !j.may(d.tier):
		j.d.Reason = "the key may not use tier " + d.tier.Name
	default:
		j.d.Tier, j.d.Upstream = d.tier.Name, d.Name
		j.d.Tiers = []string{d.tier.Name}
		j.d.Plan = []Target{{Tier: d.tier.Name, Deployment: d.Name}}
		j.d.Reason = "upstream " + d.Name + " was asked for"
	}
}

func (j *journey) may(t *Tier) bool {
	return j.r.Allowed == nil || slices.Contains(j.r.Allowed, t.Name)
}

// needs are what a deployment must be able to do for a request.
type needs struct {
	images, audio bool
	context       int64
}

func (n needs) met(d *Deployment) bool {
	return (!n.images || d.Images) && (!n.audio || d.Audio) &&
		(n.context == 0 || d.Context == 0 || d.Context >= n.context)
}

func (n needs) metBy(t *Tier) bool {
	return slices.ContainsFunc(t.Deployments, func(d Deployment) bool { return n.met(&d) })
}

// demand drops the tiers that cannot take the request. A need that nobody meets
// is let be: the capabilities may be told wrong, and the upstream's own refusal
// says more than ours.
func (j *journey) demand() {
	r := j.r
	size := r.Tokens + r.Output
	if r.Images {
		with := j.needs
		with.images = true
		j.need(with, "images")
	}
	if r.Audio {
		with := j.needs
		with.audio = true
		j.need(with, "audio")
	}
	if j.rt.context > 0 && size > j.rt.context {
		with := j.needs
		with.context = size
		j.need(with, "a context of "+strconv.FormatInt(size, 10)+" tokens")
	}
}

func (j *journey) need(with needs, what string) {
	left := j.spare[:0]
	for _, t := range j.tiers {
		if with.metBy(t) {
			left = append(left, t)
		}
	}
	if len(left) == 0 {
		j.step("capability", "no tier takes "+what+"; tried nevertheless")
		return
	}
	j.needs = with
	if len(left) == len(j.tiers) {
		return
	}
	j.tiers, j.spare = left, j.tiers
	reason := "fit for " + what + ": " + list(left)
	j.step("capability", reason)
	j.also = append(j.also, reason)
}

// step adds to the trace what is now allowed and why.
func (j *journey) step(name, reason string) {
	from := len(j.names)
	for _, t := range j.tiers {
		j.names = append(j.names, t.Name)
	}
	j.d.Strategies = append(j.d.Strategies, Step{Name: name, Allowed: j.names[from:len(j.names):len(j.names)], Reason: plain(reason)})
}

// plan lists the deployments in the order to try them: those of the first tier,
// of the others allowed, of the fallback tier. Deployments that are out are left
// out; when all are, one is tried nevertheless.
func (j *journey) plan() {
	d := j.d
	d.Tier = j.tiers[0].Name
	d.Tiers = make([]string, len(j.tiers))
	for i, t := range j.tiers {
		d.Tiers[i] = t.Name
	}
	if !slices.Contains(j.tiers, j.rt.fallback) && j.may(j.rt.fallback) {
		j.tiers = append(j.tiers, j.rt.fallback)
	}
	d.Plan = make([]Target, 0, min(j.rt.attempts+planSlack, len(j.rt.deployments)))
	j.fill()
	if len(d.Plan) == 0 {
		d.Plan = append(d.Plan, j.leastOut())
	}
	j.tiers = j.tiers[:len(d.Tiers)]
	d.Upstream = d.Plan[0].Deployment
	if d.Plan[0].Tier != d.Tier {
		j.step("health", "no upstream of "+d.Tier+" is in use")
		d.Reason = joined(d.Reason, "no upstream of "+d.Tier+" is in use, "+d.Plan[0].Tier+" stands in")
	}
}

// fill appends the tiers' deployments to the plan. The fallback tier's first
// gets a place within the attempts.
func (j *journey) fill() {
	plan, most := j.d.Plan, j.rt.attempts
	for _, t := range j.tiers {
		for _, d := range j.ordered(t) {
			target := Target{Tier: t.Name, Deployment: d.Name, Fallback: t.Name != j.d.Tier}
			switch {
			case t == j.rt.fallback && len(plan) >= most && most > 1 && plan[most-1].Tier != t.Name && !fallbackWithin(plan[:most], t):
				plan = slices.Insert(plan, most-1, target)
			case len(plan) < most+planSlack:
				plan = append(plan, target)
			}
		}
	}
	j.d.Plan = plan[:min(len(plan), most+planSlack)]
}

func fallbackWithin(plan []Target, t *Tier) bool {
	return slices.ContainsFunc(plan, func(p Target) bool { return p.Tier == t.Name })
}

// leastOut is the target to try when every deployment is out: of the first tier
// that has one that is not misconfigured, the one that is back first.
func (j *journey) leastOut() Target {
	var best *Deployment
	var bestBack time.Duration
	bestBroken := false
	for _, t := range j.tiers {
		for i := range t.Deployments {
			d := &t.Deployments[i]
			if !j.needs.met(d) {
				continue
			}
			state, back := d.live.breaker.state(j.now)
			broken := state == StateMisconfigured
			if best == nil || bestBroken && !broken || broken == bestBroken && t == best.tier && back < bestBack {
				best, bestBack, bestBroken = d, back, broken
			}
		}
	}
	return Target{Tier: best.tier.Name, Deployment: best.Name, Fallback: best.tier.Name != j.d.Tier}
}

// ordered is a tier's deployments that can take the request, in its balance's
// order.
func (j *journey) ordered(t *Tier) []*Deployment {
	deps := j.deps[:0]
	for i := range t.Deployments {
		d := &t.Deployments[i]
		if j.needs.met(d) && d.live.breaker.usable(j.now) {
			deps = append(deps, d)
		}
	}
	j.deps = deps
	if len(deps) < 2 {
		return deps
	}
	switch t.Balance {
	case BalanceWeighted:
		shuffle(deps)
	case BalanceFastest:
		j.sortFastest(deps)
	}
	j.keepDeployment(deps)
	return deps
}

// keepDeployment puts the deployment that the conversation's last answer came
// from first, where its prompt cache is.
func (j *journey) keepDeployment(deps []*Deployment) {
	if j.r.Session == "" {
		return
	}
	last := j.rt.state.sessions.find(j.r.Session, j.now).deployment
	if i := slices.IndexFunc(deps, func(d *Deployment) bool { return d.Name == last }); i > 0 {
		kept := deps[i]
		copy(deps[1:i+1], deps[:i])
		deps[0] = kept
	}
}

// shuffle orders at random: the chance to be the next is a deployment's weight.
func shuffle(deps []*Deployment) {
	weight := func(d *Deployment) int { return max(d.Weight, 1) }
	total := 0
	for _, d := range deps {
		total += weight(d)
	}
	for i := range deps {
		at, n := i, rand.IntN(total)
		for n >= weight(deps[at]) {
			n -= weight(deps[at])
			at++
		}
		deps[i], deps[at] = deps[at], deps[i]
		total -= weight(deps[i])
	}
}

// sortFastest orders by recent latency. One that nothing recent is known of
// comes first, so that something becomes known.
func (j *journey) sortFastest(deps []*Deployment) {
	recent := func(d *Deployment) time.Duration {
		if j.r.Stream {
			return d.live.ttft.read(j.now)
		}
		return d.live.whole.read(j.now)
	}
	slices.SortStableFunc(deps, func(a, b *Deployment) int { return int(recent(a) - recent(b)) })
}

func list(tiers []*Tier) string {
	names := make([]string, len(tiers))
	for i, t := range tiers {
		names[i] = t.Name
	}
	return strings.Join(names, ", ")
}

func joined(a, b string) string {
	switch {
	case a == "":
		return b
	case b == "":
		return a
	}
	return a + "; " + b
}

func scope(r *Request) string {
	if r.UsedBudget == "" {
		return "the caller"
	}
	return r.UsedBudget
}

// plain makes a reason fit for a header: printable ASCII, one line.
func plain(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return strings.Map(printable, s)
		}
	}
	return s
}

func printable(c rune) rune {
	if c < ' ' || c > '~' {
		return '?'
	}
	return c
}
