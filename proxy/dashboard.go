package proxy

import (
	"embed"
	"encoding/json"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
)

//go:embed dashboard
var dashboardFiles embed.FS

// dashboardPolicy lets the page load what this server serves, and nothing else.
const dashboardPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// dashboardRoutes are the page, its files, and what it asks for.
func (s *Server) dashboardRoutes() []route {
	return []route{
		{method: "GET", path: "/dashboard", access: admin, serve: func(w http.ResponseWriter, _ *http.Request) error {
			return serveDashboardFile(w, "index.html")
		}},
		{method: "GET", path: "/dashboard/events", access: admin, serve: s.dashboardEvents},
		{method: "GET", path: "/dashboard/decisions", access: admin, serve: s.dashboardDecisions},
		{method: "GET", path: "/dashboard/decisions/*", access: admin, serve: s.dashboardDecision},
		{method: "GET", path: "/dashboard/config", access: admin, serve: s.dashboardConfig},
		{method: "POST", path: "/dashboard/simulate", access: admin, serve: s.dashboardSimulate},
		{method: "GET", path: "/dashboard/*", access: admin, serve: func(w http.ResponseWriter, r *http.Request) error {
			return serveDashboardFile(w, path.Base(r.URL.Path))
		}},
	}
}

func serveDashboardFile(w http.ResponseWriter, name string) error {
	data, err := dashboardFiles.ReadFile("dashboard/" + name)
	if err != nil {
		return &refusal{Status: http.StatusNotFound, Type: typeInvalid, Code: "not_found", Message: "the dashboard has no such file"}
	}
	h := w.Header()
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	h.Set("Content-Security-Policy", dashboardPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	_, err = w.Write(data)
	return err
}

// mostDecisions is how many decisions one answer lists.
const mostDecisions = 100

// dashboardDecisions serves GET /dashboard/decisions?user=&tier=&status=: those
// in memory that pass the filters, the newest first.
func (s *Server) dashboardDecisions(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	filter := decisionFilter{user: q.Get("user"), tier: q.Get("tier"), status: q.Get("status")}
	found := []decisionSummary{}
	for _, rec := range s.recent.list(mostDecisions, filter.matches) {
		found = append(found, summarizeRecord(rec))
	}
	return writeJSON(w, map[string]any{"decisions": found})
}

// dashboardDecision serves GET /dashboard/decisions/{id}: the whole record.
func (s *Server) dashboardDecision(w http.ResponseWriter, r *http.Request) error {
	id := strings.TrimPrefix(r.URL.Path, "/dashboard/decisions/")
	found := s.recent.list(1, func(rec *Record) bool { return rec.ID == id })
	if len(found) == 0 {
		return &refusal{Status: http.StatusNotFound, Type: typeInvalid, Code: "not_found", Message: "the decision is not among the last ones kept in memory"}
	}
	return writeJSON(w, found[0])
}

// pricedUpstream is an upstream's price on the dashboard.
type pricedUpstream struct {
	Upstream string `json:"upstream"`
	priceView
	Age string `json:"age,omitempty"`
}

// dashboardConfig serves GET /dashboard/config: the prices that are billed,
// with their source and age.
func (s *Server) dashboardConfig(w http.ResponseWriter, _ *http.Request) error {
	conf := s.current.Load()
	prices := []pricedUpstream{}
	for _, t := range conf.Tiers {
		for _, d := range t.Deployments {
			prices = append(prices, pricedUpstream{d.Name, viewPrice(d.Price), priceAge(d.Price.Source, time.Now())})
		}
	}
	return writeJSON(w, struct {
		Prices []pricedUpstream `json:"prices"`
	}{prices})
}

var dateInSource = regexp.MustCompile(`\b\d{4}-\d{2}-\d{2}\b`)

// priceAge is how old a price is, by the date in its source; "" without one.
func priceAge(source string, now time.Time) string {
	day, err := time.Parse(time.DateOnly, dateInSource.FindString(source))
	if err != nil {
		return ""
	}
	return strconv.Itoa(int(now.Sub(day).Hours()/24)) + " days"
}

// dashboardSimulate serves POST /dashboard/simulate {"upstream","control"}: how
// a simulated upstream behaves from now on. Only JSON is taken, which a page of
// another site cannot send unasked.
func (s *Server) dashboardSimulate(w http.ResponseWriter, r *http.Request) error {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return &refusal{Status: http.StatusUnsupportedMediaType, Type: typeInvalid, Code: "unsupported_media_type", Message: "send application/json"}
	}
	var q struct {
		Upstream string `json:"upstream"`
		Control  string `json:"control"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&q); err != nil {
		return invalid("", "send {\"upstream\": \"...\", \"control\": \"slow\"}")
	}
	d := s.current.Load().deployments[q.Upstream]
	if d == nil {
		return invalid("upstream", "there is no upstream of this name")
	}
	simulated, ok := d.Upstream.(Controlled)
	if !ok {
		return invalid("upstream", "only simulated upstreams can be controlled")
	}
	if err := simulated.SetControl(q.Control); err != nil {
		return invalid("control", "%v", err)
	}
	return writeJSON(w, map[string]string{"upstream": q.Upstream, "control": simulated.Control()})
}
