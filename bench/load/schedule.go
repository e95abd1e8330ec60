package main

import (
	"runtime"
	"syscall"
	"time"
)

// schedule sends the instants at which requests are due, each when it has
// come, and closes the channel. It sleeps in the kernel: the runtime's own
// timers are up to a millisecond late on an idle machine, twice the interval
// between requests at 2,000 a second.
func schedule(due chan<- time.Time, start time.Time, rate float64, length time.Duration) {
	defer close(due)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	interval := time.Duration(float64(time.Second) / rate)
	for at := start; at.Sub(start) < length; at = at.Add(interval) {
		if wait := time.Until(at); wait > 0 {
			span := syscall.NsecToTimespec(int64(wait))
			_ = syscall.Nanosleep(&span, nil) // early when interrupted: harmless
		}
		due <- at
	}
}
