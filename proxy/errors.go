package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/translate"
)

// OpenAI's error types, as its clients know them.
const (
	typeInvalid    = "invalid_request_error"
	typeAuth       = "authentication_error"
	typePermission = "permission_error"
	typeQuota      = "insufficient_quota"
	typeRateLimit  = "rate_limit_error"
	typeAPI        = "api_error"
)

// statusClientGone is nginx's word for a client that left before its answer.
// Who has only ended its own side of the connection still reads it.
const statusClientGone = 499

// refusal is an answer this proxy gives instead of an upstream's.
type refusal struct {
	Status  int
	Type    string
	Code    string
	Param   string
	Message string

	RetryAfter time.Duration // 0: no such header
	NoRetry    bool          // x-should-retry: false, which OpenAI's clients obey
	Body       []byte        // relayed instead of an error object of ours
	BodyType   string        // Body's content type
	Challenge  string        // WWW-Authenticate, which makes a browser ask for a password; "" for none
}

func (e *refusal) Error() string { return e.Message }

func invalid(param, format string, args ...any) *refusal {
	return &refusal{Status: http.StatusBadRequest, Type: typeInvalid, Param: param, Message: fmt.Sprintf(format, args...)}
}

func forbidden(format string, args ...any) *refusal {
	return &refusal{Status: http.StatusForbidden, Type: typePermission, Code: "permission_denied", Message: fmt.Sprintf(format, args...)}
}

func unauthorized(format string, args ...any) *refusal {
	return &refusal{Status: http.StatusUnauthorized, Type: typeAuth, Code: "invalid_api_key", Message: fmt.Sprintf(format, args...)}
}

func unavailable(code, format string, args ...any) *refusal {
	return &refusal{Status: http.StatusServiceUnavailable, Type: typeAPI, Code: code, RetryAfter: time.Second, Message: fmt.Sprintf(format, args...)}
}

// errClientGone is the cause of a request that ended because its client left.
var errClientGone = errors.New("client closed the connection")

// describe turns any error into what the client is told. It is the one place
// that knows how errors look in OpenAI's API.
func describe(err error) *refusal {
	var (
		own      *refusal
		bad      *translate.InvalidError
		exceeded *budget.ExceededError
		full     *budget.FullError
		upstream *translate.UpstreamError
		routed   *echo.HTTPError
		tooLarge *http.MaxBytesError
	)
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &bad):
		return describeInvalid(bad)
	case errors.As(err, &exceeded):
		return describeExceeded(exceeded)
	case errors.As(err, &full):
		return unavailable("too_many_users", "this user is new, and the budgets of %d users are counted already (server.max_users); users leave when their budget's window ends", full.MaxUsers)
	case errors.Is(err, budget.ErrUnavailable):
		return unavailable("budget_store_unavailable", "the budget store cannot be reached, and this budget is not spent without it; try again shortly")
	case errors.Is(err, errClientGone), errors.Is(err, context.Canceled):
		return &refusal{Status: statusClientGone, Type: typeInvalid, Code: "client_closed_request", Message: errClientGone.Error()}
	case errors.As(err, &upstream):
		return describeUpstream(upstream)
	case errors.As(err, &tooLarge):
		return &refusal{Status: http.StatusRequestEntityTooLarge, Type: typeInvalid, Code: "request_too_large",
			Message: fmt.Sprintf("the request body is larger than %d bytes (server.max_body_bytes)", tooLarge.Limit)}
	case errors.As(err, &routed):
		return describeRouted(routed)
	}
	return &refusal{Status: http.StatusInternalServerError, Type: typeAPI, Code: "internal_error", Message: "internal error; the log has the details under this request's id"}
}

func describeInvalid(e *translate.InvalidError) *refusal {
	status := e.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	return &refusal{Status: status, Type: typeInvalid, Code: e.Code, Param: e.Param, Message: e.Message}
}

