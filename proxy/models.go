package proxy

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/internal/rawjson"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

// model is an entry of OpenAI's models list.
type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
	Context int64  `json:"context_length,omitempty"` // in tokens
	Output  int64  `json:"max_output_tokens,omitempty"`
}

// models lists what a client may send as "model": auto, tiers, aliases and
// upstream models.
func (s *Server) models(now *setup, key *Key) []model {
	var list []model
	may := (&account{key: key}).mayUse
	add := func(id, owner string) {
		if !slices.ContainsFunc(list, func(m model) bool { return m.ID == id }) {
			list = append(list, model{ID: id, Object: "model", Created: s.started.Unix(), OwnedBy: owner})
		}
	}
	sized := func(d *Deployment) {
		if m := &list[len(list)-1]; m.ID == d.Name {
			m.Context, m.Output = d.Context, leastLimit(d.MaxOutput, d.OutputCap)
		}
	}
	add("auto", "inference-router")
	for _, t := range now.Tiers {
		if may(t.Name) {
			add(t.Name, "inference-router")
		}
	}
	aliases := make([]string, 0, len(now.Models.Aliases))
	for a, to := range now.Models.Aliases {
		if d := now.named(to); may(to) || now.tiers[to] == nil && (d == nil || may(d.tier)) {
			aliases = append(aliases, a)
		}
	}
	slices.Sort(aliases)
	for _, a := range aliases {
		add(a, "inference-router")
	}
	for _, t := range now.Tiers {
		for _, d := range t.Deployments {
			if may(t.Name) {
				add(d.Name, d.Provider)
				sized(&d)
			}
		}
	}
	for _, d := range now.Embeddings {
		add(d.Name, d.Provider)
	}
	return list
}

func (s *Server) listModels(w http.ResponseWriter, r *http.Request) error {
	now := s.current.Load()
	list := s.models(now, now.lookupKey(bearer(r.Header)))
	if r.Header.Get("Anthropic-Version") != "" {
		return writeJSON(w, messagesModels(list))
	}
	return writeJSON(w, map[string]any{"object": "list", "data": list})
}

func (s *Server) getModel(w http.ResponseWriter, r *http.Request) error {
	now := s.current.Load()
	id, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), "/v1/models/"))
	if err != nil {
		return invalid("model", "the model's name is not escaped properly")
	}
	key := now.lookupKey(bearer(r.Header))
	for _, m := range s.models(now, key) {
		if m.ID == id {
			return writeJSON(w, m)
		}
	}
	asked := account{key: key}
	if d := now.named(id); d != nil && asked.mayUse(d.tier) {
		return writeJSON(w, model{ID: id, Object: "model", Created: s.started.Unix(), OwnedBy: d.Provider})
	}
	return &refusal{Status: http.StatusNotFound, Type: typeInvalid, Code: "model_not_found", Param: "model",
		Message: "model " + quote(id) + " does not exist here; GET /v1/models lists those that do"}
}

// quote is how a client's own words stand in our messages: short, and JSON's
// quoting.
func quote(s string) string {
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "") + "..."
	}
	return string(rawjson.AppendString(nil, s))
}

// routed is a decision as /v1/route and `explain -json` show it.
type routed struct {
	routing.Decision
	Model string `json:"model"`
}

// dryRun serves POST /v1/route: the decision, with nothing called or charged.
func (s *Server) dryRun(w http.ResponseWriter, r *http.Request) error {
	now := s.current.Load()
	a, err := now.identify(r)
	if err != nil {
		return err
	}
	body, stay, err := s.read(w, r, now)
	if err != nil {
		return err
	}
	defer stay.end()
	request, err := translate.ParseRequest(body)
	if err != nil {
		return err
	}
	if err := a.name(request, now.Identity.RejectAnonymous); err != nil {
		return err
	}
	facts, err := now.facts(a, request)
	if err != nil {
		return err
	}
	states, err := now.Books.Status(r.Context(), now.limitsOf(a))
	if err != nil {
		return err
	}
	weigh(facts, states)
	d := now.Router.Decide(facts)
	return writeJSON(w, routed{Decision: *d, Model: request.Model})
}

