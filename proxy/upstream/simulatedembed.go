package upstream

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"unicode"

	"github.com/inference-router/inference-router/translate"
)

// simulatedDimensions is the length of a simulated embedding when none is asked for.
const simulatedDimensions = 256

// Embed gives each text a vector made of its words: texts that share words are
// near each other, and equal texts are equal.
func (s *Simulated) Embed(ctx context.Context, r *translate.EmbeddingRequest) (*translate.EmbeddingAnswer, error) {
	if r.Tokens {
		return nil, &translate.InvalidError{Param: "input", Message: "simulated models read text, not token ids: send 'input' as a string or a list of strings."}
	}
	call := s.calls.Add(1)
	random := rand.New(rand.NewPCG(s.c.Seed^hash(s.c.Name), call))
	wait := s.firstToken(random)
	if err := s.fault(ctx, random, &wait); err != nil {
		return nil, err
	}
	if err := pause(ctx, wait); err != nil {
		return nil, err
	}
	size := int(r.Dimensions)
	if size == 0 {
		size = simulatedDimensions
	}
	part := &translate.EmbeddingPart{}
	for _, text := range r.Texts {
		part.Vectors = append(part.Vectors, vectorOf(text, size))
		part.Tokens += int64(len(tokenize(text)))
	}
	answer := translate.JoinEmbeddings(r, s.c.Model, []*translate.EmbeddingPart{part})
	answer.RequestID = fmt.Sprintf("embd-sim-%016x%08x", random.Uint64(), call)
	return answer, nil
}

// vectorOf adds up a random direction for each word, and scales the sum to
// length 1.
func vectorOf(text string, size int) []float32 {
	words := strings.FieldsFunc(strings.ToLower(text), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) })
	if len(words) == 0 {
		words = []string{text}
	}
	sum := make([]float64, size)
	for _, word := range words {
		random := rand.New(rand.NewPCG(hash(word), 0))
		for i := range sum {
			sum[i] += random.NormFloat64()
		}
	}
	var square float64
	for _, x := range sum {
		square += x * x
	}
	length := max(math.Sqrt(square), math.SmallestNonzeroFloat64)
	vector := make([]float32, size)
	for i, x := range sum {
		vector[i] = float32(x / length)
	}
	return vector
}
