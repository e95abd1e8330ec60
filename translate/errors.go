package translate

import (
	"bytes"
	"fmt"
	"html"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/tidwall/gjson"
)

// InvalidError says that the client's request cannot be served as it is.
type InvalidError struct {
	Status  int    // HTTP status; 0 means 400
	Message string // names the field and the remedy
	Param   string // the offending field, such as "messages[2].content"; "" when none
	Code    string // OpenAI's error code; "" when none
}

func (e *InvalidError) Error() string { return e.Message }

// Kind is what went wrong at an upstream, as far as failover, charging and the
// client's status depend on it.
type Kind string

// Kinds of upstream failure. contract.md section 9 fixes the statuses.
const (
	KindRateLimited  Kind = "rate_limited"  // 429; the upstream limits us for a while
	KindQuota        Kind = "quota"         // our account at the provider is used up
	KindOverloaded   Kind = "overloaded"    // 503, 529, model not ready
	KindTimeout      Kind = "timeout"       // no answer, or no event, in time
	KindConnect      Kind = "connect"       // no connection: refused, DNS, TLS
	KindAuth         Kind = "auth"          // our credential was refused
	KindNotFound     Kind = "not_found"     // the model does not exist or is not accessible there
	KindInvalid      Kind = "invalid"       // the client's own mistake: 400, 413, 422
	KindServer       Kind = "server"        // any other failure of theirs
	KindBadResponse  Kind = "bad_response"  // an answer that is none: HTML, broken JSON, cut short
	KindInterrupted  Kind = "interrupted"   // a stream that ended before its end
	KindUnknownState Kind = "unknown_state" // request written, nothing read: it may have been billed
)

// UpstreamError is a failed upstream call. Message is safe to show to the
// client: no key, URL, account or internal address.
type UpstreamError struct {
	Kind       Kind
	Status     int           // the upstream's HTTP status; 0 when there was none
	Type       string        // OpenAI error type for the client; "" lets Kind decide
	Code       string        // OpenAI error code for the client; "" lets Kind decide
	Param      string        // for KindInvalid
	Message    string        // for the client
	RetryAfter time.Duration // what the upstream asked for; 0 when nothing
	// Body is the upstream's own error body, relayed as it came for
	// KindInvalid on pass-through; nil when translated.
	Body        []byte
	ContentType string
	// Billed says what the provider may charge for the call.
	Billed Billed
	Words  string // the upstream's own words, for our log; see Cause
	Err    error  // the cause, for our log; never shown to the client
}

// Cause is why the call failed, for the operator: the upstream's status and its
// own words, or what became of the connection. Secrets and addresses are
// masked; it is at most 300 bytes long and one line.
func (e *UpstreamError) Cause() string {
	words := e.Words
	if words == "" && e.Err != nil {
		words = e.Err.Error()
	}
	words = OwnWords(words)
	if e.Status == 0 {
		return words
	}
	return strings.TrimSpace(strconv.Itoa(e.Status) + " " + words)
}

// refusesField are the ways of upstreams to say that they do not take a field,
// in lower case.
var refusesField = []string{"unsupported", "not supported", "does not support", "doesn't support", "unrecognized", "unknown", "unexpected",
	"not permitted", "not allowed", "forbidden", "extra_forbidden", "additional propert", "not recognized", "no such field", "cannot find field"}

// RefusedField is the top-level field of r that e refuses by name as one the
// upstream does not take; "" when it refuses something else. What a request
// cannot do without is never it.
func (e *UpstreamError) RefusedField(r *Request) string {
	if e.Kind != KindInvalid {
		return ""
	}
	text := strings.ToLower(e.Message + " " + e.Code + " " + string(e.Body[:min(len(e.Body), 4<<10)]))
	if !slices.ContainsFunc(refusesField, func(says string) bool { return strings.Contains(text, says) }) {
		return ""
	}
	first, at := "", len(text)
	param := e.Param
	if i := strings.IndexAny(param, ".["); i > 0 {
		param = param[:i]
	}
	for _, m := range r.members {
		switch m.name {
		case "model", "messages", "stream", "n":
			continue
		case param:
			return param
		}
		if i := mention(text, strings.ToLower(m.name)); i >= 0 && i < at {
			first, at = m.name, i
		}
	}
	return first
}

