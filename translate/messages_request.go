package translate

import (
	"github.com/inference-router/inference-router/internal/rawjson"

	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// messagesToChat writes a Messages request as a chat-completions request.
func messagesToChat(body []byte, o ChatOptions) (out []byte, dropped []string, err error) {
	root := gjson.ParseBytes(body)
	w := messagesReader{o: o}
	w.t = make(rawjson.Writer, 0, len(body)+512)
	w.t.Object()
	names := []string{}
	root.ForEach(func(k, _ gjson.Result) bool { names = append(names, k.Str); return true })
	for _, name := range names {
		v := root.Get(gjsonPath(name))
		if v.Type == gjson.Null {
			continue
		}
		if err = within(name, w.field(name, v, root)); err != nil {
			return nil, nil, err
		}
	}
	w.t.EndObject()
	return w.t, w.dropped, nil
}

// gjsonPath escapes a member's name so that it is no path.
func gjsonPath(name string) string {
	if !strings.ContainsAny(name, `.*?\|#@!{}[]()=<>%"'`) {
		return name
	}
	return gjson.Escape(name)
}

// messagesReader writes a chat request while it walks over a Messages request.
type messagesReader struct {
	o       ChatOptions
	t       rawjson.Writer
	dropped []string
}

func (w *messagesReader) drop(name string) {
	if !slices.Contains(w.dropped, name) {
		w.dropped = append(w.dropped, name)
	}
}

// field translates one top-level member.
func (w *messagesReader) field(name string, v, root gjson.Result) error {
	switch name {
	case "model", "stream", "temperature", "top_p", "usage":
		w.t.RawMember(name, v.Raw)
	case "max_tokens":
		n, err := intValue(v, 0, 1<<31-1)
		w.t.IntMember(name, max(n, 1))
		return err
	case "system", "anthropic_version", "anthropic_beta":
	case "messages":
		return w.messages(root.Get("system"), v)
	case "stop_sequences":
		if !v.IsArray() {
			return wrongType(v, "an array of strings")
		}
		if len(v.Array()) > 4 && !w.o.Extended {
			return refusef("this model takes at most 4 stop sequences, got %d", len(v.Array()))
		}
		if len(v.Array()) > 0 {
			w.t.RawMember("stop", v.Raw)
		}
	case "thinking":
		return w.thinking(v, root)
	case "output_config":
		return w.outputConfig(v)
	case "tools":
		return w.tools(v)
	case "tool_choice":
		return w.toolChoice(v)
	case "metadata":
		if id := v.Get("user_id"); id.Type == gjson.String && w.o.Extended {
			w.t.StringMember("user", id.Str)
		}
	case "service_tier":
		if v.Str == "standard_only" {
			w.t.StringMember("service_tier", "default")
		}
	default: // cache_control, container, context_management, betas to come
		w.drop(name)
	}
	return nil
}

// thinking is a word for the effort where the model is not Claude.
func (w *messagesReader) thinking(v, root gjson.Result) error {
	if err := wantObject(v); err != nil {
		return err
	}
	kind := v.Get("type").Str
	if w.o.Extended {
		switch kind {
		case "adaptive", "enabled", "disabled":
			w.t.Key("thinking")
			w.t.Object()
			w.t.StringMember("type", kind)
			if b := v.Get("budget_tokens"); b.Type == gjson.Number {
				w.t.RawMember("budget_tokens", b.Raw)
			}
			if d := v.Get("display"); d.Str == "summarized" || d.Str == "omitted" {
				w.t.StringMember("display", d.Str)
			}
			w.t.EndObject()
		default:
			w.drop("thinking")
		}
		return nil
	}
	if root.Get("output_config.effort").Exists() {
		return nil
	}
	switch budget := v.Get("budget_tokens").Int(); {
	case kind != "enabled": // adaptive: the model's own default
	case budget <= 2048:
		w.t.StringMember("reasoning_effort", "low")
	case budget <= 8192:
		w.t.StringMember("reasoning_effort", "medium")
	default:
		w.t.StringMember("reasoning_effort", "high")
	}
	return nil
}

func (w *messagesReader) outputConfig(v gjson.Result) error {
	return eachMember(v, func(name string, e gjson.Result) error {
		switch name {
		case "effort":
			var effort string
			if err := within(name, readOneOf(&effort, e, efforts...)); err != nil {
				return err
			}
			if effort == "max" && !w.o.Extended {
				effort = "xhigh"
			}
			w.t.StringMember("reasoning_effort", effort)
		case "format":
			if e.Get("type").Str != "json_schema" {
				return within(name+".type", refusef("expected json_schema"))
			}
			if err := within(name+".schema", wantObject(e.Get("schema"))); err != nil {
				return err
			}
			w.t.OpenObject("response_format")
			w.t.StringMember("type", "json_schema")
			w.t.OpenObject("json_schema")
			w.t.StringMember("name", "answer")
			w.t.RawMember("schema", e.Get("schema").Raw)
			w.t.RawMember("strict", "true")
			w.t.EndObject()
			w.t.EndObject()
		default:
			w.drop("output_config." + name)
		}
		return nil
	})
}

// clientTools are the schemas of Anthropic's typed tools that the client runs:
// other models need to be told what they take.
var clientTools = []struct{ prefix, description, schema string }{
	{"bash_", "Run a command in a persistent bash session, or restart it.",
		`{"type":"object","properties":{"command":{"type":"string","description":"The command to run."},"restart":{"type":"boolean","description":"Restart the session."}}}`},
	{"text_editor_", "View, create and edit text files.",
		`{"type":"object","properties":{"command":{"type":"string","enum":["view","create","str_replace","insert"]},"path":{"type":"string"},"file_text":{"type":"string"},"old_str":{"type":"string"},"new_str":{"type":"string"},"insert_line":{"type":"integer"},"insert_text":{"type":"string"},"view_range":{"type":"array","items":{"type":"integer"}}},"required":["command","path"]}`},
	{"memory_", "Keep notes in files under /memories.",
		`{"type":"object","properties":{"command":{"type":"string","enum":["view","create","str_replace","insert","delete","rename"]},"path":{"type":"string"},"file_text":{"type":"string"},"old_str":{"type":"string"},"new_str":{"type":"string"},"insert_line":{"type":"integer"},"insert_text":{"type":"string"},"old_path":{"type":"string"},"new_path":{"type":"string"},"view_range":{"type":"array","items":{"type":"integer"}}},"required":["command"]}`},
}

func (w *messagesReader) tools(v gjson.Result) error {
	var list rawjson.Writer
	list.Array()
	err := eachElement(v, func(i int, e gjson.Result) error {
		if err := wantObject(e); err != nil {
			return err
		}
		kind, name := e.Get("type").Str, e.Get("name")
		if kind == "" || kind == "custom" {
			if name.Type != gjson.String || name.Str == "" {
				return within("name", missing("the tool's name"))
			}
			if err := within("input_schema", wantObject(e.Get("input_schema"))); err != nil {
				return err
			}
			w.tool(&list, name.Str, e.Get("description").Str, e.Get("input_schema").Raw, e)
			return nil
		}
		for _, c := range clientTools {
			if strings.HasPrefix(kind, c.prefix) {
				w.tool(&list, name.Str, c.description, c.schema, e)
				return nil
			}
		}
		w.drop("tools." + kind) // runs at Anthropic
		return nil
	})
	list.EndArray()
	if len(list) > 2 {
		w.t.RawMember("tools", string(list))
	}
	return err
}

func (w *messagesReader) tool(t *rawjson.Writer, name, description, schema string, e gjson.Result) {
	t.Object()
	t.StringMember("type", "function")
	t.OpenObject("function")
	t.StringMember("name", name)
	if description != "" {
		t.StringMember("description", description)
	}
	t.RawMember("parameters", schema)
	if e.Get("strict").Bool() {
		t.RawMember("strict", "true")
	}
	t.EndObject()
	w.cache(t, e)
	t.EndObject()
}

// cache carries a cache point on, without what only Anthropic knows of it.
func (w *messagesReader) cache(t *rawjson.Writer, e gjson.Result) {
	c := e.Get("cache_control")
	if !w.o.Extended || !c.IsObject() {
		return
	}
	if ttl := c.Get("ttl").Str; ttl == "1h" {
		t.RawMember("cache_control", `{"type":"ephemeral","ttl":"1h"}`)
		return
	}
	t.RawMember("cache_control", `{"type":"ephemeral"}`)
}

func (w *messagesReader) toolChoice(v gjson.Result) error {
	var kind string
	if err := within("type", readOneOf(&kind, v.Get("type"), "auto", "any", "tool", "none")); err != nil {
		return err
	}
	switch kind {
	case "any":
		w.t.StringMember("tool_choice", "required")
	case "tool":
		name := v.Get("name")
		if name.Type != gjson.String {
			return within("name", missing("the tool's name"))
		}
		w.t.OpenObject("tool_choice")
		w.t.StringMember("type", "function")
		w.t.OpenObject("function")
		w.t.StringMember("name", name.Str)
		w.t.EndObject()
		w.t.EndObject()
	default:
		w.t.StringMember("tool_choice", kind)
	}
	if v.Get("disable_parallel_tool_use").Bool() && kind != "none" {
		w.t.RawMember("parallel_tool_calls", "false")
	}
	return nil
}

// messages writes the system text and the turns.
func (w *messagesReader) messages(system, v gjson.Result) error {
	w.t.OpenArray("messages")
	if err := w.system(system); err != nil {
		return err
	}
	err := eachElement(v, func(i int, e gjson.Result) error {
		if err := wantObject(e); err != nil {
			return err
		}
		var role string
		if err := within("role", readOneOf(&role, e.Get("role"), "user", "assistant", "system")); err != nil {
			return err
		}
		content := e.Get("content")
		if content.Type != gjson.String && !content.IsArray() {
			return within("content", wrongType(content, "a string or an array of blocks"))
		}
		switch role {
		case "assistant":
			return within("content", w.assistant(content))
		case "system":
			return within("content", w.system(content))
		}
		return within("content", w.user(content))
	})
	w.t.EndArray()
	return err
}

// attribution begins a block that Claude Code writes for Anthropic alone; it
// changes with each request, and would spoil others' prompt caches.
const attribution = "x-anthropic-billing-header"

func (w *messagesReader) system(v gjson.Result) error {
	if !v.Exists() || v.Type == gjson.Null || v.Type == gjson.String && v.Str == "" {
		return nil
	}
	var blocks []gjson.Result
	if v.IsArray() {
		for _, b := range v.Array() {
			if !strings.HasPrefix(b.Get("text").Str, attribution) {
				blocks = append(blocks, b)
			}
		}
		if len(blocks) == 0 {
			return nil
		}
	} else if v.Type != gjson.String {
		return wrongType(v, "a string or an array of text blocks")
	}
	w.t.Object()
	w.t.StringMember("role", "system")
	w.t.Key("content")
	if v.Type == gjson.String {
		w.t.String(v.Str)
	} else if err := w.parts(blocks); err != nil {
		return err
	}
	w.t.EndObject()
	return nil
}

// parts writes content blocks as the value of a content member: a string where
// a single plain text is all there is.
func (w *messagesReader) parts(blocks []gjson.Result) error {
	if len(blocks) == 1 && blocks[0].Get("type").Str == "text" && !(w.o.Extended && blocks[0].Get("cache_control").Exists()) {
		w.t.String(blocks[0].Get("text").Str)
		return nil
	}
	w.t.Array()
	for i, b := range blocks {
		if err := w.part(b); err != nil {
			return within("["+strconv.Itoa(i)+"]", err)
		}
	}
	w.t.EndArray()
	return nil
}

// part writes one text, image or document block.
func (w *messagesReader) part(b gjson.Result) error {
	switch kind := b.Get("type").Str; kind {
	case "text":
		if err := within("text", readString(new(string), b.Get("text"))); err != nil {
			return err
		}
		w.text(b.Get("text").Str, b)
	case "image":
		url, err := sourceURL(b.Get("source"), "image/png")
		if err != nil {
			return within("source", err)
		}
		w.t.Object()
		w.t.StringMember("type", "image_url")
		w.t.OpenObject("image_url")
		w.t.StringMember("url", url)
		w.t.EndObject()
		w.cache(&w.t, b)
		w.t.EndObject()
	case "document":
		return within("source", w.document(b))
	case "search_result":
		w.text(searchResultText(b), b)
	default:
		return within("type", refusef("a block of type %q cannot be sent to this model", kind))
	}
	return nil
}

func (w *messagesReader) text(s string, b gjson.Result) {
	w.t.Object()
	w.t.StringMember("type", "text")
	w.t.StringMember("text", s)
	w.cache(&w.t, b)
	w.t.EndObject()
}

func searchResultText(b gjson.Result) string {
	text := b.Get("title").Str + "\n" + b.Get("source").Str
	for _, c := range b.Get("content").Array() {
		text += "\n" + c.Get("text").Str
	}
	return text
}

func (w *messagesReader) document(b gjson.Result) error {
	s := b.Get("source")
	title := b.Get("title").Str
	switch s.Get("type").Str {
	case "text":
		text := s.Get("data").Str
		if title != "" {
			text = title + "\n\n" + text
		}
		w.text(text, b)
		return nil
	case "content":
		blocks := []gjson.Result{s.Get("content")}
		if blocks[0].Type == gjson.String {
			w.text(blocks[0].Str, b)
			return nil
		}
		for i, c := range blocks[0].Array() {
			if err := w.part(c); err != nil {
				return within("content["+strconv.Itoa(i)+"]", err)
			}
		}
		return nil
	case "base64":
		url, err := sourceURL(s, "application/pdf")
		if err != nil {
			return err
		}
		if title == "" {
			title = "document.pdf"
		}
		w.t.Object()
		w.t.StringMember("type", "file")
		w.t.OpenObject("file")
		w.t.StringMember("filename", title)
		w.t.StringMember("file_data", url)
		w.t.EndObject()
		w.cache(&w.t, b)
		w.t.EndObject()
		return nil
	}
	return within("type", refusef("a document from %q cannot be sent to this model; send its data", s.Get("type").Str))
}

// sourceURL is an image's or a document's address, be it of data.
func sourceURL(s gjson.Result, mime string) (string, error) {
	switch s.Get("type").Str {
	case "base64":
		if m := s.Get("media_type").Str; m != "" {
			mime = m
		}
		if err := within("data", readString(new(string), s.Get("data"))); err != nil {
			return "", err
		}
		return "data:" + mime + ";base64," + s.Get("data").Str, nil
	case "url":
		return s.Get("url").Str, within("url", readString(new(string), s.Get("url")))
	}
	return "", within("type", refusef("expected base64 or url; files are not known to this model"))
}

// user writes a user's turn: tool results first, each a message of its own.
func (w *messagesReader) user(v gjson.Result) error {
	if v.Type == gjson.String {
		w.t.Object()
		w.t.StringMember("role", "user")
		w.t.StringMember("content", v.Str)
		w.t.EndObject()
		return nil
	}
	var rest []gjson.Result
	for i, b := range v.Array() {
		switch kind := b.Get("type").Str; {
		case kind == "tool_result":
			images, err := w.toolResult(b)
			if err != nil {
				return within("["+strconv.Itoa(i)+"]", err)
			}
			rest = append(rest, images...)
		case kind == "container_upload" || strings.HasSuffix(kind, "_tool_result"):
			w.drop("messages.content." + kind)
		default:
			rest = append(rest, b)
		}
	}
	if len(rest) == 0 {
		return nil
	}
	w.t.Object()
	w.t.StringMember("role", "user")
	w.t.Key("content")
	err := w.parts(rest)
	w.t.EndObject()
	return err
}

// toolResult writes the result of a call. It returns the media in it that have
// to follow in the user's own turn.
func (w *messagesReader) toolResult(b gjson.Result) (media []gjson.Result, err error) {
	id := b.Get("tool_use_id")
	if id.Type != gjson.String || id.Str == "" {
		return nil, within("tool_use_id", missing("the id of the call that this answers"))
	}
	prefix := ""
	if b.Get("is_error").Bool() {
		prefix = "Error: "
	}
	content := b.Get("content")
	var blocks []gjson.Result
	for _, c := range content.Array() {
		switch kind := c.Get("type").Str; {
		case content.Type == gjson.String:
		case kind == "text", kind == "search_result":
			blocks = append(blocks, c)
		case kind != "image" && kind != "document":
			w.drop("messages.content." + kind)
		case w.o.Extended:
			blocks = append(blocks, c)
		default:
			media = append(media, c)
		}
	}
	w.t.Object()
	w.t.StringMember("role", "tool")
	w.t.StringMember("tool_call_id", id.Str)
	w.t.Key("content")
	switch {
	case content.Type == gjson.String:
		w.t.String(prefix + content.Str)
	case w.o.Extended && len(blocks) > 0 && prefix == "":
		err = within("content", w.parts(blocks))
	case w.o.Extended && len(blocks) > 0:
		w.t.Array()
		w.text(prefix, gjson.Result{})
		for i, c := range blocks {
			if err == nil {
				err = within("content["+strconv.Itoa(i)+"]", w.part(c))
			}
		}
		w.t.EndArray()
	default:
		w.t.String(prefix + joinTexts(blocks))
	}
	w.cache(&w.t, b)
	w.t.EndObject()
	return media, err
}

func joinTexts(blocks []gjson.Result) string {
	texts := make([]string, 0, len(blocks))
	for _, b := range blocks {
		if b.Get("type").Str == "search_result" {
			texts = append(texts, searchResultText(b))
		} else {
			texts = append(texts, b.Get("text").Str)
		}
	}
	return strings.Join(texts, "\n")
}

// assistant writes the model's own turn.
func (w *messagesReader) assistant(v gjson.Result) error {
	if v.Type == gjson.String {
		w.t.Object()
		w.t.StringMember("role", "assistant")
		w.t.StringMember("content", v.Str)
		w.t.EndObject()
		return nil
	}
	var texts, thoughts, calls []gjson.Result
	for i, b := range v.Array() {
		switch kind := b.Get("type").Str; {
		case kind == "text":
			texts = append(texts, b)
		case kind == "thinking" || kind == "redacted_thinking":
			thoughts = append(thoughts, b)
		case kind == "tool_use":
			calls = append(calls, b)
		case kind == "server_tool_use" || strings.HasSuffix(kind, "_tool_result"):
			w.drop("messages.content." + kind)
		default:
			return within("["+strconv.Itoa(i)+"].type", refusef("a block of type %q cannot be sent to this model", kind))
		}
	}
	if len(texts)+len(calls) == 0 {
		return nil // thoughts alone are nothing to go on from
	}
	w.t.Object()
	w.t.StringMember("role", "assistant")
	w.t.Key("content")
	if len(texts) == 0 {
		w.t.Raw("null")
	} else if w.o.Extended {
		if err := w.parts(texts); err != nil {
			return err
		}
	} else {
		all := ""
		for _, b := range texts {
			all += b.Get("text").Str
		}
		w.t.String(all)
	}
	w.thoughts(thoughts)
	err := w.calls(calls)
	w.t.EndObject()
	return err
}

// thoughts carries signed reasoning on, where its family can read it. Ours is
// opened; the rest is as the provider signed it.
func (w *messagesReader) thoughts(blocks []gjson.Result) {
	if !w.o.Extended {
		return
	}
	var list rawjson.Writer
	for _, b := range blocks {
		signed := b.Get("signature").Str
		if b.Get("type").Str == "redacted_thinking" {
			signed = b.Get("data").Str
		}
		if signed == "" {
			continue
		}
		if IsSealed(signed) {
			if open, ok := w.o.Seal.Open(w.o.Family, signed); ok {
				for _, e := range gjson.ParseBytes(open).Array() {
					list.Raw(e.Raw)
				}
			}
			continue
		}
		if w.o.Family != "claude" {
			continue
		}
		writeThought(&list, b)
	}
	if len(list) > 0 {
		w.t.RawMember("thinking_blocks", "["+string(list)+"]")
	}
}

func writeThought(t *rawjson.Writer, b gjson.Result) {
	t.Object()
	if b.Get("type").Str == "redacted_thinking" {
		t.StringMember("type", "redacted_thinking")
		t.StringMember("data", b.Get("data").Str)
	} else {
		t.StringMember("type", "thinking")
		t.StringMember("thinking", b.Get("thinking").Str)
		t.StringMember("signature", b.Get("signature").Str)
	}
	t.EndObject()
}

func (w *messagesReader) calls(calls []gjson.Result) error {
	if len(calls) == 0 {
		return nil
	}
	w.t.OpenArray("tool_calls")
	for _, c := range calls {
		if c.Get("id").Str == "" || c.Get("name").Str == "" {
			return missing("a tool_use block with id and name")
		}
		input := c.Get("input").Raw
		if input == "" {
			input = "{}"
		}
		writeCall(&w.t, c.Get("id").Str, c.Get("name").Str, input)
	}
	w.t.EndArray()
	return nil
}

func writeCall(t *rawjson.Writer, id, name, arguments string) {
	t.Object()
	t.StringMember("id", id)
	t.StringMember("type", "function")
	t.OpenObject("function")
	t.StringMember("name", name)
	t.StringMember("arguments", arguments)
	t.EndObject()
	t.EndObject()
}
