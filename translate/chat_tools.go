package translate

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/internal/rawjson"
)

func readTools(v gjson.Result) ([]tool, error) {
	var tools []tool
	err := eachElement(v, func(i int, e gjson.Result) error {
		t, err := readTool(e)
		t.param = "tools[" + strconv.Itoa(i) + "]"
		tools = append(tools, t)
		return err
	})
	return tools, err
}

func readTool(v gjson.Result) (tool, error) {
	var t tool
	if err := wantObject(v); err != nil {
		return t, err
	}
	var kind string
	if err := readString(&kind, v.Get("type")); err != nil {
		return t, within("type", err)
	}
	if kind != "function" && kind != "custom" { // before it is looked up: as a path it could keep gjson busy for ever
		return t, within("type", refusef("expected one of function, custom; the tool %q runs elsewhere", printable([]byte(kind))))
	}
	body := v.Get(kind)
	var err error
	if t.custom = kind == "custom"; t.custom {
		err = t.readCustom(body)
	} else {
		err = t.readFunction(body)
	}
	if err != nil {
		return t, within(kind, err)
	}
	for _, mark := range []gjson.Result{v.Get("cache_control"), body.Get("cache_control")} {
		if mark.Exists() && mark.Type != gjson.Null {
			if t.cache, err = readCacheControl(mark); err != nil {
				return t, within("cache_control", err)
			}
		}
	}
	return t, nil
}

func readFunctions(v gjson.Result) ([]tool, error) {
	var tools []tool
	err := eachElement(v, func(i int, e gjson.Result) error {
		t := tool{param: "functions[" + strconv.Itoa(i) + "]"}
		err := t.readFunction(e)
		tools = append(tools, t)
		return err
	})
	return tools, err
}

func (t *tool) readFunction(v gjson.Result) error {
	err := eachMember(v, func(name string, e gjson.Result) (err error) {
		switch name {
		case "name":
			err = readString(&t.name, e)
		case "description":
			err = readString(&t.description, e)
		case "parameters":
			err = wantObject(e)
			t.schema = rawjson.WholePairs(e.Raw)
		case "strict":
			err = readBool(&t.strict, e)
		}
		return within(name, err)
	})
	if err == nil && t.name == "" {
		err = within("name", missing("the name of the function"))
	}
	return err
}

// customSchema carries a custom tool's free text in a function's object.
const customSchema = `{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}`

func (t *tool) readCustom(v gjson.Result) error {
	t.schema = customSchema
	err := eachMember(v, func(name string, e gjson.Result) (err error) {
		switch name {
		case "name":
			err = readString(&t.name, e)
		case "description":
			err = readString(&t.description, e)
		case "format":
			if e.Get("type").Str == "grammar" {
				err = within("type", refusef("this model cannot hold its answer to a grammar"))
			}
		}
		return within(name, err)
	})
	if err == nil && t.name == "" {
		err = within("name", missing("the name of the tool"))
	}
	return err
}

func readToolChoice(v gjson.Result) (toolChoice, error) {
	choice := toolChoice{param: "tool_choice"}
	if v.Type == gjson.String {
		return choice, readOneOf(&choice.mode, v, "auto", "none", "required")
	}
	if err := wantObject(v); err != nil {
		return choice, &InvalidError{Message: "expected auto, none, required or an object"}
	}
	var kind string
	if err := readOneOf(&kind, v.Get("type"), "function", "custom", "allowed_tools"); err != nil {
		return choice, within("type", err)
	}
	if kind == "allowed_tools" {
		return readAllowedTools(choice, v.Get("allowed_tools"))
	}
	choice.mode = "tool"
	err := readString(&choice.name, v.Get(kind).Get("name"))
	return choice, within(kind, within("name", err))
}

func readAllowedTools(choice toolChoice, v gjson.Result) (toolChoice, error) {
	if err := readOneOf(&choice.mode, v.Get("mode"), "auto", "required"); err != nil {
		return choice, within("allowed_tools", within("mode", err))
	}
	choice.allowed = []string{}
	err := within("tools", eachElement(v.Get("tools"), func(i int, e gjson.Result) error {
		var kind, name string
		if err := readOneOf(&kind, e.Get("type"), "function", "custom"); err != nil {
			return within("type", err)
		}
		if err := readString(&name, e.Get(kind).Get("name")); err != nil {
			return within(kind, within("name", err))
		}
		choice.allowed = append(choice.allowed, name)
		return nil
	}))
	return choice, within("allowed_tools", err)
}

