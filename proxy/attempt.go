package proxy

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

// drainTime is how long an answer is read on for its usage when its client has
// left and the provider bills regardless.
const drainTime = time.Minute

// attempt is one call of one deployment.
type attempt struct {
	deployment *deployment
	fallback   bool
	output     int64 // output limit reserved, in tokens a choice
	start      time.Time
	ttft       time.Duration // to the first event; 0 until it came
	delivered  int64         // bytes of model output seen
	usage      *translate.Usage
	malformed  bool // some of the answer, its usage perhaps, makes no sense
	settled    bool // the answer is complete and accounted for
	unsent     bool // the upstream never got the request
}

// attempt calls one deployment and writes its answer to out. It returns nil
// when the answer is complete, and charges the purse in any case.
func (s *Server) attempt(ctx context.Context, j *journey, d *deployment, fallback bool, out sink) error {
	a := &attempt{deployment: d, fallback: fallback, output: j.purse.outputLimit(d), start: time.Now()}
	j.attempts++
	outcome := errPanicked
	defer func() { s.observe(j, a, outcome) }() // a probe is given back also by a panic
	call, cancel := s.callContext(ctx, d)
	defer cancel(nil)
	watch := newWatch(d.Timeouts, j.request.Stream, cancel, out.ping)
	defer watch.stop()

	err := s.consume(ctx, call, j, a, watch, out)
	watch.stop()
	err = a.classify(ctx, call, err)
	if !a.settled {
		j.upstream += time.Since(a.start)
		s.account(j, a, err)
		if err == nil || out.begun() {
			j.settle(ctx)
			out.end(j, err)
		}
	}
	outcome = err
	return err
}

// errPanicked stands for the outcome of an attempt that did not return.
var errPanicked = errors.New("panicked")

// callContext is the context of an upstream call. It ends with the client's,
// unless the provider bills regardless: then it goes on for a while to learn
// the usage.
func (s *Server) callContext(ctx context.Context, d *deployment) (context.Context, context.CancelCauseFunc) {
	if !d.Drain {
		return context.WithCancelCause(ctx)
	}
	call, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case s.drains <- struct{}{}:
			time.AfterFunc(drainTime, func() { cancel(context.Cause(ctx)) })
			context.AfterFunc(call, func() { <-s.drains })
		default:
			cancel(context.Cause(ctx))
		}
	})
	return call, func(cause error) { stop(); cancel(cause) }
}

// consume ranges over the answer and hands it to out. A client that has left is
// not written to; its upstream call is ended with its context.
func (s *Server) consume(ctx, call context.Context, j *journey, a *attempt, watch *watch, out sink) error {
	sent, err := j.requestFor(a)
	if err != nil {
		return err
	}
	for chunk, err := range j.answerOf(a, call, sent) {
		switch {
		case err != nil:
			return err
		case chunk.Comment && a.ttft == 0:
			watch.touch() // a sign of life, but nothing is sent before the first event
			continue
		case isOtherForm(&chunk, j.request.Stream):
			return &translate.UpstreamError{Kind: translate.KindBadResponse, Billed: translate.BilledUnknown,
				Message: "the upstream streamed an answer that was asked for whole, or the other way round"}
		}
		if chunk.Malformed {
			s.metrics.malformed.Inc()
		}
		a.add(&chunk)
		if a.ttft > 0 {
			watch.touch()
		} else {
			if !watch.begin() {
				return context.Cause(call)
			}
			a.ttft = time.Since(a.start)
			j.answering(a, chunk.Head)
		}
		if chunk.Whole || chunk.Done {
			s.complete(ctx, j, a)
		}
		if ctx.Err() != nil {
			continue
		}
		if err := relay(j, out, &chunk); err != nil && !a.deployment.Drain {
			return err
		}
		if sent.Body != nil && out.begun() {
			j.forget(sent)
		}
	}
	return nil
}

// isOtherForm reports whether a chunk is a whole answer where a stream was
// asked for, or a piece of a stream where a whole one was.
func isOtherForm(c *translate.Chunk, stream bool) bool {
	return len(c.Data) > 0 && !c.Comment && c.Whole == stream
}

// relay writes a chunk, and the answer's end behind it where it is the last. The
// error says that the client has left.
func relay(j *journey, out sink, c *translate.Chunk) error {
	if len(c.Data) > 0 || !c.Done {
		if err := out.write(j, c); err != nil {
			return errClientGone
		}
	}
	if c.Done {
		out.end(j, nil)
	}
	return nil
}

