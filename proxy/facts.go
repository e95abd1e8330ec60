package proxy

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

// decide asks the router, with the facts of the request and of its budgets.
func (j *journey) decide(ctx context.Context) (*routing.Decision, error) {
	j.limits = j.now.limitsOf(j.account)
	facts, err := j.now.facts(ctx, j.account, j.request, j.limits)
	if err != nil {
		return nil, err
	}
	j.named = facts.Upstream != ""
	d := j.now.Router.Decide(facts)
	if d.Tier == "" {
		return d, j.now.nothingAllowed(ctx, j.limits, facts, d)
	}
	return d, nil
}

// facts gathers what a decision depends on.
func (s *setup) facts(ctx context.Context, a account, r *translate.Request, limits []budget.Limit) (*routing.Request, error) {
	f := &routing.Request{
		Prompt: r.PromptView(), Tokens: r.InputBytes / 4, Output: r.MaxTokens, Stream: r.Stream, Turns: r.Messages,
		Images: r.Images > 0, Audio: r.Audio > 0, Tools: r.Tools || r.Schema,
		Session: session(a, r),
	}
	if a.key != nil {
		f.Allowed = a.key.Tiers
	}
	if err := s.force(f, a, r.Model); err != nil {
		return nil, err
	}
	if len(limits) == 0 {
		return f, nil
	}
	states, err := s.Books.Status(ctx, limits)
	if err != nil {
		return nil, err
	}
	for _, b := range states {
		if used := b.Used(); used > f.Used || f.UsedBudget == "" {
			f.Used, f.UsedBudget = used, string(b.Limit.Scope)
		}
		if b.Limit.Hard && b.Spent >= b.Limit.Amount {
			f.Exhausted = true
		}
	}
	return f, nil
}

// session is the conversation a request belongs to, apart for each user.
func session(a account, r *translate.Request) string {
	if a.session != "" {
		return a.user + "\x00" + a.session
	}
	return ""
}

// force resolves the model's name and X-Router-Tier, which wins over it.
func (s *setup) force(f *routing.Request, a account, model string) error {
	if a.tier != "" {
		if s.tiers[a.tier] == nil {
			return &refusal{Status: http.StatusBadRequest, Type: typeInvalid, Code: "tier_not_found", Param: headerTier,
				Message: "tier " + quote(a.tier) + " is not configured; tiers are " + strings.Join(s.tierNames(), ", ")}
		}
		f.Tier = a.tier
	} else if err := s.resolve(f, model); err != nil {
		return err
	}
	tier := f.Tier
	if f.Upstream != "" {
		tier = s.deployments[f.Upstream].tier
	}
	if tier != "" && !a.mayUse(tier) {
		return forbidden("this key may not use tier %s", tier)
	}
	return nil
}

func (a *account) mayUse(tier string) bool {
	return a.key == nil || a.key.Tiers == nil || slices.Contains(a.key.Tiers, tier)
}

// resolve finds what a model's name stands for: auto, an alias, a tier, a
// deployment or a bare model name.
func (s *setup) resolve(f *routing.Request, model string) error {
	if to, ok := s.Models.Aliases[model]; ok {
		model = to
	}
	if model == "" || model == "auto" {
		return nil
	}
	if s.tiers[model] != nil {
		f.Tier = model
		return nil
	}
	d := s.deployments[model]
	if d == nil {
		d = s.byModel[model]
	}
	switch {
	case d != nil:
		f.Upstream = d.Name
	case s.Models.RejectUnknown:
		return &refusal{Status: http.StatusNotFound, Type: typeInvalid, Code: "model_not_found", Param: "model",
			Message: "model " + quote(model) + " does not exist here; GET /v1/models lists those that do"}
	}
	return nil
}

// nothingAllowed is the error of a decision that leaves no tier.
func (s *setup) nothingAllowed(ctx context.Context, limits []budget.Limit, f *routing.Request, d *routing.Decision) error {
	if !f.Exhausted {
		return forbidden("no tier is left for this request: %s", d.Reason)
	}
	states, err := s.Books.Status(ctx, limits)
	if err != nil {
		return err
	}
	for _, b := range states {
		if b.Limit.Hard && b.Spent >= b.Limit.Amount {
			return &budget.ExceededError{Budget: b}
		}
	}
	return forbidden("no tier is left for this request: %s", d.Reason)
}

func (s *setup) tierNames() []string {
	names := make([]string, len(s.Tiers))
	for i, t := range s.Tiers {
		names[i] = t.Name
	}
	return names
}
