package proxy

import (
	_ "embed"
	"net/http"

	"github.com/swaggest/swgui/v5emb"
)

//go:embed openapi.json
var openapiJSON []byte

// openapi serves GET /openapi.json.
func (s *Server) openapi(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	w.Write(openapiJSON)
	return nil
}

// docs serves the API reference under /docs, from files in the binary.
func (s *Server) docs() func(w http.ResponseWriter, r *http.Request) error {
	pages := v5emb.New("inference-router", "/openapi.json", "/docs/")
	return func(w http.ResponseWriter, r *http.Request) error {
		pages.ServeHTTP(w, r)
		return nil
	}
}
