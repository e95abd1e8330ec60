package proxy

import (
	"embed"
	"html/template"
	"net/http"
	"slices"
	"strings"
)

//go:embed dashboard
var dashboardFiles embed.FS

var dashboardPage = template.Must(template.New("index.html").Funcs(template.FuncMap{
	"join": strings.Join,
}).ParseFS(dashboardFiles, "dashboard/index.html"))

// dashboardTier is a tier in the order of the configuration.
type dashboardTier struct {
	Name string
	tierView
}

// dashboard serves GET /dashboard: tiers, budgets and the last decisions on
// one page that needs no script.
func (s *Server) dashboard(w http.ResponseWriter, r *http.Request) error {
	now := s.current.Load()
	states, err := now.budgets(r, "")
	if err != nil {
		return err
	}
	views := s.tierViews(now)
	var tiers []dashboardTier
	for _, name := range now.tierNames() {
		tiers = append(tiers, dashboardTier{name, views[name]})
	}
	slices.Reverse(tiers)
	budgets := make([]budgetView, len(states))
	for i, b := range states {
		budgets[i] = viewBudget(b)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	return dashboardPage.Execute(w, map[string]any{
		"Version": now.Version, "Strategy": now.Router.Strategy(), "Fallback": now.Fallback,
		"Tiers": tiers, "Budgets": budgets, "Records": s.recent.list(50),
	})
}
