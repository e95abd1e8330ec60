package translate

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// AnthropicOptions says how to put requests to one model behind the Messages
// API.
type AnthropicOptions struct {
	Options
	Capabilities Capabilities
	// MaxTokens is the output limit of requests without one, which the API
	// does not take; 0 means what the model can give, or 8192 when that is not
	// known.
	MaxTokens int64
}

// defaultMaxTokens is the output limit where neither the client nor the
// operator set one and the model's own is not known.
const defaultMaxTokens = 8192

// AnthropicRequest is a request in the words of the Messages API, and what it
// takes to understand the answer.
type AnthropicRequest struct {
	Body    []byte
	Dropped []string // request fields that had to be dropped, in the request's order
	Stream  bool     // a stream was asked for

	names   *names
	request *Request
}

// ToAnthropic writes the Messages call for a request. r.Body holds the
// attempt's final JSON. It fails with *InvalidError when the request cannot be
// put to the model.
func ToAnthropic(r *Request, o AnthropicOptions) (*AnthropicRequest, error) {
	c, err := parseFor(r.Body, o.Options)
	if err != nil {
		return nil, err
	}
	w := anthropicWriter{chat: c, caps: o.Capabilities}
	w.keepTools()
	if w.plan, err = c.shape(o.Capabilities); err != nil {
		return nil, named(err)
	}
	w.noCalls = w.noCalls || w.plan.names.silent != ""
	w.resolveLimit(o)
	w.resolveOddities()
	dropped, err := c.applyUnsupported(o.Options)
	if err != nil {
		return nil, err
	}
	if err := w.request(r); err != nil {
		return nil, named(err)
	}
	// Of the request only what the answer depends on is kept: a stream may
	// last, and requests are large.
	asked := &Request{IncludeUsage: r.IncludeUsage, IncludeCost: r.IncludeCost}
	return &AnthropicRequest{Body: w.t, Dropped: dropped, Stream: r.Stream, names: w.plan.names, request: asked}, nil
}

// anthropicWriter writes one request body.
type anthropicWriter struct {
	t       rawjson.Writer
	chat    *chat
	plan    *plan
	caps    Capabilities
	noCalls bool   // tools are there, and not to be called
	tier    string // service_tier
}

// keepTools leaves the client's tools in place when none may be called:
// Messages has a word for that, a prompt cache keeps its prefix and earlier
// calls their definitions. It is not for a model that needs a tool call to
// answer in the client's format.
func (w *anthropicWriter) keepTools() {
	callsForFormat := w.chat.format.kind == "json_schema" && w.caps.StructuredOutput != "native" && !w.chat.boundPrefix(w.caps)
	if w.chat.choice.mode == "none" && w.caps.Tools && !callsForFormat {
		w.chat.choice.mode, w.noCalls = "", true
	}
}

// resolveLimit sees to an output limit, which the API insists on.
func (w *anthropicWriter) resolveLimit(o AnthropicOptions) {
	most := w.caps.MaxOutput
	switch {
	case w.chat.maxTokens > 0:
	case o.MaxTokens > 0:
		w.chat.maxTokens = o.MaxTokens
	case most > 0:
		w.chat.maxTokens = most
	default:
		w.chat.maxTokens = defaultMaxTokens
	}
	if most > 0 {
		w.chat.maxTokens = min(w.chat.maxTokens, most)
	}
	w.plan.reasoning.budget = min(w.plan.reasoning.budget, w.chat.maxTokens-1)
}

// resolveOddities notes what Messages has no word for.
func (w *anthropicWriter) resolveOddities() {
	switch w.chat.serviceTier {
	case "", "auto":
		w.tier = w.chat.serviceTier
	case "default":
		w.tier = "standard_only"
	default:
		w.chat.markUnsupported("service_tier", false, "this provider has no such tier")
	}
	if w.chat.verbosity != "" {
		w.chat.markUnsupported("verbosity", false, "this model has no verbosity")
	}
	if w.chat.latency != "" {
		w.chat.markUnsupported("performanceConfig", false, "this provider has no such setting")
	}
	if w.chat.guardrail != nil {
		name := "guardrailConfig"
		if !slices.Contains(w.chat.order, name) {
			name = "guardrail_config"
		}
		w.chat.markUnsupported(name, true, "this provider has no guardrails")
	}
}

