package upstream

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrock"

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
	return b.config.Capabilities.Apply(translate.LookupCapabilities("bedrock", b.config.Model))
}

func (b *Bedrock) knowModel(model string) {
	caps := b.config.Capabilities.Apply(translate.LookupCapabilities("bedrock", model))
	b.caps.Store(&caps)
}

// profileModel is the foundation model behind an application inference
// profile; "" when AWS does not say.
func (b *Bedrock) profileModel(ctx context.Context) string {
	out, err := b.control.GetInferenceProfile(ctx, &bedrock.GetInferenceProfileInput{InferenceProfileIdentifier: &b.config.Model})
	if err != nil || len(out.Models) == 0 {
		return ""
	}
	return aws.ToString(out.Models[0].ModelArn)
}
