package upstream

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/inference-router/inference-router/translate"
)

const (
	profileTimeout = 3 * time.Second
	profileRetry   = 5 * time.Minute // after AWS would not say what a profile stands for
)

// isOpaque reports whether a model's id says nothing of the model.
func isOpaque(model string) bool {
	return strings.Contains(model, ":application-inference-profile/")
}

// capabilities are those of the model. What an application inference profile
// stands for is asked of AWS once, for it cannot change; until AWS says, the
// model is taken for an unknown one.
func (b *Bedrock) capabilities(ctx context.Context) translate.Capabilities {
	if known := b.caps.Load(); known != nil {
		return *known
	}
	now := time.Now()
	if next := b.askAgain.Load(); now.Unix() >= next && b.askAgain.CompareAndSwap(next, now.Add(profileRetry).Unix()) {
		if model := b.profileModel(ctx); model != "" {
			b.knowModel(model)
		}
	}
	if known := b.caps.Load(); known != nil {
		return *known
	}
	return b.config.Capabilities.Apply("bedrock", translate.LookupCapabilities("bedrock", b.config.Model))
}

func (b *Bedrock) knowModel(model string) {
	caps := b.config.Capabilities.Apply("bedrock", translate.LookupCapabilities("bedrock", model))
	b.caps.Store(&caps)
}

// FoundationModel asks AWS what this upstream's application inference profile
// stands for; "" when AWS does not say.
func (b *Bedrock) FoundationModel(ctx context.Context) string { return b.profileModel(ctx) }

// profileModel is the foundation model behind an application inference
// profile; "" when AWS does not say. It is one GET of the control plane
// (GetInferenceProfile), signed as the runtime's calls are. The answer is for
// all requests, so that one client's leaving does not end the call.
func (b *Bedrock) profileModel(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), profileTimeout)
	defer cancel()
	to := *b.control
	to.Path += "/inference-profiles/" + b.config.Model
	to.RawPath = b.control.EscapedPath() + "/inference-profiles/" + escapeModel(b.config.Model)
	header := http.Header{"Accept": {"application/json"}, "User-Agent": {"inference-router"}}
	if b.signer.sign(ctx, http.MethodGet, &to, header, nil) != nil {
		return ""
	}
	resp, err := b.transport.RoundTrip((&http.Request{Method: http.MethodGet, URL: &to, Host: to.Host, Header: header}).WithContext(ctx))
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := readAll(resp, maxErrorBody)
	var profile struct {
		Models []struct {
			ModelARN string `json:"modelArn"`
		} `json:"models"`
	}
	if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(body, &profile) != nil || len(profile.Models) == 0 {
		return ""
	}
	return profile.Models[0].ModelARN
}
