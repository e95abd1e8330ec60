package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/translate"
)

// TokenCounter counts the tokens of a request's prompt, in a dialect that its
// upstream speaks. Nothing is generated or charged.
type TokenCounter interface {
	CountTokens(ctx context.Context, r *translate.Request) (int64, error)
}

// speaks reports whether the deployment takes requests of a dialect as they
// come.
func (d *Deployment) speaks(dialect translate.Dialect) bool {
	return dialect == translate.DialectChat || slices.Contains(d.Dialects, dialect)
}

// chatOptions are how requests of other dialects are translated for d.
func (j *journey) chatOptions(d *deployment) translate.ChatOptions {
	return translate.ChatOptions{Extended: d.Extended, Family: translate.ReasoningFamily(d.Provider, d.Model), Seal: j.now.Seal}
}

// chatForms are a request's translations to chat, by what they were made for.
type chatForms map[translate.ChatOptions]*translate.Request

// inDialectOf is the client's request in a dialect that d speaks: its own, or
// chat completions.
func (j *journey) inDialectOf(d *deployment) (*translate.Request, error) {
	if d.speaks(j.dialect) {
		return j.request, nil
	}
	o := j.chatOptions(d)
	if r := j.chats[o]; r != nil {
		return r, nil
	}
	r, err := j.request.InChat(o)
	if err != nil {
		return nil, err
	}
	if j.chats == nil {
		j.chats = chatForms{}
	}
	j.chats[o] = r
	return r, nil
}

// answerOf calls a's upstream. Its answer comes in the client's dialect.
func (j *journey) answerOf(a *attempt, call context.Context, sent *translate.Request) translate.Chunks {
	answer := a.deployment.Upstream.Chat(call, sent)
	if sent.Dialect == j.dialect {
		return answer
	}
	head := translate.AnswerHead{ID: answerID(j.dialect), Model: sent.AnswerModel, Created: time.Now().Unix()}
	return translate.InDialect(withoutForeignBody(answer, j.dialect), j.request, sent, head, j.chatOptions(a.deployment))
}

// answerID is a new id, as each dialect writes them.
func answerID(d translate.Dialect) string {
	id := strings.ReplaceAll(budget.NewID(), "-", "")
	switch d {
	case translate.DialectMessages:
		return "msg_" + id
	case translate.DialectResponses:
		return "resp_" + id
	}
	return "cmpl-" + id
}

