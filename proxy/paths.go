package proxy

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// apiRoots are the first segments of the API's paths, which clients whose base
// URL lacks /v1 begin with.
var apiRoots = []string{"chat", "completions", "embeddings", "models", "responses", "messages", "route", "images", "audio", "moderations", "rerank"}

// canonicalPath is the path that a client means which has its base URL wrong:
// without /v1, with it twice, with a slash at the end, or in Azure's way. Other
// paths come back as they are.
func canonicalPath(path string) string {
	p := "/" + strings.Trim(path, "/")
	if p == "/" || strings.Contains(p, "//") {
		return path
	}
	p = strings.TrimPrefix(p, "/anthropic")
	if rest, ok := strings.CutPrefix(p, "/openai"); ok && strings.HasPrefix(rest, "/") {
		p = rest
		if _, after, ok := cutDeployment(rest); ok {
			p = after
		}
	}
	for strings.HasPrefix(p, "/v1/v1/") {
		p = p[len("/v1"):]
	}
	first, _, _ := strings.Cut(p[min(1, len(p)):], "/")
	if slices.Contains(apiRoots, first) {
		p = "/v1" + p
	}
	if strings.HasPrefix(p, "/v1/") || p == strings.TrimRight(path, "/") {
		return p
	}
	return path
}

// cutDeployment splits Azure's /deployments/{model}/… into the model and the
// rest.
func cutDeployment(path string) (model, rest string, ok bool) {
	tail, ok := strings.CutPrefix(path, "/deployments/")
	if !ok {
		return "", path, false
	}
	model, rest, ok = strings.Cut(tail, "/")
	return model, "/" + rest, ok && model != "" && rest != ""
}

// deploymentOf is the model that a request names in its path, in Azure's way;
// "" when it does not.
func deploymentOf(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	_, tail, ok := strings.Cut(path, "/openai/deployments/")
	if !ok {
		return ""
	}
	model, _, _ := strings.Cut(tail, "/")
	name, err := url.PathUnescape(model)
	if err != nil {
		return ""
	}
	return name
}

// unknownPath is the 404 of a path that is not served.
func unknownPath(r *http.Request) error {
	return &refusal{Status: http.StatusNotFound, Type: typeInvalid, Code: "unknown_url",
		Message: "no such route: " + r.Method + " " + quote(r.URL.Path) + "; the base URL of an OpenAI client ends in /v1, that of an Anthropic client in nothing; see /docs"}
}

// exposed are the response headers that a web page may read.
const exposed = "X-Request-Id, X-Router-Tier, X-Router-Model, X-Router-Strategy, X-Router-Reason, X-Router-Score, X-Router-Fallback, X-Router-Attempts, " +
	"X-Router-Decision, X-Router-Dropped-Params, X-Router-Budget-Remaining-USD, X-Router-Cost-USD, X-Router-Latency-Ms, X-Router-Overhead-Ms, Retry-After"

// mayCall reports whether a web page of that origin may call from a browser and
// read the answer: server.cors.origins names those that may, by default none.
func (s *setup) mayCall(origin string) bool {
	return slices.Contains(s.Origins, "*") || slices.Contains(s.Origins, origin)
}

// cors answers a browser that asks before it calls, and lets it read answers.
// It reports whether that was all.
func cors(w http.ResponseWriter, r *http.Request) (done bool) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Expose-Headers", exposed)
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS")
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}
