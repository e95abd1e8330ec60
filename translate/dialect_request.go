package translate

// parseDialect reads the facts of a request that is not a chat completion, in
// one walk like ParseRequest. What the fields mean beyond that is the
// upstream's to judge, or the translation's.
func parseDialect(d Dialect, body []byte) (*Request, error) {
	p := dialectParser{requestParser: requestParser{
		scanner: scanner{b: body, maxDepth: maxRequestDepth},
		r:       &Request{Body: body, Dialect: d, N: 1, members: make(members, 0, 16)},
	}}
	p.object()
	if p.err != nil {
		return nil, p.err
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	return p.r, nil
}

type dialectParser struct {
	requestParser
	given bool // there was a conversation
}

func (p *dialectParser) object() {
	if p.next() != '{' {
		p.fail("expected an object")
		return
	}
	for more := p.open('{'); more; more = p.more('}') {
		p.next()
		start := p.i
		name := p.bytes(p.key())
		if p.err != nil {
			return
		}
		p.claim(name, fieldOf(name), start)
		if p.err != nil {
			return
		}
		p.field(string(name))
	}
	p.end()
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
		p.skip()
	}
	m.to = p.i
	if p.err != nil {
		return
	}
	if err := p.fact(name, p.b[m.value:m.to]); err != nil {
		p.err = err
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
		return r.fact(f, raw)
	}
	return nil
}

// isTextFormat reports whether a format asks for plain text.
func isTextFormat(raw []byte) bool {
	var kind string
	v, err := nested("format", "type", raw)
	return err == nil && v != nil && stringFact("type", v, &kind) == nil && kind == "text"
}

// conversation reads messages, items, or a prompt.
func (p *dialectParser) conversation(name string) {
	switch p.next() {
	case '"':
		p.newest = append(p.newest[:0], p.text())
		p.r.Messages++
		p.given = true
	case '[':
		for more := p.open('['); more; more = p.more(']') {
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
		p.skip()
	}
}

// promptElement is one prompt of several, or a token of one.
func (p *dialectParser) promptElement() {
	if p.next() == '"' {
		p.newest = append(p.newest, p.text())
		return
	}
	p.skip()
}

// turn reads one message or item, and keeps its text when it is the user's. A
// turn of tool results alone leaves the newest text as it is.
func (p *dialectParser) turn() {
	if p.next() != '{' {
		p.skip()
		return
	}
	p.texts = p.texts[:0]
	user := false
	for more := p.open('{'); more; more = p.more('}') {
		switch k := p.key(); string(p.bytes(k)) {
		case "role":
			if p.next() == '"' {
				user = string(p.bytes(p.text())) == "user"
			} else {
				p.skip()
			}
		case "content":
			p.blocks(true)
		case "output":
			p.blocks(false)
		default:
			p.skip()
		}
	}
	if user && len(p.texts) > 0 {
		p.texts, p.newest = p.newest, p.texts
	}
}

// blocks reads a string or an array of content blocks; own says that their
// text is the turn's and not a tool's.
func (p *dialectParser) blocks(own bool) {
	switch p.next() {
	case '"':
		if q := p.text(); own {
			p.texts = append(p.texts, q)
		}
	case '[':
		for more := p.open('['); more; more = p.more(']') {
			if p.parts++; p.parts > maxParts {
				p.refuse("messages", "array_above_max_length", "Invalid request: more than %d content parts.", maxParts)
				return
			}
			if p.next() == '{' {
				p.block(own)
			} else {
				p.skip()
			}
		}
	default:
		p.skip()
	}
}

// block reads one content block.
func (p *dialectParser) block(own bool) {
	kind := ""
	media := false
	for more := p.open('{'); more; more = p.more('}') {
		switch k := p.key(); string(p.bytes(k)) {
		case "type":
			if p.next() == '"' {
				kind = string(p.bytes(p.text()))
			} else {
				p.skip()
			}
		case "text":
			if p.next() == '"' && own {
				p.texts = append(p.texts, p.text())
			} else {
				p.skip()
			}
		case "source":
			media = p.source()
		case "image_url", "input_audio", "file_data":
			media = true
			p.payload()
		case "file_id", "file_url":
			media = true
			p.skip()
		case "content": // of a tool result
			p.blocks(false)
		default:
			p.skip()
		}
	}
	if !media {
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
}

// source reads the source of an image or a document, and reports whether it is
// anything but text, which counts in full.
func (p *dialectParser) source() bool {
	if p.next() != '{' {
		p.skip()
		return true
	}
	kind := ""
	var inline int64
	for more := p.open('{'); more; more = p.more('}') {
		switch k := p.key(); string(p.bytes(k)) {
		case "type":
			if p.next() == '"' {
				kind = string(p.bytes(p.text()))
				continue
			}
		case "data":
			if p.next() == '"' {
				q := p.text()
				inline += int64(q.to - q.from)
				continue
			}
		}
		p.skip()
	}
	if kind == "text" || kind == "content" {
		return false
	}
	p.media += inline
	return true
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
	case r.Dialect == DialectMessages && r.Raw("max_tokens") == nil:
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
