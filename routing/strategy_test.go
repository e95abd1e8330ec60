package routing

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

type picky struct{}

func (picky) Narrow(_ *Request, tiers []*Tier) Verdict {
	return Verdict{Tiers: tiers[:1], Reason: "picky"}
}

func TestStrategyNames(t *testing.T) {
	f := StrategyFunc(func(_ *Request, tiers []*Tier) Verdict { return Verdict{Tiers: tiers} })
	rows := []struct {
		want       string
		strategies []Strategy
		r          Request
	}{
		{"ComplexityStrategy", nil, Request{}},
		{"CostStrategy", []Strategy{NewCost(CostConfig{})}, Request{}},
		{"LatencyStrategy", []Strategy{NewLatency(LatencyConfig{})}, Request{}},
		{"ChainStrategy", usualChain(), Request{}},
		{"RoundRobinStrategy", []Strategy{&RoundRobin{}}, Request{}},
		{"mine", []Strategy{Named("mine", f)}, Request{}},
		{"StrategyFunc", []Strategy{f}, Request{}},
		{"picky", []Strategy{picky{}}, Request{}},
		{"manual", usualChain(), Request{Tier: "fast"}},
		{"manual", usualChain(), Request{Upstream: "a/large"}},
	}
	for _, row := range rows {
		if d := mustNew(t, Config{Tiers: threeTiers(), Strategies: row.strategies}).Decide(&row.r); d.Strategy != row.want {
			t.Errorf("got %s, want %s", d.Strategy, row.want)
		}
	}
	steps := mustNew(t, Config{Tiers: threeTiers(), Strategies: usualChain()}).Decide(&Request{}).Strategies
	for i, want := range []string{"cost", "latency", "complexity"} {
		if steps[i].Name != want {
			t.Errorf("step %d is %s, want %s", i, steps[i].Name, want)
		}
	}
}

func TestANamedBuiltInStrategyStillKnowsItsRouter(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{Named("thrift", NewCost(CostConfig{}))}})
	if d := rt.Decide(&Request{Used: .9}); d.Tier != "balanced" || d.Strategy != "thrift" {
		t.Errorf("%s, %s", d.Tier, d.Strategy)
	}
}

func TestACustomStrategyCannotWiden(t *testing.T) {
	var seen *Tier
	remember := StrategyFunc(func(_ *Request, tiers []*Tier) Verdict {
		seen = tiers[len(tiers)-1]
		return Verdict{Tiers: tiers[:1]}
	})
	widen := StrategyFunc(func(_ *Request, tiers []*Tier) Verdict {
		return Verdict{Tiers: []*Tier{seen, nil, {Name: "made up"}, tiers[0], tiers[0]}, Reason: "wide"}
	})
	rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{remember, widen}})
	if d := rt.Decide(&Request{}); !slices.Equal(d.Tiers, []string{"fast"}) {
		t.Errorf("got %v", d.Tiers)
	}
}

func TestAStrategyThatAllowsNothing(t *testing.T) {
	none := StrategyFunc(func(*Request, []*Tier) Verdict { return Verdict{Reason: "closed on Sundays"} })
	d := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{none, NewComplexity(ComplexityConfig{})}}).Decide(&Request{})
	if d.Tier != "" || d.Upstream != "" || len(d.Plan) != 0 || d.Reason != "closed on Sundays" {
		t.Errorf("%+v", d)
	}
}

