package translate

import (
	"fmt"
	"time"
)

// InvalidError says that the client's request cannot be served as it is.
type InvalidError struct {
	Status  int    // HTTP status; 0 means 400
	Message string // names the field and the remedy
	Param   string // the offending field, such as "messages[2].content"; "" when none
	Code    string // OpenAI's error code; "" when none
}

func (e *InvalidError) Error() string { return e.Message }

// Kind is what went wrong at an upstream, as far as failover, charging and the
// client's status depend on it.
type Kind string

// Kinds of upstream failure. contract.md section 9 fixes the statuses.
const (
	KindRateLimited  Kind = "rate_limited"  // 429; the upstream limits us for a while
	KindQuota        Kind = "quota"         // our account at the provider is used up
	KindOverloaded   Kind = "overloaded"    // 503, 529, model not ready
	KindTimeout      Kind = "timeout"       // no answer, or no event, in time
	KindConnect      Kind = "connect"       // no connection: refused, DNS, TLS
	KindAuth         Kind = "auth"          // our credential was refused
	KindNotFound     Kind = "not_found"     // the model does not exist or is not accessible there
	KindInvalid      Kind = "invalid"       // the client's own mistake: 400, 413, 422
	KindServer       Kind = "server"        // any other failure of theirs
	KindBadResponse  Kind = "bad_response"  // an answer that is none: HTML, broken JSON, cut short
	KindInterrupted  Kind = "interrupted"   // a stream that ended before its end
	KindUnknownState Kind = "unknown_state" // request written, nothing read: it may have been billed
)

// UpstreamError is a failed upstream call. Message is safe to show to the
// client: no key, URL, account or internal address.
type UpstreamError struct {
	Kind       Kind
	Status     int           // the upstream's HTTP status; 0 when there was none
	Type       string        // OpenAI error type for the client; "" lets Kind decide
	Code       string        // OpenAI error code for the client; "" lets Kind decide
	Param      string        // for KindInvalid
	Message    string        // for the client
	RetryAfter time.Duration // what the upstream asked for; 0 when nothing
	// Body is the upstream's own error body, relayed as it came for
	// KindInvalid on pass-through; nil when translated.
	Body        []byte
	ContentType string
	// Billed says what the provider may charge for the call.
	Billed Billed
	Err    error // the cause, for our log; never shown to the client
}

// Billed is what a failed call may have cost, by what was seen of it.
type Billed int

// What a failed call may have cost (reliability.md 3d).
const (
	BilledNothing Billed = iota // refused, or the request was not fully written
	BilledPartly                // input, and the output delivered so far
	BilledUnknown               // fully written, nothing readable came back
)

func (e *UpstreamError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("upstream %s: %s: %v", e.Kind, e.Message, e.Err)
	}
	return fmt.Sprintf("upstream %s: %s", e.Kind, e.Message)
}

func (e *UpstreamError) Unwrap() error { return e.Err }
