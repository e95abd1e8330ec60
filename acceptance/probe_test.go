package acceptance

import (
	"github.com/inference-router/inference-router/internal/testkit"

	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestContract3_NamesOfUpstreams(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, loopback+"tiers:\n  fast: ["+upstreamLine(f, "a")+"]\n  powerful: ["+upstreamLine(f, "b", "name: mine")+", "+upstreamLine(f, "b", "name: other")+"]\nmodels: {aliases: {one: openai/b, two: mine, three: b}, unknown: reject}\n")
	for model, want := range map[string]string{"mine": "powerful", "other": "powerful", "b": "powerful", "openai/b": "powerful", "one": "powerful", "two": "powerful", "three": "powerful", "a": "fast", "openai/a": "fast"} {
		a := s.do(t, "POST", "/v1/route", asking(model, "hi"))
		if a.status != 200 || a.get("tier").String() != want || !a.get("forced").Bool() {
			t.Errorf("%s: %d %s", model, a.status, a.body)
		}
		if m := s.do(t, "GET", "/v1/models/"+model, ""); m.status != 200 {
			t.Errorf("GET /v1/models/%s: %d", model, m.status)
		}
	}
}

func TestContract2_ErrorsOfValuesHaveAPlace(t *testing.T) {
	for _, tt := range []struct{ config, want string }{
		{"strategy: [{latency: {window_size: 5000}}]\n", "config.yaml:6:36: strategy[0].latency.window_size: "},
		{"budgets: [{scope: user, usd: 9000000, per: day}]\n", "config.yaml:6:30: budgets[0].usd: "},
		{"budgets: [{scope: user, usd: 1, per: day}, {scope: user, usd: 2, per: day}]\n", "config.yaml:6:44: budgets[1]: "},
		{"redis: {url: 'http://x'}\n", "config.yaml:6:14: redis.url: "},
		{"server: {listen: 127.0.0.1:99999}\n", "config.yaml:"},
		{"log: {decisions: /nonexistent/dir/file}\n", ""},
		{"fallback: ${NOWHERE_SET}\n", "config.yaml:6:11: fallback: environment variable NOWHERE_SET is not set"},
		{"models: {aliases: {x: nothing}}\n", "config.yaml:6:23: models.aliases.x: "},
		{"timeouts: {idle: 0s}\n", "config.yaml:6:18: timeouts.idle: "},
		{"retries: {max_attempts: 0}\n", "config.yaml:6:25: retries.max_attempts: "},
		{"translate: {image_hosts: [x]}\n", "config.yaml:6:"},
		{"embeddings: [{provider: simulatd, model: x}]\n", "config.yaml:6:25: embeddings[0].provider: "},
		{"embeddings: [{provider: groq, model: x, api_key: k, params: {set: {a: 1}}}]\n", "config.yaml:6:61: embeddings[0].params: "},
	} {
		t.Run(tt.config, func(t *testing.T) {
			o := runProgram(t, map[string]string{"config.yaml": threeSimulated + tt.config}, nil, "check")
			if tt.want == "" {
				o = runProgram(t, map[string]string{"config.yaml": threeSimulated + tt.config}, nil)
			}
			if o.code != 1 || !strings.Contains(o.err, tt.want) {
				t.Errorf("exit %d: %s%s", o.code, o.out, o.err)
			}
		})
	}
}

