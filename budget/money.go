package budget

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Errors of ParseUSD and ParsePrice. ErrTooLarge is apart because the text is
// well-formed: only the amount is out of range.
var (
	ErrNotMoney = errors.New("not an amount of US dollars such as 10 or 0.25 (at most nine digits on each side of the point)")
	ErrTooLarge = errors.New("amounts of 9000000 US dollars and more are not supported")
)

const (
	nanosPerDollar = 1_000_000_000
	decimalPlaces  = 9
)

// ParseUSD reads an amount of dollars as clients may send it,
//
//	^[0-9]{1,9}(\.[0-9]{1,9})?$
//
// in ASCII, without floats: no sign, no exponent, no spaces, no thousands
// separators. It returns ErrNotMoney for anything else and ErrTooLarge from
// MaxLimit on.
func ParseUSD(s string) (Nanodollars, error) {
	whole, fraction, point := strings.Cut(s, ".")
	if !isDigits(whole) || point && !isDigits(fraction) {
		return 0, ErrNotMoney
	}
	n := Nanodollars(digits(whole)*nanosPerDollar + digits(fraction)*pow10(decimalPlaces-len(fraction)))
	if n >= MaxLimit {
		return 0, ErrTooLarge
	}
	return n, nil
}

// ParsePrice reads a price or an amount in US dollars as it stands in a
// configuration file, which allows the forms of a YAML number: 10, 10.00,
// .125, 1e-3, +2.5E0. The result is exact: a price with a non-zero digit after
// the ninth decimal place is an error, not rounded. For a price per million
// tokens the result is in nano-dollars per million tokens.
func ParsePrice(text string) (int64, error) {
	mantissa, exponent, err := splitExponent(text)
	if err != nil {
		return 0, err
	}
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(mantissa, "+"), ".")
	number := whole + fraction
	if number == "" || len(number) > 64 || strings.Trim(number, "0123456789") != "" {
		return 0, fmt.Errorf("%q: %w", text, ErrNotMoney)
	}
	// The value is number × 10^shift nano-dollars.
	shift := exponent - len(fraction) + decimalPlaces
	number = strings.TrimLeft(number, "0")
	for shift < 0 && strings.HasSuffix(number, "0") {
		number, shift = number[:len(number)-1], shift+1
	}
	switch {
	case number == "":
		return 0, nil
	case shift < 0:
		return 0, fmt.Errorf("%q has more than %d decimal places", text, decimalPlaces)
	case len(number)+shift > 16: // MaxLimit has 16 digits
		return 0, fmt.Errorf("%q: %w", text, ErrTooLarge)
	}
	n := digits(number) * pow10(shift)
	if n >= int64(MaxLimit) {
		return 0, fmt.Errorf("%q: %w", text, ErrTooLarge)
	}
	return n, nil
}

// splitExponent cuts "1.5e-3" into "1.5" and -3.
func splitExponent(text string) (mantissa string, exponent int, err error) {
	i := strings.IndexAny(text, "eE")
	if i < 0 {
		return text, 0, nil
	}
	power := strings.TrimPrefix(strings.TrimPrefix(text[i+1:], "+"), "-")
	if len(power) > 3 || !isDigits(power) || strings.HasPrefix(text[i+1:], "+-") {
		return "", 0, fmt.Errorf("%q: %w", text, ErrNotMoney)
	}
	exponent = int(digits(power))
	if text[i+1] == '-' {
		exponent = -exponent
	}
	return text[:i], exponent, nil
}

// USD writes the amount as a plain decimal of dollars: at most nine decimal
// places, no trailing zeros, no exponent, "0" for 0.
func (n Nanodollars) USD() string {
	var buffer [24]byte
	return string(n.AppendUSD(buffer[:0]))
}

// String is USD.
func (n Nanodollars) String() string { return n.USD() }

// AppendUSD appends what USD returns to dst.
func (n Nanodollars) AppendUSD(dst []byte) []byte {
	magnitude := uint64(n)
	if n < 0 {
		dst = append(dst, '-')
		magnitude = -magnitude
	}
	dst = strconv.AppendUint(dst, magnitude/nanosPerDollar, 10)
	fraction := magnitude % nanosPerDollar
	if fraction == 0 {
		return dst
	}
	dst = append(dst, '.')
	for unit := uint64(nanosPerDollar / 10); fraction > 0; unit /= 10 {
		dst = append(dst, '0'+byte(fraction/unit))
		fraction %= unit
	}
	return dst
}

// isDigits reports whether s is one to nine ASCII digits.
func isDigits(s string) bool {
	if len(s) < 1 || len(s) > decimalPlaces {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// digits is the value of at most 18 ASCII digits, 0 for none.
func digits(s string) int64 {
	var n int64
	for i := range len(s) {
		n = n*10 + int64(s[i]-'0')
	}
	return n
}

// pow10 is 10 to the power of n, for n from 0 to 18.
func pow10(n int) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}
