// Package conformance puts clients that people use before a running router:
// the official ones for Node and Python, Vercel's AI SDK and LangChain. It has
// their scripts, a player of the model's part, and what starts them from a Go
// test. It knows nothing of the router but its base URL.
package conformance

import (
	"strings"

	"github.com/tidwall/gjson"
)

// call is one call of a tool.
type call struct{ id, name, arguments string }

// reply is what the model says in a scene.
type reply struct {
	thoughts string   // before the text
	text     []string // as it is streamed
	calls    []call
	refuse   bool // 400
	breakOff bool // fail after the first piece of text
}

// cue is what a scene depends on, read from a request of either dialect.
type cue struct {
	last     string // text of the newest turn
	results  []string
	image    string // media type
	tools    []string
	forced   string // the tool that must be called
	thinking bool
	recalled bool // earlier thoughts came back
}

// play decides what the model says. README.md tells the scenes.
func play(c cue) reply {
	const report = `{"city":"Paris","celsius":18}`
	switch {
	case len(c.results) > 0:
		return reply{text: []string{"It is ", strings.Join(c.results, " and "), "."}}
	case c.forced != "":
		return reply{calls: []call{{"call_report", c.forced, report}}}
	case c.image != "":
		return reply{text: []string{"I see ", c.image, "."}}
	case strings.Contains(c.last, "weather") && len(c.tools) > 0:
		return reply{text: []string{"Let me look."}, calls: []call{
			{"call_paris", c.tools[0], `{"city":"Paris"}`}, {"call_rome", c.tools[0], `{"city":"Rome"}`},
		}}
	case strings.Contains(c.last, "Report"):
		return reply{text: []string{report[:10], report[10:]}}
	case strings.Contains(c.last, "Think"):
		r := reply{text: []string{"It is ", "42."}}
		if c.thinking {
			r.thoughts = "Six sevens are forty-two."
		}
		return r
	case strings.Contains(c.last, "sure") && c.recalled:
		return reply{text: []string{"I am: ", "I remember."}}
	case strings.Contains(c.last, "Refuse"):
		return reply{refuse: true}
	case strings.Contains(c.last, "Break off"):
		return reply{text: []string{"This is ", "never said."}, breakOff: true}
	}
	return reply{text: []string{"Hello", " there."}}
}

// openAICue reads a chat-completions request.
func openAICue(body []byte) cue {
	root := gjson.ParseBytes(body)
	c := cue{thinking: root.Get("reasoning_effort").Exists(), forced: root.Get("tool_choice.function.name").Str}
	for _, t := range root.Get("tools").Array() {
		c.tools = append(c.tools, t.Get("function.name").Str)
	}
	for _, m := range root.Get("messages").Array() {
		content := m.Get("content")
		switch m.Get("role").Str {
		case "user":
			c.results = nil
			c.last = content.Str
			for _, part := range content.Array() {
				c.last += part.Get("text").Str
				if url, ok := strings.CutPrefix(part.Get("image_url.url").Str, "data:"); ok {
					c.image, _, _ = strings.Cut(url, ";")
				}
			}
		case "tool":
			c.results = append(c.results, said(content))
		case "assistant":
			c.recalled = c.recalled || m.Get("reasoning_content").Str != ""
		}
	}
	return c
}

// anthropicCue reads a request of the Messages API.
func anthropicCue(body []byte) cue {
	root := gjson.ParseBytes(body)
	c := cue{thinking: root.Get("thinking").Exists(), forced: root.Get("tool_choice.name").Str}
	for _, t := range root.Get("tools").Array() {
		c.tools = append(c.tools, t.Get("name").Str)
	}
	for _, m := range root.Get("messages").Array() {
		if m.Get("role").Str == "user" {
			c.last, c.results = "", nil
		}
		for _, b := range m.Get("content").Array() {
			switch b.Get("type").Str {
			case "text":
				c.last += b.Get("text").Str
			case "image":
				c.image = b.Get("source.media_type").Str
			case "tool_result":
				c.results = append(c.results, said(b.Get("content")))
			case "thinking":
				c.recalled = b.Get("signature").Str == signature
			}
		}
	}
	return c
}

// said is content that is a string or an array of text parts.
func said(content gjson.Result) string {
	if content.Type == gjson.String {
		return content.Str
	}
	text := ""
	for _, part := range content.Array() {
		text += part.Get("text").Str
	}
	return text
}

// converseCue reads a request of Bedrock's Converse.
func converseCue(body []byte) cue {
	root := gjson.ParseBytes(body)
	c := cue{
		thinking: root.Get("additionalModelRequestFields.thinking").Exists(),
		forced:   root.Get("toolConfig.toolChoice.tool.name").Str,
	}
	for _, t := range root.Get("toolConfig.tools").Array() {
		c.tools = append(c.tools, t.Get("toolSpec.name").Str)
	}
	for _, m := range root.Get("messages").Array() {
		if m.Get("role").Str == "user" {
			c.last, c.results = "", nil
		}
		for _, b := range m.Get("content").Array() {
			c.last += b.Get("text").Str
			if format := b.Get("image.format"); format.Exists() {
				c.image = "image/" + format.Str
			}
			if result := b.Get("toolResult"); result.Exists() {
				c.results = append(c.results, said(result.Get("content")))
			}
			if thought := b.Get("reasoningContent.reasoningText"); thought.Exists() {
				c.recalled = thought.Get("signature").Str == signature
			}
		}
	}
	return c
}
