package translate

import "github.com/inference-router/inference-router/internal/rawjson"

// parseDialect reads the facts of a request that is not a chat completion, in
// one walk like ParseRequest. What the fields mean beyond that is the
// upstream's to judge, or the translation's.
func parseDialect(d Dialect, body []byte) (*Request, error) {
	p := newDialectParser(d, body)
	p.object()
	if p.Err != nil {
		return nil, requestError(p.Err)
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	return p.r, nil
}

func newDialectParser(d Dialect, body []byte) *dialectParser {
	return &dialectParser{requestParser: requestParser{
		Scanner: rawjson.Scanner{Data: body, MaxDepth: maxRequestDepth},
		r:       &Request{Body: body, Dialect: d, N: 1, members: make(members, 0, 16)},
	}}
}

type dialectParser struct {
	requestParser
	given    bool // there was a conversation
	counting bool // nothing is generated
}

func (p *dialectParser) object() {
	if p.Next() != '{' {
		p.Fail("expected an object")
		return
	}
	for more := p.Open('{'); more; more = p.More('}') {
		p.Next()
		start := p.Pos
		name := p.Bytes(p.Key())
		if p.Err != nil {
			return
		}
		p.claim(name, fieldOf(name), start)
		if p.Err != nil {
			return
		}
		p.field(string(name))
	}
	p.End()
}

// field reads the value of the member that was claimed last.
func (p *dialectParser) field(name string) {
	m := &p.r.members[len(p.r.members)-1]
	switch {
	case name == "tools":
		p.tools(name)
	case name == "messages" && p.r.Dialect == DialectMessages, name == "input" && p.r.Dialect == DialectResponses,
		name == "prompt" && p.r.Dialect == DialectCompletions:
		p.conversation(name)
	default:
		p.Skip()
	}
	m.to = p.Pos
	if p.Err != nil {
		return
	}
	if err := p.fact(name, p.Data[m.value:m.to]); err != nil {
		p.Err = err
	}
}

// fact takes in what a member says that routing or billing goes by.
func (p *dialectParser) fact(name string, raw []byte) *InvalidError {
	r := p.r
	if raw[0] == 'n' {
		return nil
	}
	switch name {
	case r.Dialect.limitName():
		least := int64(1)
		if r.Dialect == DialectMessages {
			least = 0 // fills the cache only
		}
		n, err := integer(name, raw, least, 1<<31-1)
		r.MaxTokens = n
		return err
	case "metadata":
		if r.Dialect == DialectMessages { // an opaque id there, not a name
			return nil
		}
	case "text", "output_config":
		if raw[0] == '{' {
			format, err := nested(name, "format", raw)
			r.Schema = r.Schema || len(format) > 0 && format[0] == '{' && !isTextFormat(format)
			return err
		}
		return nil
	case "max_completion_tokens", "max_tokens", "response_format", "messages", "functions", "stream_options":
		return nil // of another dialect: the upstream's to judge
	}
	if f := fieldOf([]byte(name)); f != fieldOther {
		return r.setField(f, raw)
	}
	return nil
}

// isTextFormat reports whether a format asks for plain text.
func isTextFormat(raw []byte) bool {
	var kind string
	v, err := nested("format", "type", raw)
	return err == nil && v != nil && setString("type", v, &kind) == nil && kind == "text"
}

// conversation reads messages, items, or a prompt.
func (p *dialectParser) conversation(name string) {
	switch p.Next() {
	case '"':
		p.newest = append(p.newest[:0], p.Text())
		p.r.Messages++
		p.given = true
	case '[':
		for more := p.Open('['); more; more = p.More(']') {
			if p.r.Messages == maxMessages {
				p.refuse(name, "array_above_max_length", "Invalid '%s': array too long. Expected at most %d.", name, maxMessages)
				return
			}
			if p.r.Dialect == DialectCompletions {
				p.promptElement()
			} else {
				p.turn()
			}
			p.r.Messages++
		}
		p.given = p.r.Messages > 0
	default:
		p.Skip()
	}
}

// promptElement is one prompt of several, or a token of one.
func (p *dialectParser) promptElement() {
	if p.Next() == '"' {
		p.newest = append(p.newest, p.Text())
		return
	}
	p.Skip()
}

// turn reads one message or item, and keeps its text when it is the user's. A
// turn of tool results alone leaves the newest text as it is.
func (p *dialectParser) turn() {
	if p.Next() != '{' {
		p.Skip()
		return
	}
	p.texts = p.texts[:0]
	user := false
	for more := p.Open('{'); more; more = p.More('}') {
		switch k := p.Key(); string(p.Bytes(k)) {
		case "role":
			if p.Next() == '"' {
				user = string(p.Bytes(p.Text())) == "user"
			} else {
				p.Skip()
			}
		case "content":
			p.blocks(true)
		case "output":
			p.blocks(false)
		default:
			p.Skip()
		}
	}
	if user && len(p.texts) > 0 {
		p.texts, p.newest = p.newest, p.texts
	}
}

// blocks reads a string or an array of content blocks; own says that their
// text is the turn's and not a tool's.
func (p *dialectParser) blocks(own bool) {
	switch p.Next() {
	case '"':
		if q := p.Text(); own {
			p.texts = append(p.texts, q)
		}
	case '[':
		for more := p.Open('['); more; more = p.More(']') {
			if p.parts++; p.parts > maxParts {
				p.refuse("messages", "array_above_max_length", "Invalid request: more than %d content parts.", maxParts)
				return
			}
			if p.Next() == '{' {
				p.block(own)
			} else {
				p.Skip()
			}
		}
	default:
		p.Skip()
	}
}

// block reads one content block. A block counts as media by its payload's name:
// its type might be given twice.
func (p *dialectParser) block(own bool) {
	from, kind, media := p.Pos, "", false
	for more := p.Open('{'); more; more = p.More('}') {
		switch k := p.Key(); string(p.Bytes(k)) {
		case "type":
			if p.Next() == '"' {
				kind = string(p.Bytes(p.Text()))
				continue
			}
		case "text":
			if p.Next() == '"' && own {
				p.texts = append(p.texts, p.Text())
				continue
			}
		case "source", "image_url", "input_audio", "file_data", "file_id", "file_url":
			media = true
		case "content": // of a tool result
			p.blocks(false)
			continue
		}
		p.Skip()
	}
	if !media || p.Err != nil {
		return
	}
	switch kind {
	case "image", "input_image":
		p.r.Images++
	case "input_audio":
		p.r.Audio++
	default:
		p.r.Files++
	}
	p.measure(p.Data[from:p.Pos])
}

// complete checks and works out what only the whole request tells.
func (p *dialectParser) complete() error {
	r := p.r
	missing := func(name string) error {
		return &InvalidError{Param: name, Code: "missing_required_parameter", Message: "Missing required parameter: '" + name + "'."}
	}
	switch {
	case r.Dialect == DialectMessages && !p.given:
		return missing("messages")
	case r.Dialect == DialectMessages && !p.counting && r.Raw("max_tokens") == nil:
		return missing("max_tokens")
	case r.Dialect == DialectCompletions && !p.given:
		return missing("prompt")
	case r.Dialect == DialectResponses && !p.given && r.Raw("previous_response_id") == nil && r.Raw("prompt") == nil && r.Raw("conversation") == nil:
		return missing("input")
	}
	r.InputBytes = int64(len(r.Body)) - p.media + messageOverhead*int64(max(1, r.Messages))
	if r.Tools {
		r.InputBytes += toolsOverhead
	}
	r.prompt = p.join(p.newest)
	return nil
}

// ParseToCount is Parse for a request whose tokens are only counted: it needs
// no output limit.
func ParseToCount(d Dialect, body []byte) (*Request, error) {
	p := newDialectParser(d, body)
	p.object()
	if p.Err != nil {
		return nil, requestError(p.Err)
	}
	p.counting = true
	if err := p.complete(); err != nil {
		return nil, err
	}
	return p.r, nil
}
