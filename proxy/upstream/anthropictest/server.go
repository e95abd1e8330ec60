// Package anthropictest is a fake of Anthropic's Messages API for tests: it
// answers by script, keeps the requests it got, and refuses what the real one
// is documented to refuse. It knows nothing of the code under test.
package anthropictest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/tidwall/gjson"
)

// Key is the API key the fake accepts.
const Key = "sk-ant-test"

// Fault is what goes wrong in a stream after Answer.After events.
type Fault int

// The faults of a stream.
const (
	None       Fault = iota
	ErrorEvent       // an error event with Answer.Body, by default an overloaded_error; then the end
	Cut              // the stream ends cleanly
	Reset            // the connection breaks
)

// Answer is one scripted answer. The zero value is a short message.
type Answer struct {
	Status int               // default 200
	Header map[string]string // more response headers
	Body   string            // sent as it is, in place of a message, where Status or Fault calls for one
	// Message is given whole or streamed, as the request asks.
	Message Message

	Fault Fault
	After int // events before the fault
	// Noise puts pings, comments, unknown events and unknown deltas between
	// a stream's events.
	Noise bool
	// Hold makes a stream wait, after its After-th event, until it is closed
	// or the client has gone.
	Hold <-chan struct{}
}

// Request is one request the fake got.
type Request struct {
	Path   string
	Header http.Header
	Body   []byte
}

// Server is the fake. Use New.
type Server struct {
	URL string // the root: /v1/messages is below it

	play func(Request) Answer

	mu       sync.Mutex
	requests []Request

	gone chan struct{}
}

// New starts a fake that gives the answers in turn, and a short message when
// they have been used up. It ends with the test.
func New(t testing.TB, answers ...Answer) *Server {
	t.Helper()
	var mu sync.Mutex
	return NewFunc(t, func(Request) Answer {
		mu.Lock()
		defer mu.Unlock()
		if len(answers) == 0 {
			return Answer{Message: Message{Blocks: []Block{Text("Hello", " there.")}, Usage: Usage{Input: 10, Output: 5}}}
		}
		a := answers[0]
		answers = answers[1:]
		return a
	})
}

// NewFunc starts a fake that answers each request as play says.
func NewFunc(t testing.TB, play func(Request) Answer) *Server {
	t.Helper()
	s := &Server{play: play, gone: make(chan struct{}, 1)}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Requests returns what the fake was sent so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Gone receives when a client has left while its stream was held.
func (s *Server) Gone() <-chan struct{} { return s.gone }

// ServeHTTP answers one call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	got := Request{Path: r.URL.Path, Header: r.Header.Clone(), Body: body}
	s.mu.Lock()
	s.requests = append(s.requests, got)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Request-Id", "req_test")
	if kind, status, message := refusal(r, body); kind != "" {
		w.WriteHeader(status)
		fmt.Fprint(w, ErrorBody(kind, message))
		return
	}
	a := s.play(got)
	for name, value := range a.Header {
		w.Header().Set(name, value)
	}
	switch {
	case a.Status != 0 && a.Status != http.StatusOK || a.Body != "" && a.Fault == None:
		if a.Status != 0 {
			w.WriteHeader(a.Status)
		}
		fmt.Fprint(w, a.Body)
	case gjson.GetBytes(body, "stream").Bool():
		s.stream(w, r, a)
	default:
		fmt.Fprint(w, a.Message.JSON())
	}
}

func refusal(r *http.Request, body []byte) (kind string, status int, message string) {
	switch {
	case r.URL.Path != "/v1/messages" || r.Method != http.MethodPost:
		return "not_found_error", http.StatusNotFound, "no such route"
	case r.Header.Get("X-Api-Key") != Key && r.Header.Get("Authorization") != "Bearer "+Key:
		return "authentication_error", http.StatusUnauthorized, "invalid x-api-key"
	case r.Header.Get("Anthropic-Version") != "2023-06-01":
		return "invalid_request_error", http.StatusBadRequest, "anthropic-version: header is required"
	}
	if err := Check(body); err != nil {
		return "invalid_request_error", http.StatusBadRequest, err.Error()
	}
	return "", 0, ""
}

// ErrorBody is the JSON of an error of one of Anthropic's types.
func ErrorBody(kind, message string) string {
	m, _ := json.Marshal(message)
	return fmt.Sprintf(`{"type":"error","error":{"type":%q,"message":%s},"request_id":"req_test"}`, kind, m)
}

func (s *Server) stream(w http.ResponseWriter, r *http.Request, a Answer) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	flush := func() { _ = http.NewResponseController(w).Flush() }
	for i, event := range append(a.Message.Events(), "") {
		if i == a.After && (a.Fault != None || a.Hold != nil) {
			flush()
			if s.fault(w, r, a) {
				return
			}
		}
		if event == "" {
			return
		}
		writeEvent(w, event)
		if a.Noise {
			fmt.Fprint(w, noise)
		}
		flush()
	}
}

// fault does what an answer's script says is to go wrong, and reports whether
// that ends the stream.
func (s *Server) fault(w http.ResponseWriter, r *http.Request, a Answer) bool {
	if a.Hold != nil {
		select {
		case <-a.Hold:
		case <-r.Context().Done():
			select {
			case s.gone <- struct{}{}:
			default:
			}
			return true
		}
	}
	switch a.Fault {
	case ErrorEvent:
		if a.Body == "" {
			a.Body = ErrorBody("overloaded_error", "Overloaded")
		}
		writeEvent(w, a.Body)
	case Reset:
		panic(http.ErrAbortHandler)
	}
	return a.Fault != None
}

func writeEvent(w io.Writer, data string) {
	fmt.Fprintf(w, "event: %s\ndata: %s\n\n", gjson.Get(data, "type").Str, data)
}

// noise is what a client of this API has to overlook.
const noise = ": a comment\n\n" +
	"event: ping\ndata: {\"type\": \"ping\"}\n\n" +
	"event: news\ndata: {\"type\":\"news\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"wrong\"}}\n\n" +
	"event: content_block_delta\r\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"future_delta\",\"text\":\"wrong\"}}\r\n\r\n"
