package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/inference-router/inference-router/internal/live"
)

const (
	viewEvery    = time.Second
	viewTimeout  = 500 * time.Millisecond // for the budgets' store
	mostViewers  = 500
	viewPatience = 10 * time.Second // for one message to a viewer
)

// viewers are the dashboards that are open. While there are any, one goroutine
// makes each second's messages, one for each range that is looked at; all who
// look at it get the same bytes.
type viewers struct {
	mu     sync.Mutex
	counts map[string]int    // by range
	latest map[string][]byte // by range
	next   chan struct{}     // closed when there are new messages
	wake   chan struct{}     // a new viewer is not kept waiting for the second
	stop   chan struct{}     // nil while nobody looks
}

// join counts a viewer in; leave is to be called at its end. It reports whether
// there was room.
func (v *viewers) join(span string, run func(stop, wake <-chan struct{})) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := 0
	for _, n := range v.counts {
		all += n
	}
	if all >= mostViewers {
		return false
	}
	if v.stop == nil {
		v.counts, v.latest = map[string]int{}, map[string][]byte{}
		v.next, v.stop, v.wake = make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
		go run(v.stop, v.wake)
	}
	v.counts[span]++
	if v.latest[span] == nil {
		select {
		case v.wake <- struct{}{}:
		default:
		}
	}
	return true
}

func (v *viewers) leave(span string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.counts[span]--; v.counts[span] == 0 {
		delete(v.counts, span)
		delete(v.latest, span)
	}
	if len(v.counts) == 0 {
		close(v.stop)
		v.stop = nil
	}
}

// message is the latest of a range, nil when there is none yet, and what is
// closed when there is another.
func (v *viewers) message(span string) ([]byte, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.latest[span], v.next
}

// spans are the ranges that are looked at.
func (v *viewers) spans() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []string
	for span := range v.counts {
		all = append(all, span)
	}
	return all
}

func (v *viewers) publish(messages map[string][]byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for span, m := range messages {
		if v.counts[span] > 0 {
			v.latest[span] = m
		}
	}
	close(v.next)
	v.next = make(chan struct{})
}

// feedViewers makes the messages until stop is closed.
func (s *Server) feedViewers(stop, wake <-chan struct{}) {
	tick := time.NewTicker(viewEvery)
	defer tick.Stop()
	for {
		s.viewers.publish(s.viewMessages())
		select {
		case <-stop:
			return
		case <-tick.C:
		case <-wake:
		}
	}
}

func (s *Server) viewMessages() map[string][]byte {
	ctx, cancel := context.WithTimeout(context.Background(), viewTimeout)
	defer cancel()
	budgets, count, err := s.liveBudgets(ctx)
	if err != nil {
		s.current.Load().Log.Debug("the dashboard cannot read the budgets", slog.Any("error", err))
	}
	s.live.forgetBurn(time.Now())
	messages := map[string][]byte{}
	for _, span := range s.viewers.spans() {
		data, err := s.liveState(span, budgets, count)
		if err != nil {
			s.current.Load().Log.Error("the dashboard's state", slog.Any("error", err))
			continue
		}
		messages[span] = slices.Concat([]byte("event: state\ndata: "), data, []byte("\n\n"))
	}
	return messages
}

// dashboardEvents serves GET /dashboard/events: the state once a second, until
// the viewer leaves or the server drains.
func (s *Server) dashboardEvents(w http.ResponseWriter, r *http.Request) error {
	span := r.URL.Query().Get("range")
	if !slices.ContainsFunc(live.Ranges, func(r live.Range) bool { return r.Name == span }) {
		span = live.Ranges[0].Name
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		return nil
	}
	if !s.viewers.join(span, s.feedViewers) {
		return unavailable("overloaded", "too many dashboards are open")
	}
	defer s.viewers.leave(span)
	control := http.NewResponseController(w)
	for !s.draining.Load() {
		message, next := s.viewers.message(span)
		if message != nil {
			_ = control.SetWriteDeadline(time.Now().Add(viewPatience)) // fails only where there is no connection
			if _, err := w.Write(message); err != nil {
				return nil // the viewer has left
			}
			if err := control.Flush(); err != nil {
				return nil
			}
		}
		select {
		case <-next:
		case <-r.Context().Done():
			return nil
		}
	}
	return nil
}