func TestFaultT25_ASlowReaderHoldsTheUpstreamBack(t *testing.T) {
	var sent atomic.Int64
	event := []byte(`data: {"choices":[{"index":0,"delta":{"content":"` + strings.Repeat("x", 10_000) + `"}}]}` + "\n\n")
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil && sent.Load() < 100<<20 {
			n, err := w.Write(event)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m")))
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	body := asking("auto", "x", `"stream":true`)
	_, _ = fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	last, same := int64(-1), 0
	testkit.Eventually(t, "the upstream is held back", func() bool {
		if now := sent.Load(); now == last && now > 0 {
			same++
		} else {
			last, same = now, 0
		}
		return same > 50
	})
	if last > 30<<20 {
		t.Errorf("%d MiB were taken from the upstream for a client that reads nothing", last>>20)
	}
	if rss := residentMemory(t, s); rss > 150<<20 {
		t.Errorf("%d MiB of memory", rss>>20)
	}
}

// residentMemory is what the program's pages take, in bytes.
func residentMemory(t *testing.T, s *served) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Skip("no /proc here")
	}
	_, rest, _ := bytes.Cut(b, []byte("VmRSS:"))
	var kib int64
	_, _ = fmt.Sscan(string(rest), &kib)
	return kib << 10
}

func TestFaultT14_MemoryOfALongLine(t *testing.T) {
	piece := []byte(strings.Repeat("x", 1<<20))
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"`)
		for range 100 {
			_, _ = w.Write(piece)
		}
		_, _ = io.WriteString(w, `"}}]}`+"\n\ndata: "+events[3]+"\n\ndata: [DONE]\n\n")
	})
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m")))
	s.chat(t, asking("auto", "x"))
	before := residentMemory(t, s)
	a := s.chat(t, asking("auto", "x", `"stream":true`))
	if len(a.body) < 100<<20 || !strings.HasSuffix(a.body, "[DONE]\n\n") {
		t.Errorf("%d bytes, ending in %.40q", len(a.body), a.body[max(0, len(a.body)-40):])
	}
	if grown := residentMemory(t, s) - before; grown > 40<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
}

func TestContract3_ManyStreamsAtOnce(t *testing.T) {
	release := make(chan struct{})
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		sse(w, events[0], events[1])
		<-release
		sse(w, append(append([]string{}, events[2:]...), usageEvent, "[DONE]")...)
	})
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+hardBudget)
	const n = 300
	all := make(chan answered, n)
	for range n {
		go func() { all <- s.chat(t, asking("auto", "x", `"stream":true`, `"max_tokens":50`)) }()
	}
	testkit.Eventually(t, "all streams run", func() bool { return len(f.seen()) == n })
	start := time.Now()
	if a := s.do(t, "GET", "/metrics", ""); !strings.Contains(a.body, "router_requests_in_flight 300") || time.Since(start) > time.Second {
		t.Errorf("metrics with %d streams took %v", n, time.Since(start))
	}
	close(release)
	for range n {
		if a := <-all; a.trailer.Get("X-Router-Cost-Usd") != "0.0002" || len(dataOf(a.body)) != 5 {
			t.Fatalf("%s %v", a.body, a.trailer)
		}
	}
	if spent := s.nothingReserved(t); spent != "0.06" {
		t.Errorf("spent %s, want 0.06", spent)
	}
}

func TestFaultT02_FailoverAfterAnEventThatShowsNothing(t *testing.T) {
	long := strings.Repeat("word ", 10_000) // beyond what small buffers hold
	good := newFake(t, answersWell)
	for _, tt := range []struct{ name, path, body, first string }{
		{"a role only, as text", "/query/stream", `{"prompt":"` + long + `"}`, events[0]},
		{"usage only", "/v1/chat/completions", asking("fast", long, `"stream":true`), usageEvent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := newFake(t, func(w http.ResponseWriter, r *http.Request) {
				sse(w, tt.first)
				time.Sleep(20 * time.Millisecond)
				resets(w, r)
			})
			s := serveConfig(t, oneTierOf(upstreamLine(bad, "bad"), upstreamLine(good, "good"))+hardBudget)
			a := s.do(t, "POST", tt.path, tt.body)
			if strings.Contains(a.body, "[error: ") || strings.Contains(a.body, `"error"`) { // no failover is fine, too
				t.Logf("%.300s", a.body)
			} else if got := good.last(t).body; !strings.Contains(got, long) || !strings.Contains(a.body, "Pa") {
				t.Errorf("%d %.300s; the second upstream got %d bytes: %.100s", a.status, a.body, len(got), got)
			}
			s.nothingReserved(t)
		})
	}
}

