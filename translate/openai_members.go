package translate

import "strings"

// Bounds on what one request may hold, so that a small body cannot make
// anybody allocate a lot.
const (
	maxRequestDepth = 64
	maxMembers      = 1024
	maxMessages     = 4096
	maxTools        = 512
	maxParts        = 8192
)

// field is a top-level name that we know; fieldOther is any other name.
type field uint8

const (
	fieldOther field = iota
	fieldModel
	fieldMessages
	fieldStream
	fieldStreamOptions
	fieldMaxTokens
	fieldMaxCompletionTokens
	fieldN
	fieldTemperature
	fieldTopP
	fieldTools
	fieldFunctions
	fieldResponseFormat
	fieldUser
	fieldSafetyIdentifier
	fieldMetadata
	fieldUsage
	fieldStop
	fieldSeed
	fieldToolChoice
	fieldReasoningEffort
	fieldFrequencyPenalty
	fieldPresencePenalty
	fieldParallelToolCalls
	fieldCount
)

// fieldNames are the names of the known fields. No variant of one in other
// letters is accepted: some servers would read it as the field itself, and we
// would have decided on something else.
var fieldNames = [fieldCount]string{
	fieldModel:               "model",
	fieldMessages:            "messages",
	fieldStream:              "stream",
	fieldStreamOptions:       "stream_options",
	fieldMaxTokens:           "max_tokens",
	fieldMaxCompletionTokens: "max_completion_tokens",
	fieldN:                   "n",
	fieldTemperature:         "temperature",
	fieldTopP:                "top_p",
	fieldTools:               "tools",
	fieldFunctions:           "functions",
	fieldResponseFormat:      "response_format",
	fieldUser:                "user",
	fieldSafetyIdentifier:    "safety_identifier",
	fieldMetadata:            "metadata",
	fieldUsage:               "usage",
	fieldStop:                "stop",
	fieldSeed:                "seed",
	fieldToolChoice:          "tool_choice",
	fieldReasoningEffort:     "reasoning_effort",
	fieldFrequencyPenalty:    "frequency_penalty",
	fieldPresencePenalty:     "presence_penalty",
	fieldParallelToolCalls:   "parallel_tool_calls",
}

// fieldOf finds the field that a name stands for.
func fieldOf(name []byte) field {
	for f := fieldModel; f < fieldCount; f++ {
		if string(name) == fieldNames[f] {
			return f
		}
	}
	return fieldOther
}

// fieldLike finds the field that a name would stand for if letters' case did
// not matter. Names in plain lower case are passed over quickly.
func fieldLike(name []byte) field {
	plain := true
	for _, c := range name {
		if 'A' <= c && c <= 'Z' || c >= 0x80 {
			plain = false
			break
		}
	}
	if plain {
		return fieldOther
	}
	for f := fieldModel; f < fieldCount; f++ {
		if strings.EqualFold(string(name), fieldNames[f]) {
			return f
		}
	}
	return fieldOther
}

// member is one top-level member: its name without escapes, and where its
// key (with the quotes) begins and its value stands.
type member struct {
	name           string
	key, value, to int
}

// members are the places of a JSON object's top-level members, in order.
type members []member

// find returns the place of the member of that name in the list, or -1.
func (m members) find(name string) int {
	for i := range m {
		if m[i].name == name {
			return i
		}
	}
	return -1
}

// claim notes a member. Duplicates are refused: of two members of one name we
// might read the first and an upstream the second.
func (p *requestParser) claim(name []byte, f field, key int) {
	if f == fieldOther {
		if like := fieldLike(name); like != fieldOther {
			p.refuse(printable(name), "invalid_parameter_name", "Unknown parameter: '%s'. Did you mean '%s'?", printable(name), fieldNames[like])
			return
		}
	}
	m := member{name: fieldNames[f], key: key, value: p.Pos}
	if f == fieldOther {
		m.name = string(name)
	}
	if p.seen(m.name) {
		p.Err = duplicate(printable(name))
		return
	}
	if len(p.r.members) == maxMembers {
		p.refuse("", "too_many_parameters", "The request has more than %d parameters.", maxMembers)
		return
	}
	p.r.members = append(p.r.members, m)
}

// seen reports whether a member of that name was there before. Long lists get
// an index.
func (p *requestParser) seen(name string) bool {
	if len(p.r.members) < 32 {
		return p.r.members.find(name) >= 0
	}
	if p.names == nil {
		p.names = make(map[string]bool, 2*len(p.r.members))
		for _, m := range p.r.members {
			p.names[m.name] = true
		}
	}
	was := p.names[name]
	p.names[name] = true
	return was
}

// printable is a client's name made short and harmless for an error message.
func printable(name []byte) string {
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, string(name))
	if len(s) > 64 {
		s = strings.ToValidUTF8(s[:64], "") + "..."
	}
	return s
}
