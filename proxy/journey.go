package proxy

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

// journey is one request on its way: what its steps hand on, and the record
// they fill in. Used by one goroutine.
type journey struct {
	now      *setup
	start    time.Time
	account  account
	request  *translate.Request
	dialect  translate.Dialect // what the client speaks
	chats    chatForms         // the request, translated for the upstreams so far
	limits   []budget.Limit    // the budgets that apply
	facts    *routing.Request  // what the decision was made by
	decision *routing.Decision
	purse    *purse
	record   *Record
	stay     *stay // nil for library calls
	lent     bool  // an upstream was given the client's own bytes, and may not be done with them
	named    bool  // the client named the upstream itself
	attempts int
	failures failures
	// upstream is the time spent waiting for upstreams; the rest is overhead.
	upstream time.Duration
}

func (s *Server) depart(route, requestID string) *journey {
	now := time.Now()
	return &journey{
		now:    s.current.Load(),
		start:  now,
		record: &Record{route: route, RequestID: requestID, Decision: routing.Decision{Time: now}},
	}
}

// begin notes who asks for what.
func (j *journey) begin(a account, r *translate.Request) {
	j.account, j.request = a, r
	j.record.User, j.record.Model, j.record.Stream = a.user, clip(r.Model), r.Stream
	j.record.Tags = a.tags
	if key := a.forward["Idempotency-Key"]; key != "" { // of two users with one key, the second must not get the first's answer
		a.forward["Idempotency-Key"] = strings.TrimPrefix(hashUser(j.now.UsersKey, a.user), "h:") + "-" + key
	}
}

// decided notes the decision, if there is one.
func (j *journey) decided(d *routing.Decision) {
	if d == nil {
		return
	}
	j.decision = d
	j.record.Decision, j.record.decided = *d, d.Tier
}

// reserved notes the reservation; fitting may have changed the decision.
func (j *journey) reserved(p *purse, m *metrics) {
	j.purse = p
	j.record.Decision, j.record.decided = *j.decision, j.decision.Tier
	j.record.Reserved = USD(p.held)
	if p.reservation == nil {
		return
	}
	j.record.remaining = p.reservation.Budgets
	if p.reservation.Unenforced {
		m.unenforced.Inc()
	}
}

// answering notes that an attempt's first event has come.
func (j *journey) answering(a *attempt, head *translate.Head) {
	r := j.record
	r.answered, r.Upstream, r.Tier, r.Fallback = a.deployment, a.deployment.Name, a.deployment.tier, a.fallback
	if head != nil {
		r.dropped, r.upstreamID, r.header = head.Dropped, head.RequestID, head.Header
	}
	for _, name := range j.dropsAt(a.deployment) {
		if j.request != nil && j.request.Raw(name) != nil && !slices.Contains(r.dropped, name) {
			r.dropped = append(slices.Clip(r.dropped), name)
		}
	}
}

// settle charges the request. A failure is logged, not told: the ledger keeps
// what it could not settle.
func (j *journey) settle(ctx context.Context) {
	j.record.Cost = USD(j.purse.spent)
	if err := j.purse.settle(ctx); err != nil {
		j.now.Log.Error("settle failed", slog.String("request_id", j.record.RequestID), slog.Any("error", err))
	}
}

// remaining is the least that the request's budgets have left: once settled
// with what this request has cost, before with what it holds. False when none
// applies.
func (j *journey) remaining() (least budget.Nanodollars, ok bool) {
	p := j.purse
	switch {
	case p.reservation == nil:
		return 0, false
	case p.settled:
		return p.reservation.Remaining(p.spent)
	}
	return p.reservation.Remaining(p.held)
}

// arrive closes the record with the request's end.
func (j *journey) arrive(err error) *Record {
	r := j.record
	took := time.Since(j.start)
	r.LatencyMS, r.overhead = millis(took), took-j.upstream
	r.Status = 200
	if err != nil {
		d := describe(err)
		r.Status, r.Code = d.Status, d.Code
	}
	return r
}

// formatScore writes a score with at least one decimal: 0.0, 7.5, 3.25.
func formatScore(v float64) string {
	s := strconv.FormatFloat(v, 'f', -1, 64)
	for i := range len(s) {
		if s[i] == '.' {
			return s
		}
	}
	return s + ".0"
}

// costSoFar is what the request has cost once its running attempt has used u.
func (j *journey) costSoFar(u *translate.Usage) budget.Nanodollars {
	return j.purse.spent + j.purse.cost(j.record.answered, u)
}

// clip keeps the beginning of a client's own words, so that no record grows
// longer than a line of the log.
func clip(s string) string {
	const most = 256
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}
