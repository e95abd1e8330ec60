package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/inference-router/inference-router/budget"
)

// conditional is a price list in the data file, with when it holds.
type conditional struct {
	Constraint struct {
		StartDate string `json:"start_date"`
		StartTime string `json:"start_time"`
	} `json:"constraint"`
	Prices map[string]amount `json:"prices"`
}

// amount is a number, or one that changes above a number of input tokens.
type amount struct {
	Base  json.Number
	Tiers []struct {
		Start int64       `json:"start"`
		Price json.Number `json:"price"`
	}
}

func (a *amount) UnmarshalJSON(data []byte) error {
	if bytes.ContainsRune(data, '-') {
		return fmt.Errorf("price %s: negative, or with an exponent", data)
	}
	if data[0] != '{' {
		return json.Unmarshal(data, &a.Base)
	}
	type plain amount
	return json.Unmarshal(data, (*plain)(a))
}

// variant is a price list for requests served otherwise than usually: at
// another service tier or speed. It lies on top of the model's own.
type variant struct {
	When       map[string]string `json:"when"`
	Constraint struct {
		StartDate string `json:"start_date"`
	} `json:"constraint"`
	Prices map[string]amount `json:"prices"`
}

// tier is the name of the service tier the variant is for; "" for what the
// router does not ask for, such as batch jobs.
func (v *variant) tier() string {
	if name := v.When["service_tier"]; name != "" && name != "default" {
		return name
	}
	return v.When["speed"]
}

// prices compiles a model's price lists: the one of the date, then each later
// one. reason is why the model has none that could be charged.
func (m *model) prices(data json.RawMessage, variants []variant, date string) (reason string, err error) {
	lists := []conditional{{}}
	if data[0] == '[' {
		err = json.Unmarshal(data, &lists)
	} else {
		err = json.Unmarshal(data, &lists[0].Prices)
	}
	if err != nil {
		return "", err
	}
	dates := []string{date}
	for _, l := range lists {
		if l.Constraint.StartDate > date {
			dates = append(dates, l.Constraint.StartDate)
		}
	}
	for _, v := range variants {
		if v.tier() != "" && v.Constraint.StartDate > date {
			dates = append(dates, v.Constraint.StartDate)
		}
	}
	slices.Sort(dates)
	for _, d := range slices.Compact(dates) {
		amounts, err := amountsOn(d, lists)
		if err != nil {
			return "", err
		}
		found, reason, err := chargeable(amounts, strings.Contains(m.ID, "embed"))
		if reason != "" || err != nil {
			return reason, err
		}
		if found.Tiers, err = tiersOn(d, amounts, variants); err != nil {
			return "", err
		}
		if d == date {
			m.price = found
		} else {
			m.Then = append(m.Then, change{From: d, price: found})
		}
	}
	return "", nil
}

// amountsOn are the amounts of a day: of the lists valid by then the last one
// counts. Lists for a time of day lie on top of it: the dearest counts.
func amountsOn(date string, lists []conditional) (map[string]amount, error) {
	found := map[string]amount{}
	for _, l := range slices.Backward(lists) {
		if l.Constraint.StartDate > date {
			continue
		}
		for key, a := range l.Prices {
			if before, ok := found[key]; ok && (len(before.Tiers) > 0 || len(a.Tiers) > 0) {
				return nil, fmt.Errorf("%s depends both on the time of day and on the tokens", key)
			} else if !ok || rat(a.Base).Cmp(rat(before.Base)) > 0 {
				found[key] = a
			}
		}
		if l.Constraint.StartTime == "" {
			break
		}
	}
	return found, nil
}

// tiersOn are the prices by service tier on a day; of several lists for one
// tier the last valid one counts.
func tiersOn(date string, base map[string]amount, variants []variant) (map[string]price, error) {
	var tiers map[string]price
	for _, v := range variants {
		if v.tier() == "" || v.Constraint.StartDate > date {
			continue
		}
		amounts := maps.Clone(base)
		maps.Copy(amounts, v.Prices)
		p, err := stepped(amounts)
		if err != nil {
			return nil, err
		}
		if tiers == nil {
			tiers = map[string]price{}
		}
		tiers[v.tier()] = p
	}
	return tiers, nil
}

// chargeable is the price of a model, or the reason why there is none.
func chargeable(found map[string]amount, embeds bool) (p price, reason string, err error) {
	input, ok := found["input_mtok"]
	if !ok {
		return p, "no price of input", nil
	}
	output, ok := found["output_mtok"]
	if !ok && !embeds {
		return p, "no price of output", nil
	} else if !ok {
		output.Base = "0" // an embedding has no output tokens
		found["output_mtok"] = output
	}
	if rat(input.Base).Sign() == 0 && rat(output.Base).Sign() == 0 {
		return p, "free, or the price is unknown", nil
	}
	p, err = stepped(found)
	return p, "", err
}

// stepped splits amounts into the rates of short and of longer requests.
func stepped(found map[string]amount) (p price, err error) {
	var starts []int64
	for _, key := range rateKeys {
		for _, t := range found[key].Tiers {
			starts = append(starts, t.Start)
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	p.rates = ratesAbove(found, 0)
	for _, start := range starts {
		p.Steps = append(p.Steps, step{Above: start, rates: ratesAbove(found, start)})
	}
	p.PerSearch = perCall(found["web_searches_kcount"])
	p.PerRequest = perCall(found["requests_kcount"])
	return p, nil
}

// rateKeys are the data file's names of rates per million tokens, in the order
// of the fields of rates.
var rateKeys = []string{"input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok",
	"input_audio_mtok", "output_audio_mtok", "cache_audio_read_mtok"}

// ratesAbove are the rates of a request with more than start input tokens.
func ratesAbove(found map[string]amount, start int64) (r rates) {
	for i, field := range []*json.Number{&r.Input, &r.Output, &r.CachedInput, &r.CacheWrite, &r.CacheWriteHour,
		&r.AudioInput, &r.AudioOutput, &r.CachedAudio} {
		a, ok := found[rateKeys[i]]
		if !ok || a.Base == "" {
			continue
		}
		*field = decimal(a.Base)
		for _, t := range a.Tiers {
			if t.Start <= start {
				*field = decimal(t.Price)
			}
		}
	}
	return r
}

// perCall is the price of one call from that of a thousand.
func perCall(thousand amount) json.Number {
	if thousand.Base == "" || rat(thousand.Base).Sign() == 0 {
		return ""
	}
	one := new(big.Rat).Quo(rat(thousand.Base), big.NewRat(1000, 1))
	return decimal(json.Number(one.FloatString(12)))
}

// decimal writes a price with at most nine decimal places, rounded up.
func decimal(n json.Number) json.Number {
	nanos := new(big.Rat).Mul(rat(n), big.NewRat(1e9, 1))
	whole, rest := new(big.Int).QuoRem(nanos.Num(), nanos.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		whole.Add(whole, big.NewInt(1))
	}
	return json.Number(budget.Nanodollars(whole.Int64()).USD())
}

func rat(n json.Number) *big.Rat {
	r, ok := new(big.Rat).SetString(n.String())
	if !ok {
		panic("not a number: " + n.String()) // the decoder has checked it
	}
	return r
}
