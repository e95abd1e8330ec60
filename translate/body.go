package translate

import (
	"math/bits"
	"sync"
)

// Bodies of this many bytes and more are worth using again: clearing them, and
// the collector's work for them, would cost more than reading them does.
const (
	leastPooled = 16 << 10
	mostPooled  = 4 << 20
)

// pools hold bodies that nobody reads any more, by the power of two that they
// can hold.
var pools [bits.UintSize]sync.Pool

// newBody is an empty buffer with room for size bytes.
func newBody(size int) []byte {
	if size < leastPooled || size > mostPooled {
		return make([]byte, 0, size)
	}
	class := bits.Len(uint(size - 1))
	if b, ok := pools[class].Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, 1<<class)
}

// Written says that Body has been sent and that nobody reads it any more. A
// body that For made is then used again, so it is gone from r. What is not
// written in full must not be declared so: the transport may still be at it.
func (r *Request) Written() {
	b := r.Body
	if !r.spliced || cap(b) < leastPooled || cap(b) > mostPooled || cap(b)&(cap(b)-1) != 0 {
		return
	}
	r.Body, r.members, r.spliced = nil, nil, false
	pools[bits.Len(uint(cap(b)-1))].Put(&b)
}
