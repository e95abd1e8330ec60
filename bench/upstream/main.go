// Command upstream is a model that answers at once: an OpenAI-compatible
// server for measuring what stands in front of it. A request with
// "stream":true gets as many chunks as its max_completion_tokens, each flushed
// on its own, back to back or, when the prompt contains "pace=10ms", at that
// interval; any other request gets a whole answer of half a kilobyte.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	whole = `{"id":"chatcmpl-bench","object":"chat.completion","created":1787300000,"model":"bench-1","choices":[{"index":0,` +
		`"message":{"role":"assistant","content":"A cache keeps what was asked for once near to where it will be asked for again. ` +
		`It helps when requests repeat, and hurts when they do not: then every miss pays for the look as well. ` +
		`Measure the share of hits before adding one.","refusal":null},"logprobs":null,"finish_reason":"stop"}],` +
		`"usage":{"prompt_tokens":220,"completion_tokens":52,"total_tokens":272,"prompt_tokens_details":{"cached_tokens":0}}}`
	chunkFormat = `data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1787300000,"model":"bench-1",` +
		`"choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":%s}],"usage":%s}` + "\n\n"
	done = "data: [DONE]\n\n"
)

var (
	chunk  = fmt.Appendf(nil, chunkFormat, "null", "null")
	last   = fmt.Appendf(nil, chunkFormat, `"stop"`, `{"prompt_tokens":220,"completion_tokens":200,"total_tokens":420}`)
	bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "`address` to listen on; printed when ready")
	flag.Parse()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	log.Fatal(http.Serve(listener, http.HandlerFunc(answer)))
}

func answer(w http.ResponseWriter, r *http.Request) {
	body := bodies.Get().(*bytes.Buffer)
	defer bodies.Put(body)
	body.Reset()
	if _, err := io.Copy(body, r.Body); err != nil {
		return
	}
	if bytes.Contains(body.Bytes(), []byte(`"stream":true`)) {
		stream(w, chunks(body.Bytes()), pace(body.Bytes()))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, whole) // a client that has left needs no answer
}

func stream(w http.ResponseWriter, n int, pace time.Duration) {
	w.Header().Set("Content-Type", "text/event-stream")
	controller := http.NewResponseController(w)
	for i := range n {
		if i > 0 {
			time.Sleep(pace)
		}
		event := chunk
		if i == n-1 {
			event = last
		}
		if _, err := w.Write(event); err != nil {
			return
		}
		if err := controller.Flush(); err != nil {
			return
		}
	}
	_, _ = io.WriteString(w, done)
}

// chunks is the request's output limit, 100 when it has none.
func chunks(body []byte) int {
	if n, err := strconv.Atoi(string(after(body, `"max_completion_tokens":`, "0123456789"))); err == nil {
		return n
	}
	return 100
}

// pace is the interval the prompt asks for, 0 when it does not.
func pace(body []byte) time.Duration {
	d, err := time.ParseDuration(string(after(body, "pace=", "0123456789.mus")))
	if err != nil {
		return 0
	}
	return d
}

// after is the run of the given characters behind a mark.
func after(body []byte, mark, characters string) []byte {
	_, rest, _ := bytes.Cut(body, []byte(mark))
	end := 0
	for end < len(rest) && bytes.IndexByte([]byte(characters), rest[end]) >= 0 {
		end++
	}
	return rest[:end]
}
