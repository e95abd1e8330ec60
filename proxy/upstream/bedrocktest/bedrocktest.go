// Package bedrocktest is a fake Bedrock runtime for tests: it checks
// signatures and requests, keeps what it was sent, and answers from a script, in real
// event-stream frames where a stream is asked for. Faults are part of the
// script.
package bedrocktest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
)

// The credentials that the fake accepts.
const (
	AccessKey   = "AKIDEXAMPLE"
	SecretKey   = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	BearerToken = "bedrock-api-key-example"
	Region      = "us-east-1"
)

// Server is a fake Bedrock. URL is its root.
type Server struct {
	*httptest.Server

	// Ahead is how far the fake's clock is ahead of ours. Set it before the
	// first request.
	Ahead time.Duration

	mu       sync.Mutex
	script   []Answer
	requests []Request
	gone     chan struct{} // gets a value for each client that leaves early
}

// Request is one call as it arrived.
type Request struct {
	Operation string // converse, converse-stream, invoke
	Model     string // unescaped once
	Path      string // as it was on the wire
	Header    http.Header
	Body      []byte
	Refused   string // why the signature was not accepted; "" when it was
}

// Answer is what one call gets.
type Answer struct {
	Status    int         // 0 = 200
	ErrorType string      // X-Amzn-Errortype
	Header    http.Header // beside those of every answer
	Body      string      // of a whole answer or an error
	Frames    []Frame     // of a stream
	// CutLast leaves out that many bytes at the end of the stream's last frame.
	CutLast int
	// Hang keeps the connection open after the last frame until the client leaves.
	Hang bool
	// Reset breaks the connection after the last frame, or before the headers
	// when there are none.
	Reset bool
}

// Frame is one frame of a stream.
type Frame struct {
	Event     string // messageStart, …
	Exception string // an exception's name, in the place of Event
	ErrorCode string // an unmodeled error's code, in the place of Event
	JSON      string // payload, or the message of an error
	Corrupt   bool   // one byte of the payload is wrong
	Length    uint32 // a false length in the prelude; 0 = the true one
	// Wait holds the frame back until it is closed.
	Wait <-chan struct{}
}

// Event is a frame with an event.
func Event(name, json string) Frame { return Frame{Event: name, JSON: json} }

// Exception is a frame with an exception.
func Exception(name, message string) Frame {
	return Frame{Exception: name, JSON: `{"message":"` + message + `"}`}
}

// Text is a short and complete stream that says text.
func Text(text string) []Frame {
	return []Frame{
		Event("messageStart", `{"role":"assistant","p":"abcdef"}`),
		Event("contentBlockDelta", `{"contentBlockIndex":0,"delta":{"text":"`+text+`"},"p":"abc"}`),
		Event("contentBlockStop", `{"contentBlockIndex":0,"p":"ab"}`),
		Event("messageStop", `{"stopReason":"end_turn"}`),
		Event("metadata", `{"usage":{"inputTokens":10,"outputTokens":5,"totalTokens":15},"metrics":{"latencyMs":100}}`),
	}
}

// WholeText is a whole Converse answer that says text.
func WholeText(text string) string {
	return `{"metrics":{"latencyMs":100},"output":{"message":{"role":"assistant","content":[{"text":"` + text +
		`"}]}},"stopReason":"end_turn","usage":{"inputTokens":10,"outputTokens":5,"totalTokens":15}}`
}

