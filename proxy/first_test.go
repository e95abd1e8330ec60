package proxy

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatch(t *testing.T) {
	limits := Timeouts{FirstEvent: 60 * time.Second, Idle: 120 * time.Second, Total: 30 * time.Minute}
	for _, c := range []struct {
		name   string
		stream bool
		events []time.Duration // when the upstream says something, after the start
		ends   time.Duration
		cause  error
		pings  int
	}{
		{"nothing comes", true, nil, 60 * time.Second, errFirstEvent, 0},
		{"a whole answer may take its total time", false, nil, 30 * time.Minute, errTotal, 0},
		{"trap 69: silence after the first event is pinged, then ends", true, []time.Duration{10 * time.Second}, 130 * time.Second, errIdle, 7},
		{"each event begins the idle time anew", true, []time.Duration{10 * time.Second, 101 * time.Second, 202 * time.Second}, 322 * time.Second, errIdle, 19},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				pings := 0
				w := newWatch(limits, c.stream, cancel, func() { pings++ })
				start := time.Now()
				for i, at := range c.events {
					time.Sleep(at - time.Since(start))
					if w.touch(); i == 0 {
						w.begin()
					}
				}
				<-ctx.Done()
				w.stop()
				if got := time.Since(start).Round(time.Second); got != c.ends || !errors.Is(context.Cause(ctx), c.cause) || pings != c.pings {
					t.Errorf("ended after %v by %v with %d pings, want %v by %v with %d", got, context.Cause(ctx), pings, c.ends, c.cause, c.pings)
				}
			})
		})
	}
}

func TestWatchStopsQuietly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		w := newWatch(Timeouts{FirstEvent: time.Second, Idle: time.Second, Total: time.Second}, true, cancel, nil)
		w.stop()
		time.Sleep(time.Hour)
		if ctx.Err() != nil {
			t.Errorf("ended by %v", context.Cause(ctx))
		}
	})
}
