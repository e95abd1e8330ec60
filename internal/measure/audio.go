package measure

import (
	"encoding/binary"
	"math/bits"
)

// seconds is how long a sound or film lasts at most; false where its bytes do
// not bound that. Lengths that headers merely claim are not believed when the
// data can be counted: a decoder plays what is there.
func (m *Measurer) seconds(format string, b []byte) (float64, bool) {
	switch format {
	case "wav":
		return wavSeconds(b)
	case "mp3":
		return mp3Seconds(b)
	case "flac":
		return flacSeconds(b)
	case "ogg":
		return oggSeconds(b)
	case "mp4":
		return mp4Seconds(b)
	}
	return 0, false
}

// wavSeconds divides the data by the format's byte rate. The declared size of
// the data is not used: streams write 0 or 0xFFFFFFFF there.
func wavSeconds(b []byte) (float64, bool) {
	for i := 12; i+8 <= len(b); {
		size := int(binary.LittleEndian.Uint32(b[i+4:]))
		if string(b[i:i+4]) != "fmt " {
			i += 8 + size + size&1
			continue
		}
		if size < 16 || i+24 > len(b) {
			return 0, false
		}
		f := b[i+8:]
		kind, channels := binary.LittleEndian.Uint16(f), binary.LittleEndian.Uint16(f[2:])
		rate, depth := binary.LittleEndian.Uint32(f[4:]), binary.LittleEndian.Uint16(f[14:])
		plain := kind == 1 || kind == 3 || kind == 6 || kind == 7 || kind == 0xfffe // PCM, float, A-law, µ-law, extensible
		perSecond := float64(rate) * float64(channels) * float64(depth/8)
		if !plain || perSecond == 0 || rate > 384_000 {
			return 0, false
		}
		return float64(len(b)-i-24) / perSecond, true
	}
	return 0, false
}

