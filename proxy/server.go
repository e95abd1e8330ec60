// Package proxy is the trunk: HTTP, and the journey of a request from a
// client to the upstreams and back. It joins routing, translate and budget,
// which do not know each other. It does not know the configuration file, nor
// which providers exist: main tells it.
package proxy

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/internal/measure"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

// Config is everything a Server needs. Zero values mean the defaults named at
// each field.
type Config struct {
	Version string

	Tiers      []Tier       // from least to most capable
	Fallback   string       // tier tried when the others have failed; "" means the first
	Embeddings []Deployment // for /v1/embeddings; the first is the default
	Router     *routing.Router
	Ledger     Ledger
	Books      Books
	Budgets    []Budget
	Identity   Identity
	Models     Models

	MaxBodyBytes int64    // of a request; 0 means 32 MiB
	MaxInFlight  int      // requests at once; 0 means 10,000
	MaxPerUser   int      // requests at once of one user while half of the places are taken; 0 means 100
	Loopback     bool     // the listener is loopback: Host must be local or in Hosts
	Hosts        []string // further names a loopback listener answers to
	AdminApart   bool     // admin routes are served by AdminHandler only
	// AdminLoopback is Loopback for AdminHandler's listener.
	AdminLoopback bool

	Timeouts Timeouts
	Retries  Retries
	Origins  []string // web pages' that may call from a browser; "*" means any
	// Seal closes reasoning that clients carry back; nil carries none.
	Seal  *translate.Seal
	Lease time.Duration // of a reservation; 0 means a minute

	Log        *slog.Logger // nil discards
	Decisions  io.Writer    // the decision log, JSON lines; nil means none
	PlainUsers bool         // user names unhashed in log and decision log
	UsersKey   []byte       // what user names are hashed with; nil means a key made at start
	StoreUp    func() bool  // whether the shared store answers; nil: there is none
	Store      Store        // its counters, for /metrics; nil: there are none
}

// Tier is a named set of deployments that are good enough for the same requests.
type Tier struct {
	Name        string
	Deployments []Deployment
	SLA         time.Duration // for GET /tiers; 0 means none
	MaxOutput   int64         // output limit in tokens for every deployment; 0 means the deployment's own
}

// Deployment is a model at an upstream, with its price.
type Deployment struct {
	Name     string // unique: provider/model unless configured
	Provider string
	Model    string // as the provider calls it
	Upstream Upstream
	Embedder Embedder // for Config.Embeddings
	Price    budget.Price

	MaxOutput int64 // the model's own output limit in tokens; 0 means unknown: 4,096 is reserved
	OutputCap int64 // output limit of ours, in tokens, for who asks for more or names none; 0 means none
	// LimitField is the request field that the upstream reads an output limit
	// from; "" means max_tokens. LimitEither says that it obeys the other, too.
	LimitField  string
	LimitEither bool
	Drop        []string // request fields it never gets
	Context     int64    // tokens of the model's context window; 0 means unknown
	// Dialects are those that Upstream takes beside chat completions.
	Dialects []translate.Dialect
	// Extended says that Upstream translates chat requests itself, and takes
	// what OpenAI's own API does not: thinking_blocks, say.
	Extended  bool
	Counter   TokenCounter      // nil: token counts are estimated
	KeepUsage bool              // the provider reads the "usage" request field
	Set       map[string]string // request fields replaced, as JSON values
	Default   map[string]string // request fields filled in
	Timeouts  Timeouts          // zero fields mean the server's
	Drain     bool              // read on when the client leaves: the provider bills regardless
	Meter     measure.Meter     // what images, files and sounds cost in input tokens; zero: of an unknown model
	// CostReported says that what the upstream reports as a call's cost is
	// charged, where it does.
	CostReported bool
}

// Budget is a configured limit; per user, per key, or for all.
type Budget struct {
	Scope  budget.Scope
	Amount budget.Nanodollars
	Window budget.Window
	Hard   bool // reject when it is used up; else only the cheapest tier is left
}

