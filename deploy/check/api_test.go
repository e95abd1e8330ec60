package check

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// apiDocument is proxy/openapi.json with its schemas.
type apiDocument struct {
	text     map[string]any
	compiler *jsonschema.Compiler
}

// document is what the schemas' compiler knows the API document as.
const document = "file:///openapi.json"

func readAPI(t *testing.T) apiDocument {
	t.Helper()
	f, err := os.Open(filepath.Join(root, "proxy/openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	d := apiDocument{text: text.(map[string]any), compiler: jsonschema.NewCompiler()}
	if err := d.compiler.AddResource(document, text); err != nil {
		t.Fatal(err)
	}
	return d
}

// at finds a part of the document, following references.
func (d apiDocument) at(path ...string) map[string]any {
	here := d.text
	for _, name := range path {
		next, _ := here[name].(map[string]any)
		if ref, ok := next["$ref"].(string); ok {
			next = d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		}
		here = next
	}
	return here
}

// validate checks a value against the schema at a JSON pointer.
func (d apiDocument) validate(t *testing.T, pointer string, value any) {
	t.Helper()
	schema, err := d.compiler.Compile(document + "#" + pointer)
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		t.Errorf("%v", err)
	}
}

func escape(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

func TestExamplesOfTheAPIDocumentMatchItsSchemas(t *testing.T) {
	d := readAPI(t)
	examples := 0
	var walk func(pointer string, v any)
	walk = func(pointer string, v any) {
		list, _ := v.([]any)
		for i, item := range list {
			walk(fmt.Sprintf("%s/%d", pointer, i), item)
		}
		object, _ := v.(map[string]any)
		if object["schema"] != nil {
			values := map[string]any{}
			if one, ok := object["example"]; ok {
				values["example"] = one
			}
			named, _ := object["examples"].(map[string]any)
			for name, e := range named {
				values[name] = e.(map[string]any)["value"]
			}
			for name, value := range values {
				examples++
				t.Run(pointer+"/"+name, func(t *testing.T) { d.validate(t, pointer+"/schema", value) })
			}
		}
		for name, member := range object {
			walk(pointer+"/"+escape(name), member)
		}
	}
	walk("", d.text)
	if examples < 50 {
		t.Errorf("found %d examples, want them at every body and header", examples)
	}
}

var baseURL = regexp.MustCompile(`base URL +(http://[^/]+)/v1`)

// startDemo runs the demo on a free port.
func startDemo(t *testing.T) (url string) {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "inference-router")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	demo := exec.Command(binary, "demo", "-listen", "127.0.0.1:0", "-seed", "1")
	demo.Stdout, demo.Stderr = out, out
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		demo.Process.Signal(syscall.SIGTERM)
		demo.Wait()
	})
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		if found := baseURL.FindSubmatch(text); found != nil {
			return string(found[1])
		}
	}
	t.Fatal("the demo is not up after 30 seconds")
	return ""
}

func TestServerAnswersAsTheAPIDocumentSays(t *testing.T) {
	const question = `{"model":"fast","max_tokens":20,"messages":[{"role":"user","content":"what is the capital of France?"}]}`
	d, url := readAPI(t), startDemo(t)
	for _, row := range []struct {
		name, method, route, path, body string
		headers                         []string // name, value
		status                          int
	}{
		{"a chat completion", "POST", "/v1/chat/completions", "", question, []string{"X-Router-User", "alice"}, 200},
		{"a stream", "POST", "/v1/chat/completions", "", strings.Replace(question, `{`, `{"stream":true,"usage":{"include":true},`, 1), nil, 200},
		{"no messages", "POST", "/v1/chat/completions", "", `{}`, nil, 400},
		{"an unknown tier", "POST", "/v1/chat/completions", "", question, []string{"X-Router-Tier", "huge"}, 400},
		{"a malformed budget", "POST", "/v1/chat/completions", "", question, []string{"X-Router-Budget-USD", "-1"}, 400},
		{"a budget with no room", "POST", "/v1/chat/completions", "", question, []string{"X-Router-User", "bob", "X-Router-Budget-USD", "0"}, 429},
		{"a ceiling that cannot be kept", "POST", "/v1/chat/completions", "", question, []string{"X-Router-Max-Cost-USD", "0.000000001"}, 402},
		{"an encoded body", "POST", "/v1/chat/completions", "", question, []string{"Content-Encoding", "gzip"}, 415},
		{"the models", "GET", "/v1/models", "", "", nil, 200},
		{"a model", "GET", "/v1/models/{id}", "/v1/models/simulated/small-1", "", nil, 200},
		{"a model that does not exist", "GET", "/v1/models/{id}", "/v1/models/none", "", nil, 404},
		{"a dry run", "POST", "/v1/route", "", question, nil, 200},
		{"what runs here", "GET", "/", "", "", nil, 200},
		{"a query", "POST", "/query", "", `{"prompt":"what is the capital of France?","tier":"fast","max_tokens":20}`, nil, 200},
		{"a query without a prompt", "POST", "/query", "", `{}`, nil, 400},
		{"a streamed query", "POST", "/query/stream", "", `{"prompt":"hello","tier":"fast","max_tokens":20}`, nil, 200},
		{"the tiers", "GET", "/tiers", "", "", nil, 200},
		{"a score", "POST", "/debug/complexity", "", `{"prompt":"explain how transformers work"}`, nil, 200},
		{"alive", "GET", "/livez", "", "", nil, 200},
		{"ready", "GET", "/readyz", "", "", nil, 200},
		{"ready, by its other name", "GET", "/healthz", "", "", nil, 200},
		{"the dashboard", "GET", "/dashboard", "", "", nil, 200},
		{"the metrics", "GET", "/metrics", "", "", nil, 200},
		{"the budgets", "GET", "/budgets", "", "", nil, 200},
		{"a user's budgets", "GET", "/budgets", "/budgets?user=alice", "", nil, 200},
		{"a reset", "DELETE", "/stats/reset", "", "", nil, 200},
		{"the reference", "GET", "/docs", "", "", nil, 200},
		{"this document", "GET", "/openapi.json", "", "", nil, 200},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.path == "" {
				row.path = row.route
			}
			req, err := http.NewRequest(row.method, url+row.path, strings.NewReader(row.body))
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(row.headers); i += 2 {
				req.Header.Set(row.headers[i], row.headers[i+1])
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != row.status {
				t.Fatalf("status %d, want %d: %s", res.StatusCode, row.status, body)
			}
			operation := []string{"paths", row.route, strings.ToLower(row.method), "responses", fmt.Sprint(row.status)}
			d.checkHeaders(t, res, d.at(operation...))
			d.checkBody(t, operation, res.Header.Get("Content-Type"), body)
		})
	}
}

