package check

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// exportedMetrics are the names of the program's own metrics, as they stand in
// its source.
func exportedMetrics(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "proxy/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`"((?:router|gen_ai)_[a-z0-9_]+)"`)
	found := map[string]bool{}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range name.FindAllStringSubmatch(string(source), -1) {
			found[m[1]] = true
		}
	}
	if len(found) < 10 {
		t.Fatalf("only %d metrics found in the source: has it moved?", len(found))
	}
	return found
}

// checkQuery parses a PromQL expression and looks up its metrics.
func checkQuery(t *testing.T, where, query string, known map[string]bool) {
	t.Helper()
	expr, err := parser.ParseExpr(query)
	if err != nil {
		t.Errorf("%s: %q: %v", where, query, err)
		return
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		name := selector.Name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, suffix)
		}
		if !known[name] && !known[selector.Name] {
			t.Errorf("%s: nothing exports or records %s", where, selector.Name)
		}
		return nil
	})
}

func TestAlertRulesAreValidAndAskForWhatIsExported(t *testing.T) {
	text, err := os.ReadFile("../prometheus/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	groups, problems := rulefmt.Parse(text, false)
	for _, problem := range problems {
		t.Error(problem)
	}
	known := exportedMetrics(t)
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if r.Record != "" {
				known[r.Record] = true
			}
		}
	}
	alerts := 0
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			checkQuery(t, r.Alert+r.Record, r.Expr, known)
			if r.Alert == "" {
				continue
			}
			alerts++
			if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s: an alert has a severity, a summary and a description", r.Alert)
			}
		}
	}
	if alerts == 0 {
		t.Error("no alert found")
	}
}

func TestGrafanaDashboardAsksForWhatIsExported(t *testing.T) {
	text, err := os.ReadFile("../grafana/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	variables := map[string]bool{}
	for _, v := range dashboard.Templating.List {
		variables[v.Name] = true
	}
	if !variables["datasource"] || !variables["job"] || len(dashboard.Panels) == 0 {
		t.Fatalf("variables %v, %d panels", variables, len(dashboard.Panels))
	}
	known, ids, taken := exportedMetrics(t), map[int]bool{}, map[[2]int]string{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] || len(p.Targets) == 0 {
			t.Errorf("panel %q: its id is used twice, or it asks for nothing", p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies over %q or outside", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			checkQuery(t, p.Title, target.Expr, known)
		}
	}
}
