package translate

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// BedrockOptions is what shapes a request for one Bedrock model.
type BedrockOptions struct {
	Options
	Capabilities Capabilities
	// Guardrail of the operator; it wins over the client's.
	Guardrail Guardrail
	// SendMetadata passes the client's metadata and user on as
	// requestMetadata, which AWS writes to its invocation logs.
	SendMetadata bool
	// FetchImage gets a remote image; nil when that is not allowed.
	FetchImage func(url string) ([]byte, error)
}

// Guardrail names one of the operator's guardrails on Bedrock.
type Guardrail struct {
	ID      string // identifier or ARN; "" for none
	Version string // "DRAFT" when empty
	Trace   string // enabled, disabled, enabled_full, or ""
	// Async lets a stream run ahead of the guardrail's verdict.
	Async bool
}

// BedrockRequest is the body of a Converse or ConverseStream call, and what is
// needed to read its answer.
type BedrockRequest struct {
	Body    []byte
	Dropped []string // request fields that had to be dropped
	// Stream says to call ConverseStream. It is false for a client's stream
	// when the model cannot stream the calls it is offered: FromBedrockStream
	// then takes the whole answer apart (see WholeEvents).
	Stream bool

	names *names
	asked Request // IncludeUsage and IncludeCost of the client's request
}

// ToBedrock writes the Converse call for a request.
func ToBedrock(r *Request, o BedrockOptions) (*BedrockRequest, error) {
	caps := o.Capabilities
	c, p, err := prepare(r.Body, caps, o.Options)
	if err != nil {
		return nil, err
	}
	if err := c.fetchImages(o); err != nil {
		return nil, named(err)
	}
	w := bedrockWriter{chat: c, plan: p, options: o, caps: caps, t: make(rawjson.Writer, 0, len(r.Body)+1<<9)}
	stream := r.Stream && (caps.StreamTools || len(c.tools) == 0)
	w.request(stream)
	dropped, err := c.applyUnsupported(o.Options)
	if err != nil {
		return nil, err
	}
	return &BedrockRequest{
		Body: w.t, Dropped: dropped, names: p.names, asked: Request{IncludeUsage: r.IncludeUsage, IncludeCost: r.IncludeCost},
		Stream: stream,
	}, nil
}

// bedrockWriter writes one request body.
type bedrockWriter struct {
	t       rawjson.Writer
	chat    *chat
	plan    *plan
	options BedrockOptions
	caps    Capabilities
}

func (w *bedrockWriter) request(stream bool) {
	w.t.Object()
	w.messages()
	w.system()
	w.toolConfig()
	w.highEffort()
	w.extraFields()
	w.inference()
	w.outputConfig()
	w.guardrail(stream)
	w.metadata()
	w.serviceTier()
	if w.chat.latency != "" {
		w.t.OpenObject("performanceConfig")
		w.t.StringMember("latency", w.chat.latency)
		w.t.EndObject()
	}
	if w.chat.verbosity != "" && !w.caps.Verbosity {
		w.chat.markUnsupported("verbosity", false, "this model has no such setting")
	}
	w.t.EndObject()
}

func (w *bedrockWriter) messages() {
	w.t.OpenArray("messages")
	for _, m := range w.chat.messages {
		w.t.Object()
		w.t.StringMember("role", string(m.role))
		w.t.OpenArray("content")
		w.blocks(m.blocks)
		w.t.EndArray()
		w.t.EndObject()
	}
	w.t.EndArray()
}

// blocks writes a turn's content. A document wants text beside it, and a cache
// point may not stand right after one that is not a PDF: it waits for the next
// block that bears it.
func (w *bedrockWriter) blocks(blocks []block) {
	if hasBlock(blocks, blockDocument) && !hasBlock(blocks, blockText) {
		at := slices.IndexFunc(blocks, func(b block) bool { return b.kind != blockToolResult })
		if at < 0 {
			at = len(blocks)
		}
		blocks = slices.Insert(slices.Clone(blocks), at, block{kind: blockText, text: "See the document."})
	}
	var waiting *cacheMark
	for _, b := range blocks {
		w.block(b)
		if b.cache != nil {
			waiting = b.cache
		}
		if waiting != nil && (b.kind != blockDocument || b.media.format == "pdf") {
			w.cachePoint(waiting)
			waiting = nil
		}
	}
}

func hasBlock(blocks []block, kind blockKind) bool {
	return slices.ContainsFunc(blocks, func(b block) bool { return b.kind == kind })
}

func (w *bedrockWriter) cachePoint(m *cacheMark) {
	if m == nil {
		return
	}
	w.t.Object()
	w.t.OpenObject("cachePoint")
	w.t.StringMember("type", "default")
	if m.hour {
		w.t.StringMember("ttl", "1h")
	}
	w.t.EndObject()
	w.t.EndObject()
}

