package translate

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// plan is what a request comes down to for one model, apart from its turns.
type plan struct {
	reasoning reasoning
	schema    *outputSchema // nil when the answer has no format, or has it otherwise
	names     *names
}

// prepare reads a request and shapes it to a model: the part of translating
// that Converse and Messages share. The caller writes it down in its dialect,
// notes what it cannot say there, and calls applyUnsupported last.
func prepare(body []byte, caps Capabilities, o Options) (*chat, *plan, error) {
	c, err := parseFor(body, o)
	if err != nil {
		return nil, nil, err
	}
	p, err := c.shape(caps)
	return c, p, named(err)
}

// parseFor is parseChat, without earlier thoughts where those were refused.
func parseFor(body []byte, o Options) (*chat, error) {
	c, err := parseChat(body)
	if err == nil && o.DropThoughts {
		for i := range c.messages {
			c.messages[i].blocks = slices.DeleteFunc(c.messages[i].blocks, block.isThought)
		}
	}
	return c, err
}

func (c *chat) shape(caps Capabilities) (*plan, error) {
	if err := c.resolveTools(caps); err != nil {
		return nil, err
	}
	oneCall := c.legacy || c.parallelTools != nil && !*c.parallelTools
	p := &plan{names: &names{legacy: c.legacy, single: oneCall}}
	p.schema, p.names.jsonTool = c.resolveFormat(caps)
	p.names.mute, p.names.unforced = c.silent, !caps.ToolChoice
	if err := c.normalize(caps); err != nil {
		return nil, err
	}
	if caps.MaxOutput > 0 {
		c.maxTokens = min(c.maxTokens, caps.MaxOutput)
	}
	var err error
	if p.reasoning, err = c.resolveReasoning(caps); err != nil {
		return nil, err
	}
	c.closeWithUser(caps.Prefill && !p.reasoning.on() && p.schema == nil)
	c.splitToolTurns(caps)
	c.resolveSampling(caps, p.reasoning.on())
	c.resolveStop(caps)
	c.say(p.names, caps)
	for _, t := range c.tools {
		if t.custom {
			p.names.addCustom(t.name)
		}
	}
	p.names.aliasKeys(c, caps)
	if c.needsPlaceholder() {
		if !caps.Tools {
			return nil, &InvalidError{Param: "messages", Code: "unsupported_content", Message: "this model cannot read tool calls"}
		}
		c.tools = []tool{placeholderTool}
		p.names.silent = placeholderTool.name
	}
	c.resolveCache(caps)
	return p, nil
}

// normalize shapes the turns to what models behind Converse and Messages
// insist on: they begin with the user, alternate, hold no blank text, and
// answer every call in the turn after it. Each step is pure but for c; what
// the request means stays as it was.
func (c *chat) normalize(caps Capabilities) error {
	c.pairFunctions()
	c.liftSystem(caps)
	c.dropReplayedReasoning(caps)
	if err := c.dropBlanks(); err != nil {
		return err
	}
	c.mergeTurns()
	if err := c.dropLooseThoughts(); err != nil {
		return err
	}
	c.liftLeading()
	if err := c.checkPairs(); err != nil {
		return err
	}
	c.renameReusedIDs()
	if err := c.checkMedia(caps); err != nil {
		return err
	}
	c.openWithUser()
	c.nameDocuments()
	return nil
}

// pairFunctions gives legacy function results the id of the call before them.
// A result that answers none becomes text of the user.
func (c *chat) pairFunctions() {
	var open []string // ids of legacy calls still to be answered
	for i := range c.messages {
		m := &c.messages[i]
		for _, b := range m.blocks {
			if b.kind == blockToolUse && strings.HasSuffix(b.param, ".function_call") {
				open = append(open, b.id)
			}
		}
		if m.role != roleFunction {
			continue
		}
		m.role = roleUser
		if len(open) == 0 {
			continue
		}
		m.blocks = []block{resultBlock(open[0], m.blocks, "messages["+strconv.Itoa(m.index)+"].content")}
		open = open[1:]
	}
}

