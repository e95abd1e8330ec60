package routing

// Strategy names how the router decides: ChainStrategy, or the one strategy's
// own name.
func (rt *Router) Strategy() string { return rt.name }

// Complexity scores a prompt by itself and names the tier that the complexity
// rules want for it: the configured rules, else the default ones.
func (rt *Router) Complexity(prompt string) (Score, string) {
	score := ScorePrompt(prompt)
	for _, p := range rt.strategies {
		if c, ok := p.Strategy.(*Complexity); ok {
			return score, c.wanted(score.Value).Name
		}
	}
	s, err := NewComplexity(ComplexityConfig{}).bind(rt, true)
	if err != nil {
		return score, ""
	}
	return score, s.(*Complexity).wanted(score.Value).Name
}
