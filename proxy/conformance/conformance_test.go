package conformance

import "testing"

// The clients must be content with the player itself: what they find wrong
// behind a router is then the router's.
func TestTheClientsAreContentWithThePlayer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Node and Python")
	}
	Run(t, Target{BaseURL: OpenAI(t), APIKey: "none", Model: "player", EmbeddingModel: "e"})
}
