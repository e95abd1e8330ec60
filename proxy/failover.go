package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/inference-router/inference-router/translate"
)

// failures are a request's attempts that failed, and what they teach the next
// one.
type failures struct {
	all     []error
	unknown int         // of them were sent in full and never answered
	dropped []string    // request fields that an upstream refused by name
	tooLong *deployment // the one whose context window was too small; nil while there is none
}

// verdict is what follows a failed attempt.
type verdict int

const (
	giveUp verdict = iota // it is the answer
	goOn                  // another target may be tried
	again                 // the same one, with less in the request
)

// note takes in why an attempt at d failed.
//
// A request that an upstream refuses is the client's own mistake, except where
// our choice made it one: auto chose a model whose context window is too small,
// or failover took the request to an API that lacks one of its fields.
func (f *failures) note(j *journey, d *deployment, err error) verdict {
	var e *translate.UpstreamError
	if !errors.As(err, &e) {
		return giveUp
	}
	elsewhere := len(f.all) > 0 // another attempt has failed for another reason
	switch {
	case e.Kind == translate.KindInvalid && e.IsContextLength() && !j.named && !j.decision.Forced:
		f.tooLong = d
	case e.Kind == translate.KindInvalid && elsewhere:
		field := e.RefusedField(j.request)
		if field == "" {
			return giveUp
		}
		if !j.now.Retries.RejectUnsupported && !slices.Contains(f.dropped, field) && len(f.dropped) < maxDropped {
			f.dropped = append(f.dropped, field)
			return again
		}
	case e.Kind == translate.KindInvalid:
		return giveUp
	case e.Billed == translate.BilledUnknown && e.Kind != translate.KindTimeout:
		if f.unknown++; j.now.Retries.NeverUnknown || f.unknown > 1 {
			return giveUp
		}
	}
	f.all = append(f.all, err)
	return goOn
}

// maxDropped is how many fields are left out of a request for upstreams that
// refuse them.
const maxDropped = 4

// holds says whether the request may fit into d's context window, by those that
// were too small for it. Where the windows are not known, another tier's may be
// larger.
func (f *failures) holds(d *deployment) bool {
	switch small := f.tooLong; {
	case small == nil:
		return true
	case small.Context > 0 && d.Context > 0:
		return d.Context > small.Context
	default:
		return d.tier != small.tier
	}
}

// dropsAt are the fields that the request goes to d without.
func (j *journey) dropsAt(d *deployment) []string {
	if len(j.failures.dropped) == 0 {
		return d.Drop
	}
	return append(slices.Clip(d.Drop), j.failures.dropped...)
}

// repeatable says whether the same upstream may answer better the next time.
func repeatable(err error) bool {
	var e *translate.UpstreamError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Kind {
	case translate.KindServer, translate.KindOverloaded, translate.KindUnknownState, translate.KindBadResponse, translate.KindInterrupted:
		return true
	case translate.KindTimeout:
		return e.Status != 0 // it said so itself: 408, 504
	}
	return false
}

// pause waits before the n-th repeat, with full jitter. It reports false when
// the client has left.
func pause(ctx context.Context, n int) bool {
	select {
	case <-time.After(rand.N(50 * time.Millisecond << n)):
		return true
	case <-ctx.Done():
		return false
	}
}

// explain makes one error of all attempts' failures: that all are limiting,
// with the shortest wait, or else the last failure that is not about a
// credential of ours.
func (j *journey) explain(failed []error) error {
	var told *translate.UpstreamError
	for _, err := range failed {
		var e *translate.UpstreamError
		if !errors.As(err, &e) {
			continue
		}
		switch {
		case told == nil:
		case e.Kind == told.Kind && (e.Kind == translate.KindRateLimited || e.Kind == translate.KindOverloaded) && told.RetryAfter < e.RetryAfter:
			continue
		case e.Kind == translate.KindAuth, e.Kind == translate.KindInvalid && told.Kind != translate.KindInvalid:
			continue // another's failure says more to the client
		}
		told = e
	}
	switch {
	case told == nil:
		return unavailable("no_upstream", "no upstream can take this request now; try again shortly")
	case told.Kind == translate.KindNotFound && j.named:
		return relayNotFound(told)
	}
	return told
}