// withoutForeignBody keeps an upstream's own error object from a client whose
// dialect writes errors in another way.
func withoutForeignBody(answer translate.Chunks, d translate.Dialect) translate.Chunks {
	if d != translate.DialectMessages {
		return answer
	}
	return func(yield func(translate.Chunk, error) bool) {
		for c, err := range answer {
			var upstream *translate.UpstreamError
			if errors.As(err, &upstream) && upstream.Body != nil {
				e := *upstream
				e.Body, e.ContentType = nil, ""
				err = &e
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// hasDoneMark reports whether streams of a dialect end in [DONE].
func hasDoneMark(d translate.Dialect) bool {
	return d == translate.DialectChat || d == translate.DialectCompletions
}

// failure ends a stream in an error.
func (o *streamRelay) failure(j *journey, d *refusal) {
	kind := d.Type
	if o.dialect == translate.DialectMessages {
		kind = messagesErrorType(d.Status)
	}
	name, data := translate.Failure(o.dialect, o.id, clip(j.record.Model), kind, responsesErrorCode(d.Code), d.Message, o.sequence)
	if data == nil {
		o.event(errorBody(d), false)
		return
	}
	o.buf = append(append(append(o.buf, "event: "...), name...), '\n')
	o.event(data, false)
}

// responsesErrorCode is the code that a failed response has: clients know a
// few, and repeat the request for the others.
func responsesErrorCode(code string) string {
	switch code {
	case "rate_limit_exceeded", "context_length_exceeded", "insufficient_quota", "invalid_prompt":
		return code
	}
	return "server_error"
}

// messagesErrorType is Anthropic's error type for a status.
func messagesErrorType(status int) string {
	switch status {
	case http.StatusBadRequest, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusMethodNotAllowed, http.StatusRequestTimeout:
		return "invalid_request_error"
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusPaymentRequired:
		return "billing_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case http.StatusServiceUnavailable:
		return "overloaded_error"
	case http.StatusGatewayTimeout:
		return "timeout_error"
	}
	return "api_error"
}

// inDialect makes an error read as a dialect's own. An upstream's own body
// stays as it is.
func inDialect(err error, d translate.Dialect, requestID string) error {
	if err == nil || d != translate.DialectMessages {
		return err
	}
	e := *describe(err)
	if len(e.Body) == 0 {
		e.Body = messagesErrorBody(&e, requestID)
		e.BodyType = "application/json"
	}
	return &e
}

// messagesErrorBody is Anthropic's error object. A code of ours, which clients
// of that API do not know, is among its details.
func messagesErrorBody(e *refusal, requestID string) []byte {
	type object struct {
		Type    string            `json:"type"`
		Message string            `json:"message"`
		Details map[string]string `json:"details,omitempty"`
	}
	o := object{Type: messagesErrorType(e.Status), Message: e.Message}
	if e.Code != "" {
		o.Details = map[string]string{"code": e.Code}
	}
	b, err := json.Marshal(struct {
		Type      string `json:"type"`
		Error     object `json:"error"`
		RequestID string `json:"request_id"`
	}{"error", o, requestID})
	if err != nil {
		panic(err) // strings always marshal
	}
	return b
}

// countTokens serves POST /v1/messages/count_tokens and
// /v1/responses/input_tokens: by the upstream's own count where the request
// would go to one that has it, else by an estimate from above.
func (s *Server) countTokens(d translate.Dialect) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		now := s.current.Load()
		a, err := now.identify(r)
		if err != nil {
			return err
		}
		body, stay, err := s.read(w, r, now)
		if err != nil {
			return err
		}
		defer stay.end()
		request, err := translate.ParseToCount(d, body)
		if err != nil {
			return err
		}
		a.converse(request)
		n, err := now.tokens(r.Context(), a, request)
		if err != nil {
			return err
		}
		if d == translate.DialectResponses {
			return writeJSON(w, map[string]any{"object": "response.input_tokens", "input_tokens": n})
		}
		return writeJSON(w, map[string]any{"input_tokens": n})
	}
}

// tokens counts a request's prompt.
func (s *setup) tokens(ctx context.Context, a account, r *translate.Request) (int64, error) {
	facts, err := s.facts(a, r)
	if err != nil {
		return 0, err
	}
	estimate := r.EstimateTokens()
	decision := s.Router.Decide(facts)
	if len(decision.Plan) == 0 {
		return estimate, nil
	}
	d := s.deployments[decision.Plan[0].Deployment]
	if d.Counter == nil || !d.speaks(r.Dialect) {
		return estimate, nil
	}
	sent := r.For(translate.Edit{Model: d.Model})
	sent.ClientKey, sent.Forward = translate.Secret(a.client), a.forward
	n, err := d.Counter.CountTokens(ctx, sent)
	var upstream *translate.UpstreamError
	switch {
	case errors.As(err, &upstream) && upstream.Kind == translate.KindInvalid:
		return 0, err
	case err != nil:
		return estimate, nil // a count that cannot be had is no reason to fail
	}
	return n, nil
}

// messagesModels is a list of models in Anthropic's shape. Claude Code offers
// only names that begin with its maker's, so tiers have such names, too: see
// messagesAlias.
func messagesModels(list []model) any {
	type entry struct {
		ID          string `json:"id"`
		Type        string `json:"type"`
		DisplayName string `json:"display_name"`
		CreatedAt   string `json:"created_at"`
		MaxInput    int64  `json:"max_input_tokens,omitempty"`
		MaxTokens   int64  `json:"max_tokens,omitempty"`
	}
	entries := make([]entry, 0, len(list))
	for _, m := range list {
		e := entry{ID: m.ID, Type: "model", DisplayName: m.ID, CreatedAt: time.Unix(m.Created, 0).UTC().Format(time.RFC3339), MaxInput: m.Context, MaxTokens: m.Output}
		if m.OwnedBy == "inference-router" && !strings.HasPrefix(m.ID, "claude") {
			e.ID = messagesAlias + m.ID
		}
		entries = append(entries, e)
	}
	return struct {
		Data    []entry `json:"data"`
		HasMore bool    `json:"has_more"`
		FirstID string  `json:"first_id"`
		LastID  string  `json:"last_id"`
	}{entries, false, entries[0].ID, entries[len(entries)-1].ID}
}

// messagesAlias before auto, a tier or an alias is another name for it.
const messagesAlias = "claude-"