func (w *bedrockWriter) block(b block) {
	w.t.Object()
	switch b.kind {
	case blockText:
		w.t.StringMember("text", b.text)
	case blockImage:
		w.media("image", b.media)
	case blockDocument:
		w.media("document", b.media)
	case blockAudio:
		w.media("audio", b.media)
	case blockToolUse:
		w.t.OpenObject("toolUse")
		w.t.StringMember("toolUseId", aliasID(b.id))
		w.t.StringMember("name", w.plan.names.alias(b.name))
		w.t.RawMember("input", b.input)
		w.t.EndObject()
	case blockToolResult:
		w.toolResult(b)
	case blockReasoning:
		w.t.OpenObject("reasoningContent")
		w.t.OpenObject("reasoningText")
		w.t.StringMember("text", b.text)
		w.t.StringMember("signature", b.signature)
		w.t.EndObject()
		w.t.EndObject()
	case blockRedacted:
		w.t.OpenObject("reasoningContent")
		w.t.StringMember("redactedContent", b.data)
		w.t.EndObject()
	}
	w.t.EndObject()
}

func (w *bedrockWriter) media(kind string, m *media) {
	w.t.OpenObject(kind)
	if kind == "document" {
		w.t.StringMember("name", m.name)
	}
	w.t.StringMember("format", m.format)
	w.t.OpenObject("source")
	if m.url != "" {
		w.t.OpenObject("s3Location")
		w.t.StringMember("uri", m.url)
		w.t.EndObject()
	} else {
		w.t.StringMember("bytes", m.base64)
	}
	w.t.EndObject()
	w.t.EndObject()
}

func (w *bedrockWriter) toolResult(b block) {
	w.t.OpenObject("toolResult")
	w.t.StringMember("toolUseId", aliasID(b.id))
	w.t.OpenArray("content")
	for _, part := range b.content {
		w.block(part)
	}
	if len(b.content) == 0 { // neither blank text nor an empty list is accepted
		w.t.Object()
		w.t.RawMember("json", "{}")
		w.t.EndObject()
	}
	w.t.EndArray()
	w.t.EndObject()
}

func (w *bedrockWriter) system() {
	if len(w.chat.system) == 0 {
		return
	}
	w.t.OpenArray("system")
	w.blocks(w.chat.system)
	w.t.EndArray()
}

func (w *bedrockWriter) toolConfig() {
	if len(w.chat.tools) == 0 {
		return
	}
	w.t.OpenObject("toolConfig")
	w.t.OpenArray("tools")
	for _, tool := range w.chat.tools {
		w.tool(tool)
	}
	w.t.EndArray()
	switch w.chat.choice.mode {
	case "required":
		w.t.RawMember("toolChoice", `{"any":{}}`)
	case "tool":
		w.t.OpenObject("toolChoice")
		w.t.OpenObject("tool")
		w.t.StringMember("name", w.plan.names.alias(w.chat.choice.name))
		w.t.EndObject()
		w.t.EndObject()
	}
	w.t.EndObject()
}

func (w *bedrockWriter) tool(t tool) {
	w.t.Object()
	w.t.OpenObject("toolSpec")
	w.t.StringMember("name", w.plan.names.alias(t.name))
	if !blank(t.description) {
		w.t.StringMember("description", t.description)
	}
	w.t.OpenObject("inputSchema")
	schema := toolSchema(t.schema, w.caps)
	if w.isStrict(t) {
		schema = closedSchema(schema)
	}
	w.t.RawMember("json", schema)
	w.t.EndObject()
	if w.isStrict(t) {
		w.t.Key("strict")
		w.t.Bool(true)
	}
	w.t.EndObject()
	w.t.EndObject()
	w.cachePoint(t.cache)
}

func (w *bedrockWriter) isStrict(t tool) bool {
	return t.strict && w.caps.StrictTools && !isOpen(gjson.Parse(t.schema), true)
}

// extraFields writes the model's native parameters, which Converse passes
// through in additionalModelRequestFields.
func (w *bedrockWriter) extraFields() {
	var t rawjson.Writer
	t.Object()
	w.reasoningFields(&t)
	if k := w.chat.topK; k != nil {
		switch w.caps.Family {
		case "claude", "mistral":
			t.IntMember("top_k", *k)
		case "cohere":
			t.IntMember("k", *k)
		case "nova":
			t.OpenObject("inferenceConfig")
			t.IntMember("topK", *k)
			t.EndObject()
		default:
			w.chat.markUnsupported("top_k", false, "this model has no such setting")
		}
	}
	if w.chat.parallelTools != nil && !*w.chat.parallelTools && w.caps.ParallelSwitch && len(w.chat.tools) > 0 {
		w.parallelSwitch(&t)
	}
	if w.caps.Verbosity && w.chat.verbosity != "" {
		t.StringMember("verbosity", w.chat.verbosity)
	}
	t.EndObject()
	if len(t) > len("{}") {
		w.t.RawMember("additionalModelRequestFields", string(t))
	}
}

