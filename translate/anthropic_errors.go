package translate

import (
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// AnthropicError reads an error answer: its status, what it asked us to wait,
// and its body. What a client may see of it is what concerns the client's own
// request; of all else, which may speak of our account, only the kind is told.
func AnthropicError(status int, retryAfter time.Duration, body []byte) *UpstreamError {
	var detail gjson.Result
	if !rawjson.TooDeep(body, maxAnthropicDepth) && gjson.ValidBytes(body) {
		detail = gjson.GetBytes(body, "error")
	}
	e := anthropicError(detail, status)
	e.RetryAfter = retryAfter
	return e
}

// anthropicStatus is the status that each type of error comes with.
var anthropicStatus = map[string]int{
	"invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
	"not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429,
	"api_error": 500, "timeout_error": 504, "overloaded_error": 529,
}

// anthropicError judges an error by its type, else by its status.
func anthropicError(detail gjson.Result, status int) *UpstreamError {
	kind, message := detail.Get("type").Str, detail.Get("message").Str
	byType := anthropicStatus[kind]
	if byType == 0 {
		byType = status
	}
	e := anthropicFailure(byType)
	if e.Kind == KindInvalid {
		e = anthropicRefusal(e, message)
	}
	if e.Status = status; status == 0 && e.Kind == KindInvalid { // within a stream
		e.Status = byType
	}
	if kind != "" {
		e.Err = &AnthropicFault{Type: kind, Message: message}
	}
	return e
}

// AnthropicFault is an error in Anthropic's own words, for our log.
type AnthropicFault struct{ Type, Message string }

func (f *AnthropicFault) Error() string { return f.Type + ": " + f.Message }

// anthropicRefusal is a request refused as invalid, with what they say of it.
func anthropicRefusal(e *UpstreamError, message string) *UpstreamError {
	says := func(texts ...string) bool {
		low := strings.ToLower(message)
		return slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(low, t) })
	}
	switch {
	// Three things said of our account, as if the request were invalid.
	case says("credit balance is too low", "api usage limits"):
		return anthropicFailure(402)
	case says("organization has been disabled"):
		return anthropicFailure(403)
	case says("prompt is too long", "exceed context limit", "context window"):
		e.Code = "context_length_exceeded"
	}
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
	}
	if message != "" {
		e.Message = message
	}
	return e
}

func anthropicFailure(status int) *UpstreamError {
	switch {
	case status == 413:
		return &UpstreamError{Kind: KindInvalid, Type: "invalid_request_error", Code: "request_too_large", Message: "The request is too large for the upstream."}
	case status == 400 || status == 422:
		return &UpstreamError{Kind: KindInvalid, Type: "invalid_request_error", Message: "The upstream refused the request as invalid."}
	case status == 401 || status == 403:
		return &UpstreamError{Kind: KindAuth, Code: "upstream_auth_error", Message: "The upstream refused this router's credential."}
	case status == 402:
		return &UpstreamError{Kind: KindQuota, Code: "upstream_quota_exceeded", Message: "The quota at the upstream is used up."}
	case status == 404:
		return &UpstreamError{Kind: KindNotFound, Code: "model_not_found", Message: "The upstream does not have this model."}
	case status == 429:
		return &UpstreamError{Kind: KindRateLimited, Code: "rate_limit_exceeded", Message: "The upstream is limiting requests. Try again later."}
	case status == 408 || status == 504 || status == 524:
		return &UpstreamError{Kind: KindTimeout, Code: "upstream_timeout", Message: "The upstream did not answer in time."}
	case status == 503 || status == 529:
		return &UpstreamError{Kind: KindOverloaded, Code: "upstream_overloaded", Message: "The upstream is overloaded. Try again later."}
	case status >= 300 && status < 400:
		return &UpstreamError{Kind: KindBadResponse, Code: "upstream_redirect", Message: "The upstream answered with a redirect, which is not followed."}
	}
	return &UpstreamError{Kind: KindServer, Code: "upstream_error", Message: "The upstream failed to answer the request."}
}

// Relax gives the options with which a refused request may be put again. Its
// Capabilities are the model's, to be kept; its Options hold for this request.
// It returns false when err does not say what to leave out.
func (o AnthropicOptions) Relax(err *UpstreamError) (relaxed AnthropicOptions, ok bool) {
	if err.Kind != KindInvalid {
		return o, false
	}
	if o.Capabilities, ok = o.Capabilities.relax(err); !ok {
		o.Options, ok = o.Options.relax(err)
	}
	return o, ok
}
