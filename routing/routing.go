// Package routing decides which tier answers a request and in which order its
// deployments are tried. It thinks in plain facts: it knows nothing of HTTP,
// JSON, prices or budgets.
package routing

import "time"

// Request holds the facts a decision may use.
type Request struct {
	// Prompt is the newest user turn's text. It is scored, never recorded.
	Prompt string
	// Tokens estimates the whole prompt, history included.
	Tokens int64
	Output int64 // the output limit in tokens, 0 when the client named none
	Stream bool
	Images bool
	Audio  bool
	Tools  bool // tools, or a JSON schema for the answer
	Turns  int  // messages in the conversation

	// Tier and Upstream force the decision when set (by header or model name).
	Tier     string
	Upstream string // a deployment's name
	// Allowed are the tiers this caller may use; nil means all.
	Allowed []string
	// Session is the conversation this request belongs to; "" when unknown.
	Session string

	// Used is the largest fraction used over the budgets that apply, 0 to 1
	// and above.
	Used       float64
	UsedBudget string // the scope of that budget: global, user or key
	// Exhausted says that a budget is used up whose policy is to reject.
	Exhausted bool
}

// Tier is a set of deployments that are good enough for the same requests.
type Tier struct {
	Name        string
	Deployments []Deployment
	Balance     Balance
	// Price orders tiers by cost: US dollars per million tokens, input and
	// output blended.
	Price float64
}

// Deployment is a model at an upstream, as far as routing cares.
type Deployment struct {
	Name    string // unique over all tiers: provider/model, or the name configured
	Weight  int    // for BalanceWeighted; 0 means 1
	Context int64  // the context window in tokens; 0 when unknown
	Images  bool   // takes image parts
	Audio   bool   // takes audio parts
}

// Balance is the order in which a tier's deployments are tried.
type Balance string

// Orders of a tier's deployments.
const (
	BalanceOrdered  Balance = "ordered"  // as listed
	BalanceWeighted Balance = "weighted" // at random, by weight
	BalanceFastest  Balance = "fastest"  // by recent latency
)

// Decision is what was decided and why. Its JSON is the shape that
// /v1/route, `explain -json` and the decision log share.
type Decision struct {
	ID         string    `json:"decision"`
	Time       time.Time `json:"time"`
	Tier       string    `json:"tier"`     // the tier that is to answer; "" when none is allowed
	Upstream   string    `json:"upstream"` // the deployment tried first
	Forced     bool      `json:"forced"`
	Scored     bool      `json:"-"` // a complexity strategy took part: Score and Breakdown mean something
	Score      float64   `json:"score"`
	Breakdown  Breakdown `json:"breakdown"`
	Strategies []Step    `json:"strategies"`
	Reason     string    `json:"reason"`
	Strategy   string    `json:"-"` // X-Router-Strategy: ChainStrategy, ..., manual
	Plan       []Target  `json:"-"` // deployments in the order to try them
	Tiers      []string  `json:"-"` // allowed tiers, best first
}

// Breakdown is the complexity score by its dimensions.
type Breakdown struct {
	Length    float64 `json:"length"`
	Questions float64 `json:"questions"`
	Reasoning float64 `json:"reasoning"`
	Code      float64 `json:"code"`
	Simple    float64 `json:"simple"`
}

// Step is one strategy's part in a decision.
type Step struct {
	Name    string   `json:"name"`
	Allowed []string `json:"allowed"`
	Reason  string   `json:"reason"`
}

// Target is one place to try.
type Target struct {
	Tier       string
	Deployment string
	Fallback   bool // outside the decided tier
}

// Outcome is how one attempt ended, for latency windows, breakers and
// sessions.
type Outcome struct {
	Tier       string
	Deployment string
	Stream     bool
	Session    string
	Result     Result
	RetryAfter time.Duration // for ResultLimited; 0 means the default
	TTFT       time.Duration // time to the first event; 0 when none came
	Latency    time.Duration // whole answer; 0 when it did not complete
}

// Result classes an attempt's end.
type Result int

// Results of an attempt.
const (
	ResultOK            Result = iota
	ResultFailed               // the upstream's fault: counts against it
	ResultSlow                 // a timeout: counts against it, and as a slow sample
	ResultLimited              // 429: cools down for RetryAfter, does not trip the breaker
	ResultMisconfigured        // credential refused, model missing: out for a while
	ResultNeutral              // the client's own mistake, or the client left
)
