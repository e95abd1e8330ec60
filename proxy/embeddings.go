package proxy

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

// Embedder is a model that makes embeddings. Used by many requests at once. An
// error is *translate.UpstreamError, *translate.InvalidError, or ctx's cause.
type Embedder interface {
	Embed(ctx context.Context, r *translate.EmbeddingRequest) (*translate.EmbeddingAnswer, error)
}

// embeddingTier stands for a tier where embeddings are recorded. Routing never
// sees it: vectors of different models do not mix, so there is no failover.
const embeddingTier = "embeddings"

// embed serves POST /v1/embeddings.
func (s *Server) embed(w http.ResponseWriter, r *http.Request, j *journey) error {
	account, err := j.now.identify(r)
	if err != nil {
		return err
	}
	body, stay, err := s.read(w, r, j.now)
	if err != nil {
		return err
	}
	defer stay.end()
	if err := checkBody(body); err != nil {
		return err
	}
	request, err := translate.ParseEmbedding(body)
	if err != nil {
		return err
	}
	facts := &translate.Request{Model: request.Model, N: 1, InputBytes: request.InputBytes, User: request.User,
		SafetyIdentifier: request.SafetyIdentifier, MetadataUser: request.MetadataUser, MetadataBudget: request.MetadataBudget}
	if err := account.name(facts, j.now.Identity.RejectAnonymous); err != nil {
		return err
	}
	j.begin(account, facts)
	d, err := j.now.embedding(request.Model)
	if err != nil {
		return err
	}
	j.decided(&routing.Decision{ID: budget.NewID(), Time: j.start, Tier: embeddingTier, Upstream: d.Name, Forced: true,
		Strategy: "manual", Reason: "embedding model " + d.Name})
	if err := j.reserveInput(r.Context(), d, s.metrics); err != nil {
		return err
	}
	defer j.settle(r.Context())
	request.ClientKey, request.Forward = translate.Secret(account.client), account.forward
	answer, err := s.callEmbedder(r.Context(), j, d, request)
	if err != nil {
		return err
	}
	j.settle(r.Context())
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(answer.Body))}
	writeHeading(h, j)
	writeTotals(h, j)
	w.WriteHeader(http.StatusOK)
	w.Write(answer.Body)
	return nil
}

// embedding finds an embedding model by name, alias or bare model name.
func (s *setup) embedding(model string) (*deployment, error) {
	if len(s.embeddings) == 0 {
		return nil, &refusal{Status: http.StatusNotFound, Type: typeInvalid, Code: "model_not_found", Param: "model",
			Message: "no embedding models are configured: see embeddings in config.yaml"}
	}
	if to, ok := s.Models.Aliases[model]; ok {
		model = to
	}
	for _, d := range s.embeddings {
		if d.Name == model || d.Model == model {
			return d, nil
		}
	}
	if model != "" && model != "auto" && s.Models.RejectUnknown {
		return nil, &refusal{Status: http.StatusNotFound, Type: typeInvalid, Code: "model_not_found", Param: "model",
			Message: "embedding model " + quote(model) + " does not exist here; GET /v1/models lists those that do"}
	}
	return s.embeddings[0], nil
}

// reserveInput holds the worst case of an answer that is all input.
func (j *journey) reserveInput(ctx context.Context, d *deployment, m *metrics) error {
	p := &purse{request: j.request, limits: j.now.limitsOf(j.account)}
	amount := p.worst(d, 0)
	if j.account.hasMaxCost && amount > j.account.maxCost {
		return tooDear(j.account.maxCost)
	}
	if len(p.limits) > 0 {
		reservation, err := j.now.Ledger.Reserve(ctx, budget.Hold{ID: budget.NewID(), Amount: amount, Limits: p.limits})
		if err != nil {
			return err
		}
		p.reservation, p.held, p.lease = reservation, amount, keep(reservation, j.now.Lease)
	}
	j.reserved(p, m)
	return nil
}

// callEmbedder calls the model and accounts for the call.
func (s *Server) callEmbedder(ctx context.Context, j *journey, d *deployment, r *translate.EmbeddingRequest) (*translate.EmbeddingAnswer, error) {
	call, cancel := context.WithTimeoutCause(ctx, d.Timeouts.Total, errTotal)
	defer cancel()
	a := &attempt{deployment: d, start: time.Now()}
	j.attempts++
	answer, err := d.Embedder.Embed(call, r)
	if err == nil {
		a.usage, a.ttft, a.settled = answer.Usage, time.Since(a.start), true
		j.answering(a, &translate.Head{RequestID: answer.RequestID})
	}
	err = a.classify(ctx, call, err)
	j.upstream += time.Since(a.start)
	s.account(j, a, err)
	return answer, err
}
