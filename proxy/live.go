package proxy

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/internal/live"
)

// liveView is what the dashboard shows beside the router's and the ledger's own
// state: figures over time and how each upstream's calls end. It is written
// from the records.
type liveView struct {
	stats *live.Stats

	mu        sync.Mutex
	upstreams map[string]*upstreamTally
	burn      map[budgetID]*burn
}

// upstreamTally counts an upstream's calls since the start.
type upstreamTally struct {
	OK      int64
	Failed  int64
	Failure *failureView
}

// failureView is the last call of an upstream that failed.
type failureView struct {
	At        time.Time `json:"at"`
	Code      string    `json:"code"`
	Status    int       `json:"status"`
	Message   string    `json:"message,omitempty"`
	RequestID string    `json:"request_id"`
}

func newLiveView() *liveView {
	return &liveView{stats: live.New(), upstreams: map[string]*upstreamTally{}, burn: map[budgetID]*burn{}}
}

// configure takes over the tiers of a configuration.
func (v *liveView) configure(conf *setup) {
	tiers := make([]live.Tier, len(conf.Tiers))
	for i, t := range conf.Tiers {
		tiers[i].Name = t.Name
		if len(t.Deployments) > 0 {
			tiers[i].Price = t.Deployments[0].Price
		}
	}
	v.stats.SetTiers(tiers)
}

