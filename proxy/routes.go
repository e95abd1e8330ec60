package proxy

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/translate"
)

// access says who may use a route.
type access int

const (
	public access = iota // anybody, in every mode
	caller               // with keys: whoever has one
	admin                // sidecar: anybody; else a key with admin: true
)

// route is one line of the table below.
type route struct {
	method, path string
	access       access
	serve        func(w http.ResponseWriter, r *http.Request) error
	// travel is set instead of serve for requests that go to an upstream: they
	// are recorded.
	travel func(w http.ResponseWriter, r *http.Request, j *journey) error
	// dialect is what requests and answers, errors included, are written in.
	dialect translate.Dialect
}

// table lists every route there is.
func (s *Server) table() []route {
	docs := s.docs()
	return append(s.dashboardRoutes(), []route{
		{method: "POST", path: "/v1/chat/completions", access: caller, travel: s.chat},
		{method: "POST", path: "/v1/responses", access: caller, travel: s.chat, dialect: translate.DialectResponses},
		{method: "POST", path: "/v1/responses/input_tokens", access: caller, serve: s.countTokens(translate.DialectResponses), dialect: translate.DialectResponses},
		{method: "POST", path: "/v1/messages", access: caller, travel: s.chat, dialect: translate.DialectMessages},
		{method: "POST", path: "/v1/messages/count_tokens", access: caller, serve: s.countTokens(translate.DialectMessages), dialect: translate.DialectMessages},
		{method: "POST", path: "/v1/completions", access: caller, travel: s.chat, dialect: translate.DialectCompletions},
		{method: "POST", path: "/v1/embeddings", access: caller, travel: s.embed},
		{method: "GET", path: "/v1/models", access: caller, serve: s.listModels},
		{method: "GET", path: "/v1/models/*", access: caller, serve: s.getModel},
		{method: "POST", path: "/v1/route", access: caller, serve: s.dryRun},
		{method: "GET", path: "/", access: public, serve: s.index},
		{method: "POST", path: "/query", access: caller, travel: s.query},
		{method: "POST", path: "/query/stream", access: caller, travel: s.queryStream},
		{method: "GET", path: "/tiers", access: caller, serve: s.listTiers},
		{method: "POST", path: "/debug/complexity", access: caller, serve: s.debugComplexity},
		{method: "GET", path: "/docs", access: public, serve: docs},
		{method: "GET", path: "/docs/*", access: public, serve: docs},
		{method: "GET", path: "/openapi.json", access: public, serve: s.openapi},
		{method: "GET", path: "/livez", access: public, serve: s.livez},
		{method: "GET", path: "/readyz", access: public, serve: s.readyz},
		{method: "GET", path: "/healthz", access: public, serve: s.readyz},
		{method: "GET", path: "/metrics", access: admin, serve: s.serveMetrics},
		{method: "GET", path: "/budgets", access: admin, serve: s.listBudgets},
		{method: "DELETE", path: "/stats/reset", access: admin, serve: s.resetStats},
	}...)
}

// routes builds the handler for the admin routes, the others, or both. The
// probes are on either. loopback says whether its listener is.
func (s *Server) routes(withAdmin, withData bool, loopback func(*setup) bool) http.Handler {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = echo.ExtractIPDirect()
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		if !c.Response().Committed {
			if d := describe(err); d.Code == "unknown_url" {
				err = unknownPath(c.Request())
			}
			writeRefusal(c.Response(), describe(err))
		}
	}
	e.Pre(s.guard(loopback))
	table := s.table()
	s.dialects = playgroundDialects(table, withData)
	for _, r := range table {
		probe := r.path == "/livez" || r.path == "/readyz" || r.path == "/healthz"
		if probe || r.access == admin && withAdmin || r.access != admin && withData {
			e.Add(r.method, r.path, s.handler(r))
			if r.method == http.MethodGet { // net/http leaves the body of the answer out
				e.Add(http.MethodHead, r.path, s.handler(r))
			}
		}
	}
	return e
}

// guard is what holds for every request: an id, a path without tricks, a host
// that is ours, and that a panic is one request's and not the process's.
func (s *Server) guard(loopback func(*setup) bool) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error { return s.guarded(next, c, loopback) }
	}
}

func (s *Server) guarded(next echo.HandlerFunc, c echo.Context, loopback func(*setup) bool) (err error) {
	w, r := c.Response(), c.Request()
	id := requestID(r.Header)
	w.Header()["X-Request-Id"] = []string{id}
	defer func() {
		if p := recover(); p != nil {
			err = s.recovered(c, p, id)
		}
	}()
	now := s.current.Load()
	allowed := r.Header.Get("Origin") != "" && now.mayCall(r.Header.Get("Origin"))
	if loopback(now) && !now.local(r) && !(allowed && now.allowedHost(r.Host)) {
		return forbidden("this listener is for this machine: Host and Origin must be localhost, 127.0.0.1, [::1] or in server.hosts")
	}
	if allowed && cors(w, r) {
		return nil
	}
	if path := canonicalPath(r.URL.Path); path != r.URL.Path {
		r.URL.Path, r.URL.RawPath = path, canonicalPath(r.URL.RawPath)
	}
	if strings.Contains(r.URL.Path, "//") || strings.Contains(r.URL.Path, "..") || trickyPath(r.URL.EscapedPath()) {
		return invalid("", "the path must be plain: no encoded slashes, no dots, no doubled slashes")
	}
	return next(c)
}