// New starts a fake that gives the answers in order, the last one again and
// again. It is closed when the test ends.
func New(t testing.TB, answers ...Answer) *Server {
	s := &Server{script: answers, gone: make(chan struct{}, 100)}
	s.Server = httptest.NewUnstartedServer(s)
	// The AWS SDK for JavaScript speaks HTTP/2 from the first byte.
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// Requests are the calls so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Gone gets a value whenever a client leaves before the end of its answer.
func (s *Server) Gone() <-chan struct{} { return s.gone }

// ServeHTTP is the fake's handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	req := Request{Path: r.URL.EscapedPath(), Header: r.Header.Clone(), Body: body}
	parts := strings.Split(req.Path, "/")
	if len(parts) != 4 || parts[1] != "model" || r.Method != http.MethodPost {
		fail(w, http.StatusNotFound, "UnknownOperationException", `{}`)
		return
	}
	req.Model, _ = url.PathUnescape(parts[2])
	req.Operation = parts[3]
	now := time.Now().Add(s.Ahead)
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	req.Refused = checkAuthorization(r, body, now)
	a := s.next(req)
	if req.Refused != "" {
		fail(w, http.StatusForbidden, "InvalidSignatureException", `{"message":"`+req.Refused+`"}`)
		return
	}
	if req.Operation != "invoke" {
		err := CheckConverse(body, req.Operation == "converse-stream")
		if err == nil {
			err = checkModel(req.Model, body)
		}
		if err != nil {
			message, _ := json.Marshal(err.Error())
			fail(w, http.StatusBadRequest, "ValidationException", `{"message":`+string(message)+`}`)
			return
		}
	}
	s.answer(w, r, req, a)
}

// next keeps the request and takes the next answer of the script, unless the
// request is refused.
func (s *Server) next(r Request) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	if len(s.script) == 0 || r.Refused != "" {
		return Answer{Body: WholeText("Hello."), Frames: Text("Hello.")}
	}
	a := s.script[0]
	if len(s.script) > 1 {
		s.script = s.script[1:]
	}
	return a
}

func fail(w http.ResponseWriter, status int, name, body string) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Amzn-Requestid", "req-fake")
	if name != "" {
		h.Set("X-Amzn-Errortype", name+":http://internal.amazon.com/coral/com.amazon.bedrock/")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, req Request, a Answer) {
	if a.Reset && len(a.Frames) == 0 {
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	h.Set("X-Amzn-Requestid", "req-fake")
	for name, values := range a.Header {
		h[name] = values
	}
	if a.Status >= 300 {
		fail(w, a.Status, a.ErrorType, a.Body)
		return
	}
	if req.Operation != "converse-stream" || a.Frames == nil && a.Body != "" {
		if h.Get("Content-Type") == "" {
			h.Set("Content-Type", "application/json")
		}
		_, _ = io.WriteString(w, a.Body)
		return
	}
	h.Set("Content-Type", "application/vnd.amazon.eventstream")
	w.WriteHeader(http.StatusOK)
	s.stream(w, r, a)
}

func (s *Server) stream(w http.ResponseWriter, r *http.Request, a Answer) {
	flush := http.NewResponseController(w)
	for i, f := range a.Frames {
		if f.Wait != nil {
			_ = flush.Flush()
			select {
			case <-f.Wait:
			case <-r.Context().Done():
				s.gone <- struct{}{}
				return
			}
		}
		b := f.Encode()
		if i == len(a.Frames)-1 {
			b = b[:len(b)-a.CutLast]
		}
		if _, err := w.Write(b); err != nil {
			s.gone <- struct{}{}
			return
		}
	}
	_ = flush.Flush()
	if a.Reset {
		panic(http.ErrAbortHandler)
	}
	if a.Hang {
		<-r.Context().Done()
		s.gone <- struct{}{}
	}
}

// Encode is the frame's bytes on the wire.
func (f Frame) Encode() []byte {
	var m eventstream.Message
	set := func(name, value string) { m.Headers.Set(name, eventstream.StringValue(value)) }
	switch {
	case f.Exception != "":
		set(":message-type", "exception")
		set(":exception-type", f.Exception)
		set(":content-type", "application/json")
		m.Payload = []byte(f.JSON)
	case f.ErrorCode != "":
		set(":message-type", "error")
		set(":error-code", f.ErrorCode)
		set(":error-message", f.JSON)
	default:
		set(":message-type", "event")
		set(":event-type", f.Event)
		set(":content-type", "application/json")
		m.Payload = []byte(f.JSON)
	}
	var b bytes.Buffer
	if err := eventstream.NewEncoder().Encode(&b, m); err != nil {
		panic(err) // a test's own frame cannot be written
	}
	out := b.Bytes()
	if f.Corrupt {
		out[len(out)-6] ^= 1
	}
	if f.Length != 0 {
		binary.BigEndian.PutUint32(out, f.Length)
	}
	return out
}
