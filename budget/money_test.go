package budget

import (
	"errors"
	"math"
	"math/big"
	"regexp"
	"strings"
	"testing"
)

func TestParseUSD(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     Nanodollars
		err      error
	}{
		{"whole dollars", "10", 10e9, nil},
		{"a cent", "0.01", 1e7, nil},
		{"trailing zeros mean nothing", "10.000000000", 10e9, nil},
		{"the smallest amount", "0.000000001", 1, nil},
		{"zero", "0", 0, nil},
		{"leading zeros are digits", "000000001.5", 15e8, nil},
		{"the largest amount", "8999999.999999999", MaxLimit - 1, nil},
		{"nine million is too much", "9000000", 0, ErrTooLarge},
		{"nine digits are too much but no overflow", "999999999.999999999", 0, ErrTooLarge},
		{"ten digits are not money", "1000000000", 0, ErrNotMoney},
		{"ten decimal places are not money", "0.0000000001", 0, ErrNotMoney},
		{"nothing is not money", "", 0, ErrNotMoney},
		{"a point needs digits before it", ".5", 0, ErrNotMoney},
		{"a point needs digits after it", "5.", 0, ErrNotMoney},
		{"two points", "1.2.3", 0, ErrNotMoney},
		{"a negative amount", "-1", 0, ErrNotMoney},
		{"a plus sign", "+1", 0, ErrNotMoney},
		{"an exponent", "1e3", 0, ErrNotMoney},
		{"a decimal comma", "1,5", 0, ErrNotMoney},
		{"a space before", " 1", 0, ErrNotMoney},
		{"a line feed after", "1\n", 0, ErrNotMoney},
		{"digits of another script", "١", 0, ErrNotMoney},
		{"full-width digits", "１", 0, ErrNotMoney},
		{"hexadecimal", "0x10", 0, ErrNotMoney},
		{"a currency sign", "$1", 0, ErrNotMoney},
		{"infinity", "Inf", 0, ErrNotMoney},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseUSD(tt.in)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("ParseUSD(%q) = %d, %v, want %d, %v", tt.in, int64(got), err, int64(tt.want), tt.err)
			}
		})
	}
}

func TestParsePrice(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     int64
		err      string // part of the error's text
	}{
		{"a whole number", "10", 10e9, ""},
		{"two decimal places", "10.00", 10e9, ""},
		{"three decimal places", "0.125", 125e6, ""},
		{"no digit before the point", ".125", 125e6, ""},
		{"no digit after the point", "3.", 3e9, ""},
		{"a negative exponent", "1e-3", 1e6, ""},
		{"a signed exponent", "2.5E+1", 25e9, ""},
		{"a plus sign", "+2.5", 25e8, ""},
		{"zero with an exponent out of range", "0e999", 0, ""},
		{"an exponent that cuts zeros", "100e-11", 1, ""},
		{"zeros after the ninth place", "0.0375000000000", 37_500_000, ""},
		{"what a float would get wrong", "0.1", 1e8, ""},
		{"a digit after the ninth place", "0.08333333333333334", 0, "decimal places"},
		{"far too small", "1e-99", 0, "decimal places"},
		{"too large", "9e6", 0, "not supported"},
		{"far too large", "1e999", 0, "not supported"},
		{"the largest", "8999999.999999999", int64(MaxLimit) - 1, ""},
		{"negative", "-1", 0, "not an amount"},
		{"not a number", ".nan", 0, "not an amount"},
		{"infinite", ".inf", 0, "not an amount"},
		{"a point alone", ".", 0, "not an amount"},
		{"nothing", "", 0, "not an amount"},
		{"an exponent without digits", "1e", 0, "not an amount"},
		{"an exponent with two signs", "1e+-3", 0, "not an amount"},
		{"grouped digits", "1_000", 0, "not an amount"},
		{"octal", "0o17", 0, "not an amount"},
		{"two points", "1.2.3", 0, "not an amount"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParsePrice(tt.in)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("ParsePrice(%q) = %d, %v, want %d, error with %q", tt.in, got, err, tt.want, tt.err)
			}
		})
	}
}

func TestUSD(t *testing.T) {
	for _, tt := range []struct {
		in   Nanodollars
		want string
	}{
		{0, "0"},
		{1, "0.000000001"},
		{100, "0.0000001"},
		{1e9, "1"},
		{15e8, "1.5"},
		{10_010_000_000, "10.01"},
		{-1, "-0.000000001"},
		{-25e8, "-2.5"},
		{math.MaxInt64, "9223372036.854775807"},
		{math.MinInt64, "-9223372036.854775808"},
	} {
		if got := tt.in.USD(); got != tt.want {
			t.Errorf("Nanodollars(%d).USD() = %q, want %q", int64(tt.in), got, tt.want)
		}
	}
}

var moneyGrammar = regexp.MustCompile(`\A[0-9]{1,9}(\.[0-9]{1,9})?\z`)

func FuzzParseUSD(f *testing.F) {
	for _, s := range []string{"10", "0.000000001", "8999999.999999999", "9000000", ".5", "1e3", "١"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseUSD(s)
		if !moneyGrammar.MatchString(s) {
			if !errors.Is(err, ErrNotMoney) {
				t.Fatalf("ParseUSD(%q) = %d, %v, want ErrNotMoney", s, int64(got), err)
			}
			return
		}
		exact, _ := new(big.Rat).SetString(s)
		exact.Mul(exact, big.NewRat(nanosPerDollar, 1))
		if exact.Cmp(new(big.Rat).SetInt64(int64(MaxLimit))) >= 0 {
			if !errors.Is(err, ErrTooLarge) {
				t.Fatalf("ParseUSD(%q) = %d, %v, want ErrTooLarge", s, int64(got), err)
			}
			return
		}
		if err != nil || exact.Cmp(new(big.Rat).SetInt64(int64(got))) != 0 {
			t.Fatalf("ParseUSD(%q) = %d, %v, want %s", s, int64(got), err, exact)
		}
		if again, err := ParseUSD(got.USD()); again != got || err != nil {
			t.Fatalf("ParseUSD(%q) = %d, %v after USD, want %d", got.USD(), int64(again), err, int64(got))
		}
		if price, err := ParsePrice(s); price != int64(got) || err != nil {
			t.Fatalf("ParsePrice(%q) = %d, %v, want %d as ParseUSD", s, price, err, int64(got))
		}
	})
}

func FuzzParsePrice(f *testing.F) {
	for _, s := range []string{"10.00", "1e-3", ".125", "0.08333333333333334", "1e999", "+2.5E+1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParsePrice(s)
		if err != nil {
			if got != 0 {
				t.Fatalf("ParsePrice(%q) = %d with error %v, want 0", s, got, err)
			}
			return
		}
		exact, ok := new(big.Rat).SetString(s)
		if !ok {
			t.Fatalf("ParsePrice(%q) = %d, want an error: not a number", s, got)
		}
		exact.Mul(exact, big.NewRat(nanosPerDollar, 1))
		if exact.Cmp(new(big.Rat).SetInt64(got)) != 0 {
			t.Fatalf("ParsePrice(%q) = %d, want %s", s, got, exact)
		}
	})
}

func BenchmarkAppendUSD(b *testing.B) {
	b.ReportAllocs()
	var buffer [24]byte
	for b.Loop() {
		Nanodollars(12_345_678).AppendUSD(buffer[:0])
	}
}

func BenchmarkParseUSD(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseUSD("10.125"); err != nil {
			b.Fatal(err)
		}
	}
}