// liftSystem takes system and developer text out of the turns. A model without
// a place for it reads it at the head of the first user turn, and so does any
// model when nothing else is said.
// Where the model takes it among the turns, what comes after the first turn
// stays there: a conversation's beginning does not change then, on which caches
// and bound thoughts rely.
func (c *chat) liftSystem(caps Capabilities) {
	turns := c.messages[:0:0]
	for _, m := range c.messages {
		if m.role != roleSystem || caps.MidSystem && len(turns) > 0 {
			turns = append(turns, m)
			continue
		}
		for _, b := range m.blocks {
			if !blank(b.text) {
				c.system = append(c.system, b)
			}
		}
	}
	c.messages = turns
	if len(c.system) == 0 || caps.System && len(turns) > 0 {
		return
	}
	first := slices.IndexFunc(c.messages, func(m message) bool { return m.role == roleUser })
	if first < 0 || slices.ContainsFunc(c.messages[first].blocks, func(b block) bool { return b.kind == blockToolResult }) {
		c.messages = slices.Insert(c.messages, 0, message{role: roleUser, blocks: c.system})
	} else {
		c.messages[first].blocks = slices.Concat(c.system, c.messages[first].blocks)
	}
	c.system = nil
}

// liftLeading lifts the system text that has come to stand first, because the
// turns before it say nothing.
func (c *chat) liftLeading() {
	for len(c.messages) > 0 && c.messages[0].role == roleSystem {
		c.system = append(c.system, c.messages[0].blocks...)
		c.messages = c.messages[1:]
	}
	if len(c.messages) == 0 {
		c.messages, c.system = []message{{role: roleUser, blocks: c.system}}, nil
	}
}

// dropReplayedReasoning leaves reasoning only where the model takes it back:
// what Claude signed or redacted. Unsigned reasoning is refused by Claude and
// of no use to others, which in turn refuse what Claude signed: an earlier turn
// may have been answered by another model than this one.
func (c *chat) dropReplayedReasoning(caps Capabilities) {
	for i := range c.messages {
		m := &c.messages[i]
		m.blocks = slices.DeleteFunc(m.blocks, func(b block) bool {
			switch b.kind {
			case blockReasoning:
				return b.signature == "" || caps.Family != "claude" && caps.Family != "" // whose it may be
			case blockRedacted:
				return caps.Family != "claude" && caps.Family != "openai" && caps.Family != ""
			}
			return false
		})
	}
}

// dropBlanks removes blank text, and turns with nothing left in them. A last
// user message that says nothing is the client's mistake.
func (c *chat) dropBlanks() error {
	last := len(c.messages) - 1
	kept := c.messages[:0]
	for i, m := range c.messages {
		m.blocks = withoutBlanks(m.blocks)
		for j := range m.blocks {
			m.blocks[j].content = withoutBlanks(m.blocks[j].content)
		}
		if i == last && m.role == roleUser && len(m.blocks) == 0 {
			return &InvalidError{Param: "messages[" + strconv.Itoa(m.index) + "].content", Message: "the last message is blank"}
		}
		if len(m.blocks) > 0 {
			kept = append(kept, m)
		}
	}
	c.messages = kept
	if len(kept) == 0 {
		return errNothingSaid()
	}
	return nil
}

func errNothingSaid() error {
	return &InvalidError{Param: "messages", Message: "no message says anything"}
}

// withoutBlanks drops blank text; a cache mark on it moves to the block before.
func withoutBlanks(blocks []block) []block {
	kept := blocks[:0]
	for _, b := range blocks {
		if b.kind != blockText || !blank(b.text) {
			kept = append(kept, b)
		} else if b.cache != nil && len(kept) > 0 {
			kept[len(kept)-1].cache = b.cache
		}
	}
	return kept
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }

// mergeTurns joins neighbours of one role, block by block. In a user turn tool
// results come first, so that a user's word between a call and its result
// moves after the result.
func (c *chat) mergeTurns() {
	var merged []message
	for _, m := range c.messages {
		n := len(merged)
		switch {
		case n > 0 && merged[n-1].role == m.role:
			merged[n-1].blocks = append(merged[n-1].blocks, m.blocks...)
		case n > 1 && merged[n-1].role == roleSystem && m.role == roleUser && hasKind(m, blockToolResult) && hasKind(merged[n-2], blockToolUse):
			// Nothing may stand between calls and their results.
			merged = append(merged[:n-1], m, merged[n-1])
		default:
			merged = append(merged, m)
		}
	}
	for i := range merged {
		if merged[i].role == roleUser {
			slices.SortStableFunc(merged[i].blocks, func(a, b block) int { return resultRank(a) - resultRank(b) })
		} else if !isInterleaved(merged[i].blocks) {
			slices.SortStableFunc(merged[i].blocks, func(a, b block) int { return callRank(a) - callRank(b) })
		}
	}
	c.messages = merged
}