// Models says what a client may send as "model".
type Models struct {
	Aliases       map[string]string // to auto, a tier, or a deployment
	RejectUnknown bool              // 404 for any other name; else it is routed
}

// Timeouts bound the waiting for an upstream. Zero means the default.
type Timeouts struct {
	FirstEvent time.Duration // of a stream: to its first event; default 60 s
	Idle       time.Duration // of a stream: between events; default 120 s
	Total      time.Duration // of a whole answer or stream; default 30 min
}

// Retries bound the attempts of a request.
type Retries struct {
	MaxAttempts  int     // in all; 0 means 4
	Budget       float64 // repeats at the same upstream, as a share of its requests; 0 means 0.2, below 0 none
	NeverUnknown bool    // do not go on when the request was written and nothing came back; else once is allowed
	// RejectUnsupported keeps a field that an upstream refuses from being left
	// out for it after another upstream has failed.
	RejectUnsupported bool
}

// Server serves the OpenAI API over routed upstreams. Safe for concurrent
// use. Use New.
type Server struct {
	current  atomic.Pointer[setup]
	metrics  *metrics
	recent   *recent // last records, for the dashboard
	live     *liveView
	viewers  viewers
	dialects []string // routes that the dashboard's playground can use
	flights  flights
	retries  retryBudgets
	drains   chan struct{} // a token for each aborted stream that is read on
	draining atomic.Bool
	started  time.Time
}

// setup is one configuration with what is derived from it. A request keeps the
// one it started with.
type setup struct {
	Config
	deployments map[string]*deployment
	byLabel     map[string]*deployment // provider/model, where another name is configured
	byModel     map[string]*deployment // bare model names
	embeddings  []*deployment
	tiers       map[string]*Tier
	keys        map[[sha256.Size]byte]*Key
	hourly      bool // some price is higher for caches that last an hour
}

// deployment is a Deployment in its tier.
type deployment struct {
	*Deployment
	tier      string
	label     string // provider/model, as headers name it
	maxOutput int64  // the least of the limits known, else 0
	capped    int64  // the least of ours, else 0
	counters  *deploymentCounters
	hour      bool // Set or Default may ask for a cache that lasts an hour
}

// maxDrains is how many aborted streams are read on at once.
const maxDrains = 64

// New checks c and returns a Server. It starts nothing.
func New(c Config) (*Server, error) {
	s := &Server{
		metrics: newMetrics(),
		recent:  newRecent(1000),
		live:    newLiveView(),
		drains:  make(chan struct{}, maxDrains),
		started: time.Now(),
	}
	s.retries.init()
	s.metrics.registry.MustRegister(gauges{s})
	if err := s.Reload(c); err != nil {
		return nil, err
	}
	return s, nil
}

// Reload puts c in force for requests that start from now on. An error changes
// nothing.
func (s *Server) Reload(c Config) error {
	next, err := newSetup(c, s.metrics)
	if err != nil {
		return err
	}
	s.live.configure(next)
	s.current.Store(next)
	return nil
}

// Drain makes /readyz fail, so that no new requests are sent here; those that
// come all the same are served.
func (s *Server) Drain() { s.draining.Store(true) }

func newSetup(c Config, m *metrics) (*setup, error) {
	if err := fillDefaults(&c); err != nil {
		return nil, err
	}
	s := &setup{
		Config:      c,
		deployments: map[string]*deployment{},
		byLabel:     map[string]*deployment{},
		byModel:     map[string]*deployment{},
		tiers:       map[string]*Tier{},
		keys:        map[[sha256.Size]byte]*Key{},
	}
	for i := range s.Tiers {
		t := &s.Tiers[i]
		if _, twice := s.tiers[t.Name]; twice {
			return nil, fmt.Errorf("tier %q is configured twice", t.Name)
		}
		s.tiers[t.Name] = t
		for j := range t.Deployments {
			if err := s.add(t, &t.Deployments[j], m); err != nil {
				return nil, err
			}
		}
	}
	for i := range s.Embeddings {
		d := &s.Embeddings[i]
		d.Timeouts = d.Timeouts.or(s.Timeouts)
		s.embeddings = append(s.embeddings, &deployment{Deployment: d, tier: embeddingTier, label: d.Provider + "/" + d.Model, counters: m.deployment(embeddingTier, d)})
	}
	if s.tiers[s.Fallback] == nil {
		return nil, fmt.Errorf("fallback tier %q is not configured", s.Fallback)
	}
	for i := range s.Identity.Keys {
		s.keys[s.Identity.Keys[i].SHA256] = &s.Identity.Keys[i]
	}
	return s, nil
}

