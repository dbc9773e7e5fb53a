package message

import "bytes"

// byFrequency are the octets that folded French has most, the commonest first.
const byFrequency = " esaitnruldocpm\nv10'2,.q3fb4gh56-8790jxy:z/wk@"

var frequency = func() (f [256]uint8) {
	for i, c := range []byte(byFrequency) {
		f[c] = uint8(len(byFrequency) - i)
	}
	return f
}()

// contains is bytes.Contains for words in a text: it looks for the rarest octet of the needle, of which there are few.
func contains(text, needle []byte) bool {
	if len(needle) < 2 {
		return bytes.Contains(text, needle)
	}
	at, next := 0, 1 // the two rarest
	if frequency[needle[1]] < frequency[needle[0]] {
		at, next = 1, 0
	}
	for i, c := range needle[2:] {
		switch f := frequency[c]; {
		case f < frequency[needle[at]]:
			at, next = i+2, at
		case f < frequency[needle[next]]:
			next = i + 2
		}
	}
	rare, second, behind := needle[at], needle[next], len(needle)-at-1
	for from, tries := at, 8; from < len(text)-behind; from++ {
		i := bytes.IndexByte(text[from:len(text)-behind], rare)
		if i < 0 {
			return false
		}
		if from += i; text[from-at+next] == second && bytes.Equal(text[from-at:from+behind+1], needle) {
			return true
		}
		if tries--; tries+from/16 < 0 {
			return bytes.Contains(text[from-at+1:], needle) // it is not so rare here
		}
	}
	return false
}
