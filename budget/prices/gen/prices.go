package main

import (
	"bytes"
	"encoding/json"
	"fmt"
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

// prices compiles a model's price lists: the one of the date, then each later
// one. reason is why the model has none that could be charged.
func (m *model) prices(data json.RawMessage, date string) (reason string, err error) {
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
	slices.Sort(dates)
	for _, d := range slices.Compact(dates) {
		found, reason, err := priceOn(d, lists, strings.Contains(m.ID, "embed"))
		if reason != "" || err != nil {
			return reason, err
		}
		if d == date {
			m.price = found
		} else {
			m.Then = append(m.Then, change{From: d, price: found})
		}
	}
	return "", nil
}

// priceOn is the price on a day: of the lists valid by then the last one
// counts. Lists for a time of day lie on top of it: the dearest counts.
func priceOn(date string, lists []conditional, embeds bool) (p price, reason string, err error) {
	found := map[string]amount{}
	for _, l := range slices.Backward(lists) {
		if l.Constraint.StartDate > date {
			continue
		}
		for key, a := range l.Prices {
			if before, ok := found[key]; ok && (len(before.Tiers) > 0 || len(a.Tiers) > 0) {
				return p, "", fmt.Errorf("%s depends both on the time of day and on the tokens", key)
			} else if !ok || rat(a.Base).Cmp(rat(before.Base)) > 0 {
				found[key] = a
			}
		}
		if l.Constraint.StartTime == "" {
			break
		}
	}
	if _, ok := found["requests_kcount"]; ok {
		return p, "is also charged per request", nil
	}
	input, ok := found["input_mtok"]
	if !ok {
		return p, "no price of input", nil
	}
	output, ok := found["output_mtok"]
	if !ok && !embeds {
		return p, "no price of output", nil
	} else if !ok {
		output.Base = "0" // an embedding has no output tokens
	}
	if rat(input.Base).Sign() == 0 && rat(output.Base).Sign() == 0 {
		return p, "free, or the price is unknown", nil
	}
	return tiered(input, output, found["cache_read_mtok"], found["cache_write_mtok"])
}

// tiered splits amounts into the prices of short and of long requests.
func tiered(input, output, cached, write amount) (p price, reason string, err error) {
	long := rates{}
	for _, f := range []struct {
		amount
		short, long *json.Number
	}{{input, &p.Input, &long.Input}, {output, &p.Output, &long.Output}, {cached, &p.CachedInput, &long.CachedInput}, {write, &p.CacheWrite, &long.CacheWrite}} {
		if f.Base == "" {
			continue
		}
		*f.short = decimal(f.Base)
		*f.long = *f.short
		if len(f.Tiers) == 0 {
			continue
		}
		if len(f.Tiers) > 1 || p.Above != 0 && p.Above != f.Tiers[0].Start {
			return p, "", fmt.Errorf("more than two tiers, or at different sizes")
		}
		p.Above = f.Tiers[0].Start
		*f.long = decimal(f.Tiers[0].Price)
	}
	if p.Above != 0 {
		p.Long = &long
	}
	return p, "", nil
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