func TestFaultT18_LongRequests(t *testing.T) {
	long := strings.Repeat("word ", 10_000)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "stream_options") {
			answersWith(400, `{"error":{"message":"Unknown parameter: 'stream_options'."}}`)(w, r)
			return
		}
		if !strings.Contains(string(body), long) {
			t.Errorf("the body is gone: %.100s", body)
		}
		sse(w, append(append([]string{}, events...), "[DONE]")...)
	})
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m")))
	for range 3 {
		if a := s.chat(t, asking("auto", long, `"stream":true`)); a.status != 200 || len(dataOf(a.body)) != 5 {
			t.Errorf("%d %.200s", a.status, a.body)
		}
	}
}

func TestFaultR23_EachAttemptGetsTheWholeRequest(t *testing.T) {
	for _, size := range []int{10, 5_000, 50_000, 500_000} {
		long := strings.Repeat("é", size)
		bad := newFake(t, answersWith(500, `{}`))
		good := newFake(t, answersWell)
		s := serveConfig(t, oneTierOf(upstreamLine(bad, "bad-with-a-long-name"), upstreamLine(bad, "b"), upstreamLine(good, "good")))
		for _, stream := range []string{"true", "false"} {
			if a := s.chat(t, asking("auto", long, `"stream":`+stream)); a.status != 200 {
				t.Errorf("%d bytes: %d %.200s", size, a.status, a.body)
			}
			first, last := bad.last(t).body, good.last(t).body
			if strings.Replace(first, `"model":"b"`, `"model":"good"`, 1) != last {
				t.Errorf("%d bytes: the attempts differ: %.200s and %.200s", size, first, last)
			}
		}
	}
}

func TestContract3_RequestsDoNotMix(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id := bytes.Count(body, []byte("z"))
		user := string(body[bytes.Index(body, []byte("~"))+1 : bytes.LastIndex(body, []byte("~"))])
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"choices":[{"index":0,"message":{"role":"assistant","content":"%s-%d"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`, user, id)
	})
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+hardBudget)
	done := make(chan struct{})
	for worker := range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 25 {
				n := (worker*7919+i*104729)%60_000 + 1
				user := fmt.Sprintf("u%d.%d", worker, i)
				a := s.chat(t, asking("auto", "~"+user+"~"+strings.Repeat("z", n)), "X-Router-User", user, "X-Request-Id", user)
				if want := fmt.Sprintf("%s-%d", user, n); a.get("choices.0.message.content").String() != want || a.header.Get("X-Request-Id") != user {
					t.Errorf("%s: %d %.200s", want, a.status, a.body)
				}
			}
		}()
	}
	for range 8 {
		<-done
	}
}

func TestContract5_WhatIsOutsideTheScore(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, threeTiersOf(f))
	for _, tt := range []struct{ name, body, tier string }{
		{"plain", asking("auto", "hi"), "fast"},
		{"tools", asking("auto", "hi", `"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]`), "balanced"},
		{"a JSON schema", asking("auto", "hi", `"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object"}}}`), "balanced"},
		{"a forced tier with tools", asking("fast", "hi", `"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]`), "fast"},
		{"an empty prompt", asking("auto", ""), "fast"},
		{"text in parts", `{"messages":[{"role":"user","content":[{"type":"text","text":"compare B-trees"},{"type":"text","text":"vs LSM trees"}]}]}`, "powerful"},
		{"a long system prompt", `{"messages":[{"role":"system","content":"` + strings.Repeat("analyse and prove. ", 2000) + `"},{"role":"user","content":"hi"}]}`, "fast"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if a := s.do(t, "POST", "/v1/route", tt.body); a.get("tier").String() != tt.tier {
				t.Errorf("%s, want %s", a.body, tt.tier)
			}
		})
	}
}

func TestContract6_AnonymousIsRefusedEverywhere(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+"identity: {anonymous: reject}\nembeddings: [{provider: vllm, model: e, base_url: '"+f.URL+"/v1', price: {input: 1}}]\n")
	for path, body := range map[string]string{"/v1/chat/completions": asking("auto", "x"), "/query": `{"prompt":"x"}`, "/query/stream": `{"prompt":"x"}`, "/v1/embeddings": `{"input":"x"}`, "/v1/route": asking("auto", "x")} {
		a := s.do(t, "POST", path, body)
		if a.status != 401 || a.get("error.type").String() != "authentication_error" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if len(f.seen()) != 0 {
		t.Error("a refused request was sent")
	}
}

func TestContract10_AReloadKeepsThePriceOfARunningRequest(t *testing.T) {
	release, running := make(chan struct{}), make(chan struct{}, 1)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		running <- struct{}{}
		<-release
		answersWell(w, r)
	})
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+hardBudget)
	done := make(chan answered, 1)
	go func() { done <- s.chat(t, asking("auto", "x")) }()
	<-running
	testkit.Write(t, s.dir+"/config.yaml", strings.ReplaceAll(oneTierOf(upstreamLine(f, "m")), "input: 1, output: 10", "input: 100, output: 1000")+hardBudget)
	s.signal(t, syscall.SIGHUP)
	testkit.Eventually(t, "the new price is in force", func() bool {
		return s.do(t, "GET", "/tiers", "").get("tiers.fast.upstreams.0.price.output").Raw == "1000"
	})
	close(release)
	(<-done).wantHeader(t, "X-Router-Cost-Usd", "0.0002")
	s.chat(t, asking("auto", "x", `"max_tokens":20`)).wantHeader(t, "X-Router-Cost-Usd", "0.02")
}