func resultRank(b block) int {
	if b.kind == blockToolResult {
		return 0
	}
	return 1
}

// isInterleaved reports whether thoughts stand after a call: their order is
// part of what is signed.
func isInterleaved(blocks []block) bool {
	first := slices.IndexFunc(blocks, func(b block) bool { return b.kind == blockToolUse })
	return first >= 0 && slices.ContainsFunc(blocks[first:], block.isThought)
}

// callRank puts calls last in a merged assistant turn, where models look
// for them; reasoning keeps its place before what it led to.
func callRank(b block) int {
	if b.kind == blockToolUse {
		return 1
	}
	return 0
}

// dropLooseThoughts drops reasoning that nothing follows in its turn, as an
// answer that was cut short leaves it: no model takes a turn that ends so.
func (c *chat) dropLooseThoughts() error {
	for i := range c.messages {
		m := &c.messages[i]
		for n := len(m.blocks); n > 0 && m.blocks[n-1].isThought(); n = len(m.blocks) {
			m.blocks = m.blocks[:n-1]
		}
	}
	turns := len(c.messages)
	c.messages = slices.DeleteFunc(c.messages, func(m message) bool { return len(m.blocks) == 0 })
	switch len(c.messages) {
	case turns:
	case 0:
		return errNothingSaid()
	default: // a turn between two of the user's is gone
		c.mergeTurns()
	}
	return nil
}

// isSigned reports whether a block is a thought that only its model can read.
func (b block) isSigned() bool { return b.isThought() && (b.signature != "" || b.data != "") }

func (b block) isThought() bool { return b.kind == blockReasoning || b.kind == blockRedacted }

// checkPairs wants every call answered in the turn after it, once, and every
// result to answer a call, as OpenAI does.
func (c *chat) checkPairs() error {
	var open map[string]bool // ids of the calls in the turn before
	for i, m := range c.messages {
		if m.role == roleUser {
			if err := checkResults(m, open); err != nil {
				return err
			}
			open = nil
			continue
		}
		if m.role == roleSystem {
			continue
		}
		var err error
		if open, err = callIDs(m); err != nil {
			return err
		}
		if len(open) > 0 && i == len(c.messages)-1 {
			return noResponse(open)
		}
	}
	return nil
}

// callIDs are the ids of the calls in an assistant turn.
func callIDs(m message) (map[string]bool, error) {
	var ids map[string]bool
	for _, b := range m.blocks {
		if b.kind != blockToolUse {
			continue
		}
		if ids[b.id] {
			return nil, &InvalidError{Param: b.param + ".id", Message: fmt.Sprintf("the id %q is that of another call in this turn", b.id)}
		}
		if ids == nil {
			ids = map[string]bool{}
		}
		ids[b.id] = true
	}
	return ids, nil
}

// checkResults pairs a user turn's results with the calls before it; each pair
// leaves open.
func checkResults(m message, open map[string]bool) error {
	var answered map[string]bool
	for _, b := range m.blocks {
		switch {
		case b.kind != blockToolResult:
			continue
		case answered[b.id]:
			return &InvalidError{Param: "messages", Message: fmt.Sprintf("two tool messages answer the call %q", b.id)}
		case !open[b.id]:
			return &InvalidError{Param: "messages", Message: fmt.Sprintf("a tool message must answer a call in the assistant message before it; %q does not", b.id)}
		}
		if answered == nil {
			answered = map[string]bool{}
		}
		answered[b.id] = true
		delete(open, b.id)
	}
	if len(open) > 0 {
		return noResponse(open)
	}
	return nil
}