// index serves GET /.
func (s *Server) index(w http.ResponseWriter, _ *http.Request) error {
	now := s.current.Load()
	return writeJSON(w, struct {
		Name     string   `json:"name"`
		Version  string   `json:"version"`
		Status   string   `json:"status"`
		Tiers    []string `json:"tiers"`
		Strategy string   `json:"strategy"`
		Fallback string   `json:"fallback"`
	}{"inference-router", now.Version, "running", now.tierNames(), now.Router.Strategy(), now.Fallback})
}

// tierView is a tier as GET /tiers shows it.
type tierView struct {
	Upstreams []upstreamView `json:"upstreams"`
	P90MS     *float64       `json:"p90_ms"` // null while there are no samples
	Samples   int            `json:"samples"`
	SLAMS     *float64       `json:"sla_ms"` // null when there is none
	Healthy   bool           `json:"healthy"`
}

type upstreamView struct {
	Name     string    `json:"name"`
	Provider string    `json:"provider"`
	Model    string    `json:"model"`
	Healthy  bool      `json:"healthy"`
	State    string    `json:"state"`
	Price    priceView `json:"price"`
}

// priceView is a price in US dollars per million tokens.
type priceView struct {
	Input       json.Number `json:"input"`
	Output      json.Number `json:"output"`
	CachedInput json.Number `json:"cached_input"`
	CacheWrite  json.Number `json:"cache_write"`
	Source      string      `json:"source"`
}

func viewPrice(p budget.Price) priceView {
	usd := func(n int64) json.Number { return json.Number(budget.Nanodollars(n).USD()) }
	return priceView{usd(p.Input), usd(p.Output), usd(p.CachedInput), usd(p.CacheWrite), p.Source}
}

func (s *Server) tierViews(now *setup) map[string]tierView {
	views := map[string]tierView{}
	for _, t := range now.Router.Tiers() {
		v := tierView{Samples: t.Samples, Healthy: t.Healthy, Upstreams: []upstreamView{}}
		if t.Samples > 0 {
			p90 := millis(t.P90)
			v.P90MS = &p90
		}
		if t.SLA > 0 {
			sla := millis(t.SLA)
			v.SLAMS = &sla
		}
		for _, h := range t.Deployments {
			d := now.deployments[h.Name]
			v.Upstreams = append(v.Upstreams, upstreamView{Name: d.Name, Provider: d.Provider, Model: d.Model,
				Healthy: h.Healthy, State: h.State, Price: viewPrice(d.Price)})
		}
		views[t.Name] = v
	}
	return views
}

func (s *Server) listTiers(w http.ResponseWriter, _ *http.Request) error {
	now := s.current.Load()
	return writeJSON(w, map[string]any{"tiers": s.tierViews(now), "fallback": now.Fallback})
}

// debugComplexity serves POST /debug/complexity.
func (s *Server) debugComplexity(w http.ResponseWriter, r *http.Request) error {
	now := s.current.Load()
	body, stay, err := s.read(w, r, now)
	if err != nil {
		return err
	}
	defer stay.end()
	var q struct {
		Prompt *string `json:"prompt"`
	}
	if err := decodeJSON(body, &q); err != nil {
		return err
	}
	if q.Prompt == nil {
		return invalid("prompt", "prompt is missing: send {\"prompt\": \"...\"}")
	}
	score, tier := now.Router.Classify(*q.Prompt)
	return writeJSON(w, struct {
		Preview   string            `json:"prompt_preview"`
		Score     float64           `json:"score"`
		Tier      string            `json:"tier_selected"`
		Breakdown routing.Breakdown `json:"breakdown"`
	}{preview(*q.Prompt), score.Value, tier, score.Breakdown})
}

// preview is the beginning of a prompt.
func preview(prompt string) string {
	const most = 80
	n := 0
	for i := range prompt {
		if n == most {
			return prompt[:i] + "..."
		}
		n++
	}
	return prompt
}

