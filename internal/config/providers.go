package config

import (
	"maps"
	"slices"
)

// provider is a name that may stand under `provider`. All but bedrock,
// anthropic and simulated speak OpenAI's chat completions.
type provider struct {
	// baseURL is what an OpenAI client of that provider calls its base URL;
	// for anthropic it is the root. "" means that it must be configured.
	baseURL string
	// keyVariable holds the key when api_key is left out. It is only sent to
	// baseURL: another address gets the key that is configured with it.
	keyVariable string
	// keyOptional says that it also answers without a key.
	keyOptional bool
}

// providers are the known ones. The addresses and variables are those of each
// provider's own documentation:
//
//	openai      https://platform.openai.com/docs/api-reference
//	anthropic   https://docs.anthropic.com/en/api
//	groq        https://console.groq.com/docs/openai
//	deepinfra   https://deepinfra.com/docs/openai_api (under /v1/openai, not /v1)
//	together    https://docs.together.ai/docs/openai-api-compatibility
//	fireworks   https://docs.fireworks.ai/tools-sdks/openai-compatibility
//	ollama      https://docs.ollama.com/openai
//	openrouter  https://openrouter.ai/docs/quickstart
//	mistral     https://docs.mistral.ai/api
//	gemini      https://ai.google.dev/gemini-api/docs/openai
//	deepseek    https://api-docs.deepseek.com
//	xai         https://docs.x.ai/docs/api-reference
//	azure       https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
//	            (https://RESOURCE.openai.azure.com/openai/v1)
//	vllm        https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
var providers = map[string]provider{
	"bedrock":   {},
	"simulated": {},

	"anthropic": {baseURL: "https://api.anthropic.com", keyVariable: "ANTHROPIC_API_KEY"},

	"openai":     {baseURL: "https://api.openai.com/v1", keyVariable: "OPENAI_API_KEY"},
	"groq":       {baseURL: "https://api.groq.com/openai/v1", keyVariable: "GROQ_API_KEY"},
	"deepinfra":  {baseURL: "https://api.deepinfra.com/v1/openai", keyVariable: "DEEPINFRA_API_KEY"},
	"together":   {baseURL: "https://api.together.xyz/v1", keyVariable: "TOGETHER_API_KEY"},
	"fireworks":  {baseURL: "https://api.fireworks.ai/inference/v1", keyVariable: "FIREWORKS_API_KEY"},
	"ollama":     {baseURL: "http://localhost:11434/v1", keyVariable: "OLLAMA_API_KEY", keyOptional: true},
	"openrouter": {baseURL: "https://openrouter.ai/api/v1", keyVariable: "OPENROUTER_API_KEY"},
	"mistral":    {baseURL: "https://api.mistral.ai/v1", keyVariable: "MISTRAL_API_KEY"},
	"gemini":     {baseURL: "https://generativelanguage.googleapis.com/v1beta/openai", keyVariable: "GEMINI_API_KEY"},
	"deepseek":   {baseURL: "https://api.deepseek.com/v1", keyVariable: "DEEPSEEK_API_KEY"},
	"xai":        {baseURL: "https://api.x.ai/v1", keyVariable: "XAI_API_KEY"},
	"azure":      {keyVariable: "AZURE_OPENAI_API_KEY"},
	"vllm":       {baseURL: "http://localhost:8000/v1", keyVariable: "VLLM_API_KEY", keyOptional: true},
}

// speaksOpenAI reports whether the provider is called with OpenAI's chat
// completions under a base URL.
func speaksOpenAI(name string) bool {
	return name != "bedrock" && name != "anthropic" && name != "simulated"
}

func providerNames() []string {
	return slices.Collect(maps.Keys(providers))
}
