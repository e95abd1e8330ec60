package routing

import (
	"strings"
	"testing"
)

const reminder = "<system-reminder>\nAs you answer, analyse and compare the architecture, design the migration, " +
	"debug the function, evaluate the trade-offs, prove it.\n```go\nfunc main() { panic(1) }\n```\n</system-reminder>"

// harnessBlocks are prompts as harnesses send them, around a person's words.
var harnessBlocks = map[string]func(string) string{
	"reminder before":   func(p string) string { return reminder + "\n" + p },
	"reminder after":    func(p string) string { return p + "\n\n" + reminder },
	"two reminders":     func(p string) string { return reminder + p + reminder },
	"nested":            func(p string) string { return "<system-reminder>design " + reminder + " prove</system-reminder>" + p },
	"environment":       func(p string) string { return "<environment_context>\n<cwd>/src</cwd>\n</environment_context>\n" + p },
	"user instructions": func(p string) string { return "<user_instructions>\ncompare and analyse\n</user_instructions>\n\n" + p },
	"AGENTS.md": func(p string) string {
		return "# AGENTS.md instructions for /src\n\n<INSTRUCTIONS>\nDesign, debug and evaluate.\n</INSTRUCTIONS>\n\n" + p
	},
	"Cline": func(p string) string {
		return "<task>\n" + p + "\n</task>\n\n<environment_details>\nanalyse main.go\n</environment_details>"
	},
	"Cursor": func(p string) string {
		return "<user_info>\ncompare\n</user_info>\n<user_query>\n" + p + "\n</user_query>"
	},
	"command":             func(p string) string { return "<command-message>debug is running</command-message>\n" + p },
	"attributes, capital": func(p string) string { return `<System-Reminder kind="x">analyse and compare</System-Reminder>` + p },
	"larger than is read": func(p string) string {
		return "<system-reminder>" + strings.Repeat("compare < and analyse\n", 20_000) + "</system-reminder>\n" + p
	},
}

func TestHarnessTextChangesNoTier(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers()})
	labelled := readLines[labelled](t, "testdata/prompts.jsonl")
	if len(labelled) < 40 {
		t.Fatalf("%d labelled prompts, want 40", len(labelled))
	}
	for name, wrap := range harnessBlocks {
		for _, p := range labelled {
			plain := strings.TrimSpace(p.Prompt)
			want, got := rt.Decide(&Request{Prompt: plain, Turns: 1}), rt.Decide(&Request{Prompt: wrap(plain), Turns: 1})
			if got.Tier != want.Tier || got.Score != want.Score {
				t.Errorf("%s around %.40q: %s at %.2f, want %s at %.2f", name, p.Prompt, got.Tier, got.Score, want.Tier, want.Score)
			}
			if !strings.Contains(got.Reason, "not scored") {
				t.Errorf("%s: the reason %q does not name what was left out", name, got.Reason)
			}
		}
	}
}

func TestHarnessListIsConfigurable(t *testing.T) {
	prompt := "<memo>compare B-trees vs LSM trees</memo>\nhi"
	for _, test := range []struct {
		name string
		tags []string
		want string
	}{
		{"the default list does not know memo", nil, "powerful"},
		{"memo is listed", []string{"memo"}, "fast"},
		{"an empty list strips nothing", []string{}, "powerful"},
	} {
		rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{NewComplexity(ComplexityConfig{Harness: test.tags})}})
		if d := rt.Decide(&Request{Prompt: prompt, Turns: 1}); d.Tier != test.want {
			t.Errorf("%s: %s (%s), want %s", test.name, d.Tier, d.Reason, test.want)
		}
	}
	if _, err := New(Config{Tiers: threeTiers(), Strategies: []Strategy{NewComplexity(ComplexityConfig{Harness: []string{"<memo>"}})}}); err == nil {
		t.Error("a tag with brackets is accepted")
	}
}

func TestAnUnclosedTagIsText(t *testing.T) {
	strip := newHarness(HarnessTags()).strip
	for _, p := range []string{"what does <system-reminder> do?", "</system-reminder> ends what?", "a < b <system-reminders>x</system-reminders>"} {
		if got, names := strip(p); got != p || names != nil {
			t.Errorf("strip(%q) = %q, %v", p, got, names)
		}
	}
	if got, _ := strip("what does <system-reminder> do?\n" + reminder); got != "what does <system-reminder> do?" {
		t.Errorf("a mention before a block: %q", got)
	}
}

