package translate

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// Unbounded is the error for the first field of the request whose cost no
// output limit bounds where an upstream takes the request in its own dialect:
// tools that run at the provider, which charges for each call and for the text
// they bring; faster or dearer ways to serve; and input that is stored at the
// provider. nil when there is none. Fields named in settled, which the operator
// sets or drops, are not looked at.
func (r *Request) Unbounded(settled func(name string) bool) *InvalidError {
	for _, name := range unboundedFields[r.Dialect] {
		raw := r.Raw(name)
		if raw == nil || raw[0] == 'n' || settled(name) {
			continue
		}
		where, why := name, "what it adds to the input is not known"
		switch name {
		case "tools":
			if where = hostedTool(r.Dialect, gjson.ParseBytes(raw)); where == "" {
				continue
			}
			why = "such a tool runs at the provider, which charges for each use"
		case "web_search_options":
			why = "the provider charges for each search"
		case "mcp_servers":
			if string(raw) == "[]" {
				continue
			}
			why = "its tools run at the provider"
		case "speed":
			if string(raw) == `"standard"` {
				continue
			}
			why = "it costs more than the model's standard price"
		}
		return &InvalidError{Param: where, Code: "unbounded_cost", Message: "'" + where + "' is not allowed under a budget that rejects: " + why +
			". Leave it out, or let the operator set or drop '" + name + "' in the upstream's params."}
	}
	return nil
}

// unboundedFields are the fields to look at, by the dialect they are written in.
var unboundedFields = map[Dialect][]string{
	DialectChat:      {"tools", "web_search_options"},
	DialectMessages:  {"tools", "mcp_servers", "speed"},
	DialectResponses: {"tools", "previous_response_id", "conversation", "prompt"},
}

// hostedTool is the path of the first tool that the provider runs, or may; ""
// when the client runs them all. A type that is not known may be hosted.
func hostedTool(d Dialect, tools gjson.Result) (where string) {
	i := -1
	tools.ForEach(func(_, tool gjson.Result) bool {
		i++
		if tool.IsObject() && !clientRuns(d, tool) {
			where = "tools[" + strconv.Itoa(i) + "].type"
		}
		return where == ""
	})
	return where
}

// clientRuns reports whether the client itself runs a tool.
func clientRuns(d Dialect, tool gjson.Result) bool {
	kind := tool.Get("type").Str
	switch kind {
	case "", "function", "custom":
		return true
	}
	switch d {
	case DialectMessages:
		return slices.ContainsFunc([]string{"bash_", "text_editor_", "memory_", "computer_"}, func(prefix string) bool {
			return strings.HasPrefix(kind, prefix)
		})
	case DialectResponses:
		switch kind {
		case "local_shell", "apply_patch":
			return true
		case "namespace":
			return hostedTool(d, tool.Get("tools")) == ""
		case "shell":
			return tool.Get("environment.type").Str == "local"
		case "tool_search":
			return tool.Get("execution").Str == "client"
		}
	}
	return false
}
