package translate

import "github.com/inference-router/inference-router/internal/rawjson"

// AppendWithCost appends an answer's JSON, a whole one or a chunk, with
// usage.cost set to cost, the text of a JSON number. What has no usage object
// at its top is appended as it is.
func AppendWithCost(dst, data []byte, cost string) []byte {
	s := rawjson.Scanner{Data: data, MaxDepth: maxAnswerDepth, Lax: true}
	if s.Next() != '{' {
		return append(dst, data...)
	}
	for more := s.Open('{'); more; more = s.More('}') {
		k := s.Key()
		if string(data[k.From:k.To]) != "usage" || s.Next() != '{' {
			s.Skip()
			continue
		}
		from, to, empty := costPlace(&s)
		if s.Err != nil {
			break
		}
		dst = append(dst, data[:from]...)
		if from == to {
			if !empty {
				dst = append(dst, ',')
			}
			dst = append(dst, `"cost":`...)
		}
		return append(append(dst, cost...), data[to:]...)
	}
	return append(dst, data...)
}

// costPlace finds, in the object ahead, where the value of cost stands or has
// to be added, which is after the last member.
func costPlace(s *rawjson.Scanner) (from, to int, empty bool) {
	empty = true
	for more := s.Open('{'); more; more = s.More('}') {
		empty = false
		k := s.Key()
		start := s.Pos
		s.Skip()
		if s.Err == nil && string(s.Data[k.From:k.To]) == "cost" {
			return start, s.Pos, false
		}
	}
	return s.Pos - 1, s.Pos - 1, empty
}