// parallelSwitch speaks of the tool choice in Claude's own words, the only place
// where parallel calls can be switched off. Beside a toolChoice it may not name
// the choice again.
func (w *bedrockWriter) parallelSwitch(t *rawjson.Writer) {
	t.OpenObject("tool_choice")
	if w.chat.choice.mode == "" {
		t.StringMember("type", "auto")
	}
	t.Key("disable_parallel_tool_use")
	t.Bool(true)
	t.EndObject()
}

func (w *bedrockWriter) reasoningFields(t *rawjson.Writer) {
	r := w.plan.reasoning
	switch r.mode {
	case reasoningBudget:
		t.OpenObject("thinking")
		t.StringMember("type", "enabled")
		t.IntMember("budget_tokens", r.budget)
		t.EndObject()
	case reasoningAdaptive:
		t.OpenObject("thinking")
		t.StringMember("type", "adaptive")
		if r.display != "" {
			t.StringMember("display", r.display)
		}
		t.EndObject()
	case reasoningEffort:
		w.effortField(t, r.effort)
	case reasoningOff:
		switch {
		case w.caps.Reasoning == "effort":
			w.effortField(t, "none")
		case w.caps.Thinking == "default":
			t.RawMember("thinking", `{"type":"disabled"}`)
		}
	}
}

// effortField names the effort as the family does.
func (w *bedrockWriter) effortField(t *rawjson.Writer, effort string) {
	switch w.caps.Family {
	case "nova":
		t.OpenObject("reasoningConfig")
		if effort == "none" {
			t.StringMember("type", "disabled")
		} else {
			t.StringMember("type", "enabled")
			t.StringMember("maxReasoningEffort", effort)
		}
		t.EndObject()
	case "claude": // said in outputConfig
	default:
		if effort == "none" && !knowsEffort(w.caps, effort) { // then silence means it
			return
		}
		if object, name, nested := strings.Cut(w.caps.EffortField, "."); nested {
			t.OpenObject(object)
			t.StringMember(name, effort)
			t.EndObject()
		} else {
			t.StringMember(cmp.Or(object, "reasoning_effort"), effort)
		}
	}
}

// highEffort drops what Nova refuses beside it.
func (w *bedrockWriter) highEffort() {
	c := w.chat
	if w.caps.Family != "nova" || w.plan.reasoning.effort != "high" {
		return
	}
	if c.maxTokens > 0 {
		c.markUnsupported(w.limitParam(), false, "this model sets its own limit at high effort")
	}
	c.dropSampling("this model chooses its own sampling at high effort")
	c.maxTokens = 0
}

func (w *bedrockWriter) inference() {
	c := w.chat
	if c.maxTokens == 0 && c.temperature == nil && c.topP == nil && len(c.stop) == 0 {
		return
	}
	w.t.OpenObject("inferenceConfig")
	if c.maxTokens > 0 {
		w.t.IntMember("maxTokens", c.maxTokens)
	}
	if c.temperature != nil {
		w.t.Key("temperature")
		w.t.Number(*c.temperature)
	}
	if c.topP != nil {
		w.t.Key("topP")
		w.t.Number(*c.topP)
	}
	if len(c.stop) > 0 {
		w.t.OpenArray("stopSequences")
		for _, s := range c.stop {
			w.t.String(s)
		}
		w.t.EndArray()
	}
	w.t.EndObject()
}

// limitParam is the member in which the client set its output limit.
func (w *bedrockWriter) limitParam() string {
	if slices.Contains(w.chat.order, "max_completion_tokens") {
		return "max_completion_tokens"
	}
	return "max_tokens"
}

func (w *bedrockWriter) outputConfig() {
	effort := w.plan.reasoning.effort
	if w.plan.reasoning.mode == reasoningEffort && w.caps.Family != "claude" { // said in a field of the family's own
		effort = ""
	}
	s := w.plan.schema
	if s == nil && effort == "" {
		return
	}
	w.t.OpenObject("outputConfig")
	if s != nil {
		w.t.OpenObject("textFormat")
		w.t.StringMember("type", "json_schema")
		w.t.OpenObject("structure")
		w.t.OpenObject("jsonSchema")
		w.t.StringMember("schema", s.schema)
		if s.name != "" {
			w.t.StringMember("name", s.name)
		}
		if !blank(s.description) {
			w.t.StringMember("description", s.description)
		}
		w.t.EndObject()
		w.t.EndObject()
		w.t.EndObject()
	}
	if effort != "" {
		w.t.StringMember("effort", effort)
	}
	w.t.EndObject()
}

