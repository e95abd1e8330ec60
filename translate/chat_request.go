package translate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// Options is the operator's word on what a dialect other than OpenAI's cannot say.
type Options struct {
	// Unsupported settles what happens to request fields with no counterpart:
	// "default" (or "") drops or refuses by field, "drop" drops what can be
	// dropped at all, "reject" refuses each of them with a 400.
	Unsupported string
	// RemoteImages allows images to be fetched for models that take only
	// bytes. Off, an http(s) image is a 400 there.
	RemoteImages bool
	// ImageHosts are the only hosts such images may come from; empty means any
	// public one.
	ImageHosts []string
	// DropThoughts leaves out the thoughts of earlier turns, for a request whose
	// upstream has refused them.
	DropThoughts bool
}

// chat is one OpenAI chat request as the translated dialects see it: read in
// one strict pass, with free-form JSON kept as the text it came as, so that
// its numbers survive byte for byte. Steps (see normalize.go) then shape it to
// what a model accepts.
type chat struct {
	system   []block // filled by liftSystem
	messages []message

	tools         []tool
	choice        toolChoice
	parallelTools *bool // nil when not asked for
	legacy        bool  // functions or function_call: answer in kind

	format responseFormat
	ask    []ask // what the model is told beside the client's own words
	silent bool  // the tools stay, but may not be called

	effort   string    // reasoning_effort; "" when absent
	thinking *thinking // an explicit thinking object; nil when absent

	temperature, topP *float64
	topK              *int64
	stop              []string
	maxTokens         int64 // 0 when the client set no limit

	serviceTier string // "" when absent
	verbosity   string
	userID      string            // safety_identifier, else user
	metadata    map[string]string // string values only
	cacheTTL    string            // the lifetime the whole request asks for its cache points: "", 5m, 1h
	guardrail   *guardrail
	latency     string // performanceConfig.latency

	stream bool

	unsupported []unsupported
	order       []string // top-level names as they came
}

// unsupported is a request field that the dialects behind chat have no word for.
type unsupported struct {
	param  string
	refuse bool // dropping it would change what the client gets in kind
	why    string
}

// message is one turn. Its blocks are in the order they are to be sent.
type message struct {
	role   role
	blocks []block
	index  int // where the client has it, for error messages

	callID string // role function: the name, until its id is known
}

type role string

const (
	roleSystem    role = "system" // developer, too
	roleUser      role = "user"
	roleAssistant role = "assistant"
	roleFunction  role = "function" // legacy tool result; paired by pairFunctions
)

type blockKind int

const (
	blockText blockKind = iota
	blockImage
	blockDocument
	blockAudio
	blockToolUse
	blockToolResult
	blockReasoning // text with a signature, or without
	blockRedacted  // reasoning that only the provider can read
)

// block is one piece of a turn. Which fields count depends on the kind.
type block struct {
	kind  blockKind
	param string     // where the client has it, such as "messages[2].content[0]"
	text  string     // text, reasoning
	cache *cacheMark // the prompt up to and with this block may be cached

	signature string // reasoning
	data      string // redacted: base64, as the provider gave it
	place     place  // of thoughts: where the answer had them

	media *media // image, document, audio

	id      string  // toolUse, toolResult
	name    string  // toolUse
	input   string  // toolUse: a JSON object
	content []block // toolResult: text, image, document
}

// cacheMark is a cache point after a block, a tool or system text.
type cacheMark struct {
	hour bool // lives an hour instead of five minutes
}

// tool is a function the model may call.
type tool struct {
	name, description string
	schema            string // a JSON object; "" when the client gave none
	strict            bool
	custom            bool // its input is free text
	cache             *cacheMark
	param             string
}

// toolChoice is what the client says about calling.
type toolChoice struct {
	mode    string   // "" (not said), auto, none, required, tool
	name    string   // of mode tool
	allowed []string // allowed_tools; nil means all
	param   string   // tool_choice or function_call
}

// responseFormat is the shape the client wants for the answer's text.
type responseFormat struct {
	kind              string // "", json_object, json_schema ("text" is "")
	name, description string
	schema            string // a JSON object
	strict            bool
}