// requestFor is the request as this attempt's upstream gets it.
func (j *journey) requestFor(a *attempt) (*translate.Request, error) {
	d := a.deployment
	r, err := j.inDialectOf(d)
	if err != nil {
		return nil, err
	}
	e := translate.Edit{Model: d.Model, LimitField: d.LimitField, LimitEither: d.LimitEither, AskUsage: r.Stream, KeepUsageField: d.KeepUsage,
		Set: d.Set, Default: d.Default, Drop: j.dropsAt(d)}
	if err := j.bounded(r, d, e.Drop); err != nil {
		return nil, err
	}
	if over := r.MaxTokens == 0 || r.MaxTokens > a.output; over && (j.purse.hard || d.capped > 0) {
		e.MaxTokens = a.output
	}
	sent := r.For(e)
	j.lent = j.lent || sent == r
	sent.ClientKey, sent.Forward = translate.Secret(j.account.client), j.account.forward
	if sent.AnswerModel = d.Provider + "/" + d.Model; j.named {
		sent.AnswerModel = r.Model
	}
	return sent, nil
}

// bounded refuses, where a budget is exact, what d would take as it comes and
// charge for without a bound. drops are the fields that d gets without.
func (j *journey) bounded(r *translate.Request, d *deployment, drops []string) error {
	if !j.purse.hard || r.Dialect == translate.DialectChat && d.Extended {
		return nil
	}
	settled := func(name string) bool {
		_, set := d.Set[name]
		return set || slices.Contains(drops, name)
	}
	if err := r.Unbounded(settled); err != nil {
		return err
	}
	return nil
}

// forget lets go of the request's text once no other upstream will need it.
func (j *journey) forget(sent *translate.Request) {
	j.request.Forget()
	j.chats = nil
	sent.Forget()
	if j.stay != nil {
		j.stay.free()
	}
}

// add notes what a chunk says of cost.
func (a *attempt) add(c *translate.Chunk) {
	a.delivered += c.OutputBytes
	a.malformed = a.malformed || c.Malformed
	if c.Usage != nil {
		a.usage = c.Usage.AtLeast(a.usage)
	}
}

// complete accounts for an answer that is complete before its end is written:
// headers or trailers say what it cost, and who has read them finds it charged.
func (s *Server) complete(ctx context.Context, j *journey, a *attempt) {
	j.upstream += time.Since(a.start)
	s.account(j, a, nil)
	a.settled = true
	j.settle(ctx)
}

// classify makes err the reason why the attempt ended: the client left, a
// watch ran out, or the upstream failed.
func (a *attempt) classify(ctx, call context.Context, err error) error {
	if err == nil {
		if a.settled {
			return nil
		}
		if ctx.Err() != nil {
			return gone(ctx)
		}
		if a.ttft == 0 {
			return &translate.UpstreamError{Kind: translate.KindBadResponse, Billed: translate.BilledUnknown, Message: "the upstream's answer is empty"}
		}
		return nil
	}
	var bad *translate.InvalidError
	var upstream *translate.UpstreamError
	a.unsent = a.ttft == 0 && errors.As(err, &upstream) && upstream.Billed == translate.BilledNothing
	if ctx.Err() != nil {
		return gone(ctx)
	}
	if e := timeoutError(context.Cause(call), a.ttft > 0); e != nil {
		if a.unsent {
			e.Billed = translate.BilledNothing
		}
		return e
	}
	if errors.Is(err, errClientGone) || errors.As(err, &bad) || errors.As(err, &upstream) {
		return err
	}
	return &translate.UpstreamError{Kind: translate.KindServer, Message: "the upstream failed", Billed: translate.BilledUnknown, Err: err}
}

// gone is the reason why a request's context has ended.
func gone(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), ErrShutdown) {
		return &translate.UpstreamError{Kind: translate.KindInterrupted, Code: "server_shutdown", Billed: translate.BilledPartly,
			Message: "the router is shutting down", Err: ErrShutdown}
	}
	return errClientGone
}

// account charges the attempt to the purse and puts it into the record.
func (s *Server) account(j *journey, a *attempt, err error) {
	cost, tokens := s.charge(j, a, err)
	j.purse.spent += cost
	t := &j.record.Tokens
	t.Input += tokens.Input
	t.Output += tokens.Output
	t.Cached += tokens.Cached
	t.CacheWrite += tokens.CacheWrite
	t.Reasoning += tokens.Reasoning

	took := time.Since(a.start)
	outcome, status := "ok", 200
	if err != nil {
		d := describe(err)
		outcome, status = d.Code, d.Status
		if outcome == "" {
			outcome = "invalid_request"
		}
	}
	record := AttemptRecord{Upstream: a.deployment.Name, Outcome: outcome, Status: status, LatencyMS: millis(took), Cost: USD(cost), tier: a.deployment.tier}
	var failed *translate.UpstreamError
	if errors.As(err, &failed) {
		record.Cause = failed.Cause()
		logFailure(j, &record)
	}
	j.record.Attempts = append(j.record.Attempts, record)
	if err == nil || a.ttft > 0 {
		j.record.TTFTMS = millis(a.ttft)
	}
	s.metrics.call(a.deployment, outcome, tokens, cost, took, a.ttft)
}

