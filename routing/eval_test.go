package routing

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// labelled is a prompt with the tier it deserves.
type labelled struct {
	ID       string
	Prompt   string
	Tier     string
	Accept   []string
	Tags     []string
	Tools    int
	Images   int
	Schema   bool `json:"response_schema"`
	Messages []struct{ Role, Content string }
}

func readLines[T any](t testing.TB, path string) []T {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []T
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<22)
	for lines.Scan() {
		var v T
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	if lines.Err() != nil {
		t.Fatal(lines.Err())
	}
	return all
}

func threeTiers() []Tier {
	return []Tier{
		{Name: "fast", Price: 1, Deployments: []Deployment{{Name: "a/small"}}},
		{Name: "balanced", Price: 6, Deployments: []Deployment{{Name: "a/medium"}}},
		{Name: "powerful", Price: 20, Deployments: []Deployment{{Name: "a/large"}}},
	}
}

func mustNew(t testing.TB, c Config) *Router {
	t.Helper()
	rt, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

func TestLabelledPrompts(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers()})
	exact, far := 0, 0
	all := readLines[labelled](t, "testdata/prompts.jsonl")
	for _, p := range all {
		d := rt.Decide(&Request{Prompt: p.Prompt, Turns: 1 + len(p.Messages), Tools: p.Tools > 0 || p.Schema, Images: p.Images > 0})
		if d.Tier == p.Tier {
			exact++
		} else {
			t.Logf("%s %.60q: %s (%.2f %+v), deserves %s", p.ID, p.Prompt, d.Tier, d.Score, d.Breakdown, p.Tier)
		}
		if off := rt.rank(d.Tier) - rt.rank(p.Tier); off*off > 1 {
			far++
		}
		if slices.Contains(p.Tags, "contract") && d.Tier != p.Tier {
			t.Errorf("%q is documented as %s", p.Prompt, p.Tier)
		}
	}
	n := float64(len(all))
	t.Logf("%d prompts: exact %.3f, two tiers off %.3f", len(all), float64(exact)/n, float64(far)/n)
	if float64(exact)/n < 0.9 || float64(far)/n > 0.02 {
		t.Errorf("exact %.3f, want at least 0.90; two tiers off %.3f, want at most 0.02", float64(exact)/n, float64(far)/n)
	}
}

var outcomes = flag.String("outcomes", "", "directory of *.jsonl files with prompts and the scores of a weak and a strong model")

// outcome is a prompt with what a weak and a strong model made of it.
type outcome struct {
	Prompt  string
	Subject string
	Weak    float64 `json:"weak_score"`
	Strong  float64 `json:"strong_score"`
}

// TestOutcomes reports how well the score tells the prompts that deserve the
// strong model. It only measures: go test -run Outcomes -v -outcomes DIR.
func TestOutcomes(t *testing.T) {
	if *outcomes == "" {
		t.Skip("no -outcomes DIR")
	}
	files, _ := filepath.Glob(filepath.Join(*outcomes, "*.jsonl"))
	for _, file := range files {
		all := readLines[outcome](t, file)
		if all[0].Subject == "" {
			continue
		}
		report(t, filepath.Base(file), all)
		by := map[string][]outcome{}
		for _, o := range all {
			by[o.Subject] = append(by[o.Subject], o)
		}
		for _, subject := range slices.Sorted(maps.Keys(by)) {
			if len(by[subject]) >= 100 {
				report(t, "  "+subject, by[subject])
			}
		}
	}
}

func report(t *testing.T, name string, all []outcome) {
	scores := make([]float64, len(all))
	sum := 0.0
	for i, o := range all {
		scores[i] = ScorePrompt(o.Prompt).Value
		sum += scores[i]
	}
	share, recovered := recoveredAbove(all, scores, 3)
	top, _ := recoveredAbove(all, scores, 6)
	t.Logf("%-26s n %4d  APGR %.3f  from 3: share %3.0f%%, recovered %+3.0f points  from 6: share %3.0f%%  mean %.2f",
		name, len(all), apgr(all, scores), 100*share, 100*(recovered-share), 100*top, sum/float64(len(all)))
}

// recoveredAbove is the share of prompts with at least the score, and the part
// of the quality gap that these recover.
func recoveredAbove(all []outcome, scores []float64, least float64) (share, recovered float64) {
	gain, total := 0.0, 0.0
	for i, o := range all {
		total += o.Strong - o.Weak
		if scores[i] >= least {
			gain += o.Strong - o.Weak
			share++
		}
	}
	return share / float64(len(all)), gain / total
}

// apgr is the area below the gap recovered over the share of prompts sent to the
// strong model, highest scores first. Equal scores are sent evenly.
func apgr(all []outcome, scores []float64) float64 {
	order := make([]int, len(all))
	total := 0.0
	for i := range order {
		order[i] = i
		total += all[i].Strong - all[i].Weak
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	area, height := 0.0, 0.0
	for from := 0; from < len(order); {
		to, gain := from, 0.0
		for to < len(order) && scores[order[to]] == scores[order[from]] {
			gain += all[order[to]].Strong - all[order[to]].Weak
			to++
		}
		width := float64(to-from) / float64(len(order))
		area += width * (height + gain/2)
		height += gain
		from = to
	}
	return area / total
}