func TestContract3_HTTP2Upstreams(t *testing.T) {
	reached, cancelled := make(chan struct{}), make(chan struct{})
	f := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("the upstream was called by %s", r.Proto)
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if bytes.Contains(body, []byte("hang up")) {
			sse(w, events[0], events[1])
			reached <- struct{}{}
			<-r.Context().Done()
			cancelled <- struct{}{}
			return
		}
		if bytes.Contains(body, []byte("reset")) {
			sse(w, events[0], events[1])
			panic(http.ErrAbortHandler)
		}
		answersWell(w, r)
	}))
	f.EnableHTTP2 = true
	f.StartTLS()
	defer f.Close()
	pemFile := t.TempDir() + "/ca.pem"
	if err := os.WriteFile(pemFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serveConfig(t, oneTierOf(at(f.URL+"/v1", "m"))+hardBudget, "SSL_CERT_FILE="+pemFile)
	long := strings.Repeat("word ", 50_000)
	if a := s.chat(t, asking("auto", long)); a.body != completion {
		t.Errorf("%d %.200s", a.status, a.body)
	}
	if a := s.chat(t, asking("auto", long, `"stream":true`)); len(dataOf(a.body)) != 5 || a.trailer.Get("X-Router-Cost-Usd") != "0.0002" {
		t.Errorf("%d %.500s", a.status, a.body)
	}
	s.chat(t, asking("auto", "reset", `"stream":true`)).wantStreamError(t, "stream_interrupted", events[0], events[1])
	for range 5 {
		if took := hangUp(t, s, asking("auto", "hang up", `"stream":true`), reached, cancelled, func(c net.Conn) { _ = c.Close() }); took > time.Second {
			t.Errorf("the upstream noticed after %v", took)
		}
	}
	if a := s.chat(t, asking("auto", "x")); a.status != 200 {
		t.Errorf("afterwards: %d %s", a.status, a.body)
	}
	s.nothingReserved(t)
}
