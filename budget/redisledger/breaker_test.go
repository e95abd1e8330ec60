package redisledger

import (
	"testing"
	"testing/synctest"
	"time"
)

func newBreaker(opened *int) *breaker {
	return &breaker{ticks: int(silence / silenceTick), onOpen: func() { *opened++ }}
}

func TestBreakerOpensOnSilenceAlone(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(b *breaker)
		open bool
	}{
		{"no reply while a call is out", func(b *breaker) {
			b.begin()
			time.Sleep(silence + 2*silenceTick)
		}, true},
		{"nobody waits", func(*breaker) { time.Sleep(10 * silence) }, false},
		{"calls that wait long while others are answered", func(b *breaker) {
			b.begin()
			for range 20 {
				time.Sleep(silence / 2)
				b.replied()
			}
		}, false},
		{"one call after the other fails", func(b *breaker) {
			for range 10 {
				b.begin()
				time.Sleep(silence / 8)
				defer b.end()
			}
		}, true},
		{"a pause shorter than silence", func(b *breaker) {
			b.begin()
			time.Sleep(silence - 4*silenceTick)
			b.replied()
			b.end()
			time.Sleep(silence)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opened := 0
				b := newBreaker(&opened)
				c.run(b)
				if b.allows() == c.open {
					t.Errorf("open: %v, want %v", !b.allows(), c.open)
				}
				b.out.Store(0)
				time.Sleep(2 * silenceTick) // the watch ends
			})
		})
	}
}

func TestBreakerIsProbedWithinHalfASecond(t *testing.T) {
	opened := 0
	b := newBreaker(&opened)
	b.trip()
	b.trip()
	for range 20 {
		if d := b.untilProbe(); d > breakerMaxWait {
			t.Fatalf("probed in %v", d)
		}
		b.probed(false)
	}
	b.probed(true)
	if !b.allows() || opened != 1 {
		t.Errorf("after a good probe: allows %v, opened %d times", b.allows(), opened)
	}
}
