package main

import "fmt"

// configuration is a router's as one that routes for users would have it: all
// three strategies, prices, a hard budget for each user, and the access log.
func configuration(listen, upstream, redis string) []byte {
	model := func(name, input, output string) string {
		return fmt.Sprintf(`
    - provider: openai
      model: %s
      base_url: http://%s/v1
      api_key: sk-bench
      price: {input: %s, output: %s}`, name, upstream, input, output)
	}
	config := fmt.Sprintf(`
server:
  listen: %s
tiers:
  fast:%s
  balanced:%s
  powerful:%s
strategy:
  - cost:
      budget_usd_per_day: 1000000
  - latency:
      sla_ms: 30000
  - complexity:
      rules: {fast: [0, 3], balanced: [3, 6], powerful: [6, 10]}
budgets:
  - {scope: user, usd: 100000, per: day, on_exhausted: reject}
log: {level: info, format: json}
`, listen, model("bench-small", "0.10", "0.40"), model("bench-medium", "1.00", "4.00"), model("bench-large", "5.00", "25.00"))
	if redis != "" {
		config += "redis: {url: \"" + redis + "\"}\n"
	}
	return []byte(config)
}
