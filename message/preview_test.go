package message

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime/quotedprintable"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func previewOf(t interface{ Fatal(...any) }, raw string) string {
	m, _, err := Scan(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Preview(m, io.NewSectionReader(strings.NewReader(raw), 0, int64(len(raw))))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPreview(t *testing.T) {
	html := "Content-Type: text/html; charset=iso-8859-1\r\n\r\n<html><head><style>p{}</style><title>x</title></head><body><p>Tr\xe8s</p><p>bien&nbsp;&amp; vite"
	for _, c := range []struct{ name, raw, want string }{
		{"plain", "Subject: x\r\n\r\n  Bonjour,\r\n\r\n\tvoici \x00\x07l'ordonnance.  \r\n", "Bonjour, voici l'ordonnance."},
		{"nothing", "Subject: x\r\n\r\n", ""},
		{"no text", "Content-Type: application/pdf\r\n\r\nx", ""},
		{"html", html, "x Très bien & vite"},
		{"base64", "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte("été")), "été"},
		{"unknown encoding", "Content-Type: text/plain\r\nContent-Transfer-Encoding: x\r\n\r\nabc", ""},
		{"in an attached message", "Content-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\nabc", ""},
		{"long", "\r\n" + strings.Repeat("é", 1000), strings.Repeat("é", 200)},
		{"ends before a space", "\r\n" + strings.Repeat("x", 199) + " y", strings.Repeat("x", 199)},
		{"bidirectional marks", "\r\na\u202eb\u200bc\r\n", "abc"},
	} {
		if got := previewOf(t, c.raw); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestDecodePart decodes what an independent encoder wrote, also when only a beginning of it is wanted.
func TestDecodePart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data")
		var encoded bytes.Buffer
		encoding := rapid.SampledFrom([]string{"base64", "quoted-printable", "8bit"}).Draw(t, "encoding")
		switch encoding {
		case "base64":
			text := base64.StdEncoding.EncodeToString(data)
			for len(text) > 0 {
				n := min(76, len(text))
				encoded.WriteString(text[:n] + "\r\n")
				text = text[n:]
			}
		case "quoted-printable":
			w := quotedprintable.NewWriter(&encoded)
			w.Binary = true
			w.Write(data)
			w.Close()
		default:
			encoded.Write(data)
		}
		var got []byte
		limit := rapid.IntRange(0, 400).Draw(t, "limit")
		err := DecodePart(bytes.NewReader(encoded.Bytes()), encoding, func(p []byte) bool {
			got = append(got, p...)
			return len(got) < limit
		})
		if err != nil || !bytes.HasPrefix(data, got) && !bytes.HasPrefix(got, data) || len(got) < min(limit, len(data)) {
			t.Fatalf("%s of %q up to %d: %q, %v", encoding, data, limit, got, err)
		}
	})
	if err := DecodePart(strings.NewReader("x"), "x-uue", nil); !errors.Is(err, ErrEncoding) {
		t.Errorf("unknown encoding: %v", err)
	}
}

// White space at the end of a line of quoted-printable is no part of it, but for what a code or a soft line break ends (RFC 2045,
// Section 6.7, rule 3).
func TestDecodePadding(t *testing.T) {
	for in, want := range map[string]string{
		"a  \r\nb\t\r\n":          "a\r\nb\r\n",
		"a b \tc":                 "a b \tc",
		"a =\r\nb":                "a b",
		"a =20 \r\nb":             "a  \r\nb",
		"a=20\r\nb":               "a \r\nb",
		"a \n b ":                 "a\n b",
		"a " + blanks(2000) + "b": "a " + blanks(2000) + "b",
	} {
		for _, cut := range []int{1, 3, len(in)} {
			var got []byte
			r, w := io.Pipe()
			go func() {
				for rest := in; rest != ""; rest = rest[min(cut, len(rest)):] {
					_, _ = io.WriteString(w, rest[:min(cut, len(rest))])
				}
				w.Close()
			}()
			if err := DecodePart(r, "quoted-printable", func(p []byte) bool { got = append(got, p...); return true }); err != nil || string(got) != want {
				t.Errorf("%.30q: %.30q, %v", in, got, err)
			}
		}
	}
}

func blanks(n int) string { return strings.Repeat(" ", n) }

// FuzzPreview: any message has a preview that can be sent.
func FuzzPreview(f *testing.F) {
	f.Add("Content-Type: text/html\r\n\r\n<p>a</p>")
	f.Add("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\na\r\n--x--\r\n")
	f.Fuzz(func(t *testing.T, raw string) {
		p := previewOf(t, raw)
		if !utf8.ValidString(p) || strings.ContainsAny(p, "\r\n\x00") || utf8.RuneCountInString(p) > maxPreview {
			t.Fatalf("%q", p)
		}
	})
}