// mention is where text names a field: in quotes, after a colon, or bare where
// the name is no common word; -1 when it does not.
func mention(text, name string) int {
	for _, quote := range []string{"'", `"`, "`"} {
		if i := strings.Index(text, quote+name+quote); i >= 0 {
			return i
		}
	}
	for from := 0; ; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return -1
		}
		i += from
		from = i + len(name)
		word := (i == 0 || !isWordByte(text[i-1])) && (from == len(text) || !isWordByte(text[from]))
		if word && (strings.Contains(name, "_") || strings.HasSuffix(text[:i], ": ")) {
			return i
		}
	}
}

func isWordByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z'
}

// RefusesTwoLimits reports whether e says that max_tokens and
// max_completion_tokens cannot stand in one request.
func (e *UpstreamError) RefusesTwoLimits() bool {
	text := strings.ToLower(e.Message + " " + string(e.Body[:min(len(e.Body), 4<<10)]))
	return e.Kind == KindInvalid && strings.Contains(text, "max_tokens") && strings.Contains(text, "max_completion_tokens") &&
		(strings.Contains(text, "both") || strings.Contains(text, "same time") || strings.Contains(text, "only one") || strings.Contains(text, "mutually exclusive"))
}

// IsContextLength reports whether e says that the request is longer than the
// model's context window.
func (e *UpstreamError) IsContextLength() bool {
	if e.Kind != KindInvalid {
		return false
	}
	text := strings.ToLower(e.Code + " " + e.Message)
	for _, says := range []string{"context_length", "context length", "context window", "prompt is too long", "input is too long", "too many input tokens",
		"maximum context", "context size", "exceed context limit", "input token count"} {
		if strings.Contains(text, says) {
			return true
		}
	}
	return false
}

// masked is what words of an upstream, or of the network, may say of us.
var masked = regexp.MustCompile(private.String() +
	`|(?i:\bbearer\s+)\S+|\b(?:sk|pk|gsk|xai|rk|hf|key|AIza)[-_]?[\w*-]{12,}|\b[\w-]{40,}\b` +
	`|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\[[0-9a-fA-F:]{3,}\](?::\d+)?`)

// maxWords bounds an upstream's own words in our log, in bytes.
const maxWords = 300

// OwnWords is text as the log may have it: masked, one line, at most 300 bytes.
func OwnWords(text string) string {
	text = masked.ReplaceAllString(text[:min(len(text), 16*maxWords)], "[hidden]")
	text = strings.ToValidUTF8(strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " "), "")
	if len(text) > maxWords {
		text = strings.ToValidUTF8(text[:maxWords-len("…")], "") + "…"
	}
	return text
}

// Billed is what a failed call may have cost, by what was seen of it.
type Billed int

// What a failed call may have cost (reliability.md 3d).
const (
	BilledNothing Billed = iota // refused, or the request was not fully written
	BilledPartly                // input, and the output delivered so far
	BilledUnknown               // fully written, nothing readable came back
)

func (e *UpstreamError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("upstream %s: %s: %v", e.Kind, e.Message, e.Err)
	}
	return fmt.Sprintf("upstream %s: %s", e.Kind, e.Message)
}

func (e *UpstreamError) Unwrap() error { return e.Err }

// OpenAIError reads the error of an OpenAI-compatible upstream: its status,
// what it asked us to wait, and the start of its body. What a client may see
// of it is what concerns the client's own request; of all else, which may
// speak of our account or network, only the kind is told.
func OpenAIError(status int, retryAfter time.Duration, contentType string, body []byte) *UpstreamError {
	d := readErrorDetail(body)
	if !d.json && d.Message == "" {
		d.Message = plainText(contentType, body)
	}
	e := d.upstreamError(status)
	e.Status, e.RetryAfter, e.Words = status, max(retryAfter, d.wait), d.words(body)
	switch {
	case e.Kind == KindInvalid && status == 500:
		e.Status = 400 // their server did not fail: it does not do such a thing
	case (e.Kind == KindInvalid || e.Kind == KindNotFound) && d.json:
		e.Body, e.ContentType = body, contentType
	}
	return e
}