func (w *anthropicWriter) request(r *Request) error {
	w.t = make(rawjson.Writer, 0, len(r.Body)+1024)
	w.t.Object()
	w.t.StringMember("model", r.Model)
	w.t.IntMember("max_tokens", w.chat.maxTokens)
	if r.Stream {
		w.t.RawMember("stream", "true")
	}
	w.reasoning()
	w.sampling()
	if w.tier != "" {
		w.t.StringMember("service_tier", w.tier)
	}
	if isOpaqueID(w.chat.userID) {
		w.t.OpenObject("metadata")
		w.t.StringMember("user_id", w.chat.userID)
		w.t.EndObject()
	}
	w.tools()
	w.system()
	w.t.OpenArray("messages")
	for i := range w.chat.messages {
		if err := w.message(&w.chat.messages[i]); err != nil {
			return err
		}
	}
	w.t.EndArray()
	w.t.EndObject()
	return nil
}

// isOpaqueID reports whether the API takes id as a user's: not an empty or a
// long one, nor what looks like a mail address or a phone number.
func isOpaqueID(id string) bool {
	phone := len(id) >= 7 && strings.Trim(id, "+-() 0123456789") == ""
	return id != "" && len(id) <= 256 && !strings.Contains(id, "@") && !phone
}

func (w *anthropicWriter) reasoning() {
	r := w.plan.reasoning
	if r.on() {
		w.t.OpenObject("thinking")
		if r.mode == reasoningBudget {
			w.t.StringMember("type", "enabled")
			w.t.IntMember("budget_tokens", r.budget)
		} else {
			w.t.StringMember("type", "adaptive")
			if r.display != "" {
				w.t.StringMember("display", r.display)
			}
		}
		w.t.EndObject()
	} else if r.mode == reasoningOff && w.caps.Thinking == "default" {
		w.t.RawMember("thinking", `{"type":"disabled"}`)
	}
	if r.effort == "" && w.plan.schema == nil {
		return
	}
	w.t.OpenObject("output_config")
	if r.effort != "" {
		w.t.StringMember("effort", r.effort)
	}
	if w.plan.schema != nil {
		w.t.OpenObject("format")
		w.t.StringMember("type", "json_schema")
		w.t.RawMember("schema", w.plan.schema.schema)
		w.t.EndObject()
	}
	w.t.EndObject()
}

func (w *anthropicWriter) sampling() {
	if w.chat.temperature != nil {
		w.t.Key("temperature")
		w.t.Number(*w.chat.temperature)
	}
	if w.chat.topP != nil {
		w.t.Key("top_p")
		w.t.Number(*w.chat.topP)
	}
	if w.chat.topK != nil {
		w.t.IntMember("top_k", *w.chat.topK)
	}
	if len(w.chat.stop) > 0 {
		w.t.OpenArray("stop_sequences")
		for _, s := range w.chat.stop {
			w.t.String(s)
		}
		w.t.EndArray()
	}
}

func (w *anthropicWriter) tools() {
	if len(w.chat.tools) == 0 {
		return
	}
	w.t.OpenArray("tools")
	for _, t := range w.chat.tools {
		w.t.Object()
		w.t.StringMember("name", w.plan.names.alias(t.name))
		if !blank(t.description) {
			w.t.StringMember("description", t.description)
		}
		schema := toolSchema(t.schema, w.caps)
		if t.strict && w.caps.StrictTools && !isOpen(gjson.Parse(t.schema), true) {
			w.t.RawMember("strict", "true")
			schema = closedSchema(schema)
		}
		w.t.RawMember("input_schema", schema)
		w.cache(t.cache)
		w.t.EndObject()
	}
	w.t.EndArray()
	w.toolChoice()
}

func (w *anthropicWriter) toolChoice() {
	single := w.plan.names.single
	kind := ""
	switch {
	case w.noCalls:
		kind, single = "none", false
	case w.chat.choice.mode == "required":
		kind = "any"
	case w.chat.choice.mode == "tool":
		kind = "tool"
	case single:
		kind = "auto"
	default:
		return
	}
	w.t.OpenObject("tool_choice")
	w.t.StringMember("type", kind)
	if kind == "tool" {
		w.t.StringMember("name", w.plan.names.alias(w.chat.choice.name))
	}
	if single {
		w.t.RawMember("disable_parallel_tool_use", "true")
	}
	w.t.EndObject()
}

func (w *anthropicWriter) system() {
	if len(w.chat.system) == 0 {
		return
	}
	w.t.OpenArray("system")
	for _, b := range w.chat.system {
		w.text(b.text, b.cache)
	}
	w.t.EndArray()
}

func (w *anthropicWriter) text(text string, cache *cacheMark) {
	w.t.Object()
	w.t.StringMember("type", "text")
	w.t.StringMember("text", text)
	w.cache(cache)
	w.t.EndObject()
}