// thinking is the vendor's own switch for reasoning, which clients may send.
type thinking struct {
	kind    string // enabled, disabled, adaptive
	budget  int64  // tokens; 0 when absent
	display string // "", summarized, omitted
}

// guardrail names a guardrail of Bedrock.
type guardrail struct {
	id, version, trace string
	mode               string // of streams: sync, async, or ""
}

// maxChatDepth is how deep a request's JSON may nest.
const maxChatDepth = 64

// parseChat reads a request. It refuses wrong types, unknown roles and unknown
// kinds of content with an InvalidError that names the place; members it does
// not know are ignored, as OpenAI-compatible servers commonly do.
func parseChat(body []byte) (*chat, error) {
	if rawjson.TooDeep(body, maxChatDepth) {
		return nil, &InvalidError{Message: fmt.Sprintf("the request nests deeper than %d levels", maxChatDepth)}
	}
	if !gjson.ValidBytes(body) {
		return nil, &InvalidError{Message: "the request body is not valid JSON", Code: "invalid_json"}
	}
	root := gjson.ParseBytes(body)
	if !root.IsObject() {
		return nil, &InvalidError{Message: "the request body must be a JSON object"}
	}
	c := &chat{}
	var raw rawChat
	err := eachMember(root, func(name string, v gjson.Result) error {
		c.order = append(c.order, name)
		read, known := chatFields[name]
		if !known {
			return nil
		}
		return within(name, read(c, &raw, v))
	})
	if err == nil {
		err = c.resolve(&raw)
	}
	if err != nil {
		return nil, named(err)
	}
	return c, nil
}

// rawChat holds the members of which one rules another out.
type rawChat struct {
	maxTokens, maxCompletionTokens int64
	tools, functions               []tool
	toolChoice, functionCall       toolChoice
	user, safetyID                 string
	retention24h                   bool
	cacheOptions                   *cacheOptions
	cache                          *cacheMark // of the whole prompt
}

type cacheOptions struct{ mode, ttl string }

