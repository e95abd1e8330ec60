package routing

import (
	"bufio"
	"encoding/json"
	"os"
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
	exact, accepted, far := 0, 0, 0
	all := readLines[labelled](t, "testdata/prompts.jsonl")
	for _, p := range all {
		r := &Request{Prompt: p.Prompt, Turns: 1 + len(p.Messages), Tools: p.Tools > 0 || p.Schema, Images: p.Images > 0}
		d := rt.Decide(r)
		ok := false
		for _, tier := range p.Accept {
			ok = ok || tier == d.Tier
		}
		if ok {
			accepted++
		} else {
			t.Logf("%s %q: %s (%.2f %+v), want %v", p.ID, p.Prompt[:min(len(p.Prompt), 80)], d.Tier, d.Score, d.Breakdown, p.Accept)
		}
		if d.Tier == p.Tier {
			exact++
		} else if ok {
			t.Logf("  near: %s %q: %s (%.2f %+v), best %v", p.ID, p.Prompt[:min(len(p.Prompt), 80)], d.Tier, d.Score, d.Breakdown, p.Tier)
		}
		if off := rt.rank(d.Tier) - rt.rank(p.Tier); off*off > 1 {
			far++
		}
	}
	t.Logf("%d prompts: exact %.3f, accepted %.3f, two tiers off %.3f", len(all),
		float64(exact)/float64(len(all)), float64(accepted)/float64(len(all)), float64(far)/float64(len(all)))
}
