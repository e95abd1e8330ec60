package translate

// AppendWithCost appends an answer's JSON, a whole one or a chunk, with
// usage.cost set to cost, the text of a JSON number. What has no usage object
// at its top is appended as it is.
func AppendWithCost(dst, data []byte, cost string) []byte {
	s := scanner{b: data, maxDepth: maxAnswerDepth, lax: true}
	if s.next() != '{' {
		return append(dst, data...)
	}
	for more := s.open('{'); more; more = s.more('}') {
		k := s.key()
		if string(data[k.from:k.to]) != "usage" || s.next() != '{' {
			s.skip()
			continue
		}
		from, to, empty := s.costPlace()
		if s.err != nil {
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
func (s *scanner) costPlace() (from, to int, empty bool) {
	empty = true
	for more := s.open('{'); more; more = s.more('}') {
		empty = false
		k := s.key()
		start := s.i
		s.skip()
		if s.err == nil && string(s.b[k.from:k.to]) == "cost" {
			return start, s.i, false
		}
	}
	return s.i - 1, s.i - 1, empty
}
