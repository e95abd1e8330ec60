package config

import (
	"maps"
	"slices"
)

// Dialect is the API that a provider is called through.
type Dialect string

// The dialects that upstreams are called through.
const (
	DialectOpenAI    Dialect = "openai" // chat completions under a base URL
	DialectBedrock   Dialect = "bedrock"
	DialectAnthropic Dialect = "anthropic"
	DialectSimulated Dialect = "simulated" // no call at all
)

// Provider is what is known of a name that may stand under `provider`. The
// zero dialect is OpenAI's.
type Provider struct {
	dialect Dialect
	// baseURL is what an OpenAI client of that provider calls its base URL;
	// for anthropic it is the root. "" means that it must be configured.
	baseURL string
	// keyVariable holds the key when api_key is left out. It is only sent to
	// baseURL: another address gets the key that is configured with it.
	keyVariable string
	// keyOptional says that it also answers without a key.
	keyOptional bool
	// limitField is the request field that it reads an output limit from; ""
	// is max_tokens. limitEither says that it also obeys the other one.
	limitField  string
	limitEither bool
	// readsUsage says that "usage": {"include": true} means something to it.
	readsUsage bool
	// local says that it is a server of one's own: there is no price list, and
	// a call costs nothing unless a price is configured.
	local bool
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
//	cerebras    https://inference-docs.cerebras.ai/resources/openai
//	sambanova   https://docs.sambanova.ai/docs/en/features/openai-compatibility
//	nvidia      https://docs.api.nvidia.com/nim/reference/llm-apis
//	perplexity  https://docs.perplexity.ai (no /v1)
//	moonshot    https://platform.moonshot.ai/docs
//	cohere      https://docs.cohere.com/docs/compatibility-api
//	huggingface https://huggingface.co/docs/inference-providers
//	vllm        https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
//	llamacpp    https://github.com/ggml-org/llama.cpp/tree/master/tools/server
//	lmstudio    https://lmstudio.ai/docs/developer/openai-compat
//	sglang      https://docs.sglang.ai/basic_usage/openai_api.html
var providers = map[string]Provider{
	"bedrock":   {dialect: DialectBedrock},
	"simulated": {dialect: DialectSimulated, local: true},

	"anthropic": {dialect: DialectAnthropic, baseURL: "https://api.anthropic.com", keyVariable: "ANTHROPIC_API_KEY"},

	"openai":      {baseURL: "https://api.openai.com/v1", keyVariable: "OPENAI_API_KEY", limitField: maxCompletionTokens, limitEither: true},
	"azure":       {keyVariable: "AZURE_OPENAI_API_KEY", limitField: maxCompletionTokens, limitEither: true},
	"groq":        {baseURL: "https://api.groq.com/openai/v1", keyVariable: "GROQ_API_KEY", limitEither: true},
	"deepinfra":   {baseURL: "https://api.deepinfra.com/v1/openai", keyVariable: "DEEPINFRA_API_KEY"},
	"together":    {baseURL: "https://api.together.xyz/v1", keyVariable: "TOGETHER_API_KEY"},
	"fireworks":   {baseURL: "https://api.fireworks.ai/inference/v1", keyVariable: "FIREWORKS_API_KEY"},
	"openrouter":  {baseURL: "https://openrouter.ai/api/v1", keyVariable: "OPENROUTER_API_KEY", readsUsage: true},
	"mistral":     {baseURL: "https://api.mistral.ai/v1", keyVariable: "MISTRAL_API_KEY"},
	"gemini":      {baseURL: "https://generativelanguage.googleapis.com/v1beta/openai", keyVariable: "GEMINI_API_KEY"},
	"deepseek":    {baseURL: "https://api.deepseek.com/v1", keyVariable: "DEEPSEEK_API_KEY"},
	"xai":         {baseURL: "https://api.x.ai/v1", keyVariable: "XAI_API_KEY"},
	"cerebras":    {baseURL: "https://api.cerebras.ai/v1", keyVariable: "CEREBRAS_API_KEY"},
	"sambanova":   {baseURL: "https://api.sambanova.ai/v1", keyVariable: "SAMBANOVA_API_KEY"},
	"nvidia":      {baseURL: "https://integrate.api.nvidia.com/v1", keyVariable: "NVIDIA_API_KEY"},
	"perplexity":  {baseURL: "https://api.perplexity.ai", keyVariable: "PERPLEXITY_API_KEY"},
	"moonshot":    {baseURL: "https://api.moonshot.ai/v1", keyVariable: "MOONSHOT_API_KEY"},
	"cohere":      {baseURL: "https://api.cohere.ai/compatibility/v1", keyVariable: "COHERE_API_KEY"},
	"huggingface": {baseURL: "https://router.huggingface.co/v1", keyVariable: "HF_TOKEN"},

	"ollama":   {baseURL: "http://localhost:11434/v1", keyVariable: "OLLAMA_API_KEY", keyOptional: true, local: true},
	"vllm":     {baseURL: "http://localhost:8000/v1", keyVariable: "VLLM_API_KEY", keyOptional: true, local: true},
	"llamacpp": {baseURL: "http://localhost:8080/v1", keyVariable: "LLAMACPP_API_KEY", keyOptional: true, local: true},
	"lmstudio": {baseURL: "http://localhost:1234/v1", keyVariable: "LMSTUDIO_API_KEY", keyOptional: true, local: true},
	"sglang":   {baseURL: "http://localhost:30000/v1", keyVariable: "SGLANG_API_KEY", keyOptional: true, local: true},
}

const maxCompletionTokens = "max_completion_tokens"

// Dialect is the API that the upstream is called through.
func (u *Upstream) Dialect() Dialect { return providers[u.Provider].dialectOrOpenAI() }

func (p Provider) dialectOrOpenAI() Dialect {
	if p.dialect == "" {
		return DialectOpenAI
	}
	return p.dialect
}

// Limit is the request field that the upstream reads an output limit from, and
// whether it obeys the other one as well. Of a server at an address of one's
// own no more is known than that every one reads max_tokens.
func (u *Upstream) Limit() (field string, either bool) {
	p := providers[u.Provider]
	switch {
	case u.LimitField != "":
		return u.LimitField, false
	case p.limitField == "" || p.baseURL != "" && u.BaseURL != p.baseURL:
		return "max_tokens", p.limitEither && u.BaseURL == p.baseURL
	}
	return p.limitField, p.limitEither
}

// ReadsUsage reports whether the upstream reads the "usage" request field.
func (u *Upstream) ReadsUsage() bool { return providers[u.Provider].readsUsage }

func providerNames() []string {
	return slices.Collect(maps.Keys(providers))
}
