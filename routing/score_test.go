package routing

import (
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

const essay = "Our Postgres replica falls behind only while the nightly export runs. Diagnose the likely causes step by step and say how to confirm each one, because the team must decide before Friday whether the export moves to another host. "

func BenchmarkScore(b *testing.B) {
	rows := []struct{ name, prompt string }{
		{"30B", "explain how transformers work."},
		{"240B", essay},
		{"1200B", strings.Repeat(essay, 6)[:1200]},
		{"7KB", strings.Repeat(essay, 40)[:7168]},
		{"1MB", strings.Repeat(essay, 5000)},
		{"chinese1200B", strings.Repeat("解释一下变压器是如何工作的，并比较两种设计。", 18)},
		{"russian1200B", strings.Repeat("объясни, как работает холодильник, и сравни ", 16)},
		{"punctuation7KB", strings.Repeat("?.,`\n", 1400)},
		{"newlines7KB", strings.Repeat("\n", 7168)},
		{"fences7KB", strings.Repeat("```a", 1800)},
	}
	for _, row := range rows {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(row.prompt)))
			for b.Loop() {
				ScorePrompt(row.prompt)
			}
		})
	}
}

func TestScoringDoesNotAllocate(t *testing.T) {
	for _, prompt := range []string{essay, strings.Repeat(essay, 100), "解释一下变压器是如何工作的", "```go\nfunc f() {}\n```\nfix this"} {
		if n := testing.AllocsPerRun(10, func() { ScorePrompt(prompt) }); n != 0 {
			t.Errorf("%v allocations for %.20q", n, prompt)
		}
	}
}

func TestFormDoesNotChangeTheTier(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers()})
	forms := []struct {
		name string
		of   func(string) string
	}{
		{"upper case", strings.ToUpper},
		{"lower case", strings.ToLower},
		{"in double quotes", func(s string) string { return `"` + s + `"` }},
		{"in single quotes", func(s string) string { return "'" + s + "'" }},
		{"in typographic quotes", func(s string) string { return "\u201c" + s + "\u201d" }},
		{"typographic apostrophes", func(s string) string { return strings.ReplaceAll(s, "'", "\u2019") }},
		{"double spaces", func(s string) string { return strings.ReplaceAll(s, " ", "  ") }},
		{"spaces around", func(s string) string { return "  " + s + " \n" }},
		{"no-break spaces", func(s string) string { return strings.ReplaceAll(s, " ", "\u00a0") }},
		{"carriage returns", func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }},
	}
	for _, p := range readLines[labelled](t, "testdata/prompts.jsonl") {
		want := rt.Decide(&Request{Prompt: p.Prompt})
		for _, form := range forms {
			if got := rt.Decide(&Request{Prompt: form.of(p.Prompt)}); got.Tier != want.Tier {
				t.Errorf("%s %.60q: %s (%.2f %+v) %s, else %s (%.2f %+v)", p.ID, p.Prompt, got.Tier, got.Score, got.Breakdown, form.name, want.Tier, want.Score, want.Breakdown)
			}
		}
	}
}

func FuzzScore(f *testing.F) {
	for _, p := range readLines[labelled](f, "testdata/prompts.jsonl") {
		f.Add(p.Prompt)
	}
	f.Add("\xff\xfe ``` \u0301'’？")
	f.Fuzz(func(t *testing.T, prompt string) {
		s := ScorePrompt(prompt)
		b := s.Breakdown
		sum := b.Length + b.Questions + b.Reasoning + b.Code + b.Simple
		if !(s.Value >= 0 && s.Value <= 10) || math.Abs(min(max(sum, 0), 10)-s.Value) > 1e-9 {
			t.Errorf("%q: %+v", prompt, s)
		}
		if b.Length < 0 || b.Length > 5 || b.Questions < 0 || b.Questions > 1 || b.Reasoning < 0 || b.Reasoning > 7 || b.Code < 0 || b.Code > 5 || b.Simple > 0 || b.Simple < -4 {
			t.Errorf("%q: out of range: %+v", prompt, b)
		}
		if utf8.ValidString(prompt) && ScorePrompt(prompt) != s {
			t.Errorf("%q: not the same twice", prompt)
		}
	})
}

func TestTrapsStayEasy(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers()})
	rows := []struct{ name, prompt string }{
		{"class in classical", "who sang the classical aria in that movie?"},
		{"design in designer", "where is the designer born?"},
		{"why in a name", "who is Whyatt Earp?"},
		{"explain in unexplained", "what is an unexplained absence?"},
		{"prove in improve", "what is an improvement plan?"},
		{"compare in comparable", "what is a comparable?"},
		{"vs in a file name", "where is the file notes.vsx?"},
		{"a verb that is not an imperative", "when did she explain it?"},
		{"keywords without an ask", "hello, analysis, evaluation, comparison"},
		{"verbs in a pasted text", "translate into German:\n\nPlease compare the two quotes. Explain the trade-offs. Design a plan."},
	}
	for _, row := range rows {
		if d := rt.Decide(&Request{Prompt: row.prompt}); d.Tier != "fast" {
			t.Errorf("%s: %q: %s (%.2f %+v)", row.name, row.prompt, d.Tier, d.Score, d.Breakdown)
		}
	}
}

func TestKeywordsAloneDoNotBuyTheTopTier(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers()})
	for _, prompt := range []string{"compare, analyze, design, prove, evaluate", "hi, step by step, pros and cons", "please compare and contrast", "design. prove. derive. step by step"} {
		if d := rt.Decide(&Request{Prompt: prompt}); d.Tier == "powerful" {
			t.Errorf("%q: %s (%.2f %+v)", prompt, d.Tier, d.Score, d.Breakdown)
		}
	}
}

func TestASlipInTheFirstWordDoesNotLoseTheVerb(t *testing.T) {
	rows := map[string]string{
		"explian how transformers work": "balanced", "expain recursion to me": "balanced", "explaain recursion to me": "balanced",
		"desing a rate limiter for many tenants": "powerful", "Comapre B-trees with LSM trees": "powerful", "anlyze the failure modes": "powerful",
		"contract law in France": "fast", "access denied": "fast", "white wine with fish": "fast", "plants in the dark": "fast",
	}
	rt := mustNew(t, Config{Tiers: threeTiers()})
	for prompt, want := range rows {
		if d := rt.Decide(&Request{Prompt: prompt}); d.Tier != want {
			t.Errorf("%q: %s (%.2f %+v), want %s", prompt, d.Tier, d.Score, d.Breakdown, want)
		}
	}
}

func TestUnknownLanguagesAreNotEasyBySilence(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers()})
	for _, prompt := range []string{"اشرح كيف تعمل المحولات", "समझाइए कि ट्रांसफार्मर कैसे काम करता है", "אנא הסבר את מנוע הדיזל", "εξήγησε πώς λειτουργεί ένας κινητήρας"} {
		if d := rt.Decide(&Request{Prompt: prompt}); d.Tier != "balanced" {
			t.Errorf("%q: %s (%.2f %+v)", prompt, d.Tier, d.Score, d.Breakdown)
		}
	}
}

// The longer of two prompts that are otherwise alike is not the easier one.
func TestLengthIsMonotonic(t *testing.T) {
	before := 0.0
	for n := range 60 {
		s := ScorePrompt(strings.Repeat("The pump moves water from the well to the tank. ", n*n))
		if s.Breakdown.Length < before {
			t.Errorf("%d sentences: length %v after %v", n*n, s.Breakdown.Length, before)
		}
		before = s.Breakdown.Length
	}
}