// add counts a finished request. Called once a request.
func (v *liveView) add(r *Record) {
	if r.answered == nil || r.answered.tier != embeddingTier {
		v.stats.Add(&live.Request{
			At: r.Time, Tier: r.Tier, Failed: r.answered == nil || r.Status >= 400, Cost: budget.Nanodollars(r.Cost), Stream: r.Stream,
			Usage:   budget.Usage{Input: r.Tokens.Input, Output: r.Tokens.Output, CachedInput: r.Tokens.Cached, CacheWrite: r.Tokens.CacheWrite},
			Latency: duration(r.LatencyMS), TTFT: duration(r.TTFTMS),
		})
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range r.Attempts {
		v.count(&r.Attempts[i], r)
	}
}

func (v *liveView) count(a *AttemptRecord, r *Record) {
	t := v.upstreams[a.Upstream]
	if t == nil {
		t = &upstreamTally{}
		v.upstreams[a.Upstream] = t
	}
	switch {
	case a.Outcome == "ok":
		t.OK++
	case a.Outcome != "client_closed_request":
		t.Failed++
		t.Failure = &failureView{At: r.Time, Code: a.Outcome, Status: a.Status, Message: a.Cause, RequestID: r.RequestID}
	}
}

func (v *liveView) tally(upstream string) upstreamTally {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t := v.upstreams[upstream]; t != nil {
		return *t
	}
	return upstreamTally{}
}

func duration(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// dashboardState is one message of the dashboard's event stream.
type dashboardState struct {
	Time        int64             `json:"time"` // milliseconds since 1970
	Version     string            `json:"version"`
	Strategy    string            `json:"strategy"`
	Fallback    string            `json:"fallback"`
	InFlight    int64             `json:"in_flight"`
	Dialects    []string          `json:"dialects"` // routes the playground can use
	Series      live.Series       `json:"series"`
	Tiers       []liveTier        `json:"tiers"` // from least to most capable
	Budgets     []liveBudget      `json:"budgets"`
	BudgetCount int               `json:"budget_count"`
	Decisions   []decisionSummary `json:"decisions"`
}

type liveTier struct {
	Name      string         `json:"name"`
	Healthy   bool           `json:"healthy"`
	SLAMS     float64        `json:"sla_ms"`
	TTFTSLAMS float64        `json:"ttft_sla_ms"`
	Latency   live.Latency   `json:"latency"`
	Upstreams []liveUpstream `json:"upstreams"`
}

type liveUpstream struct {
	Name        string       `json:"name"`
	Model       string       `json:"model"`
	State       string       `json:"state"`
	CoolUntil   *time.Time   `json:"cool_until,omitempty"`
	OK          int64        `json:"ok"`
	Failed      int64        `json:"failed"`
	LastFailure *failureView `json:"last_failure,omitempty"`
	Control     *string      `json:"control,omitempty"` // of a simulated upstream
}

// decisionSummary is a line of the dashboard's table.
type decisionSummary struct {
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	User      string    `json:"user"`
	Tier      string    `json:"tier"`
	Upstream  string    `json:"upstream"`
	Status    int       `json:"status"`
	Code      string    `json:"code,omitempty"`
	Cost      USD       `json:"cost_usd"`
	LatencyMS float64   `json:"latency_ms"`
	Fallback  bool      `json:"fallback"`
	Reason    string    `json:"reason"`
}

func summarizeRecord(r *Record) decisionSummary {
	return decisionSummary{ID: r.ID, Time: r.Time, User: r.User, Tier: r.Tier, Upstream: r.Upstream, Status: r.Status,
		Code: r.Code, Cost: r.Cost, LatencyMS: r.LatencyMS, Fallback: r.Fallback, Reason: r.Reason}
}

// shownDecisions is how many decisions a message of the event stream carries.
const shownDecisions = 25

// playgroundRoutes are the dialects that the dashboard's playground speaks.
var playgroundRoutes = []string{"/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions", "/query/stream"}

// playgroundDialects are those of them that are served beside the dashboard.
func playgroundDialects(table []route, withData bool) []string {
	served := []string{}
	for _, p := range playgroundRoutes {
		if withData && slices.ContainsFunc(table, func(r route) bool { return r.path == p && r.method == "POST" }) {
			served = append(served, p)
		}
	}
	return served
}

// liveState gathers what the dashboard shows of a range.
func (s *Server) liveState(span string, budgets []liveBudget, count int) ([]byte, error) {
	conf, now := s.current.Load(), time.Now()
	state := dashboardState{
		Time: now.UnixMilli(), Version: conf.Version, Strategy: conf.Router.Strategy(), Fallback: conf.Fallback,
		InFlight: s.flights.total.Load(), Dialects: s.dialects, Series: s.live.stats.Series(span, now),
		Tiers: s.liveTiers(conf, now), Budgets: budgets, BudgetCount: count, Decisions: []decisionSummary{},
	}
	for _, r := range s.recent.list(shownDecisions, nil) {
		state.Decisions = append(state.Decisions, summarizeRecord(r))
	}
	return json.Marshal(state)
}

func (s *Server) liveTiers(conf *setup, now time.Time) []liveTier {
	var tiers []liveTier
	for _, t := range conf.Router.Tiers() {
		tier := liveTier{Name: t.Name, Healthy: t.Healthy, SLAMS: millis(t.SLA), TTFTSLAMS: millis(t.TTFTSLA), Latency: s.live.stats.Latency(t.Name, now)}
		for _, h := range t.Deployments {
			d, tally := conf.deployments[h.Name], s.live.tally(h.Name)
			u := liveUpstream{Name: d.Name, Model: d.Model, State: h.State, OK: tally.OK, Failed: tally.Failed, LastFailure: tally.Failure}
			if !h.CoolUntil.IsZero() {
				u.CoolUntil = &h.CoolUntil
			}
			if c, ok := d.Upstream.(Controlled); ok {
				control := c.Control()
				u.Control = &control
			}
			tier.Upstreams = append(tier.Upstreams, u)
		}
		tiers = append(tiers, tier)
	}
	return tiers
}

// Controlled is an upstream whose behaviour can be changed while it runs, as
// the simulated ones' can, to see what routing makes of it.
type Controlled interface {
	// Control is what was last set, "" for the usual behaviour.
	Control() string
	// SetControl changes the behaviour: slow, limit, break or mend.
	SetControl(string) error
}

// budgetID names a budget over time.
type budgetID struct {
	scope   budget.Scope
	subject string
	per     string
}

// burn is how fast a budget is being spent.
type burn struct {
	samples []burnSample // at most burnSamples, the oldest first
	seen    time.Time
}

type burnSample struct {
	at    time.Time
	spent budget.Nanodollars
}

const (
	burnWindow  = 10 * time.Minute
	burnEvery   = 10 * time.Second
	burnAtLeast = 15 * time.Second // of history before there is a rate
)

// rate notes what is spent and returns what is spent an hour, in US dollars.
func (b *burn) rate(now time.Time, spent budget.Nanodollars) float64 {
	b.seen = now
	n := len(b.samples)
	if n > 0 && spent < b.samples[n-1].spent { // a new window, or a reset
		b.samples, n = b.samples[:0], 0
	}
	if n == 0 || now.Sub(b.samples[n-1].at) >= burnEvery {
		b.samples = append(b.samples, burnSample{now, spent})
	}
	for len(b.samples) > 1 && now.Sub(b.samples[0].at) > burnWindow {
		b.samples = slices.Delete(b.samples, 0, 1)
	}
	over := now.Sub(b.samples[0].at)
	if over < burnAtLeast {
		return 0
	}
	return float64(spent-b.samples[0].spent) / 1e9 / over.Hours()
}

// liveBudget is a budget's bar.
type liveBudget struct {
	budgetView
	OnExhausted string  `json:"on_exhausted"`
	USDPerHour  float64 `json:"usd_per_hour"` // over the last minutes; 0 while it is not known
}

// Budgets shown: the global ones, and of keys and users the fullest.
const (
	shownKeys  = 12
	shownUsers = 18
)

// liveBudgets picks the budgets to show, as the store has them, and says how
// many there are. Users' names are shown as the log shows them.
func (s *Server) liveBudgets(ctx context.Context) ([]liveBudget, int, error) {
	conf := s.current.Load()
	known := conf.Books.Known()
	limits, count := conf.shownLimits(known)
	shown := []liveBudget{}
	if len(limits) == 0 {
		return shown, count, nil
	}
	states, err := conf.Books.Status(ctx, limits)
	if err != nil {
		return shown, count, err
	}
	for _, b := range states {
		shown = append(shown, s.live.budget(b, conf.userName, time.Now()))
	}
	return shown, count, nil
}

// shownLimits are the budgets that everybody shares and the fullest of the
// others that were seen lately; count is how many there are of all.
func (s *setup) shownLimits(known []budget.Status) (limits []budget.Limit, count int) {
	have := map[budgetID]bool{}
	add := func(l budget.Limit) {
		id := budgetID{l.Scope, l.Subject, l.Window.String()}
		if !have[id] {
			have[id] = true
			limits = append(limits, l)
		}
	}
	for _, l := range s.limitsOf(account{}) {
		if l.Scope == budget.ScopeGlobal {
			add(l)
		}
	}
	slices.SortStableFunc(known, func(a, b budget.Status) int {
		return cmp.Or(cmp.Compare(b.Used(), a.Used()), strings.Compare(a.Limit.Subject, b.Limit.Subject))
	})
	room := map[budget.Scope]int{budget.ScopeGlobal: len(known), budget.ScopeKey: shownKeys, budget.ScopeUser: shownUsers}
	count = len(limits)
	for _, b := range known {
		if b.Limit.Scope != budget.ScopeGlobal {
			count++
		}
		if room[b.Limit.Scope] > 0 {
			room[b.Limit.Scope]--
			add(b.Limit)
		}
	}
	return limits, count
}

func (v *liveView) budget(b budget.Status, name func(string) string, now time.Time) liveBudget {
	id := budgetID{b.Limit.Scope, b.Limit.Subject, b.Limit.Window.String()}
	v.mu.Lock()
	defer v.mu.Unlock()
	rate := v.burn[id]
	if rate == nil {
		rate = &burn{}
		v.burn[id] = rate
	}
	out := liveBudget{budgetView: viewBudget(b), OnExhausted: "downgrade", USDPerHour: rate.rate(now, b.Spent)}
	if b.Limit.Hard {
		out.OnExhausted = "reject"
	}
	if b.Limit.Scope == budget.ScopeUser {
		out.User = name(b.Limit.Subject)
	}
	return out
}

// forgetBurn drops the histories of budgets that are shown no more.
func (v *liveView) forgetBurn(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, b := range v.burn {
		if now.Sub(b.seen) > burnWindow {
			delete(v.burn, id)
		}
	}
}

// matches reports whether a record passes the dashboard's filters.
func (f *decisionFilter) matches(r *Record) bool {
	if f.user != "" && !strings.Contains(r.User, f.user) || f.tier != "" && r.Tier != f.tier {
		return false
	}
	switch f.status {
	case "":
		return true
	case "ok":
		return r.Status < 400
	case "failed":
		return r.Status >= 400
	case "fallback":
		return r.Fallback
	}
	return strconv.Itoa(r.Status) == f.status
}

// decisionFilter selects among the last decisions; "" is any.
type decisionFilter struct{ user, tier, status string }