// Without the default list "hi" beside a reminder goes to the most capable tier.
func TestHiBesideAReminderIsFast(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers()})
	d := rt.Decide(&Request{Prompt: reminder + "\nhi", Turns: 1})
	if d.Tier != "fast" || d.Reason != "complexity 0.0 wants fast (system-reminder not scored)" {
		t.Errorf("got %s: %s", d.Tier, d.Reason)
	}
	if score, tier := rt.Classify(reminder + "\nhi"); tier != "fast" || score.Value != d.Score {
		t.Errorf("Classify: %v, %s", score.Value, tier)
	}
}

// hostile are prompts of 350 KB that are meant to cost a lot of time.
var hostile = map[string]string{
	"code":          strings.Repeat("if a < b && b < c { compare(a, b) }\n", 10_000),
	"angles":        strings.Repeat("<", 350_000),
	"opening":       strings.Repeat("<system-reminder>", 20_000),
	"blocks":        strings.Repeat("<INSTRUCTIONS></INSTRUCTIONS>", 12_000),
	"lines":         strings.Repeat("words\n<INSTRUCTIONS>\n</INSTRUCTIONS>", 10_000),
	"attributes":    strings.Repeat("<system-reminder ", 20_000),
	"closing first": strings.Repeat("</task-notification><task-notification>", 9_000),
	"blank":         strings.Repeat(" ", 340_000) + strings.Repeat("\n<INSTRUCTIONS></INSTRUCTIONS>", 300),
}

func BenchmarkHarnessHostile(b *testing.B) {
	h := newHarness(HarnessTags())
	for name, prompt := range hostile {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.strip(prompt)
			}
		})
	}
}

func TestHarnessSearchIsBounded(t *testing.T) {
	h := newHarness(HarnessTags())
	for name, prompt := range hostile {
		head, tail := searched(prompt)
		if n := strings.Count(prompt[:head], "<"); n > harnessTags || head > harnessScan {
			t.Errorf("%s: %d tags in %d bytes at the head", name, n, head)
		}
		if n := strings.Count(prompt[tail:], "<"); n > harnessTags || tail < len(prompt)-harnessScan {
			t.Errorf("%s: %d tags in %d bytes at the tail", name, n, len(prompt)-tail)
		}
		if got, _ := h.strip(reminder + "hi " + prompt + reminder); strings.Contains(got, "trade-offs") {
			t.Errorf("%s: the blocks at the ends are scored", name)
		}
	}
	for _, name := range []string{"code", "angles"} {
		if n := testing.AllocsPerRun(5, func() { h.strip(hostile[name]) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if n := testing.AllocsPerRun(5, func() { h.strip("a < b <i>or</i> c") }); n > 0 {
		t.Errorf("a short prompt: %v allocations", n)
	}
}

func TestHeadingBelongsToItsBlock(t *testing.T) {
	strip := newHarness(HarnessTags()).strip
	block := "<INSTRUCTIONS>\ndesign\n</INSTRUCTIONS>"
	for p, want := range map[string]string{
		"# AGENTS.md instructions for /src\n\n" + block + "\nhi":         "hi",
		"so\n# AGENTS.md instructions for /src\r\n" + block + "hi":       "so\nhi",
		"# AGENTS.md instructions are what? " + block + "hi":             "# AGENTS.md instructions are what? hi",
		"ask " + block + " me " + block + " more":                        "ask  me  more",
		strings.Repeat("x", 5000) + "# AGENTS.md instructions\n" + block: strings.Repeat("x", 5000) + "# AGENTS.md instructions",
	} {
		if got, _ := strip(p); got != want {
			t.Errorf("strip(%.80q) = %.80q, want %.80q", p, got, want)
		}
	}
}

func FuzzHarness(f *testing.F) {
	f.Add("hi " + reminder)
	f.Add("<a<system-reminder </system-reminder>")
	f.Fuzz(func(t *testing.T, p string) {
		if got, _ := newHarness(HarnessTags()).strip(p); len(got) > len(p) {
			t.Errorf("strip(%q) grew to %q", p, got)
		}
	})
}