func readFunctionCall(v gjson.Result) (toolChoice, error) {
	choice := toolChoice{param: "function_call"}
	if v.Type == gjson.String {
		return choice, readOneOf(&choice.mode, v, "auto", "none")
	}
	choice.mode = "tool"
	return choice, within("name", readString(&choice.name, v.Get("name")))
}

// resolveTools makes tools and tool_choice agree: it leaves the tools that may
// be called, and a choice of "", required or tool that is among them.
func (c *chat) resolveTools(caps Capabilities) error {
	if err := c.uniqueTools(); err != nil {
		return err
	}
	if len(c.tools) == 0 {
		return c.choiceWithoutTools()
	}
	if !caps.Tools {
		if c.choice.mode == "none" {
			c.tools = nil
			return nil
		}
		return &InvalidError{Param: c.toolsParam(), Message: "this model cannot use tools", Code: "unsupported_parameter"}
	}
	if err := c.allowTools(); err != nil {
		return err
	}
	switch c.choice.mode {
	case "auto":
		c.choice.mode = ""
	case "none":
		c.choice.mode = ""
		if !c.boundPrefix(caps) {
			c.tools = nil
			break
		}
		c.silent = true
		c.ask = append(c.ask, ask{text: "Answer without calling a tool."})
	case "tool":
		if !slices.ContainsFunc(c.tools, func(t tool) bool { return t.name == c.choice.name }) {
			return &InvalidError{Param: c.choice.param, Message: fmt.Sprintf("the tool %q is not among the tools", c.choice.name)}
		}
	}
	c.forcedChoice(caps)
	return nil
}

func (c *chat) toolsParam() string {
	if c.legacy {
		return "functions"
	}
	return "tools"
}

// forcedChoice says required or tool in the way the model knows. A model that
// cannot be forced is asked.
func (c *chat) forcedChoice(caps Capabilities) {
	if c.choice.mode == "" {
		return
	}
	named := c.choice.mode == "tool"
	if named && (!caps.ToolChoice || !caps.NamedToolChoice) && !c.boundPrefix(caps) { // any of one is the same
		c.tools = slices.DeleteFunc(slices.Clone(c.tools), func(t tool) bool { return t.name != c.choice.name })
	}
	switch {
	case !caps.ToolChoice:
		c.markUnsupported(c.choice.param, false, "this model cannot be made to call a tool; it is asked to")
		if named {
			c.ask = append(c.ask, ask{text: "Answer by calling the tool %s, and in no other way.", tool: c.choice.name})
		} else {
			c.ask = append(c.ask, ask{text: "Answer by calling at least one of the tools, and in no other way."})
		}
		c.choice.mode = ""
	case named && !caps.NamedToolChoice:
		c.choice.mode = "required"
	}
}

// boundPrefix reports whether the turns hold thoughts that are good only after
// the very prefix they were made for: what comes before them may not change.
func (c *chat) boundPrefix(caps Capabilities) bool {
	if !caps.BoundThoughts {
		return false
	}
	for _, m := range c.messages {
		if slices.ContainsFunc(m.blocks, block.isSigned) {
			return true
		}
	}
	return false
}

// ask is a sentence of ours to the model; text has a %s for the name that the
// provider knows a tool by.
type ask struct{ text, tool string }

// say adds what is asked of the model: to the system text, or, where that may
// not change any more, to the end of the last turn of the user's.
func (c *chat) say(n *names, caps Capabilities) {
	if len(c.ask) == 0 {
		return
	}
	var said []block
	for _, a := range c.ask {
		text := a.text
		if a.tool != "" {
			text = fmt.Sprintf(text, n.alias(a.tool))
		}
		said = append(said, block{kind: blockText, text: text})
	}
	last := len(c.messages) - 1
	switch {
	case c.boundPrefix(caps) && c.messages[last].role == roleUser:
		c.messages[last].blocks = append(slices.Clip(c.messages[last].blocks), said...)
	case c.boundPrefix(caps):
		c.messages = append(c.messages, message{role: roleUser, blocks: said})
	case caps.System:
		c.system = append(c.system, said...)
	default:
		c.messages[0].blocks = append(said, c.messages[0].blocks...)
		if c.messages[0].role == roleUser {
			slices.SortStableFunc(c.messages[0].blocks, func(a, b block) int { return resultRank(a) - resultRank(b) })
		}
	}
}

