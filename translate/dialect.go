package translate

// Dialect is the API that a request or an answer is written in. Chat
// completions are the middle that the others are translated through.
type Dialect string

// The dialects.
const (
	DialectChat        Dialect = "" // POST /v1/chat/completions
	DialectResponses   Dialect = "responses"
	DialectMessages    Dialect = "messages"
	DialectCompletions Dialect = "completions"
)

// String is the dialect's name as configurations write it.
func (d Dialect) String() string {
	if d == DialectChat {
		return "chat"
	}
	return string(d)
}

// limitName is the request field that a dialect other than chat writes the
// output limit in.
func (d Dialect) limitName() string {
	if d == DialectResponses {
		return "max_output_tokens"
	}
	return "max_tokens"
}

// Parse reads a request of a dialect. See ParseRequest.
func Parse(d Dialect, body []byte) (*Request, error) {
	switch d {
	case DialectResponses, DialectMessages, DialectCompletions:
		return parseDialect(d, body)
	}
	return ParseRequest(body)
}

// ChatOptions say what kind of upstream a request of another dialect is
// translated for.
type ChatOptions struct {
	// Extended allows what OpenAI's own API does not take but our translators
	// do: thinking_blocks, cache_control, images in tool results.
	Extended bool
	// Family names whose signed reasoning the upstream can read: see Seal.
	Family string
	Seal   *Seal
}

// InChat translates the request into chat completions. A chat request is
// returned as it is. The error is an *InvalidError.
func (r *Request) InChat(o ChatOptions) (*Request, error) {
	var body []byte
	var dropped []string
	var names *dialectNames
	var err error
	switch r.Dialect {
	case DialectMessages:
		body, dropped, err = messagesToChat(r.Body, o)
	case DialectResponses:
		body, dropped, names, err = responsesToChat(r.Body, o)
	case DialectCompletions:
		body, dropped, err = completionsToChat(r.Body)
	default:
		return r, nil
	}
	if err != nil {
		return nil, named(err)
	}
	c, err := ParseRequest(body)
	if err != nil {
		return nil, err
	}
	c.IncludeCost = r.IncludeCost
	c.User, c.SafetyIdentifier, c.MetadataUser, c.MetadataBudget = r.User, r.SafetyIdentifier, r.MetadataUser, r.MetadataBudget
	c.Dropped, c.names = dropped, names
	return c, nil
}