func TestRoundRobinTakesTurns(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{&RoundRobin{}}})
	var got []string
	for range 4 {
		got = append(got, rt.Decide(&Request{Prompt: "hi", Tools: true}).Tier)
	}
	if want := []string{"fast", "balanced", "powerful", "fast"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRulesAndRanges(t *testing.T) {
	named := func(names ...string) []Tier {
		var tiers []Tier
		for _, n := range names {
			tiers = append(tiers, Tier{Name: n, Deployments: []Deployment{{Name: n}}})
		}
		return tiers
	}
	rows := []struct {
		name  string
		tiers []Tier
		rules []Rule
		want  map[float64]string
	}{
		{"the default rules", named("fast", "balanced", "powerful"), nil,
			map[float64]string{0: "fast", 2.99: "fast", 3: "balanced", 5.99: "balanced", 6: "powerful", 10: "powerful"}},
		{"the default rules without powerful", named("fast", "balanced"), nil, map[float64]string{2.99: "fast", 3: "balanced", 10: "balanced"}},
		{"the default rules without balanced", named("fast", "powerful"), nil, map[float64]string{5.99: "fast", 6: "powerful"}},
		{"the default rules without fast", named("balanced", "powerful"), nil, map[float64]string{0: "balanced", 6: "powerful"}},
		{"three other names", named("s", "m", "l"), nil, map[float64]string{0: "s", 2.99: "s", 3: "m", 6: "l", 10: "l"}},
		{"two other names", named("s", "l"), nil, map[float64]string{4.49: "s", 4.5: "l"}},
		{"a single tier", named("only"), nil, map[float64]string{0: "only", 10: "only"}},
		{"four with the usual three among them", named("fast", "balanced", "powerful", "best"), nil,
			map[float64]string{2.24: "fast", 2.25: "balanced", 4.5: "powerful", 6.75: "best", 10: "best"}},
		{"a gap goes to the rule below it", named("s", "l"), []Rule{{"l", 8, 10}, {"s", 1, 4}},
			map[float64]string{0: "s", 1: "s", 4: "s", 7.99: "s", 8: "l", 10: "l"}},
		{"the last rule ends early", named("s", "l"), []Rule{{"s", 0, 4}, {"l", 4, 6}}, map[float64]string{4: "l", 6: "l", 9: "l"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			rt := mustNew(t, Config{Tiers: row.tiers, Strategies: []Strategy{NewComplexity(ComplexityConfig{Rules: row.rules})}})
			c := rt.strategies[0].Strategy.(*Complexity)
			for score, want := range row.want {
				if got := c.wanted(score).Name; got != want {
					t.Errorf("%v wants %s, want %s", score, got, want)
				}
			}
		})
	}
}

func TestAWantedTierThatIsNotAllowed(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers()})
	rows := []struct {
		prompt  string
		allowed string
		want    string
	}{
		{"compare B-trees vs LSM trees", "fast balanced", "balanced fast"},
		{"compare B-trees vs LSM trees", "fast", "fast"},
		{"explain how transformers work", "fast powerful", "fast powerful"},
		{"hi", "balanced powerful", "balanced powerful"},
		{"hi", "fast balanced powerful", "fast balanced powerful"},
		{"explain how transformers work", "fast balanced powerful", "balanced fast powerful"},
	}
	for _, row := range rows {
		d := rt.Decide(&Request{Prompt: row.prompt, Allowed: strings.Fields(row.allowed)})
		if got := strings.Join(d.Tiers, " "); got != row.want {
			t.Errorf("%q of %s: got %s, want %s", row.prompt, row.allowed, got, row.want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	one := func(d ...Deployment) []Tier { return []Tier{{Name: "t", Deployments: d}} }
	many := make([]Tier, maxTiers+1)
	for i := range many {
		many[i] = Tier{Name: fmt.Sprint(i), Deployments: []Deployment{{Name: fmt.Sprint(i)}}}
	}
	rows := []struct {
		name string
		c    Config
	}{
		{"no tiers", Config{}},
		{"too many tiers", Config{Tiers: many}},
		{"a tier without a name", Config{Tiers: []Tier{{Deployments: []Deployment{{Name: "a"}}}}}},
		{"a tier without deployments", Config{Tiers: one()}},
		{"two tiers of one name", Config{Tiers: append(one(Deployment{Name: "a"}), one(Deployment{Name: "b"})...)}},
		{"a deployment without a name", Config{Tiers: one(Deployment{})}},
		{"two deployments of one name", Config{Tiers: one(Deployment{Name: "a"}, Deployment{Name: "a"})}},
		{"an unknown balance", Config{Tiers: []Tier{{Name: "t", Balance: "x", Deployments: []Deployment{{Name: "a"}}}}}},
		{"an unknown fallback", Config{Tiers: threeTiers(), Fallback: "x"}},
		{"an unknown tier in rules", Config{Tiers: threeTiers(), Strategies: []Strategy{NewComplexity(ComplexityConfig{Rules: []Rule{{"x", 0, 10}}})}}},
		{"a range the wrong way round", Config{Tiers: threeTiers(), Strategies: []Strategy{NewComplexity(ComplexityConfig{Rules: []Rule{{"fast", 5, 3}}})}}},
		{"a range beyond the scale", Config{Tiers: threeTiers(), Strategies: []Strategy{NewComplexity(ComplexityConfig{Rules: []Rule{{"fast", 0, 11}}})}}},
		{"an unknown floor", Config{Tiers: threeTiers(), Strategies: []Strategy{NewComplexity(ComplexityConfig{ToolsFloor: "x"})}}},
	}
	for _, row := range rows {
		if rt, err := New(row.c); err == nil || rt != nil {
			t.Errorf("%s: %v, %v", row.name, rt, err)
		}
	}
}

func TestFallbackKeepsItsPlaceWithinTheAttempts(t *testing.T) {
	wide := Tier{Name: "wide"}
	for i := range 100 {
		wide.Deployments = append(wide.Deployments, Deployment{Name: fmt.Sprint("w", i)})
	}
	tiers := []Tier{{Name: "base", Deployments: []Deployment{{Name: "base"}}}, wide}
	for attempts, want := range map[int]string{1: "w0", 2: "w0 base", 4: "w0 w1 w2 base", 0: "w0 w1 w2 base"} {
		rt := mustNew(t, Config{Tiers: tiers, MaxAttempts: attempts})
		for _, r := range []Request{{Tier: "wide"}, {Prompt: "compare B-trees vs LSM trees"}} {
			got := plan(rt.Decide(&r))
			if n := len(strings.Fields(want)); strings.Join(got[:n], " ") != want || len(got) > n+planSlack {
				t.Errorf("%d attempts: %v, want %s first", attempts, got, want)
			}
			slices.Sort(got)
			if len(slices.Compact(got)) != len(got) {
				t.Errorf("a target twice: %v", got)
			}
		}
	}
}

func TestBalance(t *testing.T) {
	tier := func(b Balance) []Tier {
		return []Tier{{Name: "t", Balance: b, Deployments: []Deployment{{Name: "a", Weight: 7}, {Name: "b", Weight: 2}, {Name: "c"}}}}
	}
	rt := mustNew(t, Config{Tiers: tier(BalanceWeighted)})
	first := map[string]int{}
	for range 10_000 {
		d := rt.Decide(&Request{})
		first[d.Upstream]++
		if got := plan(d); len(got) != 3 {
			t.Fatalf("plan %v", got)
		}
	}
	for name, want := range map[string]int{"a": 7000, "b": 2000, "c": 1000} {
		if off := first[name] - want; off*off > 300*300 {
			t.Errorf("%s came first %d times of 10000, want about %d", name, first[name], want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		rt := mustNew(t, Config{Tiers: tier(BalanceFastest)})
		answers(rt, "a", 300*time.Millisecond, 5)
		answers(rt, "b", 100*time.Millisecond, 5)
		if got := plan(rt.Decide(&Request{})); !slices.Equal(got, []string{"c", "b", "a"}) {
			t.Errorf("fastest: %v, want the unknown first, then by latency", got)
		}
		time.Sleep(2 * averageLife)
		answers(rt, "b", 100*time.Millisecond, 5)
		answers(rt, "c", 200*time.Millisecond, 5)
		if got := plan(rt.Decide(&Request{})); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("fastest: %v, want a to be tried again", got)
		}
	})
}

func TestCapability(t *testing.T) {
	tiers := []Tier{
		{Name: "fast", Deployments: []Deployment{{Name: "f", Context: 1000}}},
		{Name: "balanced", Deployments: []Deployment{{Name: "b1", Context: 10_000}, {Name: "b2", Context: 10_000, Images: true}}},
		{Name: "powerful", Deployments: []Deployment{{Name: "p", Context: 100_000, Images: true}}},
	}
	rt := mustNew(t, Config{Tiers: tiers, Fallback: "fast"})
	rows := []struct {
		name   string
		r      Request
		plan   string
		reason string
	}{
		{"plain text", Request{Prompt: "hi", Tokens: 10}, "f b1 b2 p", "complexity 0.0 wants fast"},
		{"an image", Request{Prompt: "hi", Images: true}, "b2 p", "complexity 0.0 wants fast; fit for images: balanced, powerful"},
		{"a long history", Request{Prompt: "hi", Tokens: 9000, Output: 1001}, "p", "complexity 0.0 wants fast; fit for a context of 10001 tokens: powerful"},
		{"longer than any", Request{Prompt: "hi", Tokens: 1e6}, "f b1 b2 p", "complexity 0.0 wants fast"},
		{"audio that nobody takes", Request{Prompt: "hi", Audio: true}, "f b1 b2 p", "complexity 0.0 wants fast"},
		{"an image longer than any", Request{Prompt: "hi", Images: true, Tokens: 1e6}, "b2 p", "complexity 0.0 wants fast; fit for images: balanced, powerful"},
		{"a forced tier without images falls back to nobody", Request{Tier: "balanced", Images: true}, "b2", "tier balanced was asked for"},
		{"a forced tier that takes none is tried nevertheless", Request{Tier: "fast", Images: true}, "f", "tier fast was asked for"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			d := rt.Decide(&row.r)
			if got := strings.Join(plan(d), " "); got != row.plan || d.Reason != row.reason {
				t.Errorf("got %s, %q; want %s, %q", got, d.Reason, row.plan, row.reason)
			}
		})
	}
}

func TestSessionsStayWhereTheirCacheIsWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := mustNew(t, Config{Tiers: threeTiers()})
		ask := func(prompt string) string {
			d := rt.Decide(&Request{Prompt: prompt, Session: "s", Turns: 3})
			rt.Observe(Outcome{Deployment: d.Upstream, Session: "s", Latency: time.Second})
			return d.Tier
		}
		if got := ask("hi"); got != "fast" {
			t.Fatalf("an easy start: %s", got)
		}
		if got := ask("compare B-trees vs LSM trees"); got != "powerful" {
			t.Fatalf("up at once: %s", got)
		}
		time.Sleep(4 * time.Minute)
		if got := ask("what is the capital of France?"); got != "powerful" {
			t.Errorf("down while the cache is warm: %s", got)
		}
		if d := rt.Decide(&Request{Prompt: "hi", Session: "s"}); d.Reason != "complexity 0.0 wants fast; session stays on powerful" {
			t.Errorf("reason %q", d.Reason)
		}
		if d := rt.Decide(&Request{Prompt: "hi", Session: "other"}); d.Tier != "fast" {
			t.Errorf("another session: %s", d.Tier)
		}
		time.Sleep(sessionWarm + time.Second)
		if d := rt.Decide(&Request{Prompt: "what is the capital of France?", Session: "s"}); d.Tier != "fast" {
			t.Errorf("after idling: %s", d.Tier)
		}
		if got := ask("yes, go on"); got != "powerful" {
			t.Errorf("a follow-up after idling: %s", got)
		}
	})
}