// renameReusedIDs gives calls whose id an earlier turn has used another one, and
// their results with them: some upstreams count calls anew in every answer, and
// Claude refuses an id that occurs twice in the conversation.
func (c *chat) renameReusedIDs() {
	times := map[string]int{}     // that an id has been used
	var renamed map[string]string // ids in the turn before
	for _, m := range c.messages {
		if m.role == roleUser {
			for i := range m.blocks {
				if id := renamed[m.blocks[i].id]; id != "" && m.blocks[i].kind == blockToolResult {
					m.blocks[i].id = id
				}
			}
			continue
		}
		renamed = nil
		for i := range m.blocks {
			b := &m.blocks[i]
			if b.kind != blockToolUse {
				continue
			}
			if id := b.id; times[id] > 0 {
				for times[b.id] > 0 {
					times[id]++
					b.id = id + "_" + strconv.Itoa(times[id])
				}
				if renamed == nil {
					renamed = map[string]string{}
				}
				renamed[id] = b.id
			}
			times[b.id]++
		}
	}
}

func noResponse(open map[string]bool) error {
	ids := slices.Sorted(maps.Keys(open))
	return &InvalidError{Param: "messages", Message: "an assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'; these have no response: " +
		strings.Join(ids[:min(len(ids), 10)], ", ")}
}