func (w *bedrockWriter) guardrail(stream bool) {
	g := w.options.Guardrail
	if g.ID == "" && w.chat.guardrail != nil {
		g = Guardrail{
			ID: w.chat.guardrail.id, Version: w.chat.guardrail.version, Trace: w.chat.guardrail.trace,
			Async: w.chat.guardrail.mode == "async",
		}
	}
	if g.ID == "" {
		return
	}
	if g.Version == "" {
		g.Version = "DRAFT"
	}
	w.chat.guarded()
	w.t.OpenObject("guardrailConfig")
	w.t.StringMember("guardrailIdentifier", g.ID)
	w.t.StringMember("guardrailVersion", g.Version)
	if g.Trace != "" {
		w.t.StringMember("trace", g.Trace)
	}
	if stream && g.Async {
		w.t.StringMember("streamProcessingMode", "async")
	}
	w.t.EndObject()
}

// guarded takes back that moderation cannot block: the guardrail does.
func (c *chat) guarded() {
	c.unsupported = slices.DeleteFunc(c.unsupported, func(u unsupported) bool { return u.param == "moderation" })
}

// maxMetadata is how many pairs requestMetadata takes.
const maxMetadata = 16

func (w *bedrockWriter) metadata() {
	if !w.options.SendMetadata {
		return
	}
	pairs := map[string]string{}
	for k, v := range w.chat.metadata {
		if k != "" {
			pairs[metadataText(k)] = metadataText(v)
		}
	}
	if w.chat.userID != "" && pairs["user"] == "" {
		pairs["user"] = metadataText(w.chat.userID)
	}
	if len(pairs) == 0 {
		return
	}
	keys := make([]string, 0, len(pairs))
	for k := range pairs {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	w.t.OpenObject("requestMetadata")
	for _, k := range keys[:min(len(keys), maxMetadata)] {
		w.t.String(k)
		w.t = append(w.t, ':')
		w.t.String(pairs[k])
	}
	w.t.EndObject()
}

// metadataText makes text fit for requestMetadata: it must never be what a
// request fails for.
func metadataText(s string) string {
	fit := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" \t\n:_@$#=/+,-.", r) {
			return r
		}
		return '_'
	}, s)
	return fit[:min(len(fit), 256)]
}

func (w *bedrockWriter) serviceTier() {
	tier := w.chat.serviceTier
	switch tier {
	case "", "auto", "scale":
		return
	case "fast":
		tier = "priority"
	}
	if !w.caps.ServiceTier {
		if tier != "default" {
			w.chat.markUnsupported("service_tier", false, "this model has only the default tier")
		}
		return
	}
	w.t.OpenObject("serviceTier")
	w.t.StringMember("type", tier)
	w.t.EndObject()
}

// fetchImages settles images that are somewhere else: those in S3 Bedrock
// reads itself, others are fetched where the operator allows it.
func (c *chat) fetchImages(o BedrockOptions) error {
	for i := range c.messages {
		for j := range c.messages[i].blocks {
			b := &c.messages[i].blocks[j]
			if err := b.fetch(o); err != nil {
				return err
			}
			for k := range b.content {
				if err := b.content[k].fetch(o); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (b *block) fetch(o BedrockOptions) error {
	if b.kind != blockImage || b.media.url == "" {
		return nil
	}
	param := b.param + ".image_url.url"
	if strings.HasPrefix(strings.ToLower(b.media.url), "s3:") {
		if imageMIME[b.media.format] == "" {
			return &InvalidError{Param: param, Message: "expected a name that ends in .png, .jpeg, .gif or .webp"}
		}
		return nil
	}
	if !o.RemoteImages || o.FetchImage == nil {
		return &InvalidError{Param: param, Code: "image_url_not_supported", Message: "this model takes images as data: URLs only; the operator can allow others with translate.remote_images"}
	}
	data, err := o.FetchImage(b.media.url)
	if err != nil {
		return within(param, err)
	}
	format := sniffFormat(data)
	if imageMIME[format] == "" {
		return &InvalidError{Param: param, Code: "invalid_image_url", Message: "this image is neither png, jpeg, gif nor webp"}
	}
	b.media = &media{format: format, base64: base64.StdEncoding.EncodeToString(data)}
	return nil
}
