package routing

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Rule gives a tier the scores from Low up to, but without, High. The rule with
// the highest scores includes its High.
type Rule struct {
	Tier      string
	Low, High float64
}

// ComplexityConfig sets up a Complexity strategy.
type ComplexityConfig struct {
	// Rules say which tier a score wants. A score between two rules wants the
	// lower one. Empty means fast from 0, balanced from 3 and powerful from 6;
	// of these, tiers that are not configured are left out, the lower one takes
	// their scores. Where a tier has another name than these three, the scores
	// 0 to 9 are shared out evenly by rank instead: of n tiers, tier i begins at
	// 9*i/n.
	Rules []Rule
	// ToolsFloor is the least capable tier that requests with tools or a JSON
	// schema go to, and follow-ups in a conversation that is not known; "" means
	// balanced where there is such a tier, else the one in the middle. The first
	// tier's name turns the floor off.
	ToolsFloor string
	// Harness names the tags of the blocks that agent harnesses write around a
	// person's words, without brackets; their text is not scored. nil means
	// HarnessTags(), an empty list strips nothing.
	Harness []string
}

// Complexity wants a tier by the prompt's score. If that tier is not allowed,
// the most capable one below it comes first, else the least capable one.
type Complexity struct {
	rt     *Router
	rules  []Rule
	config ComplexityConfig
	wants  []*Tier   // by rule
	orders [][]*Tier // by the rank wanted: all tiers, best first
	floor  *Tier
	strip  *harness
}

// NewComplexity returns a Complexity strategy. Its configuration is checked by
// New.
func NewComplexity(c ComplexityConfig) *Complexity { return &Complexity{config: c} }

func (*Complexity) String() string { return "ComplexityStrategy" }

func (c *Complexity) bind(rt *Router, _ bool) (Strategy, error) {
	b := &Complexity{config: c.config, rt: rt}
	tags := c.config.Harness
	if tags == nil {
		tags = HarnessTags()
	}
	for _, name := range tags {
		if name == "" || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c > '~' || c == '<' || c == '>' || c == '/' }) {
			return nil, fmt.Errorf("harness: %q is not the name of a tag; give it without brackets, such as system-reminder", name)
		}
	}
	b.strip = newHarness(tags)
	var err error
	if b.rules, b.wants, err = rt.resolve(c.config.Rules); err != nil {
		return nil, err
	}
	if b.floor = rt.byName["balanced"]; b.floor == nil {
		b.floor = rt.tiers[len(rt.tiers)/2]
	}
	if name := c.config.ToolsFloor; name != "" {
		if b.floor = rt.byName[name]; b.floor == nil {
			return nil, fmt.Errorf("tools_floor: %w", rt.unknown(name))
		}
	}
	for want := range rt.tiers {
		order := slices.Clone(rt.tiers[:want+1])
		slices.Reverse(order)
		b.orders = append(b.orders, append(order, rt.tiers[want+1:]...))
	}
	rt.complexity = b
	return b, nil
}

// resolve checks the rules, or makes the default ones, and finds their tiers.
func (rt *Router) resolve(rules []Rule) ([]Rule, []*Tier, error) {
	explicit := len(rules) > 0
	if !explicit {
		rules = rt.defaultRules()
	}
	rules = slices.SortedStableFunc(slices.Values(rules), func(a, b Rule) int {
		switch {
		case a.Low < b.Low:
			return -1
		case a.Low > b.Low:
			return 1
		}
		return 0
	})
	var wants []*Tier
	for _, r := range rules {
		t := rt.byName[r.Tier]
		switch {
		case explicit && t == nil:
			return nil, nil, fmt.Errorf("rules: %w", rt.unknown(r.Tier))
		case !(r.Low >= 0 && r.Low < r.High && r.High <= 10):
			return nil, nil, errors.New("rules: the range of " + strconv.Quote(r.Tier) + " is not within 0 and 10, low before high")
		case t == nil && len(wants) > 0:
			t = wants[len(wants)-1]
		case t == nil:
			t = rt.tiers[0]
		}
		wants = append(wants, t)
	}
	return rules, wants, nil
}

func (rt *Router) defaultRules() []Rule {
	usual := []Rule{{"fast", 0, 3}, {"balanced", 3, 6}, {"powerful", 6, 10}}
	known := 0
	for _, r := range usual {
		if rt.byName[r.Tier] != nil {
			known++
		}
	}
	if known == len(rt.tiers) {
		return usual
	}
	rules := make([]Rule, len(rt.tiers))
	for i, t := range rt.tiers {
		rules[i] = Rule{t.Name, 9 * float64(i) / float64(len(rt.tiers)), 9 * float64(i+1) / float64(len(rt.tiers))}
	}
	rules[len(rules)-1].High = 10
	return rules
}

// wanted is the tier of the rule a score falls under.
func (c *Complexity) wanted(score float64) *Tier {
	want := c.wants[0]
	for i, r := range c.rules {
		if score < r.Low {
			break
		}
		want = c.wants[i]
		if score < r.High {
			break
		}
	}
	return want
}

// Narrow implements Strategy. It removes nothing, it orders.
func (c *Complexity) Narrow(r *Request, tiers []*Tier) Verdict {
	prompt, left := c.strip.strip(r.Prompt)
	s := read(prompt)
	score := s.score()
	if c.rt == nil {
		return Verdict{Tiers: tiers, Reason: "complexity is not set up", Score: &score}
	}
	want := c.wanted(score.Value)
	v := Verdict{Score: &score, Reason: reasonOf(score.Value, want) + unscored(left)}
	best := first(c.orders[want.rank], tiers)
	if floor, why := c.lift(r, &s, want); floor != nil {
		if lifted := first(c.orders[floor.rank], tiers); lifted.rank > best.rank {
			best = lifted
			v.floor, v.floorReason = why, floorReason(why, floor)
		}
	}
	v.Tiers = c.orders[best.rank]
	return v
}

// lift is the tier that something beside the prompt's own words asks for at
// least, and what: the conversation so far, or tools.
func (c *Complexity) lift(r *Request, s *scan, want *Tier) (floor *Tier, why string) {
	if r.Tools && c.floor.rank > want.rank {
		floor, why = c.floor, "tools"
	}
	last, warm := c.rt.state.sessions.last(r.Session, c.rt.state.now())
	before := c.rt.byName[last]
	switch {
	case r.Turns > 1 && s.goesOn():
		if before == nil {
			before = c.floor
		}
		if floor == nil || before.rank > floor.rank {
			floor, why = before, "follow-up"
		}
	case before != nil && warm && before.rank > want.rank && (floor == nil || before.rank > floor.rank):
		floor, why = before, "session"
	}
	return floor, why
}

func floorReason(why string, floor *Tier) string {
	switch why {
	case "follow-up":
		return "follow-up goes on with " + floor.Name
	case "session":
		return "session stays on " + floor.Name
	}
	return why + " want at least " + floor.Name
}

// first is the first tier of order that is among the offered.
func first(order, offered []*Tier) *Tier {
	for _, t := range order {
		if slices.Contains(offered, t) {
			return t
		}
	}
	return offered[0]
}

// reasonOf says "complexity 7.5 wants powerful". As many decimals are shown as
// tell the score from a rule's bound.
func reasonOf(score float64, want *Tier) string {
	b := append(make([]byte, 0, 48), "complexity "...)
	decimals := 1
	if hundredths := int(score*100 + 0.5); hundredths%10 != 0 {
		decimals = 2
	}
	b = strconv.AppendFloat(b, score, 'f', decimals, 64)
	b = append(b, " wants "...)
	return string(append(b, want.Name...))
}
