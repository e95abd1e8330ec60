package budget

import (
	"fmt"
	"testing"
)

func TestIDsAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for range 10_000 {
		id := NewID()
		if seen[id] || len(id) != 22 {
			t.Fatalf("id %q: seen %v", id, seen[id])
		}
		seen[id] = true
	}
}

func ExampleStatus() {
	s := Status{Limit: Limit{Amount: 10e9}, Spent: 2e9, Reserved: 3e9}
	fmt.Println(s.Remaining(), s.Used())
	// Output: 5 0.2
}
