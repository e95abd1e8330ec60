package translate

import (
	"encoding/base64"
	"slices"
	"strings"
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
	c, p, err := prepare(r.Body, caps)
	if err != nil {
		return nil, err
	}
	if err := c.fetchImages(o); err != nil {
		return nil, named(err)
	}
	w := bedrockWriter{chat: c, plan: p, options: o, caps: caps, t: make(jsonText, 0, len(r.Body)+1<<9)}
	stream := r.Stream && (caps.StreamTools || len(c.tools) == 0)
	w.request(stream)
	dropped, err := c.judge(o.Options)
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
	t       jsonText
	chat    *chat
	plan    *plan
	options BedrockOptions
	caps    Capabilities
}

func (w *bedrockWriter) request(stream bool) {
	w.t.object()
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
		w.t.openObject("performanceConfig")
		w.t.stringMember("latency", w.chat.latency)
		w.t.endObject()
	}
	if w.chat.verbosity != "" && !w.caps.Verbosity {
		w.chat.cannot("verbosity", false, "this model has no such setting")
	}
	w.t.endObject()
}

func (w *bedrockWriter) messages() {
	w.t.openArray("messages")
	for _, m := range w.chat.messages {
		w.t.object()
		w.t.stringMember("role", string(m.role))
		w.t.openArray("content")
		w.blocks(m.blocks)
		w.t.endArray()
		w.t.endObject()
	}
	w.t.endArray()
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
	w.t.object()
	w.t.openObject("cachePoint")
	w.t.stringMember("type", "default")
	if m.hour {
		w.t.stringMember("ttl", "1h")
	}
	w.t.endObject()
	w.t.endObject()
}

func (w *bedrockWriter) block(b block) {
	w.t.object()
	switch b.kind {
	case blockText:
		w.t.stringMember("text", b.text)
	case blockImage:
		w.media("image", b.media)
	case blockDocument:
		w.media("document", b.media)
	case blockAudio:
		w.media("audio", b.media)
	case blockToolUse:
		w.t.openObject("toolUse")
		w.t.stringMember("toolUseId", aliasID(b.id))
		w.t.stringMember("name", w.plan.names.alias(b.name))
		w.t.rawMember("input", b.input)
		w.t.endObject()
	case blockToolResult:
		w.toolResult(b)
	case blockReasoning:
		w.t.openObject("reasoningContent")
		w.t.openObject("reasoningText")
		w.t.stringMember("text", b.text)
		w.t.stringMember("signature", b.signature)
		w.t.endObject()
		w.t.endObject()
	case blockRedacted:
		w.t.openObject("reasoningContent")
		w.t.stringMember("redactedContent", b.data)
		w.t.endObject()
	}
	w.t.endObject()
}

func (w *bedrockWriter) media(kind string, m *media) {
	w.t.openObject(kind)
	if kind == "document" {
		w.t.stringMember("name", m.name)
	}
	w.t.stringMember("format", m.format)
	w.t.openObject("source")
	if m.url != "" {
		w.t.openObject("s3Location")
		w.t.stringMember("uri", m.url)
		w.t.endObject()
	} else {
		w.t.stringMember("bytes", m.base64)
	}
	w.t.endObject()
	w.t.endObject()
}

func (w *bedrockWriter) toolResult(b block) {
	w.t.openObject("toolResult")
	w.t.stringMember("toolUseId", aliasID(b.id))
	w.t.openArray("content")
	for _, part := range b.content {
		w.block(part)
	}
	if len(b.content) == 0 { // neither blank text nor an empty list is accepted
		w.t.object()
		w.t.rawMember("json", "{}")
		w.t.endObject()
	}
	w.t.endArray()
	w.t.endObject()
}

func (w *bedrockWriter) system() {
	if len(w.chat.system) == 0 {
		return
	}
	w.t.openArray("system")
	w.blocks(w.chat.system)
	w.t.endArray()
}

func (w *bedrockWriter) toolConfig() {
	if len(w.chat.tools) == 0 {
		return
	}
	w.t.openObject("toolConfig")
	w.t.openArray("tools")
	for _, tool := range w.chat.tools {
		w.tool(tool)
	}
	w.t.endArray()
	switch w.chat.choice.mode {
	case "required":
		w.t.rawMember("toolChoice", `{"any":{}}`)
	case "tool":
		w.t.openObject("toolChoice")
		w.t.openObject("tool")
		w.t.stringMember("name", w.plan.names.alias(w.chat.choice.name))
		w.t.endObject()
		w.t.endObject()
	}
	w.t.endObject()
}

func (w *bedrockWriter) tool(t tool) {
	w.t.object()
	w.t.openObject("toolSpec")
	w.t.stringMember("name", w.plan.names.alias(t.name))
	if !blank(t.description) {
		w.t.stringMember("description", t.description)
	}
	w.t.openObject("inputSchema")
	w.t.rawMember("json", toolSchema(t.schema, w.caps))
	w.t.endObject()
	if t.strict && w.caps.StrictTools {
		w.t.key("strict")
		w.t.bool(true)
	}
	w.t.endObject()
	w.t.endObject()
	w.cachePoint(t.cache)
}

