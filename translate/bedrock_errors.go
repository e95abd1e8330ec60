package translate

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// BedrockError tells what a failed Bedrock call means. name is the AWS error's
// name from the header X-Amzn-Errortype or an event's :exception-type ("" when
// there is none: it may also stand in the body), status the HTTP status (200
// for an exception within a stream). The name counts first: throttling has
// been seen with status 400.
func BedrockError(name string, status int, body []byte) *UpstreamError {
	message := ""
	if gjson.ValidBytes(body) {
		root := gjson.ParseBytes(body)
		if name == "" {
			name = root.Get("__type").Str
		}
		for _, member := range []string{"message", "Message", "originalMessage"} {
			if message == "" {
				message = root.Get(member).Str
			}
		}
		if original := root.Get("originalStatusCode").Int(); errorName(name) == "modelerror" && original >= 400 && original < 500 {
			status, name = int(original), "" // the model's own word on it
		}
	}
	name, _, _ = strings.Cut(name, ":") // an internal URL follows
	e := &UpstreamError{Status: status, Err: &BedrockFault{Name: name, Message: message}}
	e.Kind, e.Code = bedrockKind(errorName(name), status, strings.ToLower(message))
	e.Message = bedrockMessage(e.Kind, message)
	if e.Kind == KindInvalid && status != 413 && status != 422 {
		e.Status = 400
	}
	return e
}

// BedrockFault is an error in AWS's own words, for our log.
type BedrockFault struct{ Name, Message string }

func (f *BedrockFault) Error() string { return f.Name + ": " + f.Message }

// Stale reports whether the credentials were refused in a way that fresh ones
// may mend.
func (f *BedrockFault) Stale() bool {
	switch errorName(f.Name) {
	case "expiredtoken", "requestexpired", "unrecognizedclient", "invalidclienttokenid", "invalidsignature", "invalidtoken":
		return true
	}
	return false
}

// errorName strips a namespace, a URL and the word Exception, and folds case:
// names within streams are camelCase.
func errorName(name string) string {
	if i := strings.IndexByte(name, '#'); i >= 0 {
		name = name[i+1:]
	}
	name, _, _ = strings.Cut(name, ":")
	name = strings.ToLower(strings.TrimSpace(name))
	return strings.TrimSuffix(name, "exception")
}

// bedrockKind is the table of AWS error names; status decides for others.
func bedrockKind(name string, status int, message string) (Kind, string) {
	switch name {
	case "throttling", "toomanyrequests", "throttled", "requestlimitexceeded":
		if strings.Contains(message, "per day") || strings.Contains(message, "daily") { // no wait of ours will do
			return KindQuota, "upstream_quota_exceeded"
		}
		return KindRateLimited, "rate_limit_exceeded"
	case "servicequotaexceeded":
		return KindQuota, "upstream_quota_exceeded"
	case "modelnotready", "serviceunavailable":
		return KindOverloaded, "upstream_overloaded"
	case "internalserver", "internalfailure", "internalservererror":
		return KindServer, "upstream_error"
	case "modeltimeout", "requesttimeout":
		return KindTimeout, "upstream_timeout"
	case "modelerror":
		return KindServer, "model_error"
	case "modelstreamerror":
		return KindServer, "model_stream_error"
	case "validation":
		return validationKind(message)
	case "resourcenotfound":
		return KindNotFound, "model_not_found"
	case "accessdenied":
		if strings.Contains(message, "access to the model") || strings.Contains(message, "model access") {
			return KindNotFound, "model_not_found"
		}
		return KindAuth, "upstream_auth_error"
	case "expiredtoken", "unrecognizedclient", "invalidsignature", "incompletesignature", "invalidclienttokenid", "signaturedoesnotmatch",
		"missingauthenticationtoken", "notauthorized", "optinrequired", "invalidtoken", "requestexpired":
		return KindAuth, "upstream_auth_error"
	case "conflict":
		return KindServer, "upstream_conflict"
	case "unknownoperation", "malformedhttprequest", "serialization":
		return KindServer, "proxy_error"
	}
	return kindOfStatus(status)
}

