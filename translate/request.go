// Package translate speaks the dialects: OpenAI's chat completions, which is
// the model everything else is told in, AWS Bedrock's Converse and
// Anthropic's Messages. It is pure: bytes in, bytes out. It knows nothing of
// the network, of clocks, of money or of tiers.
package translate

// Request is one chat-completions request: the client's JSON as it came, and
// the few facts we route and bill by. It is never changed once made; For makes
// the variant that one attempt sends. Safe for concurrent use.
type Request struct {
	// Body is the JSON object, as the client sent it or as For spliced it.
	Body []byte

	Model        string // as sent; "" when absent
	Stream       bool
	IncludeUsage bool // stream_options.include_usage is true
	IncludeCost  bool // usage.include is true: the client wants usage.cost

	// MaxTokens is the client's output limit in tokens, from
	// max_completion_tokens, else max_tokens; 0 when neither is set.
	MaxTokens int64
	N         int64 // number of choices asked for, at least 1

	// Prompt is the text of the newest user turn; earlier turns and system
	// text are not in it.
	Prompt string
	// InputBytes bounds the prompt from above in tokens: a token covers at
	// least one byte of text. Inline media are not counted here.
	InputBytes int64
	Messages   int // number of messages
	Images     int // image parts
	Audio      int // audio parts
	Files      int // file parts
	Tools      bool
	Schema     bool // response_format is json_schema or json_object

	// Who the body says is asking; believed or not by the identity mode.
	User             string // user
	SafetyIdentifier string // safety_identifier
	MetadataUser     string // metadata.user_id
	MetadataBudget   string // metadata.budget_usd, a number's or a string's text

	members members // where the top-level members stand in Body
}

// Edit is what one attempt changes in the client's JSON. The zero value
// changes nothing.
type Edit struct {
	Model string // replaces model; "" keeps it
	// MaxTokens, when above 0, sets the output limit: in the client's own
	// field when it named one, else in LimitField.
	MaxTokens  int64
	LimitField string // max_tokens or max_completion_tokens
	// AskUsage sets stream_options.include_usage on a stream.
	AskUsage bool
	// KeepUsageField leaves the "usage" request field in (OpenRouter reads it).
	KeepUsageField bool
	// Set replaces request fields, Default fills in absent ones: top-level
	// names with their JSON values.
	Set, Default map[string]string
}