// extraFields writes the model's native parameters, which Converse passes
// through in additionalModelRequestFields.
func (w *bedrockWriter) extraFields() {
	var t jsonText
	t.object()
	w.reasoningFields(&t)
	if k := w.chat.topK; k != nil {
		switch w.caps.Family {
		case "claude", "mistral":
			t.intMember("top_k", *k)
		case "cohere":
			t.intMember("k", *k)
		case "nova":
			t.openObject("inferenceConfig")
			t.intMember("topK", *k)
			t.endObject()
		default:
			w.chat.cannot("top_k", false, "this model has no such setting")
		}
	}
	if w.chat.parallelTools != nil && !*w.chat.parallelTools && w.caps.ParallelSwitch && len(w.chat.tools) > 0 {
		w.parallelSwitch(&t)
	}
	if w.caps.Verbosity && w.chat.verbosity != "" {
		t.stringMember("verbosity", w.chat.verbosity)
	}
	t.endObject()
	if len(t) > len("{}") {
		w.t.rawMember("additionalModelRequestFields", string(t))
	}
}

// parallelSwitch repeats the tool choice in Claude's own words, the only place
// where parallel calls can be switched off.
func (w *bedrockWriter) parallelSwitch(t *jsonText) {
	t.openObject("tool_choice")
	switch w.chat.choice.mode {
	case "required":
		t.stringMember("type", "any")
	case "tool":
		t.stringMember("type", "tool")
		t.stringMember("name", w.plan.names.alias(w.chat.choice.name))
	default:
		t.stringMember("type", "auto")
	}
	t.key("disable_parallel_tool_use")
	t.bool(true)
	t.endObject()
}

func (w *bedrockWriter) reasoningFields(t *jsonText) {
	r := w.plan.reasoning
	switch r.mode {
	case reasoningBudget:
		t.openObject("thinking")
		t.stringMember("type", "enabled")
		t.intMember("budget_tokens", r.budget)
		t.endObject()
	case reasoningAdaptive:
		t.openObject("thinking")
		t.stringMember("type", "adaptive")
		if r.display != "" {
			t.stringMember("display", r.display)
		}
		t.endObject()
	case reasoningEffort:
		w.effortField(t, r.effort)
	case reasoningOff:
		if r.effort == "" { // else said in outputConfig
			w.effortField(t, "none")
		}
	}
}

// effortField names the effort as the family does.
func (w *bedrockWriter) effortField(t *jsonText, effort string) {
	switch w.caps.Family {
	case "nova":
		t.openObject("reasoningConfig")
		if effort == "none" {
			t.stringMember("type", "disabled")
		} else {
			t.stringMember("type", "enabled")
			t.stringMember("maxReasoningEffort", effort)
		}
		t.endObject()
	case "deepseek":
		if effort != "none" {
			t.stringMember("reasoning_config", effort)
		}
	case "claude": // said in outputConfig
	default:
		if effort == "none" {
			effort = "low"
		}
		t.stringMember("reasoning_effort", effort)
	}
}

// highEffort drops what Nova refuses beside it.
func (w *bedrockWriter) highEffort() {
	c := w.chat
	if w.caps.Family != "nova" || w.plan.reasoning.effort != "high" {
		return
	}
	if c.maxTokens > 0 {
		c.cannot(w.limitParam(), false, "this model sets its own limit at high effort")
	}
	c.dropSampling("this model chooses its own sampling at high effort")
	c.maxTokens = 0
}

func (w *bedrockWriter) inference() {
	c := w.chat
	if c.maxTokens == 0 && c.temperature == nil && c.topP == nil && len(c.stop) == 0 {
		return
	}
	w.t.openObject("inferenceConfig")
	if c.maxTokens > 0 {
		w.t.intMember("maxTokens", c.maxTokens)
	}
	if c.temperature != nil {
		w.t.key("temperature")
		w.t.number(*c.temperature)
	}
	if c.topP != nil {
		w.t.key("topP")
		w.t.number(*c.topP)
	}
	if len(c.stop) > 0 {
		w.t.openArray("stopSequences")
		for _, s := range c.stop {
			w.t.string(s)
		}
		w.t.endArray()
	}
	w.t.endObject()
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
	w.t.openObject("outputConfig")
	if s != nil {
		w.t.openObject("textFormat")
		w.t.stringMember("type", "json_schema")
		w.t.openObject("structure")
		w.t.openObject("jsonSchema")
		w.t.stringMember("schema", s.schema)
		if s.name != "" {
			w.t.stringMember("name", s.name)
		}
		if !blank(s.description) {
			w.t.stringMember("description", s.description)
		}
		w.t.endObject()
		w.t.endObject()
		w.t.endObject()
	}
	if effort != "" {
		w.t.stringMember("effort", effort)
	}
	w.t.endObject()
}

func (w *bedrockWriter) guardrail(stream bool) {
	g := w.options.Guardrail
	if g.ID == "" && w.chat.guardrail != nil {
		g = Guardrail{ID: w.chat.guardrail.id, Version: w.chat.guardrail.version, Trace: w.chat.guardrail.trace}
	}
	if g.ID == "" {
		return
	}
	if g.Version == "" {
		g.Version = "DRAFT"
	}
	w.chat.guarded()
	w.t.openObject("guardrailConfig")
	w.t.stringMember("guardrailIdentifier", g.ID)
	w.t.stringMember("guardrailVersion", g.Version)
	if g.Trace != "" {
		w.t.stringMember("trace", g.Trace)
	}
	if stream && g.Async {
		w.t.stringMember("streamProcessingMode", "async")
	}
	w.t.endObject()
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
	w.t.openObject("requestMetadata")
	for _, k := range keys[:min(len(keys), maxMetadata)] {
		w.t.string(k)
		w.t = append(w.t, ':')
		w.t.string(pairs[k])
	}
	w.t.endObject()
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
			w.chat.cannot("service_tier", false, "this model has only the default tier")
		}
		return
	}
	w.t.openObject("serviceTier")
	w.t.stringMember("type", tier)
	w.t.endObject()
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
