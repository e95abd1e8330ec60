package translate

import "iter"

// Chunk is one event of an answer. A whole answer is a stream of one Chunk.
type Chunk struct {
	// Data is the JSON of one chat.completion.chunk, or of one chat.completion
	// when Whole is set. Valid until the next chunk is asked for. Empty when
	// the chunk carries accounting only (a withheld usage chunk, say).
	Data []byte
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

	// OutputBytes is the number of bytes of model output in this chunk: an
	// upper bound of its tokens.
	OutputBytes int64
	// Usage is what the upstream reported so far; nil when this chunk says
	// nothing of it. Later values replace earlier ones.
	Usage *Usage
	// Finish is the finish_reason when this chunk carries one.
	Finish string
	// Head is set on the first chunk of an answer.
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
}

// Usage is the token count of one upstream call, as reported.
// InputTokens includes CachedTokens and CacheWriteTokens; OutputTokens
// includes ReasoningTokens.
type Usage struct {
	InputTokens      int64
	OutputTokens     int64
	CachedTokens     int64 // read from the provider's prompt cache
	CacheWriteTokens int64 // written to it
	ReasoningTokens  int64
}
