package proxy

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

// decide asks the router, with the facts of the request and with its budgets as
// this replica last saw them. The store is asked once, by the reservation; only
// a refusal is not left to an old reading.
func (j *journey) decide(ctx context.Context) (*routing.Decision, error) {
	j.limits = j.now.limitsOf(j.account)
	facts, err := j.now.facts(j.account, j.request)
	if err != nil {
		return nil, err
	}
	j.facts, j.named = facts, facts.Upstream != ""
	weigh(facts, j.now.Books.Seen(j.limits))
	d := j.now.Router.Decide(facts)
	if d.Tier == "" && facts.Exhausted {
		states, err := j.now.Books.Status(ctx, j.limits)
		if err != nil {
			return d, err
		}
		weigh(facts, states)
		if d = j.now.Router.Decide(facts); d.Tier == "" {
			return d, nothingAllowed(states, d)
		}
	}
	if d.Tier == "" {
		return d, nothingAllowed(nil, d)
	}
	return d, nil
}

// staleBy is how far off a decision's reading of the budgets may have been,
// as a share of them.
const staleBy = 0.01

// reconsider decides anew when the reservation shows that the decision was made
// by an old reading: other replicas have spent since. The reservation stands;
// where it does not cover the new choice it is extended, or else the old choice
// stays.
func (j *journey) reconsider(ctx context.Context, p *purse) {
	used := 0.0
	for _, b := range p.reservation.Budgets {
		used = max(used, b.Used())
	}
	if off := used - j.facts.Used; -staleBy < off && off < staleBy {
		return
	}
	facts := *j.facts
	weigh(&facts, p.reservation.Budgets)
	d := j.now.Router.Decide(&facts)
	if d.Tier == "" || p.hasCeil && !j.now.fit(p, d, p.ceiling, paramMaxCost) ||
		p.cover(ctx, j.now.deployments[d.Plan[0].Deployment]) != nil {
		return
	}
	j.decision = d
}

// facts gathers what a decision depends on, but for the budgets.
func (s *setup) facts(a account, r *translate.Request) (*routing.Request, error) {
	f := &routing.Request{
		Prompt: r.PromptView(), Tokens: r.InputBytes / 4, Output: r.MaxTokens, Stream: r.Stream, Turns: r.Messages,
		Images: r.Images > 0, Audio: r.Audio > 0, Tools: r.Tools || r.Schema,
		Session: session(a),
	}
	if a.key != nil {
		f.Allowed = a.key.Tiers
	}
	if err := s.force(f, a, r.Model); err != nil {
		return nil, err
	}
	return f, nil
}

// weigh puts into the facts how far the budgets are used.
func weigh(f *routing.Request, states []budget.Status) {
	f.Used, f.UsedBudget, f.Exhausted = 0, "", false
	for _, b := range states {
		if used := b.Used(); used > f.Used || f.UsedBudget == "" {
			f.Used, f.UsedBudget = used, string(b.Limit.Scope)
		}
		if b.Limit.Hard && b.Spent >= b.Limit.Amount {
			f.Exhausted = true
		}
	}
}

// session is the conversation a request belongs to, each user's own.
func session(a account) string {
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
	if short, ok := strings.CutPrefix(model, messagesAlias); ok && s.named(model) == nil && (short == "auto" || s.tiers[short] != nil || s.Models.Aliases[short] != "") && s.Models.Aliases[model] == "" {
		model = short
	}
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
	d := s.named(model)
	switch {
	case d != nil:
		f.Upstream = d.Name
	case s.Models.RejectUnknown:
		return &refusal{Status: http.StatusNotFound, Type: typeInvalid, Code: "model_not_found", Param: "model",
			Message: "model " + quote(model) + " does not exist here; GET /v1/models lists those that do"}
	}
	return nil
}

// named finds a deployment by its name, else its provider/model, else its bare
// model name; of several the first configured.
func (s *setup) named(model string) *deployment {
	return cmp.Or(s.deployments[model], s.byLabel[model], s.byModel[model])
}

// nothingAllowed is the error of a decision that leaves no tier.
func nothingAllowed(states []budget.Status, d *routing.Decision) error {
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
