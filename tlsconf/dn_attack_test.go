package tlsconf

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// rawValue is the DER of a name with one attribute, CN, whose value is given with tag and length.
func rawValue(value []byte) []byte {
	av := slices.Concat([]byte{6, 3, 0x55, 4, 3}, value)
	der := append([]byte{0x30, byte(len(av))}, av...)
	der = append([]byte{0x31, byte(len(der))}, der...)
	return append([]byte{0x30, byte(len(der))}, der...)
}

// A value that is no text equals no text, and no other value that is none.
func TestDNBrokenValuesStayApart(t *testing.T) {
	names := map[string]DN{
		"half a surrogate pair":   mustRaw(t, rawValue([]byte{30, 2, 0xd8, 0x00})),
		"another half":            mustRaw(t, rawValue([]byte{30, 2, 0xdc, 0x01})),
		"no letter":               mustRaw(t, rawValue([]byte{28, 4, 0, 0x11, 0, 0})),
		"a negative letter":       mustRaw(t, rawValue([]byte{28, 4, 0xff, 0xff, 0xff, 0xff})),
		"bad UTF-8":               mustRaw(t, rawValue([]byte{12, 1, 0xff})),
		"an integer":              mustRaw(t, rawValue([]byte{2, 1, 5})),
		"a text like its DER":     mustRaw(t, rawDN(t, "CN", "#020105")),
		"a text without the hash": mustRaw(t, rawDN(t, "CN", "020105")),
		"the replacement letter":  mustRaw(t, rawDN(t, "CN", "\ufffd")),
	}
	for a, x := range names {
		for b, y := range names {
			if a != b && x.Equal(y) {
				t.Errorf("%s equals %s: %q", a, b, x.Key())
			}
		}
		if again, err := ParseDN(x.String()); err != nil || !again.Equal(x) {
			t.Errorf("%s prints as %q, which does not come back: %v", a, x.String(), err)
		}
	}
}

// No text of a value can stand for two attributes, for another type, or for the end of the name.
func TestDNValuesCannotBreakOut(t *testing.T) {
	victim := mustRaw(t, rawDN(t, "C", "FR", "O", "HOPITAL TEST", "CN", "mss.hopital.test"))
	for _, attrs := range [][]string{
		{"C", "FR", "O", "HOPITAL TEST,CN=mss.hopital.test"},
		{"C", "FR", "O", "HOPITAL TEST\x01" + "2.5.4.3=mss.hopital.test"},
		{"C", "FR", "CN", "mss.hopital.test,O=HOPITAL TEST"},
		{"C", "FR\x01" + "2.5.4.10=HOPITAL TEST", "CN", "mss.hopital.test"},
		{"C", "FR", "O", "HOPITAL TEST", "CN", "mss.hopital.test", "CN", "mss.hopital.test"},
		{"CN", "mss.hopital.test", "O", "HOPITAL TEST", "C", "FR"},
		{"C", "FR", "O", "HOPITAL TEST", "CN", "mss.hopital.test\u200b"},
	} {
		if mustRaw(t, rawDN(t, attrs...)).Equal(victim) {
			t.Errorf("%q passes for %q", attrs, victim)
		}
	}
}

// Every name, however odd its values, prints so that it comes back, and as one line.
func TestDNStringComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune(",;+\"\\#=<> \t\n\x00\x01\x02")))).Filter(
			func(s string) bool { return foldValue(s) != "" && foldValue(s) != `""` && len(s) < 60 })
		a := mustRaw(t, rawDN(t, "C", "FR", "O", value.Draw(t, "O"), "CN", value.Draw(t, "CN")))
		b, err := ParseDN(a.String())
		if err != nil || !b.Equal(a) {
			t.Fatalf("%q does not come back: %v\n%q\n%q", a.String(), err, a.Key(), b.Key())
		}
		for _, c := range []byte(a.String()) {
			if c < ' ' {
				t.Fatalf("%q holds a control character", a.String())
			}
		}
	})
}