// validationKind tells apart what AWS calls ValidationException.
func validationKind(message string) (Kind, string) {
	contains := func(texts ...string) bool {
		for _, t := range texts {
			if strings.Contains(message, t) {
				return true
			}
		}
		return false
	}
	switch {
	case contains("model identifier is invalid"):
		return KindNotFound, "model_not_found"
	case contains("on-demand throughput isn", "with on-demand throughput"):
		return KindNotFound, "model_not_supported"
	case contains("too long", "too many input tokens", "exceed context limit", "context length", "context window"),
		contains("maximum tokens", "max tokens", "token count") && contains("exceed"):
		return KindInvalid, "context_length_exceeded"
	}
	return KindInvalid, ""
}

func kindOfStatus(status int) (Kind, string) {
	switch {
	case status == 401 || status == 403:
		return KindAuth, "upstream_auth_error"
	case status == 404:
		return KindNotFound, "model_not_found"
	case status == 408 || status == 504:
		return KindTimeout, "upstream_timeout"
	case status == 429:
		return KindRateLimited, "rate_limit_exceeded"
	case status == 503 || status == 529:
		return KindOverloaded, "upstream_overloaded"
	case status == 409:
		return KindServer, "upstream_conflict"
	case status == 413:
		return KindInvalid, "request_too_large"
	case status >= 400 && status < 500:
		return KindInvalid, ""
	case status >= 500:
		return KindServer, "upstream_error"
	case status >= 300:
		return KindBadResponse, "upstream_redirect"
	}
	return KindServer, "upstream_error"
}

// private is what a provider's message may say of us: ARNs, URLs, account
// numbers, access keys.
var private = regexp.MustCompile(`arn:[^\s"',)]+|[a-z]+://[^\s"',)]+|\b\d{12}\b|\b(AKIA|ASIA)[A-Z0-9]{12,}\b`)

// maxMessage bounds how much of a provider's message is passed on, in bytes.
const maxMessage = 2000

// bedrockMessage is what the client gets to read: the provider's own words
// where they concern the request (which message, which field), with nothing of
// our account in them; of everything else only the kind.
func bedrockMessage(kind Kind, message string) string {
	switch kind {
	case KindInvalid, KindNotFound:
		message = private.ReplaceAllString(message, "[hidden]")
		if len(message) > maxMessage {
			message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
		}
		if !blank(message) {
			return message
		}
		if kind == KindNotFound {
			return "The upstream does not have this model."
		}
		return "The upstream refused the request as invalid."
	case KindRateLimited:
		return "The upstream is limiting requests. Try again later."
	case KindQuota:
		return "The quota at the upstream is used up."
	case KindAuth:
		return "The upstream refused this router's credential."
	case KindTimeout:
		return "The upstream did not answer in time."
	case KindOverloaded:
		return "The upstream is overloaded. Try again later."
	case KindBadResponse:
		return "The upstream answered with a redirect, which is not followed."
	}
	return "The upstream failed to answer the request."
}

