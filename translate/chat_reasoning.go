package translate

import (
	"slices"
	"strings"
)

// reasoning is how a request switches a model's reasoning, once the client's
// words (reasoning_effort, thinking) and the model's ways are brought together.
type reasoning struct {
	mode    reasoningMode
	budget  int64  // tokens, of mode budget
	effort  string // low, medium, high, xhigh, max, or "" to leave it to the model
	display string // of mode adaptive: "", summarized, omitted
}

type reasoningMode int

const (
	reasoningUnsaid   reasoningMode = iota // send nothing
	reasoningOff                           // the client wants none
	reasoningBudget                        // Claude 3.7 to 4.5: so many tokens
	reasoningAdaptive                      // Claude 4.6 and later: as the model sees fit
	reasoningEffort                        // Nova, gpt-oss, DeepSeek: a word
)

// on reports whether the model is asked to think in Claude's manner, which
// rules out other fields.
func (r reasoning) on() bool { return r.mode == reasoningBudget || r.mode == reasoningAdaptive }

// minThinkingBudget and thinkingHeadroom are Claude's least budget, and the
// room left for the answer where the client set no output limit.
const (
	minThinkingBudget = 1024
	thinkingHeadroom  = 4096
)

// effortBudgets are the token budgets that stand for each effort.
var effortBudgets = map[string]int64{"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}

// resolveReasoning decides how the model is asked to reason. It may raise the
// output limit where the client set none, and gives up reasoning where it
// would make the request fail: when a call is forced, and when an earlier turn
// with calls has lost the signed thoughts that a budget insists on. The effort
// stays: it goes with a forced call.
func (c *chat) resolveReasoning(caps Capabilities) (reasoning, error) {
	r := c.wantedReasoning(caps)
	if !r.on() {
		return r, nil
	}
	if c.choice.mode != "" {
		if c.thinking != nil {
			return r, &InvalidError{Param: "thinking", Message: "thinking and a forced tool_choice rule each other out"}
		}
		if r.effort == "" {
			c.markUnsupported("reasoning_effort", false, "this model does not think when a call is forced")
		}
		return reasoning{effort: r.effort}, nil
	}
	if r.mode != reasoningBudget {
		return r, nil
	}
	if c.lostThoughts() {
		c.markUnsupported(c.reasoningParam(), false, "an earlier turn with tool calls came without its thinking blocks")
		return reasoning{}, nil
	}
	return c.fitBudget(r, caps.MaxOutput), nil
}

func (c *chat) reasoningParam() string {
	if c.thinking != nil {
		return "thinking"
	}
	return "reasoning_effort"
}

func (c *chat) wantedReasoning(caps Capabilities) reasoning {
	switch caps.Reasoning {
	case "budget":
		return c.budgetReasoning()
	case "adaptive":
		return c.adaptiveReasoning(caps)
	case "effort":
		return c.effortReasoning(caps)
	}
	if c.thinking != nil && c.thinking.kind != "disabled" {
		c.markUnsupported("thinking", false, "this model has no thinking switch")
	}
	return reasoning{}
}

func (c *chat) budgetReasoning() reasoning {
	if t := c.thinking; t != nil {
		if t.kind == "disabled" {
			return reasoning{}
		}
		budget := t.budget
		if budget == 0 {
			budget = effortBudgets["high"]
			if b := effortBudgets[c.effort]; b > 0 {
				budget = b
			}
		}
		return reasoning{mode: reasoningBudget, budget: max(budget, minThinkingBudget)}
	}
	if budget := effortBudgets[c.effort]; budget > 0 {
		return reasoning{mode: reasoningBudget, budget: budget}
	}
	return reasoning{}
}

// fitBudget keeps the budget under the output limit, and that under the
// model's own (0 when unknown).
func (c *chat) fitBudget(r reasoning, maxOutput int64) reasoning {
	if c.maxTokens == 0 {
		c.maxTokens = r.budget + thinkingHeadroom
		if maxOutput > 0 {
			c.maxTokens = min(c.maxTokens, maxOutput)
		}
	}
	if c.maxTokens <= minThinkingBudget {
		c.markUnsupported(c.reasoningParam(), false, "the output limit leaves no room for thinking")
		return reasoning{}
	}
	r.budget = min(r.budget, c.maxTokens-1)
	return r
}

func (c *chat) adaptiveReasoning(caps Capabilities) reasoning {
	r := reasoning{mode: reasoningAdaptive, effort: clampEffort(c.effort, caps.Efforts)}
	if t := c.thinking; t != nil {
		r.display = t.display
		if t.kind == "disabled" {
			return c.withoutThinking("thinking", caps)
		}
		if c.effort == "none" {
			r.effort = ""
		}
		return r
	}
	switch c.effort {
	case "":
		return reasoning{}
	case "none":
		return c.withoutThinking("reasoning_effort", caps)
	}
	return r
}

// withoutThinking is for a client that wants no thinking; a model that always
// thinks does so as little as it can.
func (c *chat) withoutThinking(param string, caps Capabilities) reasoning {
	effort := clampEffort(cappedEffort(c.effort), caps.Efforts)
	if caps.Thinking != "always" {
		return reasoning{mode: reasoningOff, effort: effort}
	}
	c.markUnsupported(param, false, "this model always thinks")
	return reasoning{effort: clampEffort("low", caps.Efforts)}
}

// cappedEffort is the effort of a model that does not think: at most high.
func cappedEffort(effort string) string {
	switch effort {
	case "none":
		return "low"
	case "xhigh", "max":
		return "high"
	}
	return effort
}

// clampEffort is the effort nearest to the client's among those that the model
// knows, a lower one rather than a higher; "" when it knows none.
func clampEffort(effort, known string) string {
	wanted := slices.Index(efforts, effort)
	switch {
	case wanted < 0:
		return ""
	case known == "":
		known = "low medium high xhigh max"
	case known == noEfforts:
		return ""
	}
	nearest := ""
	for name := range strings.SplitSeq(known, " ") {
		rank := slices.Index(efforts, name)
		if nearest == "" || rank <= wanted {
			nearest = name
		}
	}
	return nearest
}

// noEfforts marks a model that turned out to know no effort.
const noEfforts = "-"

func (c *chat) effortReasoning(caps Capabilities) reasoning {
	effort := c.effort
	if t := c.thinking; t != nil && effort == "" {
		switch {
		case t.kind == "disabled":
			effort = "none"
		case t.budget > 0 && t.budget <= 2048:
			effort = "low"
		case t.budget > 0 && t.budget <= 8192:
			effort = "medium"
		default:
			effort = "high"
		}
	}
	switch {
	case effort == "":
		return reasoning{}
	case effort != "none", knowsEffort(caps, "none"):
		// minimal is a little thought rather than none at all
		if effort == "minimal" && !knowsEffort(caps, effort) {
			effort = "low"
		}
		return reasoning{mode: reasoningEffort, effort: clampEffort(effort, caps.Efforts)}
	case caps.Thinking == "":
		return reasoning{mode: reasoningOff}
	case caps.Family != "gpt-oss": // whose least effort is as good as none
		c.markUnsupported(c.reasoningParam(), false, "this model always thinks")
	}
	return reasoning{mode: reasoningEffort, effort: clampEffort("low", caps.Efforts)}
}

func knowsEffort(caps Capabilities, name string) bool {
	return slices.Contains(strings.Fields(caps.Efforts), name)
}

// lostThoughts reports whether an assistant turn with calls does not begin
// with the thoughts that led to them. Only turns since the user last spoke
// count: those before are closed.
func (c *chat) lostThoughts() bool {
	for i := len(c.messages) - 1; i >= 0; i-- {
		m := c.messages[i]
		if m.role == roleUser {
			if !hasKind(m, blockToolResult) {
				return false
			}
			continue
		}
		if hasKind(m, blockToolUse) && !m.blocks[0].isThought() {
			return true
		}
	}
	return false
}

func hasKind(m message, kind blockKind) bool {
	for _, b := range m.blocks {
		if b.kind == kind {
			return true
		}
	}
	return false
}
