package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

// chat serves POST /v1/chat/completions, /v1/responses, /v1/messages and
// /v1/completions: the journey of a request, from its
// headers to its settlement.
func (s *Server) chat(w http.ResponseWriter, r *http.Request, j *journey) error {
	account, err := j.now.identify(r)
	if err != nil {
		return err
	}
	body, stay, err := s.read(w, r, j.now)
	if err != nil {
		return err
	}
	defer stay.end()
	j.stay = stay
	request, err := translate.Parse(j.dialect, body)
	if err != nil {
		return err
	}
	if model := deploymentOf(r); model != "" {
		request = request.Named(model)
	}
	if err := account.name(request, j.now.Identity.RejectAnonymous); err != nil {
		return err
	}
	if request.Stream {
		return s.answer(r.Context(), j, account, request, newStreamRelay(w, request))
	}
	err = s.answer(r.Context(), j, account, request, newWholeRelay(w, request))
	if !j.lent {
		translate.FreeBody(body)
	}
	return err
}

// answer takes a request from its decision to its settlement and writes the
// answer to out. Every way into the server ends here.
func (s *Server) answer(ctx context.Context, j *journey, a account, r *translate.Request, out sink) error {
	j.begin(a, r)
	if err := s.flights.enterUser(a.user, j.now.MaxPerUser, j.now.MaxInFlight); err != nil {
		return err
	}
	defer s.flights.leaveUser(a.user)

	decision, err := j.decide(ctx)
	j.decided(decision)
	if err != nil {
		return err
	}
	purse, err := j.reserve(ctx)
	if err != nil {
		return err
	}
	j.reserved(purse, s.metrics)
	defer j.settle(ctx)
	return s.follow(ctx, j, out)
}

// read takes the body, within the limits of size and of all bodies together.
// It is read to its end before anything else happens: net/http notices a
// client's leaving only then.
func (s *Server) read(w http.ResponseWriter, r *http.Request, now *setup) (body []byte, place *stay, err error) {
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, nil, &refusal{Status: http.StatusUnsupportedMediaType, Type: typeInvalid, Code: "unsupported_encoding",
			Message: "send the request body without Content-Encoding"}
	}
	if r.ContentLength > now.MaxBodyBytes {
		return nil, nil, &http.MaxBytesError{Limit: now.MaxBodyBytes}
	}
	if err := s.flights.enter(now.MaxInFlight); err != nil {
		return nil, nil, err
	}
	body, err = s.readBody(w, http.MaxBytesReader(w, r.Body, now.MaxBodyBytes), r.ContentLength)
	place = &stay{&s.flights, int64(len(body))}
	if err != nil {
		place.end()
		return nil, nil, err
	}
	return body, place, nil
}

const (
	// firstRead is the most that is made room for before it has come: what a
	// client announces costs it nothing.
	firstRead = 256 << 10
	// A body must keep coming, after a while at so many bytes a second.
	bodyPatience = 10 * time.Second
	bodyPace     = 1 << 10
)

// RequestTime is how long a request may take to arrive, its body included: the
// ReadTimeout of a listener's http.Server.
const RequestTime = 60 * time.Second

// readBody reads all of r, which is size bytes long or, below 0, unknown. What
// has been read counts as held, also when it ends in an error.
func (s *Server) readBody(w http.ResponseWriter, r io.Reader, size int64) ([]byte, error) {
	var start, due time.Time
	room := min(size, firstRead)
	if size < 0 {
		room = 4 << 10
	}
	body := translate.NewBody(int(room))
	for {
		if len(body) == cap(body) {
			if int64(len(body)) == size {
				return body, nil
			}
			body = slices.Grow(body, len(body)+1)
		}
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if full := s.flights.hold(int64(n)); full != nil {
			return body, full
		}
		if err == io.EOF && (size < 0 || int64(len(body)) == size) {
			return body, nil
		}
		if err != nil {
			return body, readError(err)
		}
		if int64(len(body)) == size {
			continue
		}
		if start.IsZero() {
			start = time.Now()
		}
		late := start.Add(min(bodyPatience+time.Duration(len(body))*time.Second/bodyPace, RequestTime))
		if late.Sub(due) >= time.Second {
			due = late
			_ = http.NewResponseController(w).SetReadDeadline(due) // fails where there is no connection to wait for
		}
	}
}

// readError is what a body that could not be read means.
func readError(err error) error {
	var tooLarge *http.MaxBytesError
	var network net.Error
	switch {
	case errors.As(err, &tooLarge):
		return err
	case errors.As(err, &network) && network.Timeout():
		return &refusal{Status: http.StatusRequestTimeout, Type: typeInvalid, Code: "request_timeout", Message: "the request body did not arrive"}
	case errors.As(err, &network), errors.Is(err, context.Canceled), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errClientGone
	}
	return invalid("", "the request body's chunked encoding is malformed")
}

// follow tries the decision's targets in turn, until one answers, the client's
// own mistake shows, or something was written.
func (s *Server) follow(ctx context.Context, j *journey, out sink) error {
	attempts := 0
	for i, target := range j.decision.Plan {
		d := j.now.deployments[target.Deployment]
		last := i == len(j.decision.Plan)-1 && attempts == 0
		if attempts == j.now.Retries.MaxAttempts || !j.failures.holds(d) || !j.now.Router.Acquire(d.Name, last) {
			continue
		}
		s.retries.earn(d.Name, j.now.Retries.Budget)
		for repeats := 0; ; {
			if j.purse.cover(ctx, d) != nil {
				j.now.Router.Observe(routing.Outcome{Tier: d.tier, Deployment: d.Name, Result: routing.ResultNeutral})
				break // this attempt cannot be paid for; a cheaper one may
			}
			attempts++
			err := s.attempt(ctx, j, d, target.Fallback, out)
			if err == nil || out.begun() {
				return err
			}
			switch j.failures.note(j, d, err) {
			case giveUp:
				return err
			case again:
				if j.now.Router.Acquire(d.Name, false) {
					continue
				}
			}
			alone := len(j.decision.Plan) == 1 && repeats < 2 && attempts < j.now.Retries.MaxAttempts
			if !alone || !repeatable(err) || !s.retries.spend(d.Name) || !pause(ctx, repeats) || !j.now.Router.Acquire(d.Name, false) {
				break
			}
			repeats++
		}
	}
	return j.explain(j.failures.all)
}
