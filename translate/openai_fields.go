package translate

import (
	"fmt"
	"math"
	"strconv"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// setField takes in what a known top-level member says. raw is valid JSON; null
// means that the member is absent.
func (r *Request) setField(f field, raw []byte) *InvalidError {
	name := fieldNames[f]
	if raw[0] == 'n' && f != fieldMessages {
		return nil
	}
	switch f {
	case fieldModel:
		return setString(name, raw, &r.Model)
	case fieldUser:
		return setString(name, raw, &r.User)
	case fieldSafetyIdentifier:
		return setString(name, raw, &r.SafetyIdentifier)
	case fieldStream:
		return setBool(name, raw, &r.Stream)
	case fieldMaxTokens, fieldMaxCompletionTokens:
		_, err := integer(name, raw, 1, math.MaxInt32)
		return err
	case fieldN:
		n, err := integer(name, raw, 1, 128)
		if err == nil {
			r.N = n
		}
		return err
	case fieldTemperature:
		return inRange(name, raw, 2)
	case fieldTopP:
		return inRange(name, raw, 1)
	case fieldStreamOptions:
		return nestedBool(name, "include_usage", raw, &r.IncludeUsage)
	case fieldUsage:
		if raw[0] != '{' { // not a field of OpenAI's: anything goes
			return nil
		}
		return nestedBool(name, "include", raw, &r.IncludeCost)
	case fieldMetadata:
		id, err := nested(name, "user_id", raw)
		if err == nil && id != nil {
			err = setString("metadata.user_id", id, &r.MetadataUser)
		}
		if err != nil {
			return err
		}
		budget, err := nested(name, "budget_usd", raw)
		if err == nil && budget != nil {
			err = setMoney("metadata.budget_usd", budget, &r.MetadataBudget)
		}
		return err
	case fieldResponseFormat:
		var kind string
		v, err := nested(name, "type", raw)
		if err == nil && v != nil {
			err = setString("response_format.type", v, &kind)
		}
		r.Schema = kind == "json_schema" || kind == "json_object"
		return err
	}
	return nil
}

// nested finds a member of an object that we act on, nil when there is none.
// As at the top, it may not be given twice.
func nested(parent, name string, raw []byte) (found []byte, err *InvalidError) {
	if raw[0] != '{' {
		return nil, invalidType(parent, "an object", raw)
	}
	s := rawjson.Scanner{Data: raw, MaxDepth: maxRequestDepth}
	for more := s.Open('{'); more; more = s.More('}') {
		k := s.Bytes(s.Key())
		from := s.Pos
		s.Skip()
		if string(k) != name {
			continue
		}
		if found != nil {
			return nil, duplicate(parent + "." + name)
		}
		found = raw[from:s.Pos]
	}
	return found, nil
}

func nestedBool(parent, name string, raw []byte, to *bool) *InvalidError {
	v, err := nested(parent, name, raw)
	if err != nil || v == nil {
		return err
	}
	return setBool(parent+"."+name, v, to)
}

func duplicate(param string) *InvalidError {
	return &InvalidError{
		Message: fmt.Sprintf("Duplicate parameter: '%s' is given more than once.", param),
		Param:   param, Code: "duplicate_parameter",
	}
}

func setString(param string, raw []byte, to *string) *InvalidError {
	switch raw[0] {
	case '"':
		s := rawjson.Scanner{Data: raw}
		*to = string(s.Bytes(s.Text()))
		return nil
	case 'n':
		return nil
	}
	return invalidType(param, "a string", raw)
}

func setBool(param string, raw []byte, to *bool) *InvalidError {
	switch raw[0] {
	case 't', 'f':
		*to = raw[0] == 't'
		return nil
	case 'n':
		return nil
	}
	return invalidType(param, "a boolean", raw)
}

// setMoney keeps a number's own text, so that no float rounds it.
func setMoney(param string, raw []byte, to *string) *InvalidError {
	if raw[0] == '-' || raw[0]-'0' <= 9 {
		*to = string(raw)
		return nil
	}
	if raw[0] == '"' || raw[0] == 'n' {
		return setString(param, raw, to)
	}
	return invalidType(param, "a number or a string", raw)
}

// integer reads a whole number, which may be written as 10.0 or 1e1.
func integer(param string, raw []byte, low, high int64) (int64, *InvalidError) {
	n, ok := wholeValue(raw, float64(high))
	switch {
	case !ok && raw[0] != '-' && raw[0]-'0' > 9:
		return 0, invalidType(param, "an integer", raw)
	case !ok && !isFinite(raw):
		return 0, outOfRange(param, "integer_above_max_value", "integer above maximum value. Expected a value <= %d", high)
	case !ok:
		return 0, &InvalidError{
			Message: fmt.Sprintf("Invalid type for '%s': expected an integer, but got a decimal number instead.", param),
			Param:   param, Code: "invalid_type",
		}
	case n < low:
		return 0, outOfRange(param, "integer_below_min_value", "integer below minimum value. Expected a value >= %d", low)
	case n > high:
		return 0, outOfRange(param, "integer_above_max_value", "integer above maximum value. Expected a value <= %d", high)
	}
	return n, nil
}

// wholeValue reads a JSON number that is whole. Above most it returns
// something above most.
func wholeValue(raw []byte, most float64) (int64, bool) {
	if n, ok := shortInteger(raw); ok {
		return n, true
	}
	v, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || v != math.Trunc(v) {
		return 0, false
	}
	if v > most {
		return int64(min(most, 1<<62)) + 1, true
	}
	return int64(max(v, -1)), true
}

// shortInteger reads up to 18 plain digits.
func shortInteger(raw []byte) (n int64, ok bool) {
	if len(raw) == 0 || len(raw) > 18 {
		return 0, false
	}
	for _, c := range raw {
		if c-'0' > 9 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

func isFinite(raw []byte) bool {
	_, err := strconv.ParseFloat(string(raw), 64)
	return err == nil
}

// inRange checks a number from 0 to high.
func inRange(param string, raw []byte, high float64) *InvalidError {
	if raw[0] != '-' && raw[0]-'0' > 9 {
		return invalidType(param, "a decimal", raw)
	}
	v, err := strconv.ParseFloat(string(raw), 64)
	switch {
	case v < 0:
		return outOfRange(param, "decimal_below_min_value", "decimal below minimum value. Expected a value >= %d", 0)
	case err != nil || v > high:
		return outOfRange(param, "decimal_above_max_value", "decimal above maximum value. Expected a value <= %d", int64(high))
	}
	return nil
}

func outOfRange(param, code, format string, bound int64) *InvalidError {
	return &InvalidError{Message: "Invalid '" + param + "': " + fmt.Sprintf(format, bound) + ".", Param: param, Code: code}
}

func invalidType(param, want string, raw []byte) *InvalidError {
	got := "a number"
	switch raw[0] {
	case '"':
		got = "a string"
	case '{':
		got = "an object"
	case '[':
		got = "an array"
	case 't', 'f':
		got = "a boolean"
	case 'n':
		got = "null"
	}
	return &InvalidError{
		Message: fmt.Sprintf("Invalid type for '%s': expected %s, but got %s instead.", param, want, got),
		Param:   param, Code: "invalid_type",
	}
}