func (s *setup) add(t *Tier, d *Deployment, m *metrics) error {
	if d.Upstream == nil {
		return fmt.Errorf("tier %s: deployment %q has no upstream", t.Name, d.Name)
	}
	if s.deployments[d.Name] != nil {
		return fmt.Errorf("two upstreams are called %q; give one a name", d.Name)
	}
	e := &deployment{Deployment: d, tier: t.Name, label: d.Provider + "/" + d.Model, counters: m.deployment(t.Name, d)}
	for _, params := range []map[string]string{d.Set, d.Default} {
		for name, value := range params {
			e.hour = e.hour || translate.MayCacheForAnHour([]byte(`{"`+name+`":`+value+`}`))
		}
	}
	e.capped = leastLimit(t.MaxOutput, d.OutputCap)
	e.maxOutput = leastLimit(e.capped, d.MaxOutput)
	d.Timeouts = d.Timeouts.or(s.Timeouts)
	s.deployments[d.Name] = e
	s.hourly = s.hourly || d.Price != d.Price.WithoutHour()
	if s.byLabel[e.label] == nil {
		s.byLabel[e.label] = e
	}
	if s.byModel[d.Model] == nil {
		s.byModel[d.Model] = e
	}
	return nil
}

// leastLimit is the smaller of two limits, of which 0 is none.
func leastLimit(a, b int64) int64 {
	if a == 0 || b == 0 {
		return a + b
	}
	return min(a, b)
}

func fillDefaults(c *Config) error {
	switch {
	case len(c.Tiers) == 0:
		return errors.New("no tiers are configured")
	case c.Router == nil:
		return errors.New("a Router is needed")
	case c.Ledger == nil || c.Books == nil:
		return errors.New("a Ledger and its Books are needed")
	}
	c.Tiers = slices.Clone(c.Tiers)
	c.Embeddings = slices.Clone(c.Embeddings)
	for i := range c.Tiers {
		c.Tiers[i].Deployments = slices.Clone(c.Tiers[i].Deployments)
	}
	if c.Fallback == "" {
		c.Fallback = c.Tiers[0].Name
	}
	if c.Identity.Mode == "" {
		c.Identity.Mode = ModeSidecar
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	setDefault(&c.MaxBodyBytes, 32<<20)
	setDefault(&c.MaxInFlight, 10_000)
	setDefault(&c.MaxPerUser, 100)
	setDefault(&c.Lease, time.Minute)
	setDefault(&c.Retries.MaxAttempts, 4)
	setDefault(&c.Retries.Budget, 0.2)
	c.Timeouts = c.Timeouts.or(Timeouts{FirstEvent: 60 * time.Second, Idle: 120 * time.Second, Total: 30 * time.Minute})
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// or fills t's zero fields from u.
func (t Timeouts) or(u Timeouts) Timeouts {
	setDefault(&t.FirstEvent, u.FirstEvent)
	setDefault(&t.Idle, u.Idle)
	setDefault(&t.Total, u.Total)
	return t
}

// Handler serves all routes; without the admin ones when Config.AdminApart is set.
func (s *Server) Handler() http.Handler {
	return s.routes(!s.current.Load().AdminApart, true, func(now *setup) bool { return now.Loopback })
}

// AdminHandler serves the admin routes, for a listener of their own.
func (s *Server) AdminHandler() http.Handler {
	return s.routes(true, false, func(now *setup) bool { return now.AdminLoopback })
}
