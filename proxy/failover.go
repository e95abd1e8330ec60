package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/inference-router/inference-router/translate"
)

// goesOn says whether another target may be tried after err.
func goesOn(err error, r Retries) bool {
	var e *translate.UpstreamError
	if !errors.As(err, &e) {
		return false
	}
	switch {
	case e.Kind == translate.KindInvalid:
		return false
	case e.Billed == translate.BilledUnknown && e.Kind != translate.KindTimeout:
		return !r.NeverUnknown
	}
	return true
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
		case e.Kind == translate.KindRateLimited && told.Kind == translate.KindRateLimited && told.RetryAfter < e.RetryAfter:
			continue
		case e.Kind == translate.KindAuth:
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