// chatFields reads each top-level member we know. null never gets here.
var chatFields = map[string]func(*chat, *rawChat, gjson.Result) error{
	"messages": func(c *chat, r *rawChat, v gjson.Result) (err error) {
		c.messages, err = readMessages(v)
		return err
	},
	"max_completion_tokens": func(c *chat, r *rawChat, v gjson.Result) error { return readLimit(&r.maxCompletionTokens, v) },
	"max_tokens":            func(c *chat, r *rawChat, v gjson.Result) error { return readLimit(&r.maxTokens, v) },
	"temperature":           func(c *chat, r *rawChat, v gjson.Result) error { return readRange(&c.temperature, v, 0, 2) },
	"top_p":                 func(c *chat, r *rawChat, v gjson.Result) error { return readRange(&c.topP, v, 0, 1) },
	"top_k": func(c *chat, r *rawChat, v gjson.Result) error {
		n, err := intValue(v, 0, math.MaxInt32)
		c.topK = &n
		return err
	},
	"stop":           (*chat).readStop,
	"stream":         func(c *chat, r *rawChat, v gjson.Result) error { return readBool(&c.stream, v) },
	"stream_options": func(c *chat, r *rawChat, v gjson.Result) error { return wantObject(v) },
	"n":              (*chat).readN,
	"tools":          func(c *chat, r *rawChat, v gjson.Result) (err error) { r.tools, err = readTools(v); return err },
	"functions":      func(c *chat, r *rawChat, v gjson.Result) (err error) { r.functions, err = readFunctions(v); return err },
	"tool_choice": func(c *chat, r *rawChat, v gjson.Result) (err error) {
		r.toolChoice, err = readToolChoice(v)
		return err
	},
	"function_call": func(c *chat, r *rawChat, v gjson.Result) (err error) {
		r.functionCall, err = readFunctionCall(v)
		return err
	},
	"parallel_tool_calls": func(c *chat, r *rawChat, v gjson.Result) error {
		c.parallelTools = new(bool)
		return readBool(c.parallelTools, v)
	},
	"response_format":  (*chat).readFormat,
	"reasoning_effort": func(c *chat, r *rawChat, v gjson.Result) error { return readOneOf(&c.effort, v, efforts...) },
	"thinking":         (*chat).readThinking,
	"verbosity": func(c *chat, r *rawChat, v gjson.Result) error {
		return readOneOf(&c.verbosity, v, "low", "medium", "high")
	},
	"logprobs":          (*chat).readLogprobs,
	"top_logprobs":      (*chat).readTopLogprobs,
	"logit_bias":        (*chat).readLogitBias,
	"presence_penalty":  func(c *chat, r *rawChat, v gjson.Result) error { return c.readPenalty("presence_penalty", v) },
	"frequency_penalty": func(c *chat, r *rawChat, v gjson.Result) error { return c.readPenalty("frequency_penalty", v) },
	"seed": func(c *chat, r *rawChat, v gjson.Result) error {
		_, err := intValue(v, math.MinInt64, math.MaxInt64)
		return err
	},
	"user":                   func(c *chat, r *rawChat, v gjson.Result) error { return readString(&r.user, v) },
	"safety_identifier":      func(c *chat, r *rawChat, v gjson.Result) error { return readString(&r.safetyID, v) },
	"metadata":               (*chat).readMetadata,
	"store":                  func(c *chat, r *rawChat, v gjson.Result) error { return readBool(new(bool), v) },
	"service_tier":           func(c *chat, r *rawChat, v gjson.Result) error { return readOneOf(&c.serviceTier, v, serviceTiers...) },
	"modalities":             (*chat).readModalities,
	"audio":                  func(c *chat, r *rawChat, v gjson.Result) error { return wantObject(v) },
	"web_search_options":     (*chat).readWebSearch,
	"moderation":             (*chat).readModeration,
	"prompt_cache_retention": (*chat).readCacheRetention,
	"prompt_cache_options":   (*chat).readCacheOptions,
	"cache_control": func(c *chat, r *rawChat, v gjson.Result) (err error) {
		r.cache, err = readCacheControl(v)
		return err
	},
	"guardrailConfig":   (*chat).readGuardrail,
	"guardrail_config":  (*chat).readGuardrail,
	"performanceConfig": (*chat).readPerformance,
}

var (
	efforts      = []string{"none", "minimal", "low", "medium", "high", "xhigh", "max"}
	serviceTiers = []string{"auto", "default", "flex", "scale", "priority", "fast", "reserved"}
)

// resolve decides between members that say the same thing twice.
func (c *chat) resolve(raw *rawChat) error {
	if len(c.messages) == 0 {
		return within("messages", &InvalidError{Code: "empty_array", Message: "expected at least one message"})
	}
	c.maxTokens = raw.maxCompletionTokens
	if c.maxTokens == 0 {
		c.maxTokens = raw.maxTokens
	}
	c.tools, c.choice = raw.tools, raw.toolChoice
	if len(c.tools) == 0 && len(raw.functions) > 0 {
		c.tools, c.legacy = raw.functions, true
	}
	if c.choice.mode == "" && raw.functionCall.mode != "" {
		c.choice = raw.functionCall
	}
	c.userID = raw.safetyID
	if c.userID == "" {
		c.userID = raw.user
	}
	if last := &c.messages[len(c.messages)-1]; raw.cache != nil && len(last.blocks) > 0 {
		if b := &last.blocks[len(last.blocks)-1]; b.cache == nil {
			b.cache = raw.cache
		}
	}
	if raw.retention24h || raw.cacheOptions != nil && raw.cacheOptions.ttl != "" && raw.cacheOptions.ttl != "5m" {
		c.cacheTTL = "1h"
	}
	return nil
}

func readLimit(to *int64, v gjson.Result) (err error) {
	*to, err = intValue(v, 1, math.MaxInt32)
	return err
}

func readRange(to **float64, v gjson.Result, low, high float64) error {
	if v.Type != gjson.Number {
		return wrongType(v, "a number")
	}
	if !(v.Num >= low && v.Num <= high) {
		return refusef("expected a number from %g to %g, got %s", low, high, v.Raw)
	}
	n := v.Num
	*to = &n
	return nil
}

