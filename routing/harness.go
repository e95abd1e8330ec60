package routing

import (
	"cmp"
	"slices"
	"strings"
)

// HarnessTags are the blocks that agent harnesses write around a person's
// words, by the name of their tag. They are not scored unless
// ComplexityConfig.Harness says otherwise. Generic names, such as context or
// files, are left out: people write those themselves.
func HarnessTags() []string {
	return []string{
		// Claude Code
		"system-reminder", "command-message", "command-name", "local-command-stdout", "local-command-stderr",
		"local-command-caveat", "bash-stdout", "bash-stderr", "user-prompt-submit-hook", "task-notification",
		"ide_opened_file", "ide_selection", "ide_diagnostics", "new-diagnostics",
		// Codex; INSTRUCTIONS is its AGENTS.md block
		"environment_context", "user_instructions", "INSTRUCTIONS", "permissions instructions", "turn_aborted",
		// Cline and Roo
		"environment_details", "explicit_instructions",
		// Cursor
		"additional_data", "attached_files", "open_and_recently_viewed_files", "user_info", "project_layout", "git_status",
		// Copilot
		"environment_info", "workspace_info", "editorContext", "reminderInstructions", "repoContext",
		// Gemini CLI
		"session_context",
	}
}

const (
	agentsHeading = "# AGENTS.md instructions" // the line Codex writes above its INSTRUCTIONS block
	harnessScan   = 64 << 10                   // bytes from each end of a prompt that are searched for tags
)

// wrappers are the tags that harnesses write around the person's own words,
// which stay.
var wrappers = []string{"task", "user_query", "userRequest", "user_message", "feedback"}

// harness finds the text that a harness wrote. Its zero value finds none.
type harness struct{ tags []string }

// span is a piece of a text, by its offsets.
type span struct{ from, to int }

// strip returns the prompt without the harness's blocks, and the names of the
// blocks it left out. A tag that is never closed is text like any other.
func (h harness) strip(prompt string) (text string, names []string) {
	if len(h.tags) == 0 || strings.IndexByte(prompt, '<') < 0 {
		return prompt, nil
	}
	spans, names := h.blocks(prompt)
	if len(spans) > 0 {
		prompt = without(prompt, spans)
	}
	return unwrap(prompt), names
}

// blocks finds the closed blocks. A closing tag ends the latest block of its
// name, so that a tag merely mentioned before a block takes no words with it.
func (h harness) blocks(prompt string) (spans []span, names []string) {
	open := make([][]int, len(h.tags))
	for i := 0; i < len(prompt); {
		if len(prompt) > 2*harnessScan && i >= harnessScan && i < len(prompt)-harnessScan {
			i = len(prompt) - harnessScan
		}
		next := strings.IndexByte(prompt[i:], '<')
		if next < 0 {
			break
		}
		i += next
		tag, closing, end := h.tag(prompt, i)
		switch {
		case tag < 0:
		case !closing:
			open[tag] = append(open[tag], i)
		case len(open[tag]) > 0:
			last := len(open[tag]) - 1
			spans = append(spans, span{start(prompt, open[tag][last]), end})
			open[tag] = open[tag][:last]
			if !slices.Contains(names, h.tags[tag]) {
				names = append(names, h.tags[tag])
			}
		}
		i = max(end, i+1)
	}
	return spans, names
}

// tag reads the tag at i: its index in the list, -1 when it is none of them.
func (h harness) tag(prompt string, i int) (index int, closing bool, end int) {
	rest := prompt[i+1:]
	if strings.HasPrefix(rest, "/") {
		rest, closing = rest[1:], true
	}
	if rest == "" {
		return -1, closing, i + 1
	}
	first := rest[0] | ' ' // in lower case
	for index, name := range h.tags {
		if len(rest) <= len(name) || first != name[0]|' ' || !strings.EqualFold(rest[:len(name)], name) {
			continue
		}
		switch after := rest[len(name)]; {
		case after == '>':
			return index, closing, len(prompt) - len(rest) + len(name) + 1
		case after == ' ' && !closing: // attributes
			if to := strings.IndexByte(rest[:min(len(rest), 400)], '>'); to >= 0 {
				return index, closing, len(prompt) - len(rest) + to + 1
			}
		}
	}
	return -1, closing, i + 1
}

// start is where a block that opens at i begins: the heading of an AGENTS.md
// block belongs to it.
func start(prompt string, i int) int {
	before := strings.TrimRight(prompt[:i], " \t\r\n")
	line := before[strings.LastIndexByte(before, '\n')+1:]
	if strings.HasPrefix(line, agentsHeading) {
		return len(before) - len(line)
	}
	return i
}

// without cuts the spans out of a text.
func without(text string, spans []span) string {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var b strings.Builder
	at := 0
	for _, s := range spans {
		if s.from > at {
			b.WriteString(text[at:s.from])
		}
		at = max(at, s.to)
	}
	b.WriteString(text[at:])
	return strings.TrimSpace(b.String())
}

// unwrap takes away a tag that stands around the whole text.
func unwrap(text string) string {
	trimmed := strings.TrimSpace(text)
	for _, name := range wrappers {
		inner, ok := strings.CutPrefix(trimmed, "<"+name+">")
		if !ok {
			continue
		}
		if inner, ok = strings.CutSuffix(inner, "</"+name+">"); ok {
			return strings.TrimSpace(inner)
		}
	}
	return text
}

// unscored is the clause that names what was left out of the score; "" when
// nothing was.
func unscored(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + " not scored)"
}
