package routing

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
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
	maxHeading    = 1024                       // bytes before a block in which that line is looked for
	maxBlank      = 1024                       // bytes of blanks that are trimmed off an end of a prompt
	harnessScan   = 64 << 10                   // bytes from each end of a prompt that are searched for tags
	harnessTags   = 512                        // "<" at each end of a prompt that are looked at
)

// wrappers are the tags that harnesses write around the person's own words,
// which stay.
var wrappers = []string{"task", "user_query", "userRequest", "user_message", "feedback"}

// harness finds the text that a harness wrote. Its zero value finds none.
type harness struct {
	tags    []string
	byFirst [256][]int // indexes in tags, by the first byte of a name in either case
}

func newHarness(tags []string) *harness {
	h := &harness{tags: tags}
	for i, name := range tags {
		lower, upper := strings.ToLower(name)[0], strings.ToUpper(name)[0]
		h.byFirst[lower] = append(h.byFirst[lower], i)
		if upper != lower {
			h.byFirst[upper] = append(h.byFirst[upper], i)
		}
	}
	return h
}

// span is a piece of a text, by its offsets.
type span struct{ from, to int }

// opening is an opening tag that nothing has closed yet.
type opening struct {
	at    int
	below int // the opening of the same name before it, -1 when there is none
}

// strip returns the prompt without the harness's blocks, and the names of the
// blocks it left out. A tag that is never closed is text like any other.
func (h *harness) strip(prompt string) (text string, names []string) {
	if len(h.tags) == 0 || strings.IndexByte(prompt, '<') < 0 {
		return prompt, nil
	}
	var room [16]span
	spans, names := h.blocks(prompt, room[:0])
	if len(spans) > 0 {
		prompt = without(prompt, spans)
	}
	return unwrap(prompt), names
}

// searched are the parts of a prompt that are searched for tags: up to head, and
// from tail. Neither holds more "<" than are looked at.
func searched(prompt string) (head, tail int) {
	half := len(prompt) / 2
	most := min(harnessScan, half)
	for tags, step := 0, 1<<10; head < most && step > 0; {
		next := min(head+step, most)
		if n := tags + strings.Count(prompt[head:next], "<"); n <= harnessTags {
			tags, head, step = n, next, step*2
		} else {
			step /= 4
		}
	}
	tail, most = len(prompt), max(len(prompt)-harnessScan, half)
	for tags, step := 0, 1<<10; tail > most && step > 0; {
		next := max(tail-step, most)
		if n := tags + strings.Count(prompt[next:tail], "<"); n <= harnessTags {
			tags, tail, step = n, next, step*2
		} else {
			step /= 4
		}
	}
	return head, tail
}

// blocks adds the closed blocks to spans. A closing tag ends the latest block of
// its name, so that a tag merely mentioned before a block takes no words with it.
func (h *harness) blocks(prompt string, spans []span) (found []span, names []string) {
	var room [64]int
	var openRoom [16]opening
	latest, opened := room[:0], openRoom[:0] // latest is by tag: its place in opened
	for range h.tags {
		latest = append(latest, -1)
	}
	head, tail := searched(prompt)
	for i := 0; i < len(prompt); {
		if i >= head && i < tail {
			i = tail
		}
		next := strings.IndexByte(prompt[i:], '<')
		if next < 0 {
			break
		}
		if i += next; i >= head && i < tail {
			continue
		}
		tag, closing, end := h.tag(prompt, i)
		switch {
		case tag < 0:
		case !closing:
			opened = append(opened, opening{i, latest[tag]})
			latest[tag] = len(opened) - 1
		case latest[tag] >= 0:
			last := opened[latest[tag]]
			spans = append(spans, span{start(prompt, last.at), end})
			latest[tag] = last.below
			if !slices.Contains(names, h.tags[tag]) {
				names = append(names, h.tags[tag])
			}
		}
		i = max(end, i+1)
	}
	return spans, names
}

// tag reads the tag at i: its index in the list, -1 when it is none of them.
func (h *harness) tag(prompt string, i int) (index int, closing bool, end int) {
	rest := prompt[i+1:]
	if strings.HasPrefix(rest, "/") {
		rest, closing = rest[1:], true
	}
	if rest == "" {
		return -1, closing, i + 1
	}
	for _, index := range h.byFirst[rest[0]] {
		name := h.tags[index]
		if len(rest) <= len(name) || !strings.EqualFold(rest[:len(name)], name) {
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

// start is where a block that opens at i begins: an AGENTS.md heading on the
// line before it belongs to it.
func start(prompt string, i int) int {
	from := max(0, i-maxHeading)
	before := strings.TrimRight(prompt[from:i], " \t\r\n")
	if strings.IndexByte(prompt[from+len(before):i], '\n') < 0 {
		return i // its line has other text
	}
	newline := strings.LastIndexByte(before, '\n')
	if newline < 0 && from > 0 {
		return i
	}
	if strings.HasPrefix(before[newline+1:], agentsHeading) {
		return from + newline + 1
	}
	return i
}

// without cuts the spans out of a text. Where one piece is left, such as the
// words after a reminder, it is not copied.
func without(text string, spans []span) string {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var room [16]string
	pieces, at := room[:0], 0
	for _, s := range append(spans, span{len(text), len(text)}) {
		if s.from > at && (len(pieces) > 0 || !blank(text[at:s.from])) {
			pieces = append(pieces, text[at:s.from])
		}
		at = max(at, s.to)
	}
	for len(pieces) > 1 && blank(pieces[len(pieces)-1]) {
		pieces = pieces[:len(pieces)-1]
	}
	return trim(strings.Join(pieces, ""))
}

func blank(text string) bool { return len(text) <= maxBlank && trim(text) == "" }

// trim is strings.TrimSpace within maxBlank bytes of each end, so that blanks
// without end cost nothing.
func trim(text string) string {
	head := text[:min(len(text), maxBlank)]
	text = text[len(head)-len(strings.TrimLeftFunc(head, unicode.IsSpace)):]
	tail := text[max(0, len(text)-maxBlank):]
	return text[:len(text)-len(tail)+len(strings.TrimRightFunc(tail, unicode.IsSpace))]
}

// unwrap takes away a tag that stands around the whole text.
func unwrap(text string) string {
	trimmed := trim(text)
	for _, name := range wrappers {
		inner, ok := strings.CutPrefix(trimmed, "<"+name+">")
		if !ok {
			continue
		}
		if inner, ok = strings.CutSuffix(inner, "</"+name+">"); ok {
			return trim(inner)
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