func (c *chat) uniqueTools() error {
	seen := make(map[string]bool, len(c.tools))
	for _, t := range c.tools {
		if seen[t.name] {
			return &InvalidError{Param: t.param, Message: fmt.Sprintf("the name %q is taken by another tool", t.name)}
		}
		seen[t.name] = true
	}
	return nil
}

func (c *chat) choiceWithoutTools() error {
	switch c.choice.mode {
	case "", "auto", "none":
		c.choice.mode = ""
		return nil
	}
	return &InvalidError{Param: c.choice.param, Message: "there are no tools to choose from"}
}

// allowTools leaves those of allowed_tools.
func (c *chat) allowTools() error {
	if c.choice.allowed == nil {
		return nil
	}
	allowed := make(map[string]bool, len(c.choice.allowed))
	for _, name := range c.choice.allowed {
		allowed[name] = true
	}
	offered := len(c.tools)
	c.tools = slices.DeleteFunc(slices.Clone(c.tools), func(t tool) bool {
		wanted := allowed[t.name]
		delete(allowed, t.name)
		return !wanted
	})
	for _, name := range slices.Sorted(maps.Keys(allowed)) {
		return &InvalidError{Param: "tool_choice.allowed_tools.tools", Message: fmt.Sprintf("the tool %q is not among the %d tools", name, offered)}
	}
	if len(c.tools) == 0 {
		return &InvalidError{Param: "tool_choice.allowed_tools.tools", Message: "expected at least one tool"}
	}
	return nil
}

// placeholderTool stands in where a model insists on tool definitions because
// earlier turns hold calls, while none may be called now. Definitions rebuilt
// from the history would be called.
var placeholderTool = tool{
	name: "no_tool_available", description: "Do not call.",
	schema: `{"type":"object","properties":{}}`,
}

// needsPlaceholder reports whether the turns hold calls or results that no
// tool definition covers.
func (c *chat) needsPlaceholder() bool {
	if len(c.tools) > 0 {
		return false
	}
	for _, m := range c.messages {
		for _, b := range m.blocks {
			if b.kind == blockToolUse || b.kind == blockToolResult {
				return true
			}
		}
	}
	return false
}

// names maps between the client's names and those a provider accepts:
// letters, digits, _ and -, at most 64.
type names struct {
	client map[string]string // by the provider's name
	custom map[string]bool   // client's names of custom tools
	legacy bool              // answer with function_call instead of tool_calls

	// jsonTool is the name of the tool that stands for response_format; its
	// input is the answer's text.
	jsonTool string
	// silent is the name of a tool whose calls are dropped.
	silent string
	// mute drops every call of the client's tools.
	mute bool
	// single leaves the client only the first call of an answer.
	single bool
	// unforced says that the model may answer in text instead of calling
	// jsonTool.
	unforced bool
	// toProvider and fromProvider rename the keys of calls' inputs.
	toProvider, fromProvider map[string]string
}

// toClient gives the client's name for a provider's.
func (n *names) toClient(name string) string {
	if own, ok := n.client[name]; ok {
		return own
	}
	return name
}

func (n *names) addCustom(name string) {
	if n.custom == nil {
		n.custom = map[string]bool{}
	}
	n.custom[strings.Clone(name)] = true
}

// alias gives the provider's name for a client's and remembers the way back.
func (n *names) alias(name string) string {
	safe := aliasName(name)
	if safe != name {
		if n.client == nil {
			n.client = map[string]string{}
		}
		n.client[safe] = strings.Clone(name) // a stream must not keep its request in memory
	}
	return safe
}

// aliasName returns name when it is fit, else a fit one that depends on
// nothing but name, so that prompt caches keep their prefix.
func aliasName(name string) string {
	if fitName(name) {
		return name
	}
	return sanitizeName(name, 55) + "_" + hash8(name)
}

// aliasID does the same for the ids of calls.
func aliasID(id string) string {
	if fitName(id) {
		return id
	}
	return "h" + hash8(id) + "_" + sanitizeName(id, 54)
}

func fitName(s string) bool {
	return len(s) >= 1 && len(s) <= 64 && sanitizeName(s, 64) == s
}

func sanitizeName(s string, limit int) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, s)
	return clean[:min(len(clean), limit)]
}

func hash8(s string) string {
	h := fnv.New32a()
	h.Write([]byte(s))
	return fmt.Sprintf("%08x", h.Sum32())
}
