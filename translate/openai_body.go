package translate

import (
	"math/bits"
	"sync"
)

// Bodies of this many bytes and more are worth using again: clearing them, and
// the collector's work for them, would cost more than reading them does.
const (
	leastPooled = 512
	mostPooled  = 4 << 20
)

// pools hold bodies that nobody reads any more, by the power of two that they
// can hold.
var pools [bits.UintSize]sync.Pool

// NewBody is an empty buffer with room for size bytes. Give it back by FreeBody
// or not at all.
func NewBody(size int) []byte {
	if size < leastPooled || size > mostPooled {
		return make([]byte, 0, size)
	}
	class := bits.Len(uint(size - 1))
	if b, ok := pools[class].Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, 1<<class)
}

// FreeBody says that nobody will look at b's memory any more.
func FreeBody(b []byte) {
	if cap(b) < leastPooled || cap(b) > mostPooled || cap(b)&(cap(b)-1) != 0 {
		return
	}
	pools[bits.Len(uint(cap(b)-1))].Put(&b)
}

// Written says that Body has been sent and that nobody reads it any more. A
// body that For made is then used again, so it is gone from r. What is not
// written in full must not be declared so: the transport may still be at it.
func (r *Request) Written() {
	if !r.spliced {
		return
	}
	FreeBody(r.Body)
	r.Body, r.members, r.spliced = nil, nil, false
}
