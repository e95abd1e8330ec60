package redisledger

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestBreakerOpens(t *testing.T) {
	for _, c := range []struct {
		name      string
		onlyInRow bool
		calls     string // + succeeds, - fails
		open      bool
	}{
		{"not after four failures in a row", false, "----", false},
		{"after five failures in a row", false, "-----", true},
		{"not when one in between succeeds", false, "----+----", false},
		{"when half of twenty fail", false, "+-+-+-+-+-+-+-+-+-+-", true},
		{"not when ten of nineteen fail", false, "-+-+-+-+-+-+-+-+-+-", false},
		{"not when fewer fail", false, "++-++-++-++-++-++-++-++-", false},
		{"not by a share where only rows count", true, "+-+-+-+-+-+-+-+-+-+-+-+-", false},
		{"by a row where only rows count", true, "+-----", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			opened := 0
			b := breaker{onOpen: func() { opened++ }, onlyInRow: c.onlyInRow, window: time.Now()}
			for _, call := range c.calls {
				if call == '+' {
					b.succeeded()
				} else {
					b.failed()
				}
			}
			if b.allows() == c.open || (opened == 1) != c.open {
				t.Errorf("allows %v, opened %d times; want it open: %v", b.allows(), opened, c.open)
			}
		})
	}
}

func TestBreakerIsProbedWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker{onOpen: func() {}}
		for range breakerInRow {
			b.failed()
		}
		if wait := b.untilProbe(); wait < breakerWait/2 || wait > breakerWait {
			t.Errorf("first probe after %v", wait)
		}
		for range 20 {
			b.probed(false)
			if wait := b.untilProbe(); wait < breakerWait || wait > breakerMaxWait {
				t.Errorf("next probe after %v, want %v to %v", wait, breakerWait, breakerMaxWait)
			}
			time.Sleep(b.untilProbe())
		}
		b.probed(true)
		if !b.allows() {
			t.Error("open after a probe that succeeded")
		}
		b.failed()
		if !b.allows() {
			t.Error("open after one failure more")
		}
	})
}

func TestBreakerForgetsOldFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker{onOpen: func() {}}
		for range 30 {
			b.failed()
			b.succeeded()
			time.Sleep(breakerWindow / 8)
		}
		if !b.allows() {
			t.Error("open, though less than twenty calls were made in any second")
		}
	})
}