// checkMedia refuses what the model cannot see or hear: an answer that passes
// over it would be wrong without a word.
func (c *chat) checkMedia(caps Capabilities) error {
	for i := range c.messages {
		m := &c.messages[i]
		for j := range m.blocks {
			if err := m.blocks[j].checkMedia(caps); err != nil {
				return err
			}
			for k := range m.blocks[j].content {
				if err := m.blocks[j].content[k].checkMedia(caps); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (b *block) checkMedia(caps Capabilities) error {
	switch {
	case b.kind == blockImage && !caps.Images:
		return &InvalidError{Param: b.param, Message: "this model cannot see images", Code: "unsupported_content"}
	case b.kind == blockDocument && !caps.Documents:
		return &InvalidError{Param: b.param, Message: "this model cannot read files", Code: "unsupported_content"}
	case b.kind == blockAudio && !caps.Audio:
		return &InvalidError{Param: b.param, Message: "this model cannot listen to audio", Code: "unsupported_content"}
	}
	return nil
}

// continueText is what we say for the user where a model wants the user to
// speak first or last.
const continueText = "Continue."

// openWithUser puts a user turn before a conversation that the assistant opens.
func (c *chat) openWithUser() {
	if c.messages[0].role == roleAssistant {
		c.messages = slices.Insert(c.messages, 0, message{role: roleUser, blocks: []block{{kind: blockText, text: continueText}}})
	}
}

// closeWithUser deals with a last turn that is the assistant's: a model that
// takes such a start goes on from it, others are asked to continue. So is one
// that thinks, or is held to a schema, neither of which goes with a start.
func (c *chat) closeWithUser(prefill bool) {
	last := &c.messages[len(c.messages)-1]
	if last.role != roleAssistant {
		return
	}
	if !prefill {
		c.messages = append(c.messages, message{role: roleUser, blocks: []block{{kind: blockText, text: continueText}}})
		return
	}
	if b := &last.blocks[len(last.blocks)-1]; b.kind == blockText {
		b.text = strings.TrimRight(b.text, " \t\r\n")
	}
}

// splitToolTurns sets tool results and what else the user says apart, for
// models that refuse both in one turn.
func (c *chat) splitToolTurns(caps Capabilities) {
	if caps.MixedToolTurn {
		return
	}
	var turns []message
	for _, m := range c.messages {
		n := 0
		for n < len(m.blocks) && m.blocks[n].kind == blockToolResult {
			n++
		}
		if m.role != roleUser || n == 0 || n == len(m.blocks) {
			turns = append(turns, m)
			continue
		}
		turns = append(turns,
			message{role: roleUser, blocks: m.blocks[:n], index: m.index},
			message{role: roleAssistant, blocks: []block{{kind: blockText, text: "Understood."}}},
			message{role: roleUser, blocks: m.blocks[n:], index: m.index})
	}
	c.messages = turns
}

// nameDocuments gives every document a name that models accept, once only in
// the request, and the same in every request that holds it.
func (c *chat) nameDocuments() {
	taken := map[string]int{}
	for _, m := range c.messages {
		for i := range m.blocks {
			nameDocument(&m.blocks[i], taken)
			for k := range m.blocks[i].content {
				nameDocument(&m.blocks[i].content[k], taken)
			}
		}
	}
}

func nameDocument(b *block, taken map[string]int) {
	if b.kind != blockDocument {
		return
	}
	name := documentName(b.media.name)
	key := strings.ToLower(name)
	for taken[key]++; taken[key] > 1; {
		next := name + "-" + strconv.Itoa(taken[key])
		if taken[strings.ToLower(next)] == 0 {
			name = next
			taken[strings.ToLower(next)]++
			break
		}
		taken[key]++
	}
	b.media.name = name
}

// documentName keeps letters, digits, single spaces, hyphens, parentheses and
// brackets of a file name, without its extension.
func documentName(file string) string {
	if i := strings.LastIndexAny(file, `/\`); i >= 0 {
		file = file[i+1:]
	}
	if i := strings.LastIndexByte(file, '.'); i > 0 {
		file = file[:i]
	}
	var name strings.Builder
	for _, r := range file {
		if name.Len() >= 200 {
			break
		}
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("()[] ", r):
			name.WriteRune(r)
		default:
			name.WriteByte('-')
		}
	}
	clean := strings.Join(strings.Fields(name.String()), " ")
	for strings.Contains(clean, "--") {
		clean = strings.ReplaceAll(clean, "--", "-")
	}
	clean = strings.Trim(clean, "- ")
	if clean == "" {
		return "document"
	}
	return clean
}

// maxCachePoints is how many cache points one request may have.
const maxCachePoints = 4

// resolveCache keeps the latest four cache marks that the model takes, and
// lets none live longer than one before it. None may stand after reasoning.
func (c *chat) resolveCache(caps Capabilities) {
	var marks []**cacheMark
	for i := range c.tools {
		marks = addMark(marks, &c.tools[i].cache, caps.Cache && caps.CacheTools)
	}
	for i := range c.system {
		marks = addMark(marks, &c.system[i].cache, caps.Cache)
	}
	for i := range c.messages {
		for j := range c.messages[i].blocks {
			b := &c.messages[i].blocks[j]
			marks = addMark(marks, &b.cache, caps.Cache && (caps.CacheTools || b.kind == blockText) && !b.isThought())
		}
	}
	for len(marks) > maxCachePoints {
		*marks[0] = nil
		marks = marks[1:]
	}
	hour := caps.CacheHour
	for _, mark := range marks {
		m := **mark // marks of one message may be shared
		m.hour = hour && (m.hour || c.cacheTTL == "1h")
		hour = m.hour
		*mark = &m
	}
}

func addMark(marks []**cacheMark, mark **cacheMark, allowed bool) []**cacheMark {
	switch {
	case *mark == nil:
		return marks
	case !allowed:
		*mark = nil
		return marks
	}
	return append(marks, mark)
}

// resolveSampling leaves the sampling fields that the model takes.
func (c *chat) resolveSampling(caps Capabilities, thinking bool) {
	if caps.Sampling == "none" || thinking {
		c.dropSampling("this model chooses its own sampling")
	}
	if c.temperature != nil && *c.temperature > 1 {
		one := 1.0
		c.temperature = &one
		c.markUnsupported("temperature", false, "this model's highest temperature is 1")
	}
	if c.topP == nil || c.temperature == nil {
		return
	}
	switch {
	case *c.topP == 1: // changes nothing
		c.topP = nil
	case caps.Sampling == "either" && *c.temperature == 1:
		c.temperature = nil
	case caps.Sampling == "either":
		c.topP = nil
		c.markUnsupported("top_p", false, "this model takes temperature or top_p, not both")
	}
}

func (c *chat) dropSampling(why string) {
	if c.temperature != nil && *c.temperature != 1 {
		c.markUnsupported("temperature", false, why)
	}
	if c.topP != nil && *c.topP != 1 {
		c.markUnsupported("top_p", false, why)
	}
	if c.topK != nil {
		c.markUnsupported("top_k", false, why)
	}
	c.temperature, c.topP, c.topK = nil, nil, nil
}

// resolveStop leaves the stop sequences that the model takes.
func (c *chat) resolveStop(caps Capabilities) {
	c.stop = slices.DeleteFunc(c.stop, func(s string) bool { return s == "" })
	if !caps.Stop && len(c.stop) > 0 {
		c.markUnsupported("stop", false, "this model has no stop sequences")
		c.stop = nil
	}
	if caps.Family != "claude" {
		return
	}
	n := len(c.stop)
	c.stop = slices.DeleteFunc(c.stop, blank)
	if len(c.stop) < n {
		c.markUnsupported("stop", false, "this model cannot stop at white space")
	}
}