// words are what the upstream says of its failure.
func (d errorDetail) words(body []byte) string {
	if d.Message == "" {
		return string(body)
	}
	return strings.TrimSpace(strings.Join([]string{d.Type, d.Code, d.Message}, " "))
}

// plainText is what an error says that is no JSON: its text, without an HTML
// page's markup.
func plainText(contentType string, body []byte) string {
	text := string(body[:min(len(body), 16<<10)])
	if media, _, _ := strings.Cut(contentType, ";"); strings.HasSuffix(strings.ToLower(strings.TrimSpace(media)), "html") ||
		strings.HasPrefix(strings.TrimSpace(text), "<") {
		text = html.UnescapeString(markup.ReplaceAllString(text, " "))
	}
	text = private.ReplaceAllString(strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " "), "[hidden]")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}

// markup is what stands between the words of an HTML page.
var markup = regexp.MustCompile(`(?is)<(script|style|head)\b.*?</(script|style|head)\s*>|<[^>]*>`)

// inBandError is an error that came where an answer was due. whole is the JSON
// object around it.
func inBandError(detail, whole []byte) *UpstreamError {
	d := readErrorDetail(detail)
	status, _ := strconv.Atoi(d.Code)
	if status < 400 || status > 599 {
		status = d.statusByName()
	}
	e := d.upstreamError(status)
	e.Words, e.RetryAfter = d.words(whole), d.wait
	if e.Kind == KindInvalid {
		e.Status = status
		e.Body, e.ContentType = bytes.Clone(whole), "application/json"
	}
	return e
}

// errorDetail is the inside of an error object.
type errorDetail struct {
	Message, Type, Param, Code string
	json                       bool          // it came as a JSON object
	wait                       time.Duration // until the next try is worth it; 0 when it does not say
}

// readErrorDetail finds the error in a body: {"error":{…}}, {"error":"…"}, or
// the detail itself.
func readErrorDetail(body []byte) (d errorDetail) {
	if !gjson.ValidBytes(body) {
		return d
	}
	root := gjson.ParseBytes(body)
	d.json = root.IsObject()
	if root.IsArray() { // Gemini wraps its errors so
		root = root.Get("0")
	}
	if e := root.Get("error"); e.IsObject() {
		root = e
	} else if e.Type == gjson.String {
		root = e
	}
	if root.Type == gjson.String {
		d.Message = root.Str
		return d
	}
	d.wait = waitIn(root)
	d.Message = root.Get("message").String()
	if d.Message == "" {
		d.Message = firstString(root, "detail", "error_description", "msg", "title")
	}
	d.Type = root.Get("type").String()
	d.Param = root.Get("param").String()
	if d.Code = root.Get("code").String(); !isErrorCode(d.Code) {
		d.Code = ""
	}
	if d.Type == "" {
		d.Type = root.Get("status").String()
	}
	return d
}

// firstString is the first of an object's members that is a string.
func firstString(root gjson.Result, names ...string) string {
	for _, name := range names {
		if v := root.Get(name); v.Type == gjson.String {
			return v.Str
		}
	}
	return ""
}

// tryAgain is how OpenAI and Groq say in words how long to wait.
var tryAgain = regexp.MustCompile(`(?i)(?:try again|retry) (?:in|after) ((?:[0-9.]+(?:ms|s|m|h))+)`)

// waitIn is how long an error's body asks to wait: Google's RetryInfo, a member
// retry_after in seconds, or words. 0 when it says nothing of it.
func waitIn(root gjson.Result) (wait time.Duration) {
	for _, detail := range root.Get("details").Array() {
		if strings.HasSuffix(detail.Get("@type").Str, "google.rpc.RetryInfo") {
			wait, _ = time.ParseDuration(detail.Get("retryDelay").Str)
		}
	}
	if seconds := root.Get("retry_after"); wait == 0 && seconds.Type == gjson.Number {
		wait = time.Duration(min(seconds.Num, 3600) * float64(time.Second))
	}
	if said := tryAgain.FindStringSubmatch(root.Get("message").Str); wait == 0 && said != nil {
		wait, _ = time.ParseDuration(said[1])
	}
	return max(wait, 0)
}

// isErrorCode doubts codes that would make a log line long or odd.
func isErrorCode(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' {
			return false
		}
	}
	return len(s) <= 64
}