// budgetView is a budget as GET /budgets shows it.
type budgetView struct {
	Scope     budget.Scope `json:"scope"`
	User      string       `json:"user,omitempty"`
	Key       string       `json:"key,omitempty"`
	Per       string       `json:"per"`
	Limit     USD          `json:"limit_usd"`
	Spent     USD          `json:"spent_usd"`
	Reserved  USD          `json:"reserved_usd"`
	Allotted  USD          `json:"allotted_usd,omitempty"` // the part of Reserved that replicas have set aside
	Remaining USD          `json:"remaining_usd"`
	ResetsAt  time.Time    `json:"resets_at"`
}

func viewBudget(b budget.Status) budgetView {
	b.Reserved += b.Allotted // a replica that is killed is charged both
	v := budgetView{Scope: b.Limit.Scope, Per: b.Limit.Window.String(), Limit: USD(b.Limit.Amount), Spent: USD(b.Spent),
		Reserved: USD(b.Reserved), Allotted: USD(b.Allotted), Remaining: USD(b.Remaining()), ResetsAt: b.ResetsAt.UTC()}
	switch b.Limit.Scope {
	case budget.ScopeUser:
		v.User = b.Limit.Subject
	case budget.ScopeKey:
		v.Key = b.Limit.Subject
	}
	return v
}

// listBudgets serves GET /budgets: what applies to everybody and to the keys,
// and, of the users, the one asked for or those seen lately.
func (s *Server) listBudgets(w http.ResponseWriter, r *http.Request) error {
	now := s.current.Load()
	user := r.URL.Query().Get("user")
	if user != "" {
		if err := checkUser("user", user); err != nil {
			return err
		}
	}
	states, err := now.budgets(r, user)
	if err != nil {
		return err
	}
	views := make([]budgetView, len(states))
	for i, b := range states {
		views[i] = viewBudget(b)
	}
	return writeJSON(w, map[string]any{"budgets": views})
}

// budgets reads the budgets' state from the ledger.
func (s *setup) budgets(r *http.Request, user string) ([]budget.Status, error) {
	var limits []budget.Limit
	add := func(l budget.Limit) {
		same := func(m budget.Limit) bool { return m.Scope == l.Scope && m.Subject == l.Subject && m.Window == l.Window }
		if !slices.ContainsFunc(limits, same) {
			limits = append(limits, l)
		}
	}
	known := s.Books.Known()
	if user != "" {
		for _, b := range known {
			if b.Limit.Scope == budget.ScopeUser && b.Limit.Subject == user {
				add(b.Limit) // with the amount its last request brought
			}
		}
		for _, l := range s.limitsOf(account{user: user}) {
			add(l)
		}
	} else {
		for i := range s.Identity.Keys {
			for _, l := range s.limitsOf(account{key: &s.Identity.Keys[i]}) {
				if l.Scope != budget.ScopeUser {
					add(l)
				}
			}
		}
		for _, l := range s.limitsOf(account{}) {
			if l.Scope != budget.ScopeUser {
				add(l)
			}
		}
		for _, b := range known {
			if b.Limit.Scope == budget.ScopeUser {
				add(b.Limit)
			}
		}
	}
	slices.SortStableFunc(limits, func(a, b budget.Limit) int {
		return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Subject, b.Subject))
	})
	if len(limits) == 0 {
		return nil, nil
	}
	reading, err := s.Ledger.Reserve(r.Context(), budget.Hold{ID: budget.NewID(), Limits: limits})
	if err != nil {
		return nil, err
	}
	return reading.Budgets, nil
}

// resetStats serves DELETE /stats/reset.
func (s *Server) resetStats(w http.ResponseWriter, r *http.Request) error {
	now := s.current.Load()
	now.Router.Reset()
	if err := now.Books.Reset(r.Context()); err != nil {
		return err
	}
	return writeJSON(w, map[string]string{"status": "reset"})
}

func (s *Server) livez(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, map[string]string{"status": "alive"})
}

// readyz serves GET /readyz. A lost store does not make a replica unready: its
// budgets' policy says what is served without it.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) error {
	if s.draining.Load() {
		return unavailable("draining", "this replica is shutting down")
	}
	store := "none"
	if up := s.current.Load().StoreUp; up != nil {
		if store = "up"; !up() {
			store = "lost"
		}
	}
	return writeJSON(w, map[string]string{"status": "ready", "store": store})
}

func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) error {
	s.metrics.handler().ServeHTTP(w, r)
	return nil
}