// Bit rates in kbit/s and sample rates in Hz of MPEG audio frames (ISO 11172-3
// and 13818-3), by layer and version.
var (
	mp3Rates = [2][3][15]int{
		{ // MPEG 1: layers I, II, III
			{0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448},
			{0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384},
			{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
		},
		{ // MPEG 2 and 2.5
			{0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256},
			{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
			{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
		},
	}
	mp3Samples = [3]int{44100, 48000, 32000}
)

// mp3Frame reads a frame header: its length in bytes and seconds.
func mp3Frame(b []byte) (length int, seconds float64, ok bool) {
	if len(b) < 4 || b[0] != 0xff || b[1]&0xe0 != 0xe0 {
		return 0, 0, false
	}
	version, layer := b[1]>>3&3, b[1]>>1&3 // 3 is MPEG 1, 2 is 2, 0 is 2.5; layers count backwards
	rate, sample := int(b[2]>>4), int(b[2]>>2&3)
	if version == 1 || layer == 0 || rate == 0 || rate == 15 || sample == 3 {
		return 0, 0, false
	}
	low := 0
	hz := mp3Samples[sample]
	if version != 3 {
		low = 1
		if hz /= 2; version == 0 {
			hz /= 2
		}
	}
	layer = 3 - layer // 0 is layer I
	samples := 1152
	switch {
	case layer == 0:
		samples = 384
	case layer == 2 && low == 1:
		samples = 576
	}
	bitrate := mp3Rates[low][layer][rate] * 1000
	padding := int(b[2] >> 1 & 1)
	if layer == 0 {
		length = (12*bitrate/hz + padding) * 4
	} else {
		length = samples/8*bitrate/hz + padding
	}
	return length, float64(samples) / float64(hz), length > 4
}

// isMP3 reports whether two frames follow one another at the start.
func isMP3(b []byte) bool {
	n, _, ok := mp3Frame(b)
	if !ok || n >= len(b) {
		return ok
	}
	_, _, ok = mp3Frame(b[n:])
	return ok
}

// mp3Seconds adds the frames up, looking for the next one as decoders do.
func mp3Seconds(b []byte) (float64, bool) {
	total, frames := 0.0, 0
	for i := 0; i+4 <= len(b); {
		n, seconds, ok := mp3Frame(b[i:])
		if !ok {
			i++
			continue
		}
		total += seconds
		frames++
		i += n
	}
	return total, frames > 0
}

// flacSeconds adds up the blocks whose headers pass their checksum; a file of
// silence has few bytes to a second.
func flacSeconds(b []byte) (float64, bool) {
	if len(b) < 42 || b[4]&0x7f != 0 {
		return 0, false
	}
	info := b[8:]
	hz := float64(uint32(info[10])<<12 | uint32(info[11])<<4 | uint32(info[12])>>4)
	claimed := uint64(info[13]&0x0f)<<32 | uint64(binary.BigEndian.Uint32(info[14:]))
	if hz == 0 {
		return 0, false
	}
	total := 0.0
	for i := 42; i+6 <= len(b); {
		samples, n := flacFrame(b[i:])
		if n == 0 {
			i++
			continue
		}
		total += samples
		i += n
	}
	return max(total, float64(claimed)) / hz, true
}

// flacFrame reads a frame header (RFC 9639, 9.1): the samples in its block and
// the header's own length, 0 when there is none.
func flacFrame(b []byte) (samples float64, length int) {
	if len(b) < 6 || b[0] != 0xff || b[1]&0xfe != 0xf8 || b[2]>>4 == 0 || b[2]&0x0f == 15 {
		return 0, 0
	}
	size, n := int(b[2]>>4), 4
	n += max(1, bits.LeadingZeros8(^b[4])) // the frame's number, coded like UTF-8
	switch {
	case size == 1:
		samples = 192
	case size <= 5:
		samples = float64(int(144) << size)
	case size == 6 && n < len(b):
		samples, n = float64(b[n])+1, n+1
	case size == 7 && n+1 < len(b):
		samples, n = float64(binary.BigEndian.Uint16(b[n:]))+1, n+2
	case size >= 8:
		samples = float64(int(1) << size)
	}
	switch b[2] & 0x0f {
	case 12:
		n++
	case 13, 14:
		n += 2
	}
	if n >= len(b) || crc8(b[:n]) != b[n] {
		return 0, 0
	}
	return samples, n + 1
}

// crc8 is the checksum of FLAC frame headers: polynomial x^8+x^2+x+1.
func crc8(b []byte) (sum byte) {
	for _, c := range b {
		sum ^= c
		for range 8 {
			carry := sum&0x80 != 0
			if sum <<= 1; carry {
				sum ^= 0x07
			}
		}
	}
	return sum
}

// opusTicks is an Opus frame's length in units of 2.5 ms, by the configuration
// number in its first byte (RFC 6716, table 2).
func opusTicks(config byte) int {
	switch {
	case config < 12: // SILK
		return []int{4, 8, 16, 24}[config%4]
	case config < 16: // hybrid
		return []int{4, 8}[config%2]
	}
	return []int{1, 2, 4, 8}[config%4]
}

// opusSeconds is how long one packet lasts.
func opusSeconds(packet []byte) float64 {
	if len(packet) == 0 {
		return 0
	}
	frames := 1
	switch packet[0] & 3 {
	case 1, 2:
		frames = 2
	case 3:
		if frames = 48; len(packet) > 1 {
			frames = int(packet[1] & 0x3f)
		}
	}
	return float64(frames*opusTicks(packet[0]>>3)) * 0.0025
}

// oggSeconds adds up the packets of an Ogg stream of Opus or Vorbis. The time
// stamps of its pages are a claim, which counts only where it is greater.
func oggSeconds(b []byte) (float64, bool) {
	var opus bool
	var hz, longest float64 // of Vorbis: its rate, its longest block in samples
	var total, stamped float64
	packets := 0
	for i := 0; i+27 <= len(b); {
		if string(b[i:i+4]) != "OggS" {
			i++
			continue
		}
		table := b[i+27:]
		table = table[:min(len(table), int(b[i+26]))]
		if granule := binary.LittleEndian.Uint64(b[i+6:]); granule < 1<<62 {
			stamped = max(stamped, float64(granule))
		}
		body, begins := i+27+len(table), true
		for _, n := range table {
			if packet := b[min(body, len(b)):]; begins {
				switch {
				case packets == 0 && len(packet) >= 19 && string(packet[:8]) == "OpusHead":
					opus, hz = true, 48000
				case packets == 0 && len(packet) >= 30 && string(packet[1:7]) == "vorbis":
					hz = float64(binary.LittleEndian.Uint32(packet[12:]))
					longest = float64(int(1) << (packet[28] >> 4))
				case opus && packets >= 2: // after the two headers
					total += opusSeconds(packet)
				case !opus && hz > 0:
					total += longest / 2 / hz
				}
				packets++
			}
			begins = n < 255
			body += int(n)
		}
		i = max(i+27, body)
	}
	if hz == 0 {
		return 0, false // Speex, FLAC in Ogg, Theora
	}
	return max(total, stamped/hz), true
}

// mp4Seconds is the longest that the movie, a track, or a track's samples
// claim. A fragmented file, whose samples come later, is not measured.
func mp4Seconds(b []byte) (float64, bool) {
	w := mp4Walk{}
	w.boxes(b, 0)
	return w.longest, w.found && !w.fragmented
}

type mp4Walk struct {
	found, fragmented bool
	longest           float64
	scale             float64 // of the track at hand, in ticks a second
}

func (w *mp4Walk) boxes(b []byte, depth int) {
	for len(b) >= 8 && depth < 8 {
		size, head := uint64(binary.BigEndian.Uint32(b)), 8
		switch {
		case size == 1 && len(b) >= 16:
			size, head = binary.BigEndian.Uint64(b[8:]), 16
		case size == 0:
			size = uint64(len(b))
		}
		if size < uint64(head) {
			return
		}
		n := int(min(size, uint64(len(b))))
		w.box(string(b[4:8]), b[head:n], depth)
		b = b[n:]
	}
}

func (w *mp4Walk) box(name string, b []byte, depth int) {
	switch name {
	case "moov", "trak", "mdia", "minf", "stbl":
		w.boxes(b, depth+1)
	case "moof", "mvex":
		w.fragmented = true
	case "mvhd", "mdhd":
		w.found = true
		scale, ticks := mp4Duration(b)
		if name == "mdhd" {
			w.scale = scale
		}
		if scale > 0 {
			w.longest = max(w.longest, ticks/scale)
		}
	case "stts": // how many samples last how many ticks
		ticks := 0.0
		for b = b[min(8, len(b)):]; len(b) >= 8; b = b[8:] {
			ticks += float64(binary.BigEndian.Uint32(b)) * float64(binary.BigEndian.Uint32(b[4:]))
		}
		if w.scale > 0 {
			w.longest = max(w.longest, ticks/w.scale)
		}
	case "stsz": // an AAC frame is 1,024 samples, of SBR twice as long, at 8 kHz at least
		if len(b) >= 12 && w.scale >= 8000 {
			w.longest = max(w.longest, float64(binary.BigEndian.Uint32(b[8:]))*1024/w.scale)
		}
	}
}

// mp4Duration reads the time scale and duration of an mvhd or mdhd box.
func mp4Duration(b []byte) (scale, ticks float64) {
	switch {
	case len(b) >= 20 && b[0] == 0:
		return float64(binary.BigEndian.Uint32(b[12:])), float64(binary.BigEndian.Uint32(b[16:]))
	case len(b) >= 32 && b[0] == 1:
		return float64(binary.BigEndian.Uint32(b[20:])), float64(binary.BigEndian.Uint64(b[24:]))
	}
	return 0, 0
}
