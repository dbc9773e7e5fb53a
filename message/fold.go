package message

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/unicode/norm"
)

// Fold appends to dst the form of s in which words are compared: compatibility decomposition (NFKD), accents
// and other marks stripped, case folded, runs of white space made one space, typographic apostrophes and hyphens
// made plain, œ and æ spelt out, control and invisible characters dropped. Octets that are not UTF-8 are read
// as windows-1252, the commonest undeclared charset in French mail. Texts and needles must both be folded.
func Fold(dst, s []byte) []byte {
	var f folder
	dst, _ = f.fold(dst, s, true)
	return dst
}

// folder folds a stream; a run of white space may span two calls.
type folder struct {
	space bool // the last thing written was a space
}

// fold appends the folded form of s and returns how many octets at its end are the beginning of a rune that
// is not complete; with final set there are none.
func (f *folder) fold(dst, s []byte, final bool) ([]byte, int) {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			dst = f.ascii(dst, c)
			i++
			continue
		}
		if !final && !utf8.FullRune(s[i:]) {
			return dst, len(s) - i
		}
		r, n := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && n == 1 {
			r = charmap.Windows1252.DecodeByte(c)
		}
		dst = f.rune(dst, r, 0)
		i += n
	}
	return dst, 0
}

func (f *folder) ascii(dst []byte, c byte) []byte {
	switch {
	case c == ' ' || '\t' <= c && c <= '\r':
		if f.space {
			return dst
		}
		f.space = true
		return append(dst, ' ')
	case c < ' ' || c == 0x7f:
		return dst
	case 'A' <= c && c <= 'Z':
		c += 'a' - 'A'
	}
	f.space = false
	return append(dst, c)
}

// rune folds one rune. Decomposition and case folding can each bring up work for the other: depth counts the
// turns.
func (f *folder) rune(dst []byte, r rune, depth int) []byte {
	if r < utf8.RuneSelf {
		return f.ascii(dst, byte(r))
	}
	if first := rune(0xc0); r >= first && int(r-first) < len(latin) && latin[r-first] != '.' {
		f.space = false
		return append(dst, latin[r-first])
	}
	if s, ok := spelt(r); ok {
		for i := range len(s) {
			dst = f.ascii(dst, s[i])
		}
		return dst
	}
	if unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r) || unicode.Is(unicode.Cf, r) || unicode.IsControl(r) {
		return dst
	}
	if unicode.IsSpace(r) {
		return f.ascii(dst, ' ')
	}
	if lower := unicode.ToLower(unicode.ToUpper(r)); lower != r && depth < 4 {
		return f.rune(dst, lower, depth+1)
	}
	var in [utf8.UTFMax]byte
	var out [64]byte
	n := utf8.EncodeRune(in[:], r)
	d := norm.NFKD.Append(out[:0], in[:n]...)
	if depth < 4 && string(d) != string(in[:n]) {
		for _, x := range string(d) {
			dst = f.rune(dst, x, depth+1)
		}
		return dst
	}
	f.space = false
	return append(dst, in[:n]...)
}

// latin holds the plain letter of U+00C0 to U+017F, "." for those that need more work: most of what is folded
// in French mail without asking the Unicode tables.
const latin = "aaaaaa.ceeeeiiii.nooooo.ouuuuy..aaaaaa.ceeeeiiii.nooooo.ouuuuy.y" +
	"aaaaaaccccccccddddeeeeeeeeeegggggggghh..iiiiiiiii...jjkk.llllll." +
	".llnnnnnn...oooooo..rrrrrrsssssssstttt..uuuuuuuuuuuuwwyyyzzzzzzs"

// spelt gives the plain spelling of letters and signs that NFKD leaves alone.
func spelt(r rune) (string, bool) {
	switch r {
	case 'œ', 'Œ':
		return "oe", true
	case 'æ', 'Æ':
		return "ae", true
	case 'ß', 'ẞ':
		return "ss", true
	case 'ø', 'Ø':
		return "o", true
	case 'ł', 'Ł':
		return "l", true
	case 'đ', 'Đ':
		return "d", true
	case '‘', '’', 'ʼ', '′':
		return "'", true
	case '“', '”', '«', '»':
		return `"`, true
	case '‐', '‑', '‒', '–', '—', '−':
		return "-", true
	}
	return "", false
}
