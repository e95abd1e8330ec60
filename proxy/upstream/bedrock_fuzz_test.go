package upstream_test

import (
	"testing"

	"github.com/inference-router/inference-router/proxy/upstream/bedrocktest"
	"github.com/inference-router/inference-router/translate"
)

// FuzzToBedrock: what we do not refuse, Bedrock does not refuse either, as far
// as the fake can tell.
func FuzzToBedrock(f *testing.F) {
	for _, body := range []string{
		askWhole, askStream,
		`{"model":"m","messages":[{"role":"system","content":"s"},{"role":"assistant","content":"a"},{"role":"user","content":[{"type":"text","text":"b","cache_control":{"type":"ephemeral","ttl":"1h"}},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}},{"type":"file","file":{"filename":"a b.pdf","file_data":"JVBERi0="}}]}],"tools":[{"type":"function","function":{"name":"a.b","strict":true,"parameters":{"$defs":{"x":{}},"anyOf":[{"$ref":"#/$defs/x"}]}}},{"type":"custom","custom":{"name":"c"}}],"tool_choice":"required","parallel_tool_calls":false}`,
		`{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"reasoning_content":"r","reasoning_signature":"s","tool_calls":[{"id":"c|1","type":"function","function":{"name":"f","arguments":"[1"}},{"id":"2","type":"custom","custom":{"name":"g","input":"x"}}]},{"role":"user","content":"b"},{"role":"tool","tool_call_id":"2","content":[]},{"role":"tool","tool_call_id":"c|1","content":""}],"reasoning_effort":"high","temperature":1.5,"top_p":0.5,"stop":["","x"],"max_tokens":5000}`,
		`{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","function_call":{"name":"f","arguments":""}},{"role":"function","name":"f","content":"r"}],"functions":[{"name":"f"}],"function_call":{"name":"f"},"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{"a":{"type":"object"}}}}},"service_tier":"fast","metadata":{"a":"b"},"performanceConfig":{"latency":"optimized"},"guardrailConfig":{"guardrailIdentifier":"g","guardrailVersion":"1"},"thinking":{"type":"adaptive"},"top_k":3,"prompt_cache_retention":"24h"}`,
	} {
		f.Add([]byte(body))
	}
	models := []string{testModel, "anthropic.claude-opus-4-8", "anthropic.claude-3-7-sonnet", "amazon.nova-2-lite-v1:0", "meta.llama3-3-70b", "mistral.mistral-large-2407", "amazon.titan-text-express-v1", "openai.gpt-oss-120b", "unheard.of"}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := translate.ParseRequest(body)
		if err != nil {
			return
		}
		for _, model := range models {
			q, err := translate.ToBedrock(r, translate.BedrockOptions{
				Options: translate.Options{Unsupported: "drop"}, SendMetadata: true,
				Capabilities: translate.LookupCapabilities("bedrock", model),
			})
			if err != nil {
				continue
			}
			if err := bedrocktest.CheckConverse(q.Body, q.Stream); err != nil {
				t.Errorf("%s: %v in %s", model, err, q.Body)
			}
		}
	})
}