func (w *anthropicWriter) cache(mark *cacheMark) {
	if mark == nil {
		return
	}
	w.t.OpenObject("cache_control")
	w.t.StringMember("type", "ephemeral")
	if mark.hour {
		w.t.StringMember("ttl", "1h")
	}
	w.t.EndObject()
}

func (w *anthropicWriter) message(m *message) error {
	w.t.Object()
	w.t.StringMember("role", string(m.role))
	w.t.OpenArray("content")
	for i := range m.blocks {
		if err := w.block(&m.blocks[i]); err != nil {
			return err
		}
	}
	w.t.EndArray()
	w.t.EndObject()
	return nil
}

func (w *anthropicWriter) block(b *block) error {
	switch b.kind {
	case blockText:
		w.text(b.text, b.cache)
	case blockImage:
		return w.image(b)
	case blockDocument:
		return w.document(b)
	case blockToolUse:
		w.t.Object()
		w.t.StringMember("type", "tool_use")
		w.t.StringMember("id", aliasID(b.id))
		w.t.StringMember("name", w.plan.names.alias(b.name))
		w.t.RawMember("input", b.input)
		w.cache(b.cache)
		w.t.EndObject()
	case blockToolResult:
		return w.toolResult(b)
	case blockReasoning: // takes no cache_control
		w.t.Object()
		w.t.StringMember("type", "thinking")
		w.t.StringMember("thinking", b.text)
		w.t.StringMember("signature", b.signature)
		w.t.EndObject()
	case blockRedacted:
		w.t.Object()
		w.t.StringMember("type", "redacted_thinking")
		w.t.StringMember("data", b.data)
		w.t.EndObject()
	default:
		return &InvalidError{Param: b.param, Code: "unsupported_content", Message: "this model cannot take this kind of content"}
	}
	return nil
}

// toolResult leaves is_error unsaid: OpenAI's messages do not say it, and
// a guess would change what the model makes of the result.
func (w *anthropicWriter) toolResult(b *block) error {
	w.t.Object()
	w.t.StringMember("type", "tool_result")
	w.t.StringMember("tool_use_id", aliasID(b.id))
	if len(b.content) > 0 {
		w.t.OpenArray("content")
		for i := range b.content {
			if err := w.block(&b.content[i]); err != nil {
				return err
			}
		}
		w.t.EndArray()
	}
	w.cache(b.cache)
	w.t.EndObject()
	return nil
}

func (w *anthropicWriter) image(b *block) error {
	if b.media.url != "" && !strings.HasPrefix(strings.ToLower(b.media.url), "https://") {
		return &InvalidError{Param: b.mediaParam(), Message: "this model takes images by https or data URL only"}
	}
	w.t.Object()
	w.t.StringMember("type", "image")
	w.t.OpenObject("source")
	if b.media.url != "" {
		w.t.StringMember("type", "url")
		w.t.StringMember("url", b.media.url)
	} else {
		w.base64(imageMIME[b.media.format], b.media.base64)
	}
	w.t.EndObject()
	w.cache(b.cache)
	w.t.EndObject()
	return nil
}

func (b *block) mediaParam() string {
	if strings.Contains(b.param, "image_url") {
		return b.param
	}
	return b.param + ".image_url.url"
}

func (w *anthropicWriter) base64(mime, data string) {
	w.t.StringMember("type", "base64")
	w.t.StringMember("media_type", mime)
	w.t.StringMember("data", data)
}

// document sends a PDF as it is and any kind of text as plain text; the
// API takes nothing else.
func (w *anthropicWriter) document(b *block) error {
	text := ""
	switch b.media.format {
	case "pdf":
	case "txt", "md", "csv", "html":
		decoded, err := base64.StdEncoding.DecodeString(b.media.base64)
		if text = string(decoded); err != nil || blank(text) {
			return &InvalidError{Param: b.param, Message: "this file is empty or not base64"}
		}
	default:
		return &InvalidError{Param: b.param, Code: "unsupported_content", Message: "this model reads PDF and text files only, not " + b.media.format}
	}
	w.t.Object()
	w.t.StringMember("type", "document")
	w.t.OpenObject("source")
	if text == "" {
		w.base64("application/pdf", b.media.base64)
	} else {
		w.t.StringMember("type", "text")
		w.t.StringMember("media_type", "text/plain")
		w.t.StringMember("data", text)
	}
	w.t.EndObject()
	w.t.StringMember("title", b.media.name)
	w.cache(b.cache)
	w.t.EndObject()
	return nil
}