func (c *chat) readStop(_ *rawChat, v gjson.Result) error {
	if v.Type == gjson.String {
		c.stop = []string{v.Str}
		return nil
	}
	err := eachElement(v, func(i int, e gjson.Result) error {
		c.stop = append(c.stop, "")
		return readString(&c.stop[i], e)
	})
	if err == nil && len(c.stop) > 4 {
		err = refusef("expected at most 4 stop sequences, got %d", len(c.stop))
	}
	return err
}

func (c *chat) readN(_ *rawChat, v gjson.Result) error {
	n, err := intValue(v, 1, 128)
	if n > 1 {
		c.markUnsupported("n", true, "this model returns one choice")
	}
	return err
}

func (c *chat) readLogprobs(_ *rawChat, v gjson.Result) error {
	var on bool
	err := readBool(&on, v)
	if on {
		c.markUnsupported("logprobs", true, "this model reports no log probabilities")
	}
	return err
}

func (c *chat) readTopLogprobs(_ *rawChat, v gjson.Result) error {
	n, err := intValue(v, 0, 20)
	if n > 0 {
		c.markUnsupported("top_logprobs", true, "this model reports no log probabilities")
	}
	return err
}

func (c *chat) readLogitBias(_ *rawChat, v gjson.Result) error {
	if err := wantObject(v); err != nil {
		return err
	}
	if len(v.Map()) > 0 {
		c.markUnsupported("logit_bias", false, "this model has other tokens")
	}
	return nil
}

func (c *chat) readPenalty(name string, v gjson.Result) error {
	var n *float64
	if err := readRange(&n, v, -2, 2); err != nil {
		return err
	}
	if *n != 0 {
		c.markUnsupported(name, false, "this model has no such penalty")
	}
	return nil
}

func (c *chat) readMetadata(_ *rawChat, v gjson.Result) error {
	c.metadata = map[string]string{}
	return eachMember(v, func(name string, e gjson.Result) error {
		if e.Type == gjson.String {
			c.metadata[name] = e.Str
		}
		return nil
	})
}

func (c *chat) readModalities(_ *rawChat, v gjson.Result) error {
	return eachElement(v, func(i int, e gjson.Result) error {
		var kind string
		if err := readOneOf(&kind, e, "text", "audio"); err != nil {
			return err
		}
		if kind == "audio" {
			c.markUnsupported("modalities", true, "this model answers in text only")
		}
		return nil
	})
}

func (c *chat) readWebSearch(_ *rawChat, v gjson.Result) error {
	c.markUnsupported("web_search_options", true, "this model cannot search the web")
	return wantObject(v)
}

func (c *chat) readModeration(_ *rawChat, v gjson.Result) error {
	if err := wantObject(v); err != nil {
		return err
	}
	policy := v.Get("policy")
	if policy.Str == "block" || policy.Get("mode").Str == "block" {
		c.markUnsupported("moderation", true, "this model has no moderation that could block")
	} else {
		c.markUnsupported("moderation", false, "this model has no moderation scores")
	}
	return nil
}

func (c *chat) readCacheRetention(raw *rawChat, v gjson.Result) error {
	var s string
	err := readString(&s, v)
	raw.retention24h = s == "24h"
	return err
}

func (c *chat) readCacheOptions(raw *rawChat, v gjson.Result) error {
	raw.cacheOptions = &cacheOptions{}
	return eachMember(v, func(name string, e gjson.Result) error {
		switch name {
		case "mode":
			return within(name, readOneOf(&raw.cacheOptions.mode, e, "implicit", "explicit"))
		case "ttl":
			return within(name, readString(&raw.cacheOptions.ttl, e))
		}
		return nil
	})
}

func (c *chat) readThinking(_ *rawChat, v gjson.Result) error {
	c.thinking = &thinking{}
	err := eachMember(v, func(name string, e gjson.Result) (err error) {
		switch name {
		case "type":
			err = readOneOf(&c.thinking.kind, e, "enabled", "disabled", "adaptive")
		case "budget_tokens":
			c.thinking.budget, err = intValue(e, 0, math.MaxInt32)
		case "display":
			err = readOneOf(&c.thinking.display, e, "summarized", "omitted")
		}
		return within(name, err)
	})
	if err == nil && c.thinking.kind == "" {
		err = within("type", refusef("expected one of enabled, disabled, adaptive"))
	}
	return err
}