// relaxations are refusals that tell us what a model lacks, in the words that
// models and Bedrock use for them, all in lower case; each is read as the first
// line of which every text stands in the message.
var relaxations = []struct {
	says []string
	lack func(*Capabilities)
}{
	{[]string{"temperature", "top_p", "both"}, func(c *Capabilities) {
		if c.Sampling == "both" {
			c.Sampling = "either"
		}
	}},
	{[]string{"temperature", "deprecated"}, noSampling},
	{[]string{"top_p", "deprecated"}, noSampling},
	{[]string{"top_k", "deprecated"}, noSampling},
	{[]string{"temperature", "support"}, noSampling},
	{[]string{"top_p", "support"}, noSampling},
	{[]string{"topp", "support"}, noSampling},
	{[]string{"top_k", "support"}, noSampling},
	{[]string{"tool_choice", "type", "not supported for this model"}, noForcedTools},
	{[]string{"toolchoice", "support"}, noForcedTools},
	{[]string{"tool choice", "support"}, noForcedTools},
	{[]string{"disable_parallel_tool_use", "not permitted"}, func(c *Capabilities) { c.ParallelSwitch = false }},
	{[]string{"disable_parallel_tool_use", "support"}, func(c *Capabilities) { c.ParallelSwitch = false }},
	{[]string{"strict", "extra inputs are not permitted"}, func(c *Capabilities) { c.StrictTools = false }},
	{[]string{"strict", "support"}, func(c *Capabilities) { c.StrictTools = false }},
	{[]string{"output_config.effort", "extra inputs are not permitted"}, func(c *Capabilities) { c.Efforts = noEfforts }},
	{[]string{"effort", "not supported", "max"}, func(c *Capabilities) { c.Efforts = withoutEffort(c.Efforts, "max") }},
	{[]string{"effort", "not supported", "xhigh"}, func(c *Capabilities) { c.Efforts = withoutEffort(c.Efforts, "xhigh") }},
	{[]string{"effort", "not support"}, func(c *Capabilities) { c.Efforts = noEfforts }},
	{[]string{"output_config", "extra inputs are not permitted"}, noNativeSchema},
	{[]string{"outputconfig", "support"}, noNativeSchema},
	{[]string{"output_format", "support"}, noNativeSchema},
	{[]string{"structured output", "support"}, noNativeSchema},
	{[]string{"service tier"}, func(c *Capabilities) { c.ServiceTier = false }},
	{[]string{"servicetier"}, func(c *Capabilities) { c.ServiceTier = false }},
	{[]string{"tool use in streaming mode"}, func(c *Capabilities) { c.StreamTools = false }},
	{[]string{"support", "stopsequences"}, func(c *Capabilities) { c.Stop = false }},
	{[]string{"support", "stop_sequences"}, func(c *Capabilities) { c.Stop = false }},
	{[]string{"support", "system messages"}, func(c *Capabilities) { c.MidSystem, c.System = false, c.MidSystem && c.System }},
	{[]string{"role 'system'", "support"}, func(c *Capabilities) { c.MidSystem = false }},
	{[]string{"support", "assistant message prefill"}, func(c *Capabilities) { c.Prefill = false }},
	{[]string{"extraneous key [cachepoint]"}, func(c *Capabilities) { c.Cache = false }},
	{[]string{"support", "prompt caching"}, func(c *Capabilities) { c.Cache = false }},
	{[]string{"conversation blocks and tool result blocks", "same turn"}, func(c *Capabilities) { c.MixedToolTurn = false }},
	{[]string{"thinking.type.disabled", "not supported"}, func(c *Capabilities) { c.Thinking = "always" }},
	{[]string{"thinking.type.enabled", "not supported"}, func(c *Capabilities) { c.Reasoning = "adaptive" }},
	{[]string{"thinking.type.adaptive", "not supported"}, func(c *Capabilities) { c.Reasoning = "budget" }},
}

func noForcedTools(c *Capabilities) { c.ToolChoice, c.NamedToolChoice = false, false }

func noNativeSchema(c *Capabilities) {
	if c.StructuredOutput == "native" {
		c.StructuredOutput = "tool"
	}
}

// withoutEffort takes a name out of the list of efforts.
func withoutEffort(known, name string) string {
	if known == "" {
		known = "low medium high xhigh max"
	}
	left := slices.DeleteFunc(strings.Fields(known), func(e string) bool { return e == name })
	return cmp.Or(strings.Join(left, " "), noEfforts)
}

func noSampling(c *Capabilities) { c.Sampling = "none" }

// relax learns from a refusal: the model has told us that it lacks something we
// took it to have. It returns false when err says no such thing, or nothing
// changes.
func (c Capabilities) relax(err *UpstreamError) (Capabilities, bool) {
	before := c
	message := strings.ToLower(err.Message)
	for _, r := range relaxations {
		if slices.ContainsFunc(r.says, func(s string) bool { return !strings.Contains(message, s) }) {
			continue
		}
		if r.lack(&c); c != before {
			return c, true
		}
	}
	return c, false
}

// relax is Capabilities.relax for what concerns one request only.
func (o Options) relax(err *UpstreamError) (Options, bool) {
	message := strings.ToLower(err.Message)
	refused := strings.Contains(message, "bound to a different conversation") ||
		strings.Contains(message, "invalid") && strings.Contains(message, "signature") && strings.Contains(message, "thinking")
	if !refused || o.DropThoughts {
		return o, false
	}
	o.DropThoughts = true
	return o, true
}

// Relax gives the options with which a refused request may be put again. Its
// Capabilities are the model's, to be kept; its Options hold for this request.
// It returns false when err does not say what to leave out.
func (o BedrockOptions) Relax(err *UpstreamError) (relaxed BedrockOptions, ok bool) {
	if err.Kind != KindInvalid {
		return o, false
	}
	if o.Capabilities, ok = o.Capabilities.relax(err); !ok {
		o.Options, ok = o.Options.relax(err)
	}
	return o, ok
}
