package measure

import (
	"bufio"
	"encoding/binary"
	"io"
)

// dimensions reads an image's width and height from its header, in pixels; 0, 0
// when it does not say. The greatest counts where a header says it twice.
func dimensions(format string, r *bufio.Reader) (width, height int64) {
	switch format {
	case "png":
		return pngSize(r)
	case "jpeg":
		return jpegSize(r)
	case "gif":
		return gifSize(r)
	case "webp":
		return webpSize(r)
	case "bmp":
		return bmpSize(r)
	case "heif":
		return heifSize(r)
	}
	return 0, 0
}

// take reads n bytes, nil when there are not so many.
func take(r io.Reader, n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil
	}
	return b
}

func pngSize(r io.Reader) (width, height int64) {
	b := take(r, 24)
	if b == nil || string(b[12:16]) != "IHDR" {
		return 0, 0
	}
	return int64(binary.BigEndian.Uint32(b[16:])), int64(binary.BigEndian.Uint32(b[20:]))
}

func gifSize(r io.Reader) (width, height int64) {
	b := take(r, 10)
	if b == nil {
		return 0, 0
	}
	return int64(binary.LittleEndian.Uint16(b[6:])), int64(binary.LittleEndian.Uint16(b[8:]))
}

func bmpSize(r io.Reader) (width, height int64) {
	b := take(r, 26)
	if b == nil || binary.LittleEndian.Uint32(b[14:]) < 40 {
		return 0, 0
	}
	magnitude := func(v uint32) int64 { return max(int64(int32(v)), -int64(int32(v))) } // rows may run from the top
	return magnitude(binary.LittleEndian.Uint32(b[18:])), magnitude(binary.LittleEndian.Uint32(b[22:]))
}

// jpegSize walks the segments to the last frame header before the pixels.
func jpegSize(r *bufio.Reader) (width, height int64) {
	if take(r, 2) == nil {
		return 0, 0
	}
	for {
		marker, ok := nextMarker(r)
		if !ok || marker == 0xda || marker == 0xd9 { // the scan, the end
			return width, height
		}
		if marker == 0x01 || marker >= 0xd0 && marker <= 0xd7 { // no length
			continue
		}
		size := take(r, 2)
		if size == nil {
			return width, height
		}
		n := int(binary.BigEndian.Uint16(size)) - 2
		frame := marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc
		if frame && n >= 5 {
			b := take(r, 5)
			if b == nil {
				return width, height
			}
			height = max(height, int64(binary.BigEndian.Uint16(b[1:])))
			width = max(width, int64(binary.BigEndian.Uint16(b[3:])))
			n -= 5
		}
		if _, err := r.Discard(max(0, n)); err != nil {
			return width, height
		}
	}
}

// nextMarker passes over fill bytes, and over rubbish as decoders do.
func nextMarker(r *bufio.Reader) (byte, bool) {
	for {
		c, err := r.ReadByte()
		if err != nil {
			return 0, false
		}
		if c != 0xff {
			continue
		}
		for c == 0xff && err == nil {
			c, err = r.ReadByte()
		}
		if err != nil {
			return 0, false
		}
		if c != 0 {
			return c, true
		}
	}
}

// webpSize reads the first chunk: VP8X (the canvas), VP8 or VP8L.
func webpSize(r io.Reader) (width, height int64) {
	b := take(r, 30)
	if b == nil {
		return 0, 0
	}
	u24 := func(b []byte) int64 { return int64(b[0]) | int64(b[1])<<8 | int64(b[2])<<16 }
	switch string(b[12:16]) {
	case "VP8X":
		return u24(b[24:]) + 1, u24(b[27:]) + 1
	case "VP8 ":
		return int64(binary.LittleEndian.Uint16(b[26:]) & 0x3fff), int64(binary.LittleEndian.Uint16(b[28:]) & 0x3fff)
	case "VP8L":
		bits := binary.LittleEndian.Uint32(b[21:])
		return int64(bits&0x3fff) + 1, int64(bits>>14&0x3fff) + 1
	}
	return 0, 0
}

// heifScan is how far an HEIF or AVIF file is searched for its sizes: they are
// in the meta box, which comes first.
const heifScan = 1 << 20

// heifSize is the greatest of the image spatial extents ("ispe" boxes) in a
// HEIF or AVIF file's head. A tiled image states its own beside its tiles'.
func heifSize(r io.Reader) (width, height int64) {
	head, _ := io.ReadAll(io.LimitReader(r, heifScan))
	for i := 0; i+16 <= len(head); i++ {
		if string(head[i:i+4]) != "ispe" {
			continue
		}
		width = max(width, int64(binary.BigEndian.Uint32(head[i+8:])))
		height = max(height, int64(binary.BigEndian.Uint32(head[i+12:])))
	}
	return width, height
}
