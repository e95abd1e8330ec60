package translate

import "iter"

// Chunk is one event of an answer. A whole answer is a stream of one Chunk.
type Chunk struct {
	// Data is the JSON of one chat.completion.chunk, or of one chat.completion
	// when Whole is set. Valid until the next chunk is asked for. Empty when
	// the chunk carries accounting only (a withheld usage chunk, say). A
	// pass-through chunk may hold line feeds, where its event had several data
	// lines.
	Data []byte
	// Event is the name of the server-sent event, in dialects whose events
	// have names.
	Event string
	// Sequence is the event's sequence_number in the Responses dialect, and
	// AnswerID the id of the answer where this chunk tells it.
	Sequence int64
	AnswerID string
	// Whole marks a complete chat.completion.
	Whole bool
	// Comment marks a keep-alive of the upstream: Data is the comment's text.
	Comment bool
	// Partial says that the event's data goes on in the next chunk (only for
	// events above 1 MiB, which are relayed in pieces).
	Partial bool
	// More says that the next chunk is already in memory, so that flushing can
	// wait for it.
	More bool
	// Done says that the answer is complete, and comes with no Data: the
	// client's stream can be ended at once, for what follows is only the
	// upstream connection being made ready for its next use. Not every
	// upstream sends it.
	Done bool
	// Malformed says that the upstream's JSON, or the usage it reported, makes
	// no sense. Data is passed on all the same.
	Malformed bool

	// OutputBytes is the number of bytes of model output in this chunk: an
	// upper bound of its tokens.
	OutputBytes int64
	// Usage is what the upstream reported so far; nil when this chunk says
	// nothing of it. Of several, each count's greatest holds: see AtLeast.
	Usage *Usage
	// Finish is the finish_reason when this chunk carries one.
	Finish string
	// Head is set on the first chunk of an answer, and again on the first that
	// is not a comment.
	Head *Head
}

// Chunks is an answer as it comes. Nothing is sent upstream until it is
// ranged over; leaving the loop ends the upstream call. An error comes last,
// and at most once; without one the answer is complete.
type Chunks = iter.Seq2[Chunk, error]

// Head is what is known of an answer when its first chunk arrives.
type Head struct {
	RequestID string   // the provider's id of this call
	Dropped   []string // request fields that had to be dropped, in the request's order
	Created   int64    // unix seconds
	// Header are the answer's headers that concern the client: how much of its
	// rate limits is left, and how long the provider took. Canonical names.
	Header map[string][]string
}

// Event is one server-sent event, or a piece of one.
type Event struct {
	Name string // the event field; "" for a plain message
	// Data is the event's data, its lines joined by line feeds. Valid until
	// the next event is asked for.
	Data    []byte
	Comment bool // a comment line: Data is its text
	Partial bool // the data goes on in the next event
	More    bool // the next event is already in memory
	// Cut says that the stream ended before the blank line that ends an event:
	// the data may or may not be all of it.
	Cut bool
}

// Usage is the token count of one upstream call, as reported.
// InputTokens includes CachedTokens and CacheWriteTokens; OutputTokens
// includes ReasoningTokens.
type Usage struct {
	InputTokens      int64
	OutputTokens     int64
	CachedTokens     int64 // read from the provider's prompt cache
	CacheWriteTokens int64 // written to it
	// CacheWriteHourTokens are those of CacheWriteTokens that last an hour.
	// Without CacheTTLKnown the upstream did not say.
	CacheWriteHourTokens int64
	CacheTTLKnown        bool
	ReasoningTokens      int64
	// Those of InputTokens, OutputTokens and CachedTokens that are sound. The
	// cached ones are also among the input's.
	AudioInputTokens  int64
	AudioOutputTokens int64
	CachedAudioTokens int64
	Searches          int64 // of the web, by the provider
	// Tier is the service tier or speed it was served at, as the provider calls
	// it; "" where it does not say.
	Tier string
	// Cost is what the upstream says the call cost, in nano-dollars, rounded
	// up; only with CostKnown.
	Cost      int64
	CostKnown bool
}