func TestAFailoverIsNotTheSessionsTier(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers()})
	rt.Observe(Outcome{Deployment: "a/large", Session: "s", Latency: 1})
	rt.Observe(Outcome{Deployment: "a/small", Session: "s", Latency: 1})
	if d := rt.Decide(&Request{Prompt: "continue", Session: "s", Turns: 4}); d.Tier != "powerful" {
		t.Errorf("%s, %s", d.Tier, d.Reason)
	}
}

func TestFollowUps(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers()})
	rt.Observe(Outcome{Deployment: "a/large", Session: "hard", Latency: 1})
	for _, prompt := range []string{"continue", "Continue.", "yes", "Yes, go on", "do it", "go ahead", "ok do it", "yes please", "keep going", "next", "weiter", "oui, vas-y", "继续", "続けて", "계속", "продолжай", "sí, adelante"} {
		d := rt.Decide(&Request{Prompt: prompt, Session: "hard", Turns: 3})
		if d.Tier != "powerful" || !strings.HasSuffix(d.Reason, "; follow-up goes on with powerful") {
			t.Errorf("%q in a hard conversation: %s, %q", prompt, d.Tier, d.Reason)
		}
		if d := rt.Decide(&Request{Prompt: prompt, Turns: 3}); d.Tier != "balanced" {
			t.Errorf("%q in an unknown conversation: %s, %q", prompt, d.Tier, d.Reason)
		}
		if d := rt.Decide(&Request{Prompt: prompt, Turns: 1}); d.Tier != "fast" {
			t.Errorf("%q out of nothing: %s, %q", prompt, d.Tier, d.Reason)
		}
	}
	for _, prompt := range []string{"thanks!", "what is the capital of Peru?", "hello there"} {
		if d := rt.Decide(&Request{Prompt: prompt, Turns: 3}); d.Tier != "fast" {
			t.Errorf("%q is no follow-up: %s, %q", prompt, d.Tier, d.Reason)
		}
	}
}

