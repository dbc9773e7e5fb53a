package smtpd

import (
	"bufio"
	"bytes"
	"io"
	"net/textproto"
	"strings"
	"testing"
)

// undot feeds s in windows of n octets.
func undot(s string, n int) (msg string, rest string, end bool) {
	var d dotReader
	var out bytes.Buffer
	for len(s) > 0 {
		k := min(n, len(s))
		used, end := d.feed([]byte(s[:k]), func(p []byte) { out.Write(p) })
		s = s[used:]
		if end {
			return out.String(), s, true
		}
	}
	return out.String(), "", false
}

func TestDotReader(t *testing.T) {
	for _, tc := range []struct{ in, msg, rest string }{
		{".\r\nQUIT\r\n", "", "QUIT\r\n"},
		{"a\r\n.\r\n", "a\r\n", ""},
		{"a\r\n..b\r\n.\r\nX", "a\r\n.b\r\n", "X"},
		{"..\r\n.\r\n", ".\r\n", ""},
		{".a\r\n.\r\n", "a\r\n", ""},
		{"a.\r\n.\r\n", "a.\r\n", ""},
		{"\r\n\r\n.\r\n", "\r\n\r\n", ""},
		// Nothing but CRLF.CRLF ends a message; odd line ends reach the spool, which refuses them.
		{"a\n.\n.\r\nb\r\n.\r\n", "a\n.\n.\r\nb\r\n", ""},
		{"a\r.\rb\r\n.\r\n", "a\r.\rb\r\n", ""},
		{"a\r\n.\nb\r\n.\r\n", "a\r\n\nb\r\n", ""},
		{"a\r\n.\rb\r\n.\r\n", "a\r\n\rb\r\n", ""},
		{"a\r\n.\r\rb\r\n.\r\n", "a\r\n\r\rb\r\n", ""},
		{"a\n.\r\nb\r\n.\r\n", "a\n.\r\nb\r\n", ""},
		{"a\r\r\n.\r\n", "a\r\r\n", ""},
	} {
		for n := 1; n <= len(tc.in); n++ {
			msg, rest, end := undot(tc.in, n)
			if msg != tc.msg || rest != tc.rest[:min(len(rest), len(tc.rest))] || !end {
				t.Errorf("%q in windows of %d: %q, rest %q, end %v; want %q, %q", tc.in, n, msg, rest, end, tc.msg, tc.rest)
			}
		}
	}
}

// FuzzDotReader: the result does not depend on the windows, and what net/textproto stuffs comes back.
func FuzzDotReader(f *testing.F) {
	f.Add("a\r\n.b\r\n", uint8(1))
	f.Add(".\r\n\r\n.", uint8(3))
	f.Fuzz(func(t *testing.T, s string, n uint8) {
		whole, rest, end := undot(s, len(s)+1)
		msg, _, end2 := undot(s, int(n)+1)
		if msg != whole || end != end2 {
			t.Fatalf("%q: windows of %d give %q %v, at once %q %v", s, int(n)+1, msg, end2, whole, end)
		}
		_ = rest
		if strings.ContainsAny(strings.ReplaceAll(s, "\r\n", ""), "\r\n") {
			return
		}
		var wire bytes.Buffer
		bw := bufio.NewWriter(&wire)
		w := textproto.NewWriter(bw).DotWriter()
		_, _ = io.WriteString(w, s)
		w.Close()
		bw.Flush()
		got, rest, end := undot(wire.String()+"NEXT", int(n)+1)
		want := s
		if !strings.HasSuffix(want, "\r\n") {
			want += "\r\n" // the writer ends the last line
		}
		if got != want || !end || !strings.HasPrefix("NEXT", rest) {
			t.Errorf("%q: came back as %q, rest %q, end %v", s, got, rest, end)
		}
	})
}

func BenchmarkDotReader(b *testing.B) {
	msg := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 2564) + ".\r\n")
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		var d dotReader
		n := 0
		d.feed(msg, func(p []byte) { n += len(p) })
	}
}
