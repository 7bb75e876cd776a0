package server

import (
	"net/http"
	"sync"

	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
)

// registerDocs adds the API document and its reader, whose script and style
// come from the binary.
func (s *Server) registerDocs() {
	document := sync.OnceValues(s.api.OpenAPI().MarshalJSON) // at the first request: most instances never need it
	s.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, r *http.Request) {
		exchangeOf(r.Context()).route = "/openapi.json"
		text, err := document()
		if err != nil {
			panic("server: the API document does not marshal: " + err.Error()) // a mistake in the route table
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(text) // a client that is gone needs no answer
	})
	reader := v5emb.NewHandlerWithConfig(swgui.Config{
		Title: "Gatehouse API", SwaggerJSON: "/openapi.json", BasePath: "/docs/", HideCurl: false,
		SettingsUI: map[string]string{"validatorUrl": "null"}, // no third party is asked about the document
	})
	docs := func(w http.ResponseWriter, r *http.Request) {
		exchangeOf(r.Context()).route = "/docs"
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "+
			"img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		reader.ServeHTTP(w, r)
	}
	s.mux.HandleFunc("GET /docs", docs)
	s.mux.HandleFunc("GET /docs/", docs)
}