func TestSessionsKeepTheirUpstream(t *testing.T) {
	for _, balance := range []Balance{BalanceOrdered, BalanceWeighted, BalanceFastest} {
		synctest.Test(t, func(t *testing.T) {
			rt := mustNew(t, Config{Tiers: []Tier{{Name: "fast", Balance: balance, Deployments: []Deployment{{Name: "a"}, {Name: "b"}, {Name: "c"}}}}})
			rt.Observe(Outcome{Deployment: "c", Session: "s", Latency: time.Minute})
			for range 50 {
				d := rt.Decide(&Request{Prompt: "hi", Session: "s"})
				if d.Upstream != "c" || len(d.Plan) != 3 {
					t.Fatalf("%s: plan %v, want c first", balance, d.Plan)
				}
			}
			rt.Observe(Outcome{Deployment: "c", Session: "s", Result: ResultLimited, RetryAfter: 10 * time.Second})
			if d := rt.Decide(&Request{Prompt: "hi", Session: "s"}); d.Upstream == "c" {
				t.Errorf("%s: the session stays at an upstream that is out", balance)
			}
			rt.Observe(Outcome{Deployment: "b", Session: "s", Latency: time.Second})
			time.Sleep(time.Minute)
			if d := rt.Decide(&Request{Prompt: "hi", Session: "s"}); d.Upstream != "b" {
				t.Errorf("%s: %s, want b, where the cache is now", balance, d.Upstream)
			}
		})
	}
}

func TestSessionsAreBounded(t *testing.T) {
	s := NewState()
	rt := mustNew(t, Config{Tiers: threeTiers(), State: s})
	for i := range 3*sessionMost + 10 {
		s.sessions.note(fmt.Sprint(i), s.now(), &rt.tiers[2].Deployments[0], rt.rank)
	}
	if n := len(s.sessions.young) + len(s.sessions.old); n > 2*sessionMost {
		t.Errorf("%d sessions are kept", n)
	}
	if last, _ := s.sessions.last(fmt.Sprint(3*sessionMost), s.now()); last != "powerful" {
		t.Errorf("the latest session is forgotten: %q", last)
	}
}

func TestClassify(t *testing.T) {
	own := NewComplexity(ComplexityConfig{Rules: []Rule{{"fast", 0, 8}, {"powerful", 8, 10}}})
	for want, strategies := range map[string][]Strategy{"powerful": {NewCost(CostConfig{})}, "fast": {NewCost(CostConfig{}), own}} {
		rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: strategies})
		if score, tier := rt.Classify("compare B-trees vs LSM trees"); score.Value != 7.5 || tier != want {
			t.Errorf("got %v, %s, want 7.5, %s", score.Value, tier, want)
		}
	}
}