func describeExceeded(e *budget.ExceededError) *refusal {
	needs := ""
	if e.Needed > 0 {
		needs = ", this request may cost $" + e.Needed.USD()
	}
	return &refusal{
		Status: http.StatusTooManyRequests, Type: typeQuota, Code: "budget_exceeded", NoRetry: true,
		RetryAfter: max(time.Second, time.Until(e.Budget.ResetsAt)),
		Message: fmt.Sprintf("budget exceeded: $%s of the %s budget of $%s per %s remain%s; it resets at %s",
			e.Budget.Remaining().USD(), e.Budget.Limit.Scope, e.Budget.Limit.Amount.USD(), e.Budget.Limit.Window,
			needs, e.Budget.ResetsAt.UTC().Format(time.RFC3339)),
	}
}

func describeRouted(e *echo.HTTPError) *refusal {
	switch e.Code {
	case http.StatusNotFound:
		return &refusal{Status: e.Code, Type: typeInvalid, Code: "unknown_url", Message: "no such route; see /docs"}
	case http.StatusMethodNotAllowed:
		return &refusal{Status: e.Code, Type: typeInvalid, Code: "method_not_allowed", Message: "this route does not take that method; see /docs"}
	}
	return &refusal{Status: e.Code, Type: typeInvalid, Message: fmt.Sprint(e.Message)}
}

// describeUpstream fixes the status an upstream's failure has for the client.
func describeUpstream(e *translate.UpstreamError) *refusal {
	r := &refusal{Status: http.StatusBadGateway, Type: typeAPI, Code: "upstream_error", NoRetry: true, Message: e.Message}
	switch e.Kind {
	case translate.KindInvalid:
		r.Status, r.Type, r.Code, r.Param, r.NoRetry = e.Status, typeInvalid, "", e.Param, e.Status >= 500
		r.Body, r.BodyType = e.Body, e.ContentType
	case translate.KindNotFound:
		return r // the router chose that model: its mistake, not the client's
	case translate.KindRateLimited:
		r.Status, r.Type, r.Code, r.NoRetry = http.StatusTooManyRequests, typeRateLimit, "rate_limit_exceeded", false
		r.RetryAfter = clampRetryAfter(e.RetryAfter)
	case translate.KindQuota:
		r.Status, r.Type, r.Code = http.StatusTooManyRequests, typeRateLimit, "upstream_quota_exceeded"
		return r
	case translate.KindOverloaded:
		r.Status, r.Code, r.NoRetry = http.StatusServiceUnavailable, "upstream_overloaded", false
		r.RetryAfter = clampRetryAfter(e.RetryAfter)
	case translate.KindTimeout:
		r.Status, r.Code = http.StatusGatewayTimeout, "upstream_timeout"
	case translate.KindAuth:
		r.Code = "upstream_auth_error"
		return r
	}
	if e.Code != "" {
		r.Code = e.Code
	}
	return r
}

// relayNotFound is the 404 of an upstream that the client itself named.
func relayNotFound(e *translate.UpstreamError) *refusal {
	return &refusal{Status: http.StatusNotFound, Type: typeInvalid, Code: "model_not_found", Param: "model", Message: e.Message,
		Body: e.Body, BodyType: e.ContentType}
}

// clampRetryAfter keeps an upstream's wish between a second and a minute.
func clampRetryAfter(d time.Duration) time.Duration {
	return min(max(d, time.Second), time.Minute)
}

// errorBody is OpenAI's error object.
func errorBody(r *refusal) []byte {
	type object struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}
	o := object{Message: r.Message, Type: r.Type}
	if r.Param != "" {
		o.Param = &r.Param
	}
	if r.Code != "" {
		o.Code = &r.Code
	}
	b, err := json.Marshal(map[string]object{"error": o})
	if err != nil {
		panic(err) // strings always marshal
	}
	return b
}

// writeRefusal answers with r, unless the client has left.
func writeRefusal(w http.ResponseWriter, r *refusal) {
	h := w.Header()
	if r.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(r.RetryAfter.Seconds())), 10))
	}
	if r.NoRetry {
		h.Set("X-Should-Retry", "false")
	}
	if r.Challenge != "" {
		h.Set("WWW-Authenticate", r.Challenge)
	}
	body, contentType := r.Body, r.BodyType
	if len(body) == 0 {
		body, contentType = errorBody(r), "application/json"
	}
	if contentType == "" {
		contentType = "application/json"
	}
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(r.Status)
	w.Write(body)
}