// recovered answers for a handler that panicked. After the first byte nothing
// honest can be said, so the connection is aborted.
func (s *Server) recovered(c echo.Context, p any, id string) error {
	if p == http.ErrAbortHandler {
		panic(p)
	}
	s.metrics.panics.Inc()
	s.current.Load().Log.Error("panic", slog.String("request_id", id), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
	if c.Response().Committed {
		panic(http.ErrAbortHandler)
	}
	return errors.New("internal error")
}

func trickyPath(escaped string) bool {
	if strings.IndexByte(escaped, '%') < 0 {
		return false
	}
	lower := strings.ToLower(escaped)
	for _, trick := range []string{"%2f", "%5c", "%00", "%2e"} {
		if strings.Contains(lower, trick) && !strings.HasPrefix(lower, "/v1/models/") {
			return true
		}
	}
	return false
}

// local checks Host, and where a browser sent them Origin and Sec-Fetch-Site: a
// page of another site has no business with a listener of this machine.
func (s *setup) local(r *http.Request) bool {
	if !s.allowedHost(r.Host) || strings.EqualFold(r.Header.Get("Sec-Fetch-Site"), "cross-site") {
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && s.allowedHost(u.Host)
}

// requestID is the client's own id where it is a decent one, else a new one.
func requestID(h http.Header) string {
	id := h.Get("X-Request-Id")
	if id == "" || len(id) > 128 {
		return budget.NewID()
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return budget.NewID()
		}
	}
	return id
}

// handler checks who may use the route, and records those that travel.
func (s *Server) handler(r route) echo.HandlerFunc {
	return func(c echo.Context) error {
		w, req := c.Response(), c.Request()
		id := w.Header().Get("X-Request-Id")
		if r.dialect == translate.DialectMessages {
			w.Header()["Request-Id"] = []string{id}
		}
		if err := s.current.Load().permit(r.access, req); err != nil {
			return inDialect(err, r.dialect, id)
		}
		if r.serve != nil {
			return inDialect(r.serve(w, req), r.dialect, id)
		}
		j := s.depart(r.path, id)
		j.dialect = r.dialect
		defer func() {
			if p := recover(); p != nil {
				s.publish(j.now, j.arrive(errors.New("panic")))
				panic(p)
			}
		}()
		err := r.travel(w, req, j)
		if err != nil && !w.Committed {
			j.explainRefusal(w.Header())
			writeRefusal(w, describe(inDialect(err, r.dialect, id)))
		}
		s.publish(j.now, j.arrive(err))
		return nil
	}
}

// permit checks a route's access. Requests that travel are identified in full
// on their way. Browsers, which open the dashboard, and scrapers may send an
// admin's key as a password.
func (s *setup) permit(a access, r *http.Request) error {
	if a == public || s.Identity.Mode == ModeSidecar {
		return nil
	}
	if a == caller && s.Identity.Mode != ModeKeys {
		return nil
	}
	key := s.lookupKey(bearer(r.Header))
	if _, password, basic := r.BasicAuth(); key == nil && a == admin && basic {
		key = s.lookupKey(password)
	}
	browser := strings.Contains(r.Header.Get("Accept"), "text/html") // which asks for a password only after a 401
	switch {
	case key == nil && a == admin && s.Identity.Mode != ModeKeys && !browser:
		return forbidden("this route needs a key with admin: true, as Authorization: Bearer <key>")
	case key == nil && a == admin:
		e := unauthorized("this route needs a key with admin: true, as Authorization: Bearer <key> or as the password of Basic")
		e.Challenge = `Basic realm="inference-router, key as password"`
		return e
	case key == nil && s.Identity.Mode == ModeKeys:
		return unauthorized("a valid API key of this proxy is needed: Authorization: Bearer <key>")
	case a == admin && !key.Admin:
		return forbidden("this route needs a key with admin: true")
	}
	return nil
}

// explainRefusal says in headers how far a refused request came.
func (j *journey) explainRefusal(h http.Header) {
	if d := j.decision; d != nil {
		h["X-Router-Decision"] = []string{d.ID}
		h["X-Router-Strategy"] = []string{d.Strategy}
		h["X-Router-Reason"] = []string{d.Reason}
		h["X-Router-Attempts"] = []string{strconv.Itoa(j.attempts)}
	}
	if j.purse != nil {
		writeTotals(h, j)
	}
}
