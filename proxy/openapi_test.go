package proxy

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// apiDocument is as much of openapi.json as the tests look at.
type apiDocument struct {
	OpenAPI    string                                `json:"openapi"`
	Paths      map[string]map[string]*apiOperation   `json:"paths"` // by path, by method in lower case
	Components map[string]map[string]json.RawMessage `json:"components"`
	Tags       []struct{ Name string }               `json:"tags"`
}

type apiOperation struct {
	ID         string   `json:"operationId"`
	Summary    string   `json:"summary"`
	Tags       []string `json:"tags"`
	Parameters []struct {
		Ref string `json:"$ref"`
	} `json:"parameters"`
	Responses map[string]json.RawMessage `json:"responses"` // by status
}

func readAPIDocument(t *testing.T) apiDocument {
	t.Helper()
	var doc apiDocument
	if err := json.Unmarshal(openapiJSON, &doc); err != nil {
		t.Fatalf("openapi.json is not valid JSON: %v", err)
	}
	return doc
}

func TestAPIDocumentListsEveryRouteOfTheServer(t *testing.T) {
	var want []string
	for _, r := range new(Server).table() {
		switch r.path {
		case "/docs/*": // the page's own files
			continue
		case "/v1/models/*":
			r.path = "/v1/models/{id}"
		}
		if strings.HasPrefix(r.path, "/dashboard/") {
			continue // what the page asks for is its own business
		}
		want = append(want, r.method+" "+r.path)
	}
	var got []string
	for path, operations := range readAPIDocument(t).Paths {
		for method := range operations {
			got = append(got, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	for _, route := range want {
		if !slices.Contains(got, route) {
			t.Errorf("openapi.json does not describe %s", route)
		}
	}
	for _, route := range got {
		if !slices.Contains(want, route) {
			t.Errorf("openapi.json describes %s, which the server does not serve", route)
		}
	}
}

func TestAPIDocumentOperationsAreComplete(t *testing.T) {
	doc := readAPIDocument(t)
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Errorf("openapi = %q, want 3.1", doc.OpenAPI)
	}
	seen := map[string]string{} // route by operation id
	for path, operations := range doc.Paths {
		for method, op := range operations {
			route := method + " " + path
			if other, twice := seen[op.ID]; op.ID == "" || twice {
				t.Errorf("%s: operationId %q is empty or used by %q as well", route, op.ID, other)
			}
			seen[op.ID] = route
			if op.Summary == "" {
				t.Errorf("%s has no summary", route)
			}
			if len(op.Tags) != 1 || !slices.ContainsFunc(doc.Tags, func(tag struct{ Name string }) bool { return tag.Name == op.Tags[0] }) {
				t.Errorf("%s: tags = %q, want one of those declared", route, op.Tags)
			}
			if op.Responses["200"] == nil {
				t.Errorf("%s has no 200 among its responses", route)
			}
		}
	}
}

func TestAPIDocumentReferencesResolve(t *testing.T) {
	var doc any
	if err := json.Unmarshal(openapiJSON, &doc); err != nil {
		t.Fatal(err)
	}
	components := readAPIDocument(t).Components
	used := map[string]bool{}
	eachReference(doc, func(ref string) {
		used[ref] = true
		kind, name, _ := strings.Cut(strings.TrimPrefix(ref, "#/components/"), "/")
		if components[kind][name] == nil {
			t.Errorf("%s leads nowhere", ref)
		}
	})
	for kind, named := range components {
		if kind == "securitySchemes" {
			continue // named, not referred to
		}
		for name := range named {
			if ref := "#/components/" + kind + "/" + name; !used[ref] && name != "ChatChunk" {
				t.Errorf("%s is used nowhere", ref)
			}
		}
	}
}

// eachReference calls visit for every "$ref" in v.
func eachReference(v any, visit func(ref string)) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if ref, ok := member.(string); ok && name == "$ref" {
				visit(ref)
			}
			eachReference(member, visit)
		}
	case []any:
		for _, member := range v {
			eachReference(member, visit)
		}
	}
}

func TestAPIDocumentNamesEveryHeaderOfOurs(t *testing.T) {
	doc := readAPIDocument(t)
	var own []string
	for _, raw := range doc.Components["parameters"] {
		var p struct{ Name, In string }
		if err := json.Unmarshal(raw, &p); err != nil {
			t.Fatal(err)
		}
		own = append(own, http.CanonicalHeaderKey(p.Name))
	}
	for _, name := range []string{headerTier, headerUser, headerBudget, headerMaxCost, headerSession, headerTags, headerSignature} {
		if !slices.Contains(own, name) {
			t.Errorf("request header %s is not among the parameters %q", name, own)
		}
	}
	chat := doc.Paths["/v1/chat/completions"]["post"]
	if got, want := len(chat.Parameters), len(own); got != want {
		t.Errorf("chat completions take %d header parameters, want all %d", got, want)
	}

	var answer struct {
		Headers  map[string]json.RawMessage `json:"headers"`
		Trailers []string                   `json:"x-trailers"`
	}
	if err := json.Unmarshal(chat.Responses["200"], &answer); err != nil {
		t.Fatal(err)
	}
	answered := slices.Collect(maps.Keys(answer.Headers))
	for i, name := range answered {
		answered[i] = http.CanonicalHeaderKey(name)
	}
	for _, name := range []string{headerCost, headerLatency, headerOverhead} {
		if !slices.Contains(answered, name) {
			t.Errorf("response header %s is not documented", name)
		}
		if !slices.ContainsFunc(answer.Trailers, func(s string) bool { return strings.EqualFold(s, name) }) {
			t.Errorf("trailer %s is not documented", name)
		}
	}
}