// checkHeaders wants every header of the router's own documented, and right.
func (d apiDocument) checkHeaders(t *testing.T, res *http.Response, response map[string]any) {
	t.Helper()
	headers, _ := response["headers"].(map[string]any)
	documented := map[string]string{} // by canonical name: as documented
	for name := range headers {
		documented[http.CanonicalHeaderKey(name)] = name
	}
	trailers, _ := response["x-trailers"].([]any)
	for name := range res.Trailer {
		if !slices.ContainsFunc(trailers, func(v any) bool { return strings.EqualFold(v.(string), name) }) {
			t.Errorf("trailer %s is not documented", name)
		}
	}
	for name, values := range res.Header {
		if name != "X-Request-Id" && name != "Retry-After" && name != "X-Should-Retry" && !strings.HasPrefix(name, "X-Router-") {
			continue
		}
		if documented[name] == "" {
			t.Errorf("header %s is not documented", name)
			continue
		}
		ref, _ := headers[documented[name]].(map[string]any)["$ref"].(string)
		schema := strings.TrimPrefix(ref, "#") + "/schema"
		var value any = values[0]
		if kind := d.at(append(strings.Split(strings.TrimPrefix(ref, "#/"), "/"), "schema")...)["type"]; kind != "string" {
			parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(values[0]))
			if err != nil {
				t.Errorf("%s: %q is no %v", name, values[0], kind)
				continue
			}
			value = parsed
		}
		d.validate(t, schema, value)
	}
}

// checkBody wants a JSON body, or the events of a stream, to match the schema.
func (d apiDocument) checkBody(t *testing.T, operation []string, contentType string, body []byte) {
	t.Helper()
	contentType, _, _ = strings.Cut(contentType, ";")
	if d.at(append(operation, "content")...)[contentType] == nil {
		t.Errorf("content type %q is not documented", contentType)
		return
	}
	switch contentType {
	case "application/json":
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		d.validate(t, d.schemaPointer(operation), value)
	case "text/event-stream":
		events := 0
		for line := range strings.Lines(string(body)) {
			data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
			if !ok || data == "[DONE]" {
				continue
			}
			events++
			value, err := jsonschema.UnmarshalJSON(strings.NewReader(data))
			if err != nil {
				t.Fatalf("%v in %s", err, data)
			}
			d.validate(t, "/components/schemas/ChatChunk", value)
		}
		if events == 0 || !strings.Contains(string(body), "data: [DONE]") {
			t.Errorf("%d events in %s", events, body)
		}
	}
}

// schemaPointer is where a response's schema stands: under the path, or in the
// component it refers to.
func (d apiDocument) schemaPointer(operation []string) string {
	pointer, here := "", any(d.text)
	for _, name := range operation {
		here = here.(map[string]any)[name]
		pointer += "/" + escape(name)
	}
	if ref, ok := here.(map[string]any)["$ref"].(string); ok {
		pointer = strings.TrimPrefix(ref, "#")
	}
	return pointer + "/content/application~1json/schema"
}