func (c *chat) readGuardrail(_ *rawChat, v gjson.Result) error {
	c.guardrail = &guardrail{}
	return eachMember(v, func(name string, e gjson.Result) error {
		switch name {
		case "guardrailIdentifier":
			return within(name, readString(&c.guardrail.id, e))
		case "guardrailVersion":
			return within(name, readString(&c.guardrail.version, e))
		case "trace":
			return within(name, readOneOf(&c.guardrail.trace, e, "enabled", "disabled", "enabled_full"))
		case "streamProcessingMode":
			return within(name, readOneOf(&c.guardrail.mode, e, "sync", "async"))
		}
		return nil
	})
}

func (c *chat) readPerformance(_ *rawChat, v gjson.Result) error {
	return eachMember(v, func(name string, e gjson.Result) error {
		if name != "latency" {
			return nil
		}
		return within(name, readOneOf(&c.latency, e, "standard", "optimized"))
	})
}

func (c *chat) readFormat(_ *rawChat, v gjson.Result) error {
	if err := wantObject(v); err != nil {
		return err
	}
	var kind string
	if err := within("type", readOneOf(&kind, v.Get("type"), "text", "json_object", "json_schema")); err != nil {
		return err
	}
	if kind == "text" {
		return nil
	}
	c.format.kind = kind
	if kind != "json_schema" {
		return nil
	}
	s := v.Get("json_schema")
	if !s.Exists() {
		return within("json_schema", refusef("expected an object with name and schema"))
	}
	err := eachMember(s, func(name string, e gjson.Result) (err error) {
		switch name {
		case "name":
			err = readString(&c.format.name, e)
		case "description":
			err = readString(&c.format.description, e)
		case "schema":
			err = wantObject(e)
			c.format.schema = rawjson.WholePairs(e.Raw)
		case "strict":
			err = readBool(&c.format.strict, e)
		}
		return within(name, err)
	})
	if err == nil && c.format.schema == "" {
		err = within("schema", refusef("expected a JSON schema"))
	}
	return within("json_schema", err)
}

// markUnsupported notes a field that has no counterpart; applyUnsupported decides what becomes of it.
func (c *chat) markUnsupported(param string, refuse bool, why string) {
	if slices.ContainsFunc(c.unsupported, func(u unsupported) bool { return u.param == param }) {
		return
	}
	c.unsupported = append(c.unsupported, unsupported{param: param, refuse: refuse, why: why})
}

// applyUnsupported applies the operator's choice to everything noted by markUnsupported: it
// returns the names of what is dropped, in the request's order, or the error
// that refuses the request. Call it once all steps are done.
func (c *chat) applyUnsupported(o Options) ([]string, error) {
	slices.SortStableFunc(c.unsupported, func(a, b unsupported) int { return c.place(a.param) - c.place(b.param) })
	var dropped []string
	for _, u := range c.unsupported {
		if o.Unsupported == "reject" || u.refuse && o.Unsupported != "drop" {
			return nil, named(&InvalidError{Param: u.param, Code: "unsupported_parameter", Message: u.why})
		}
		dropped = append(dropped, u.param)
	}
	return dropped, nil
}

// place is where the client put a field, or where it is nested.
func (c *chat) place(param string) int {
	top, _, _ := strings.Cut(param, ".")
	top, _, _ = strings.Cut(top, "[")
	if i := slices.Index(c.order, top); i >= 0 {
		return i
	}
	return len(c.order)
}

// Reading values: each returns an InvalidError without a Param, which callers
// prefix by within on the way out, so that paths cost nothing when all is well.

func refusef(format string, args ...any) error {
	return &InvalidError{Message: fmt.Sprintf(format, args...)}
}

func missing(want string) error {
	return &InvalidError{Code: "missing_required_parameter", Message: want}
}

