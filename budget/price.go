package budget

// Price is what a model costs, in nano-dollars per million tokens.
type Price struct {
	Input       int64
	Output      int64
	CachedInput int64
	CacheWrite  int64
	// Source says where the price comes from: "config", or the table's name
	// with its date and the entry that matched.
	Source string
}

// Tokens are the tokens of one upstream call. Input includes CachedInput and
// CacheWrite.
type Tokens struct {
	Input       int64
	Output      int64
	CachedInput int64
	CacheWrite  int64
}