// logFailure writes why an attempt failed, for the operator.
func logFailure(j *journey, a *AttemptRecord) {
	j.now.Log.Warn("upstream failed", slog.String("request_id", j.record.RequestID), slog.String("upstream", a.Upstream),
		slog.String("outcome", a.Outcome), slog.Int("status", a.Status), slog.String("cause", a.Cause))
}

// charge is what the attempt cost, by what was seen of it: reported usage
// exactly; otherwise a bound of what was sent and delivered, or for an outcome
// nobody knows all that was reserved.
func (s *Server) charge(j *journey, a *attempt, err error) (budget.Nanodollars, TokenRecord) {
	worst := j.purse.worst(a.deployment, a.output)
	if a.usage != nil && plausible(a.usage) {
		t := TokenRecord{Input: a.usage.InputTokens, Output: a.usage.OutputTokens, Cached: a.usage.CachedTokens,
			CacheWrite: a.usage.CacheWriteTokens, Reasoning: a.usage.ReasoningTokens}
		cost := j.purse.cost(a.deployment, a.usage)
		if cost > worst {
			s.metrics.overHold.Inc()
		}
		return cost, t
	}
	if a.usage != nil {
		s.metrics.oddUsage.Inc()
	}
	if a.usage != nil || a.malformed && a.ttft > 0 {
		return worst, TokenRecord{} // who reports nonsense may have used anything
	}
	partly := func() (budget.Nanodollars, TokenRecord) {
		t := TokenRecord{Input: j.purse.input(a.deployment), Output: a.delivered}
		return min(worst, j.purse.price(a.deployment).WorstCase(t.Input, t.Output)), t
	}
	var upstream *translate.UpstreamError
	switch {
	case a.unsent:
		return 0, TokenRecord{}
	case err == nil:
		s.metrics.noUsage.Inc()
		return partly()
	case errors.Is(err, errClientGone) && (j.request.Stream || a.ttft > 0):
		return partly()
	case errors.Is(err, errClientGone):
		return worst, TokenRecord{} // a whole answer is generated to its end, whoever listens
	case !errors.As(err, &upstream):
		return 0, TokenRecord{} // never sent
	case a.ttft > 0 || upstream.Billed == translate.BilledPartly:
		return partly()
	case upstream.Billed == translate.BilledUnknown:
		s.metrics.unknown.Inc()
		return worst, TokenRecord{}
	}
	return 0, TokenRecord{}
}

// mostTokens is the most that a call's usage is believed to be. Reasoning and
// searches can use any number of tokens below it.
const mostTokens = 100_000_000

// plausible doubts usage that no call can have.
func plausible(u *translate.Usage) bool {
	return u.InputTokens <= mostTokens && u.OutputTokens <= mostTokens-u.InputTokens
}

// observe tells the router how the attempt ended.
func (s *Server) observe(j *journey, a *attempt, err error) {
	o := routing.Outcome{Tier: a.deployment.tier, Deployment: a.deployment.Name, Stream: j.request.Stream,
		Session: session(j.account), TTFT: a.ttft}
	var upstream *translate.UpstreamError
	switch {
	case err == nil:
		o.Latency = time.Since(a.start)
	case errors.As(err, &upstream):
		o.Result, o.RetryAfter = judge(upstream)
	default:
		o.Result = routing.ResultNeutral
	}
	j.now.Router.Observe(o)
}

// quotaRest is how long an upstream whose account is used up is left alone.
const quotaRest = 5 * time.Minute

// judge says what a failure means for the upstream's health.
func judge(e *translate.UpstreamError) (routing.Result, time.Duration) {
	switch e.Kind {
	case translate.KindRateLimited:
		return routing.ResultLimited, e.RetryAfter
	case translate.KindQuota:
		return routing.ResultMisconfigured, quotaRest
	case translate.KindAuth, translate.KindNotFound:
		return routing.ResultMisconfigured, 0
	case translate.KindTimeout:
		return routing.ResultSlow, 0
	case translate.KindOverloaded:
		if e.RetryAfter > 0 { // it says itself how long to leave it alone
			return routing.ResultLimited, e.RetryAfter
		}
	case translate.KindInvalid:
		return routing.ResultNeutral, 0
	}
	if errors.Is(e.Err, ErrShutdown) {
		return routing.ResultNeutral, 0
	}
	return routing.ResultFailed, 0
}