// within prefixes the place an InvalidError names.
func within(name string, err error) error {
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		return err
	}
	switch {
	case invalid.Param == "":
		invalid.Param = name
	case invalid.Param[0] == '[':
		invalid.Param = name + invalid.Param
	default:
		invalid.Param = name + "." + invalid.Param
	}
	return err
}

// named puts the place into the message, in the words OpenAI uses. It is the
// last thing done to an error.
func named(err error) error {
	var invalid *InvalidError
	if !errors.As(err, &invalid) || invalid.Param == "" || strings.Contains(invalid.Message, "'"+invalid.Param+"'") {
		return err
	}
	switch invalid.Code {
	case "invalid_type":
		invalid.Message = fmt.Sprintf("Invalid type for '%s': %s instead.", invalid.Param, invalid.Message)
	case "missing_required_parameter":
		invalid.Message = fmt.Sprintf("Missing required parameter: '%s'. It must be %s.", invalid.Param, invalid.Message)
	case "unsupported_parameter":
		invalid.Message = fmt.Sprintf("Unsupported parameter: '%s' cannot be used with this model: %s.", invalid.Param, invalid.Message)
	default:
		invalid.Message = fmt.Sprintf("Invalid '%s': %s.", invalid.Param, strings.TrimSuffix(invalid.Message, "."))
	}
	return err
}

// eachMember calls read for each member of an object that is not null.
func eachMember(v gjson.Result, read func(name string, v gjson.Result) error) (err error) {
	if !v.IsObject() {
		return wrongType(v, "an object")
	}
	v.ForEach(func(k, e gjson.Result) bool {
		if e.Type != gjson.Null {
			err = read(k.Str, e)
		}
		return err == nil
	})
	return err
}

// eachElement calls read for each element of an array.
func eachElement(v gjson.Result, read func(i int, v gjson.Result) error) (err error) {
	if !v.IsArray() {
		return wrongType(v, "an array")
	}
	i := 0
	v.ForEach(func(_, e gjson.Result) bool {
		err = read(i, e)
		if err != nil {
			err = within("["+strconv.Itoa(i)+"]", err)
		}
		i++
		return err == nil
	})
	return err
}

func wantObject(v gjson.Result) error {
	if !v.IsObject() {
		return wrongType(v, "an object")
	}
	return nil
}

func readString(to *string, v gjson.Result) error {
	if v.Type != gjson.String {
		return wrongType(v, "a string")
	}
	*to = v.Str
	return nil
}

func readBool(to *bool, v gjson.Result) error {
	if v.Type != gjson.True && v.Type != gjson.False {
		return wrongType(v, "a boolean")
	}
	*to = v.Type == gjson.True
	return nil
}

func readOneOf(to *string, v gjson.Result, allowed ...string) error {
	if v.Type != gjson.String {
		return wrongType(v, "a string")
	}
	if !slices.Contains(allowed, v.Str) {
		return refusef("expected one of %s", strings.Join(allowed, ", "))
	}
	*to = v.Str
	return nil
}

// intValue reads an integer; 10.0 and 1e3 are integers, too.
func intValue(v gjson.Result, low, high int64) (int64, error) {
	if v.Type != gjson.Number {
		return 0, wrongType(v, "an integer")
	}
	n, err := strconv.ParseInt(v.Raw, 10, 64)
	if err != nil {
		if v.Num != math.Trunc(v.Num) || math.Abs(v.Num) > 1<<53 {
			return 0, refusef("expected an integer from %d to %d, got %s", low, high, v.Raw)
		}
		n = int64(v.Num)
	}
	if n < low || n > high {
		return 0, refusef("expected an integer from %d to %d, got %s", low, high, v.Raw)
	}
	return n, nil
}

func wrongType(v gjson.Result, want string) error {
	got := map[gjson.Type]string{gjson.Null: "null", gjson.False: "a boolean", gjson.True: "a boolean", gjson.Number: "a number", gjson.String: "a string"}[v.Type]
	switch {
	case !v.Exists():
		return missing(want)
	case v.IsArray():
		got = "an array"
	case v.IsObject():
		got = "an object"
	}
	return &InvalidError{Code: "invalid_type", Message: fmt.Sprintf("expected %s, but got %s", want, got)}
}
