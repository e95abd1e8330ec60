package conformance

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/proxy/upstream"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

// served is what an upstream of a test was sent.
type served struct {
	path   string
	header http.Header
	body   string
}

// script is an upstream that answers every request alike.
func script(t *testing.T, status int, kind, body string) (string, func() served) {
	t.Helper()
	var last served
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		last = served{r.URL.Path, r.Header.Clone(), string(b)}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() served { return last }
}

// through starts a router with one upstream that takes a dialect as it comes.
func through(t *testing.T, u proxy.Upstream, native ...translate.Dialect) string {
	return throughWith(t, u, native, func(*proxy.Config, *proxy.Deployment) {})
}

// throughWith is through with changes to the configuration.
func throughWith(t *testing.T, u proxy.Upstream, native []translate.Dialect, configure func(*proxy.Config, *proxy.Deployment)) string {
	t.Helper()
	seal, err := translate.NewSeal([]byte("a key of sixteen bytes or more"))
	if err != nil {
		t.Fatal(err)
	}
	ledger := budget.NewMemory(budget.MemoryConfig{})
	decide, err := routing.New(routing.Config{State: routing.NewState(),
		Tiers: []routing.Tier{{Name: "only", Deployments: []routing.Deployment{{Name: "test/m"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	c := proxy.Config{Version: "test", Router: decide, Ledger: ledger, Books: ledger, Seal: seal,
		Tiers: []proxy.Tier{{Name: "only", Deployments: []proxy.Deployment{
			{Name: "test/m", Provider: "test", Model: "upstream-model", Upstream: u, Dialects: native, Extended: true, Price: budget.FlatPrice(1e9, 2e9)},
		}}}}
	configure(&c, &c.Tiers[0].Deployments[0])
	server, err := proxy.New(c)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server.Handler())
	t.Cleanup(front.Close)
	return front.URL
}

func messages(t *testing.T, url string) proxy.Upstream {
	return must(upstream.NewMessages(upstream.AnthropicConfig{Name: "a", Model: "upstream-model", Endpoint: url, APIKey: "k"}))(t)
}

func responses(t *testing.T, url string) proxy.Upstream {
	return must(upstream.NewResponses(upstream.ResponsesConfig{Model: "upstream-model",
		OpenAIConfig: upstream.OpenAIConfig{Name: "o", Provider: "openai", BaseURL: url + "/v1", APIKey: "k"}}))(t)
}

// ask posts a body with headers, and returns status and answer.
func ask(t *testing.T, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

const (
	messagesStream = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_u\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n" +
		"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n" +
		"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}, \"odd\": 1.0}\n\n"
	messagesEnd = "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n" +
		"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":7}}\n\n" +
		"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
	messagesAsk = `{"model":"auto", "max_tokens":50,"stream":true,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral","scope":"org"}}],"context_management":{"edits":[]},"messages":[{"role":"user","content":"hi"}]}`

	responsesStart = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_u\",\"status\":\"in_progress\",\"output\":[]}}\n\n"
	responsesText  = "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"sequence_number\":1,\"output_index\":0,\"item\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[]}}\n\n" +
		"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":2,\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\"Hi\"}\n\n"
	responsesCall = "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"sequence_number\":1,\"output_index\":0,\"item\":{\"id\":\"fc_1\",\"type\":\"function_call\",\"call_id\":\"call_1\",\"name\":\"f\",\"arguments\":\"\"}}\n\n" +
		"event: response.function_call_arguments.delta\ndata: {\"type\":\"response.function_call_arguments.delta\",\"sequence_number\":2,\"item_id\":\"fc_1\",\"output_index\":0,\"delta\":\"{}\"}\n\n" +
		"event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"sequence_number\":3,\"output_index\":0,\"item\":{\"id\":\"fc_1\",\"type\":\"function_call\",\"call_id\":\"call_1\",\"name\":\"f\",\"arguments\":\"{}\"}}\n\n"
	responsesEnd = "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":4,\"response\":{\"id\":\"resp_u\",\"status\":\"completed\",\"output\":[{\"type\":\"function_call\"}],\"usage\":{\"input_tokens\":5,\"output_tokens\":7,\"total_tokens\":12}}}\n\n"
)

func TestMessagesReachAnthropicAsTheyCame(t *testing.T) {
	url, got := script(t, 200, "text/event-stream", messagesStream+messagesEnd)
	resp, answer := ask(t, through(t, messages(t, url), translate.DialectMessages)+"/v1/messages?beta=true", messagesAsk,
		"Anthropic-Beta", "a-1,b-2", "Anthropic-Version", "2023-06-01", "X-Api-Key", "caller")
	if answer != messagesStream+messagesEnd {
		t.Errorf("the answer became\n%s", answer)
	}
	if want := strings.Replace(messagesAsk, `"auto"`, `"upstream-model"`, 1); got().body != want || got().path != "/v1/messages" {
		t.Errorf("%s was sent\n%s\nwant\n%s", got().path, got().body, want)
	}
	if h := got().header; h.Get("Anthropic-Beta") != "a-1,b-2" || h.Get("X-Api-Key") != "k" || resp.Header.Get("Request-Id") == "" {
		t.Errorf("headers sent: %v", h)
	}
	if cost := resp.Trailer.Get("X-Router-Cost-Usd"); cost != "0.000019" {
		t.Errorf("cost %q for 5 and 7 tokens at 1 and 2 dollars a million", cost)
	}
}

func TestAnthropicsRefusalReachesAMessagesClientWordForWord(t *testing.T) {
	refusal := `{"type":"error","error":{"type":"invalid_request_error","message":"thinking: this is not allowed"},"request_id":"req_u"}`
	url, _ := script(t, 400, "application/json", refusal)
	resp, answer := ask(t, through(t, messages(t, url), translate.DialectMessages)+"/v1/messages", messagesAsk)
	if resp.StatusCode != 400 || answer != refusal {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
}

func TestChatAndMessagesClientsReachAResponsesUpstream(t *testing.T) {
	url, got := script(t, 200, "text/event-stream", responsesStart+responsesCall+responsesEnd)
	root := through(t, responses(t, url), translate.DialectResponses)
	_, answer := ask(t, root+"/v1/chat/completions", `{"model":"auto","stream":true,"messages":[{"role":"system","content":"s"},{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]}`)
	if !strings.Contains(answer, `"finish_reason":"tool_calls"`) || !strings.HasSuffix(answer, "data: [DONE]\n\n") {
		t.Errorf("chat got\n%s", answer)
	}
	sent := gjson.Parse(got().body)
	if got().path != "/v1/responses" || sent.Get("store").Raw != "false" || sent.Get("tools.0.name").Str != "f" || sent.Get("tools.0.strict").Raw != "false" || sent.Get("input.0.role").Str != "developer" {
		t.Errorf("%s was sent %s", got().path, sent.Raw)
	}
	_, answer = ask(t, root+"/v1/messages", `{"model":"auto","max_tokens":50,"stream":true,"messages":[{"role":"user","content":"hi"}],"tools":[{"name":"f","input_schema":{"type":"object"}}]}`)
	if !strings.Contains(answer, `"stop_reason":"tool_use"`) || !strings.HasSuffix(answer, "data: {\"type\":\"message_stop\"}\n\n") {
		t.Errorf("messages got\n%s", answer)
	}
	body := `{"model":"auto", "stream":true,"input":"hi","new":{"a":1.0}}`
	_, answer = ask(t, root+"/v1/responses", body)
	if answer != responsesStart+responsesCall+responsesEnd {
		t.Errorf("responses got\n%s", answer)
	}
	if want := strings.Replace(body, `"auto"`, `"upstream-model"`, 1); got().body != want {
		t.Errorf("sent %s, want %s", got().body, want)
	}
}

// An answer that was cut has an error at its end, whichever dialects are on
// either side, and nothing that could be taken for a good end.
func TestACutStreamIsAnErrorInEveryDialect(t *testing.T) {
	chat := "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n"
	for kind, cut := range map[string]struct {
		body string
		make func(*testing.T, string) proxy.Upstream
		as   []translate.Dialect
	}{
		"messages":  {messagesStream, messages, []translate.Dialect{translate.DialectMessages}},
		"responses": {responsesStart + responsesText, responses, []translate.Dialect{translate.DialectResponses}},
		"chat": {chat, func(t *testing.T, url string) proxy.Upstream {
			return must(upstream.NewOpenAI(upstream.OpenAIConfig{Name: "o", Provider: "openai", BaseURL: url + "/v1"}))(t)
		}, nil},
	} {
		url, _ := script(t, 200, "text/event-stream", cut.body)
		root := through(t, cut.make(t, url), cut.as...)
		for path, c := range map[string]struct{ body, failure string }{
			"/v1/messages":         {messagesAsk, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\""},
			"/v1/responses":        {`{"model":"auto","stream":true,"input":"hi"}`, "event: response.failed\ndata: {\"type\":\"response.failed\""},
			"/v1/chat/completions": {`{"model":"auto","stream":true,"messages":[{"role":"user","content":"hi"}]}`, `data: {"error":{`},
			"/v1/completions":      {`{"model":"auto","stream":true,"prompt":"hi"}`, `data: {"error":{`},
		} {
			t.Run(fmt.Sprintf("%s from %s", path, kind), func(t *testing.T) {
				_, answer := ask(t, root+path, c.body)
				last := answer[strings.LastIndex(strings.TrimSpace(answer), "\n\n")+2:]
				if !strings.HasPrefix(last, c.failure) {
					t.Errorf("ends in %q", last)
				}
				for _, end := range []string{"[DONE]", "message_stop", "response.completed", "response.incomplete"} {
					if strings.Contains(answer, end) {
						t.Errorf("%s is in\n%s", end, answer)
					}
				}
			})
		}
	}
}

func TestErrorsReadAsTheDialectsOwn(t *testing.T) {
	url, _ := script(t, 400, "application/json", `{"error":{"message":"bad thing","type":"invalid_request_error","param":null,"code":null}}`)
	root := through(t, must(upstream.NewOpenAI(upstream.OpenAIConfig{Name: "o", Provider: "openai", BaseURL: url + "/v1"}))(t))
	resp, answer := ask(t, root+"/v1/messages", messagesAsk)
	e := gjson.Parse(answer)
	if resp.StatusCode != 400 || e.Get("type").Str != "error" || e.Get("error.type").Str != "invalid_request_error" || e.Get("error.message").Str != "bad thing" ||
		e.Get("request_id").Str != resp.Header.Get("Request-Id") {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
	for body, param := range map[string]string{
		`{"model":"auto","input":"hi","previous_response_id":"resp_1"}`:             "previous_response_id",
		`{"model":"auto","input":[{"type":"item_reference","id":"x"}]}`:             "input[0].type",
		`{"model":"auto","input":[{"type":"nonsense"}]}`:                            "input[0].type",
		`{"model":"auto","input":"hi","background":true}`:                           "background",
		`{"model":"auto","input":"hi","tool_choice":{"type":"web_search_preview"}}`: "tool_choice.type",
		`{"model":"auto"}`: "input",
	} {
		resp, answer := ask(t, root+"/v1/responses", body)
		if got := gjson.Get(answer, "error.param").Str; resp.StatusCode != 400 || got != param {
			t.Errorf("%s: %d, param %q: %s", body, resp.StatusCode, got, answer)
		}
	}
}

func TestPathsThatClientsComeWithAreServed(t *testing.T) {
	url, got := script(t, 200, "application/json", `{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`)
	root := through(t, must(upstream.NewOpenAI(upstream.OpenAIConfig{Name: "o", Provider: "openai", BaseURL: url + "/v1"}))(t))
	for _, path := range []string{"/chat/completions", "/v1/chat/completions/", "/v1/v1/chat/completions", "/openai/v1/chat/completions", "/openai/deployments/only/chat/completions?api-version=2024-10-21"} {
		resp, answer := ask(t, root+path, `{"messages":[{"role":"user","content":"hi"}]}`)
		if resp.StatusCode != 200 || !bytes.Contains([]byte(got().body), []byte(`"upstream-model"`)) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, answer)
		}
		if strings.Contains(path, "deployments") && resp.Header.Get("X-Router-Strategy") != "manual" {
			t.Errorf("%s: the deployment in the path was not asked for", path)
		}
	}
	if resp, answer := ask(t, root+"/v1/nowhere", "{}"); resp.StatusCode != 404 || !strings.Contains(answer, "POST") || !strings.Contains(answer, "/v1/nowhere") {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
}

// A hard budget is exact only where a limit bounds the cost: what the provider
// runs or serves dearer is refused before it is sent.
func TestUnboundedCostIsRefusedUnderAHardBudgetOnly(t *testing.T) {
	messagesURL, messagesGot := script(t, 200, "text/event-stream", messagesStream+messagesEnd)
	responsesURL, responsesGot := script(t, 200, "text/event-stream", responsesStart+responsesCall+responsesEnd)
	chatURL, chatGot := script(t, 200, "application/json", `{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`)
	chat := func(t *testing.T, url string) proxy.Upstream {
		return must(upstream.NewOpenAI(upstream.OpenAIConfig{Name: "o", Provider: "openai", BaseURL: url + "/v1"}))(t)
	}
	type api struct {
		path, body string
		dialect    []translate.Dialect
		connect    func(*testing.T, string) proxy.Upstream
		url        string
		got        func() served
	}
	anthropic := api{"/v1/messages", `{"model":"auto","max_tokens":50,"stream":true,"messages":[{"role":"user","content":"hi"}],`,
		[]translate.Dialect{translate.DialectMessages}, messages, messagesURL, messagesGot}
	openAI := api{"/v1/responses", `{"model":"auto","max_output_tokens":50,"stream":true,"input":"hi",`,
		[]translate.Dialect{translate.DialectResponses}, responses, responsesURL, responsesGot}
	compatible := api{"/v1/chat/completions", `{"model":"auto","max_tokens":50,"messages":[{"role":"user","content":"hi"}],`, nil, chat, chatURL, chatGot}
	for _, c := range []struct {
		api
		fields, param string // "" passes
	}{
		{anthropic, `"tools":[{"name":"f","input_schema":{"type":"object"}},{"type":"web_search_20250305","name":"web_search"}]`, "tools[1].type"},
		{anthropic, `"tools":[{"type":"code_execution_20250825","name":"code_execution"}]`, "tools[0].type"},
		{anthropic, `"tools":[{"type":"bash_20250124","name":"bash"},{"type":"custom","name":"f","input_schema":{"type":"object"}}]`, ""},
		{anthropic, `"speed":"fast"`, "speed"},
		{anthropic, `"speed":"standard"`, ""},
		{anthropic, `"mcp_servers":[{"type":"url","url":"https://mcp.example.com","name":"m"}]`, "mcp_servers"},
		{openAI, `"tools":[{"type":"web_search"}]`, "tools[0].type"},
		{openAI, `"tools":[{"type":"file_search","vector_store_ids":["v"]}]`, "tools[0].type"},
		{openAI, `"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]`, "tools[0].type"},
		{openAI, `"tools":[{"type":"image_generation"}]`, "tools[0].type"},
		{openAI, `"tools":[{"type":"function","name":"f","parameters":{}},{"type":"mcp","server_label":"m","server_url":"https://mcp.example.com"}]`, "tools[1].type"},
		{openAI, `"tools":[{"type":"computer"}]`, "tools[0].type"},
		{openAI, `"tools":[{"type":"shell","environment":{"type":"container_auto"}}]`, "tools[0].type"},
		{openAI, `"tools":[{"type":"function","name":"f","parameters":{}},{"type":"apply_patch"},{"type":"shell","environment":{"type":"local"}}]`, ""},
		{openAI, `"previous_response_id":"resp_1"`, "previous_response_id"},
		{compatible, `"web_search_options":{}`, "web_search_options"},
		{compatible, `"tools":[{"type":"browser_search"}]`, "tools[0].type"},
		{compatible, `"tools":[{"type":"function","function":{"name":"f"}}]`, ""},
	} {
		t.Run(c.path+" "+c.fields, func(t *testing.T) {
			name, _, _ := strings.Cut(c.fields[1:], `"`)
			ours := `"ours"`
			if name == "speed" {
				ours = `"standard"`
			}
			for kind, configure := range map[string]func(*proxy.Config, *proxy.Deployment){
				"soft": func(*proxy.Config, *proxy.Deployment) {},
				"hard": func(p *proxy.Config, d *proxy.Deployment) {
					p.Budgets = []proxy.Budget{{Scope: budget.ScopeGlobal, Amount: 1e9, Hard: true}}
				},
				"dropped": func(p *proxy.Config, d *proxy.Deployment) {
					p.Budgets, d.Drop = []proxy.Budget{{Scope: budget.ScopeGlobal, Amount: 1e9, Hard: true}}, []string{name}
				},
				"set": func(p *proxy.Config, d *proxy.Deployment) {
					p.Budgets, d.Set = []proxy.Budget{{Scope: budget.ScopeGlobal, Amount: 1e9, Hard: true}}, map[string]string{name: ours}
				},
			} {
				root := throughWith(t, c.connect(t, c.url), c.dialect, func(p *proxy.Config, d *proxy.Deployment) {
					d.Extended = len(c.dialect) > 0
					configure(p, d)
				})
				resp, answer := ask(t, root+c.path, c.body+c.fields+"}")
				if kind == "hard" && c.param != "" {
					refused := gjson.Get(answer, "error.param").Str == c.param || strings.Contains(gjson.Get(answer, "error.message").Str, "'"+c.param+"'") ||
						strings.Contains(gjson.Get(answer, "error.message").Str, "no price is known for what "+name+" asks")
					if charged := resp.Header.Get("X-Router-Cost-Usd"); resp.StatusCode != 400 || !refused || charged != "0" && charged != "" {
						t.Errorf("%s: %d %v %s", kind, resp.StatusCode, resp.Header, answer)
					}
					continue
				}
				if resp.StatusCode != 200 {
					t.Errorf("%s: %d %s", kind, resp.StatusCode, answer)
				}
				want := map[string]string{"soft": gjson.Get("{"+c.fields+"}", name).Raw, "hard": gjson.Get("{"+c.fields+"}", name).Raw, "set": ours}[kind]
				if sent := gjson.Get(c.got().body, name).Raw; sent != want {
					t.Errorf("%s: sent %s, want %s", kind, sent, want)
				}
			}
		})
	}
}