// has reports whether the error's code or type is one of names.
func (d errorDetail) has(names ...string) bool {
	return slices.Contains(names, strings.ToLower(d.Code)) || slices.Contains(names, strings.ToLower(d.Type))
}

// statusByName finds the status that an error without one would have had.
func (d errorDetail) statusByName() int {
	switch {
	case d.has("insufficient_quota", "rate_limit_exceeded", "rate_limit_error", "requests", "tokens", "too_many_requests", "resource_exhausted"):
		return 429
	case d.has("overloaded_error", "overloaded", "server_is_overloaded", "slow_down", "service_unavailable", "service_unavailable_error", "unavailable"):
		return 503
	case d.has("timeout", "timeout_error", "request_timeout", "deadline_exceeded"):
		return 504
	case d.has("authentication_error", "invalid_api_key", "unauthenticated"):
		return 401
	case d.has("permission_error", "permission_denied"):
		return 403
	case d.has("not_found_error", "model_not_found", "not_found"):
		return 404
	case d.has("invalid_request_error", "context_length_exceeded", "invalid_argument", "badrequesterror", "content_policy_violation"):
		return 400
	}
	return 500
}

// upstreamError judges an error by its status and, where that is not enough,
// by its code.
func (d errorDetail) upstreamError(status int) *UpstreamError {
	switch kind := d.kind(status); kind {
	case KindInvalid:
		e := &UpstreamError{Kind: kind, Type: "invalid_request_error", Code: d.Code, Param: d.Param, Message: d.Message}
		if e.Message == "" {
			e.Message = "The upstream refused the request as invalid."
		}
		return e
	case KindNotFound:
		return &UpstreamError{Kind: kind, Code: "model_not_found", Message: "The upstream does not have this model."}
	case KindRateLimited:
		return &UpstreamError{Kind: kind, Code: "rate_limit_exceeded", Message: "The upstream is limiting requests. Try again later."}
	case KindQuota:
		return &UpstreamError{Kind: kind, Code: "upstream_quota_exceeded", Message: "The quota at the upstream is used up."}
	case KindAuth:
		return &UpstreamError{Kind: kind, Code: "upstream_auth_error", Message: "The upstream refused this router's credential."}
	case KindTimeout:
		return &UpstreamError{Kind: kind, Code: "upstream_timeout", Message: "The upstream did not answer in time."}
	case KindOverloaded:
		return &UpstreamError{Kind: kind, Code: "upstream_overloaded", Message: "The upstream is overloaded. Try again later."}
	case KindBadResponse:
		return &UpstreamError{Kind: kind, Code: "upstream_redirect", Message: "The upstream answered with a redirect, which is not followed."}
	default:
		return &UpstreamError{Kind: kind, Code: "upstream_error", Message: "The upstream failed to answer the request."}
	}
}

// notSupported reports whether a server says that it does not do what the
// request asks for, whatever status it has for that.
func (d errorDetail) notSupported() bool {
	if d.has("not_supported", "unsupported", "not_implemented", "notimplemented", "unsupported_parameter", "unimplemented") {
		return true
	}
	low := strings.ToLower(d.Message)
	for _, says := range []string{"not supported", "unsupported", "does not support", "doesn't support", "not implemented", "not yet supported"} {
		if strings.Contains(low, says) {
			return true
		}
	}
	return false
}

func (d errorDetail) kind(status int) Kind {
	switch {
	case status >= 300 && status < 400:
		return KindBadResponse
	case status == 402, d.has("insufficient_quota", "billing_hard_limit_reached", "insufficient_balance", "billing_not_active"):
		return KindQuota
	case status == 401, status == 403, d.has("invalid_api_key"), strings.Contains(d.Message, "API key not valid"):
		return KindAuth
	case status == 404, status == 410, d.has("model_not_found", "model_decommissioned"):
		return KindNotFound
	case status == 400, status == 413, status == 422, status == 501, status == 500 && d.notSupported():
		return KindInvalid
	case status == 429:
		return KindRateLimited
	case status == 408, status == 504, status == 524:
		return KindTimeout
	case status == 503, status == 529, status == 498, d.has("overloaded_error", "server_is_overloaded"):
		return KindOverloaded
	}
	return KindServer
}
