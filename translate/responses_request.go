package translate

import (
	"github.com/inference-router/inference-router/internal/rawjson"

	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// responsesReader writes a chat request while it walks over a Responses
// request.
type responsesReader struct {
	o       ChatOptions
	t       rawjson.Writer
	dropped []string
	names   *dialectNames

	tools   rawjson.Writer // chat tools so far
	known   map[string]bool
	allowed map[string]bool // by allowed_tools; nil means all
	effort  string
	format  gjson.Result
	verbose string

	// The assistant's message at hand: consecutive items of the model are one
	// turn.
	texts, refusals []string
	thoughts, calls rawjson.Writer
	isOpen          bool
}

// responsesToChat writes a Responses request as a chat-completions request.
func responsesToChat(body []byte, o ChatOptions) ([]byte, []string, *dialectNames, error) {
	root := gjson.ParseBytes(body)
	w := responsesReader{o: o, known: map[string]bool{}, names: newResponsesNames(root)}
	w.t = make(rawjson.Writer, 0, len(body)+512)
	w.t.Object()
	if err := w.fields(root); err != nil {
		return nil, nil, nil, err
	}
	if err := w.choice(root.Get("tool_choice")); err != nil {
		return nil, nil, nil, within("tool_choice", err)
	}
	if err := w.tool("tools", root.Get("tools"), ""); err != nil {
		return nil, nil, nil, within("tools", err)
	}
	if err := w.input(root); err != nil {
		return nil, nil, nil, err
	}
	if len(w.tools) > 0 {
		w.t.RawMember("tools", "["+string(w.tools)+"]")
	}
	w.settings()
	if err := w.responseFormat(); err != nil {
		return nil, nil, nil, within("text.format", err)
	}
	w.t.EndObject()
	return w.t, w.dropped, w.names, nil
}

func newResponsesNames(root gjson.Result) *dialectNames {
	return &dialectNames{echo: responsesEcho(root), custom: map[string]bool{}, namespace: map[string][2]string{}, kinds: map[string]string{}}
}

func (w *responsesReader) drop(name string) {
	if !slices.Contains(w.dropped, name) {
		w.dropped = append(w.dropped, name)
	}
}

// responsesRefused are fields that no stateless answer can honour.
var responsesRefused = map[string]string{
	"previous_response_id": "answers are not stored here; send the whole conversation in input, or configure responses.store",
	"conversation":         "conversations are not stored here; send the whole conversation in input",
	"prompt":               "prompt templates are stored at OpenAI; send the text in input and instructions",
	"generate":             "it is for WebSockets only",
	"stream_id":            "it is for WebSockets only",
}

// fields translates the top-level members, but for the conversation and tools.
func (w *responsesReader) fields(root gjson.Result) (err error) {
	root.ForEach(func(k, v gjson.Result) bool {
		if v.Type != gjson.Null {
			err = within(k.Str, w.field(k.Str, v))
		}
		return err == nil
	})
	return err
}

func (w *responsesReader) field(name string, v gjson.Result) error {
	switch name {
	case "model", "stream", "temperature", "top_p", "presence_penalty", "frequency_penalty", "user", "safety_identifier",
		"metadata", "parallel_tool_calls", "service_tier", "usage":
		w.t.RawMember(name, v.Raw)
	case "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options":
		if w.o.Extended || name == "prompt_cache_key" && w.o.Family == "openai" {
			w.t.RawMember(name, v.Raw)
		}
	case "max_output_tokens":
		w.t.RawMember("max_tokens", v.Raw)
	case "input", "tools", "tool_choice", "instructions", "include", "max_tool_calls":
	case "stream_options", "store":
		if name == "store" && v.Type == gjson.True {
			w.drop(name)
		}
	case "truncation":
		if v.Str == "auto" {
			w.drop(name)
		}
	case "background":
		if v.Type == gjson.True {
			return refusef("answers in the background are not offered here; leave it out, or stream")
		}
	case "text":
		return w.text(v)
	case "reasoning":
		return w.reasoning(v)
	case "top_logprobs":
		if v.Num > 0 {
			w.drop(name)
		}
	default:
		if why := responsesRefused[name]; why != "" {
			e := &InvalidError{Message: why}
			if name == "previous_response_id" {
				e.Code = "previous_response_not_found"
			}
			return e
		}
		w.drop(name)
	}
	return nil
}

func (w *responsesReader) text(v gjson.Result) error {
	return eachMember(v, func(name string, e gjson.Result) error {
		switch name {
		case "format":
			w.format = e
			return within(name, wantObject(e))
		case "verbosity":
			return within(name, readOneOf(&w.verbose, e, "low", "medium", "high"))
		}
		return nil
	})
}

func (w *responsesReader) reasoning(v gjson.Result) error {
	return eachMember(v, func(name string, e gjson.Result) error {
		switch name {
		case "effort":
			return within(name, readOneOf(&w.effort, e, efforts...))
		case "summary", "generate_summary":
			return within(name, readString(new(string), e))
		}
		w.drop("reasoning." + name)
		return nil
	})
}

// settings writes what an item of the input may have changed.
func (w *responsesReader) settings() {
	if w.effort != "" {
		w.t.StringMember("reasoning_effort", w.effort)
	}
	switch {
	case w.verbose == "" || w.verbose == "medium":
	case w.o.Family == "openai":
		w.t.StringMember("verbosity", w.verbose)
	default:
		w.drop("text.verbosity")
	}
}

func (w *responsesReader) responseFormat() error {
	f := w.format
	if !f.Exists() {
		return nil
	}
	var kind string
	if err := within("type", readOneOf(&kind, f.Get("type"), "text", "json_object", "json_schema")); err != nil {
		return err
	}
	switch kind {
	case "json_object":
		w.t.RawMember("response_format", `{"type":"json_object"}`)
	case "json_schema":
		if err := within("schema", wantObject(f.Get("schema"))); err != nil {
			return err
		}
		w.t.OpenObject("response_format")
		w.t.StringMember("type", kind)
		w.t.OpenObject("json_schema")
		for _, name := range []string{"name", "description", "schema", "strict"} {
			if v := f.Get(name); v.Exists() && v.Type != gjson.Null {
				w.t.RawMember(name, v.Raw)
			}
		}
		w.t.EndObject()
		w.t.EndObject()
	}
	return nil
}

// localTools are the tools that OpenAI's models know and the client runs: other
// models need to be told what they take. Their input is the call's action or
// operation.
var localTools = map[string]struct{ name, member, description, schema string }{
	"local_shell": {"local_shell", "action", "Run a command on the user's machine.",
		`{"type":"object","properties":{"type":{"type":"string","enum":["exec"]},"command":{"type":"array","items":{"type":"string"}},"env":{"type":"object","additionalProperties":{"type":"string"}},"timeout_ms":{"type":"integer"},"user":{"type":"string"},"working_directory":{"type":"string"}},"required":["type","command","env"]}`},
	"shell": {"shell", "action", "Run shell commands on the user's machine.",
		`{"type":"object","properties":{"commands":{"type":"array","items":{"type":"string"}},"timeout_ms":{"type":"integer"},"max_output_length":{"type":"integer"}},"required":["commands"]}`},
	"apply_patch": {"apply_patch", "operation", "Create, update or delete a file by a patch.",
		`{"type":"object","properties":{"type":{"type":"string","enum":["create_file","update_file","delete_file"]},"path":{"type":"string"},"diff":{"type":"string","description":"A V4A diff; not for delete_file."}},"required":["type","path"]}`},
}

// tool adds the tools of a list; in a namespace their names get a prefix.
func (w *responsesReader) tool(where string, list gjson.Result, namespace string) error {
	if !list.Exists() || list.Type == gjson.Null {
		return nil
	}
	return eachElement(list, func(i int, e gjson.Result) error {
		if err := wantObject(e); err != nil {
			return err
		}
		kind, name := e.Get("type").Str, e.Get("name").Str
		switch kind {
		case "function", "custom":
			if name == "" {
				return within("name", missing("the tool's name"))
			}
			w.function(e, kind, name, namespace)
		case "namespace":
			return within("tools", w.tool(where, e.Get("tools"), name))
		case "tool_search":
			if e.Get("execution").Str != "client" {
				w.drop("tools." + kind)
				return nil
			}
			schema := e.Get("parameters").Raw
			if !e.Get("parameters").IsObject() {
				schema = `{"type":"object","properties":{"query":{"type":"string"}},"required":["query"]}`
			}
			w.names.kinds[kind] = kind
			w.add(kind, orElse(e.Get("description").Str, "Search for further tools."), schema, "")
		default:
			if l, ok := localTools[kind]; ok && e.Get("environment.type").Str != "container_auto" {
				w.names.kinds[l.name] = kind
				w.add(l.name, l.description, l.schema, "")
				return nil
			}
			if kind == "" {
				return within("type", missing("the tool's type"))
			}
			w.drop("tools." + kind) // runs at OpenAI
		}
		return nil
	})
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// function adds a function, or a custom tool as a function of one text.
func (w *responsesReader) function(e gjson.Result, kind, name, namespace string) {
	full := name
	if namespace != "" {
		full = namespace + "__" + name
		w.names.namespace[full] = [2]string{namespace, name}
	}
	description := e.Get("description").Str
	if kind == "custom" {
		w.names.custom[full] = true
		if g := e.Get("format"); g.Get("type").Str == "grammar" {
			description = strings.TrimSpace(description + "\n\nThe input must match this " + g.Get("syntax").Str + " grammar:\n" + g.Get("definition").Str)
		}
		w.add(full, description, `{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}`, "")
		return
	}
	schema := e.Get("parameters").Raw
	if !e.Get("parameters").IsObject() {
		schema = `{"type":"object","properties":{}}`
	}
	strict := ""
	if e.Get("strict").Type == gjson.True {
		strict = "true"
	}
	w.add(full, description, schema, strict)
}

func (w *responsesReader) add(name, description, schema, strict string) {
	if w.known[name] || w.allowed != nil && !w.allowed[name] {
		return
	}
	w.known[name] = true
	t := &w.tools
	t.Object()
	t.StringMember("type", "function")
	t.OpenObject("function")
	t.StringMember("name", name)
	if description != "" {
		t.StringMember("description", description)
	}
	t.RawMember("parameters", schema)
	if strict != "" {
		t.RawMember("strict", strict)
	}
	t.EndObject()
	t.EndObject()
}

// choice translates tool_choice.
func (w *responsesReader) choice(v gjson.Result) error {
	if !v.Exists() || v.Type == gjson.Null {
		return nil
	}
	if v.Type == gjson.String {
		var mode string
		if err := readOneOf(&mode, v, "none", "auto", "required"); err != nil {
			return err
		}
		w.t.StringMember("tool_choice", mode)
		return nil
	}
	switch kind := v.Get("type").Str; kind {
	case "function", "custom":
		w.force(v.Get("name").Str)
	case "apply_patch", "shell", "local_shell":
		w.force(kind)
	case "allowed_tools":
		w.allowed = map[string]bool{}
		for _, e := range v.Get("tools").Array() {
			w.allowed[orElse(e.Get("name").Str, e.Get("type").Str)] = true
		}
		w.t.StringMember("tool_choice", orElse(v.Get("mode").Str, "auto"))
	case "":
		return wrongType(v, "a string or an object with a type")
	default:
		return within("type", refusef("the tool %q runs at OpenAI and cannot be forced on this model", kind))
	}
	return nil
}

func (w *responsesReader) force(name string) {
	w.t.OpenObject("tool_choice")
	w.t.StringMember("type", "function")
	w.t.OpenObject("function")
	w.t.StringMember("name", name)
	w.t.EndObject()
	w.t.EndObject()
}

// input writes the conversation.
func (w *responsesReader) input(root gjson.Result) error {
	w.t.OpenArray("messages")
	if v := root.Get("instructions"); v.Exists() && v.Type != gjson.Null {
		if err := within("instructions", readString(new(string), v)); err != nil {
			return err
		}
		w.plain("system", v.Str)
	}
	v := root.Get("input")
	if v.Type == gjson.String {
		w.plain("user", v.Str)
		w.t.EndArray()
		return nil
	}
	err := eachElement(v, func(i int, e gjson.Result) error {
		if err := wantObject(e); err != nil {
			return err
		}
		return w.item(e)
	})
	w.closeTurn()
	w.t.EndArray()
	return within("input", err)
}

func (w *responsesReader) plain(role, text string) {
	w.t.Object()
	w.t.StringMember("role", role)
	w.t.StringMember("content", text)
	w.t.EndObject()
}

// hostedItems are records of work that was done at OpenAI.
var hostedItems = []string{"web_search_call", "file_search_call", "computer_call", "computer_call_output", "code_interpreter_call",
	"image_generation_call", "mcp_call", "mcp_list_tools", "mcp_approval_request", "program", "program_output"}

// item writes one item of the input.
func (w *responsesReader) item(e gjson.Result) error {
	kind := e.Get("type").Str
	if kind == "" && e.Get("role").Exists() {
		kind = "message"
	}
	if kind == "" && e.Get("id").Exists() {
		kind = "item_reference"
	}
	switch kind {
	case "message":
		return w.messageItem(e)
	case "function_call", "custom_tool_call":
		return w.callItem(e, kind)
	case "function_call_output", "custom_tool_call_output", "shell_call_output", "apply_patch_call_output":
		return w.output(e, e.Get("call_id"), e.Get("output"))
	case "local_shell_call_output":
		id := e.Get("call_id")
		if !id.Exists() {
			id = e.Get("id")
		}
		return w.output(e, id, e.Get("output"))
	case "local_shell_call", "shell_call", "apply_patch_call":
		l := localTools[strings.TrimSuffix(kind, "_call")]
		input := e.Get(l.member).Raw
		w.isOpen = true
		writeCall(&w.calls, orElse(e.Get("call_id").Str, e.Get("id").Str), l.name, orElse(input, "{}"))
	case "tool_search_call":
		w.isOpen = true
		writeCall(&w.calls, orElse(e.Get("call_id").Str, e.Get("id").Str), "tool_search", orElse(objectText(e.Get("arguments")), "{}"))
	case "tool_search_output":
		w.closeTurn()
		if err := within("tools", w.tool("input", e.Get("tools"), "")); err != nil {
			return err
		}
		w.toolMessage(e.Get("call_id").Str, func() { w.t.String(orElse(e.Get("tools").Raw, "[]")) })
	case "additional_tools":
		return within("tools", w.tool("input", e.Get("tools"), ""))
	case "reasoning":
		w.reasoningItem(e)
	case "configuration_update":
		return w.update(e)
	case "item_reference":
		return within("type", refusef("items are not stored here; send the item itself"))
	default:
		if slices.Contains(hostedItems, kind) {
			w.drop("input." + kind)
			return nil
		}
		return within("type", refusef("an item of type %q cannot be sent to this model", kind))
	}
	return nil
}

// objectText is a JSON object, be it given as such or as text.
func objectText(v gjson.Result) string {
	if v.Type == gjson.String {
		return v.Str
	}
	return v.Raw
}

func (w *responsesReader) update(e gjson.Result) error {
	if v := e.Get("reasoning"); v.IsObject() {
		if err := within("reasoning", w.reasoning(v)); err != nil {
			return err
		}
	}
	if v := e.Get("text"); v.IsObject() {
		return within("text", w.text(v))
	}
	return nil
}

// reasoningItem gives reasoning of ours back to who signed it.
func (w *responsesReader) reasoningItem(e gjson.Result) {
	sealed := e.Get("encrypted_content").Str
	open, ok := w.o.Seal.Open(w.o.Family, sealed)
	if !ok || !w.o.Extended {
		return
	}
	if len(w.calls) > 0 || len(w.texts) > 0 { // thoughts begin a turn
		w.closeTurn()
	}
	w.isOpen = true
	for _, b := range gjson.ParseBytes(open).Array() {
		w.thoughts.Raw(b.Raw)
	}
}

func (w *responsesReader) callItem(e gjson.Result, kind string) error {
	id, name := e.Get("call_id").Str, e.Get("name").Str
	switch {
	case id == "":
		return within("call_id", missing("the id of the call"))
	case name == "":
		return within("name", missing("the name of the tool"))
	}
	if ns := e.Get("namespace").Str; ns != "" {
		name = ns + "__" + name
	}
	arguments := objectText(e.Get("arguments"))
	if kind == "custom_tool_call" {
		arguments = wrapInput("input", e.Get("input").Str)
	}
	w.isOpen = true
	writeCall(&w.calls, id, name, arguments)
	return nil
}

// output writes the result of a call. Where only text can be in it, its images
// follow as the user's.
func (w *responsesReader) output(e, id, output gjson.Result) error {
	if id.Str == "" {
		return within("call_id", missing("the id of the call that this answers"))
	}
	w.closeTurn()
	if output.Type == gjson.String {
		w.toolMessage(id.Str, func() { w.t.String(output.Str) })
		return nil
	}
	if !output.IsArray() {
		w.toolMessage(id.Str, func() { w.t.String(output.Raw) })
		return nil
	}
	var texts []string
	var media []gjson.Result
	for _, p := range output.Array() {
		switch p.Get("type").Str {
		case "input_text", "output_text", "text":
			texts = append(texts, p.Get("text").Str)
		case "input_image", "input_file":
			media = append(media, p)
		default:
			texts = append(texts, p.Raw) // of a shell: stdout, stderr, outcome
		}
	}
	text := strings.Join(texts, "\n")
	if !w.o.Extended || len(media) == 0 {
		w.toolMessage(id.Str, func() { w.t.String(text) })
		if len(media) > 0 {
			return within("output", w.userParts(media))
		}
		return nil
	}
	var err error
	w.toolMessage(id.Str, func() {
		w.t.Array()
		if text != "" {
			w.textPart(text)
		}
		for _, p := range media {
			if err == nil {
				err = w.part(p)
			}
		}
		w.t.EndArray()
	})
	return within("output", err)
}

func (w *responsesReader) toolMessage(id string, content func()) {
	w.t.Object()
	w.t.StringMember("role", "tool")
	w.t.StringMember("tool_call_id", id)
	w.t.Key("content")
	content()
	w.t.EndObject()
}

// messageItem writes a message, or adds what the model said to its turn.
func (w *responsesReader) messageItem(e gjson.Result) error {
	var role string
	if err := within("role", readOneOf(&role, e.Get("role"), "user", "assistant", "system", "developer")); err != nil {
		return err
	}
	content := e.Get("content")
	if content.Type != gjson.String && !content.IsArray() {
		return within("content", wrongType(content, "a string or an array of parts"))
	}
	if role == "assistant" {
		return within("content", w.said(content))
	}
	w.closeTurn()
	if role == "developer" {
		role = "system"
	}
	if content.Type == gjson.String {
		w.plain(role, content.Str)
		return nil
	}
	if role == "user" {
		return within("content", w.userParts(content.Array()))
	}
	var texts []string
	for _, p := range content.Array() {
		texts = append(texts, p.Get("text").Str)
	}
	w.plain(role, strings.Join(texts, "\n"))
	return nil
}

// said adds text to the model's turn.
func (w *responsesReader) said(content gjson.Result) error {
	if len(w.calls) > 0 {
		w.closeTurn()
	}
	w.isOpen = true
	if content.Type == gjson.String {
		w.texts = append(w.texts, content.Str)
		return nil
	}
	return eachElement(content, func(i int, p gjson.Result) error {
		switch p.Get("type").Str {
		case "output_text", "input_text", "text":
			w.texts = append(w.texts, p.Get("text").Str)
		case "refusal":
			w.refusals = append(w.refusals, p.Get("refusal").Str)
		default:
			return within("type", refusef("expected output_text or refusal; got %q", p.Get("type").Str))
		}
		return nil
	})
}

// closeTurn writes the model's turn, if there is anything in it.
func (w *responsesReader) closeTurn() {
	said := len(w.texts)+len(w.refusals) > 0 || len(w.calls) > 0
	if w.isOpen && said {
		t := &w.t
		t.Object()
		t.StringMember("role", "assistant")
		t.Key("content")
		if len(w.texts) == 0 {
			t.Raw("null")
		} else {
			t.String(strings.Join(w.texts, ""))
		}
		if len(w.refusals) > 0 {
			t.StringMember("refusal", strings.Join(w.refusals, ""))
		}
		if len(w.thoughts) > 0 {
			t.RawMember("thinking_blocks", "["+string(w.thoughts)+"]")
		}
		if len(w.calls) > 0 {
			t.RawMember("tool_calls", "["+string(w.calls)+"]")
		}
		t.EndObject()
	}
	w.isOpen, w.texts, w.refusals, w.thoughts, w.calls = false, nil, nil, nil, nil
}

func (w *responsesReader) userParts(parts []gjson.Result) error {
	w.t.Object()
	w.t.StringMember("role", "user")
	w.t.Key("content")
	if len(parts) == 1 && parts[0].Get("text").Type == gjson.String && !parts[0].Get("prompt_cache_breakpoint").Exists() {
		w.t.String(parts[0].Get("text").Str)
		w.t.EndObject()
		return nil
	}
	w.t.Array()
	for i, p := range parts {
		if err := w.part(p); err != nil {
			return within("["+strconv.Itoa(i)+"]", err)
		}
	}
	w.t.EndArray()
	w.t.EndObject()
	return nil
}

func (w *responsesReader) textPart(s string) {
	w.t.Object()
	w.t.StringMember("type", "text")
	w.t.StringMember("text", s)
	w.t.EndObject()
}

// part writes one content part.
func (w *responsesReader) part(p gjson.Result) error {
	t := &w.t
	switch kind := p.Get("type").Str; kind {
	case "input_text", "output_text", "text":
		if err := within("text", readString(new(string), p.Get("text"))); err != nil {
			return err
		}
		t.Object()
		t.StringMember("type", "text")
		t.StringMember("text", p.Get("text").Str)
		if b := p.Get("prompt_cache_breakpoint"); b.IsObject() && w.o.Extended {
			t.RawMember("prompt_cache_breakpoint", b.Raw)
		}
		t.EndObject()
	case "input_image":
		url := p.Get("image_url")
		if url.Type != gjson.String {
			return within("image_url", refusef("files are not stored here; send the image as a URL or as data"))
		}
		t.Object()
		t.StringMember("type", "image_url")
		t.OpenObject("image_url")
		t.StringMember("url", url.Str)
		switch d := p.Get("detail").Str; d {
		case "low", "high", "auto":
			t.StringMember("detail", d)
		case "original":
			t.StringMember("detail", "high")
		}
		t.EndObject()
		t.EndObject()
	case "input_file":
		data := p.Get("file_data")
		if data.Type != gjson.String {
			return within("file_data", refusef("files are not stored or fetched here; send the file as data"))
		}
		t.Object()
		t.StringMember("type", "file")
		t.OpenObject("file")
		t.StringMember("filename", orElse(p.Get("filename").Str, "document.pdf"))
		t.StringMember("file_data", data.Str)
		t.EndObject()
		t.EndObject()
	case "input_audio":
		t.Object()
		t.StringMember("type", "input_audio")
		t.RawMember("input_audio", orElse(p.Get("input_audio").Raw, "{}"))
		t.EndObject()
	default:
		return within("type", refusef("expected input_text, input_image, input_file or input_audio; got %q", kind))
	}
	return nil
}

// responsesEcho are the members of an answer that repeat its request.
func responsesEcho(root gjson.Result) string {
	var t rawjson.Writer
	t.Object()
	for _, m := range []struct{ name, absent string }{
		{"instructions", "null"}, {"max_output_tokens", "null"}, {"max_tool_calls", "null"}, {"metadata", "{}"},
		{"parallel_tool_calls", "true"}, {"previous_response_id", "null"}, {"prompt_cache_key", "null"},
		{"safety_identifier", "null"}, {"user", "null"}, {"temperature", "1"}, {"top_p", "1"}, {"tool_choice", `"auto"`}, {"tools", "[]"},
		{"top_logprobs", "0"}, {"presence_penalty", "0"}, {"frequency_penalty", "0"},
	} {
		v := root.Get(m.name)
		if raw := v.Raw; v.Exists() && v.Type != gjson.Null {
			t.RawMember(m.name, raw)
		} else {
			t.RawMember(m.name, m.absent)
		}
	}
	t.RawMember("truncation", `"disabled"`)
	t.RawMember("store", "false")
	t.RawMember("background", "false")
	t.StringMember("service_tier", "default")
	t.OpenObject("text")
	t.RawMember("format", orElse(root.Get("text.format").Raw, `{"type":"text"}`))
	t.StringMember("verbosity", orElse(root.Get("text.verbosity").Str, "medium"))
	t.EndObject()
	t.Key("reasoning")
	t.Object()
	for _, name := range []string{"effort", "summary"} {
		t.RawMember(name, orElse(root.Get("reasoning."+name).Raw, "null"))
	}
	t.EndObject()
	return string(t[1:])
}
