package message

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// RFC 9051, Section 6.4.5.1: the empty line is part of every header fetch, except where the message has none.
func TestSelectFieldsEmptyLine(t *testing.T) {
	for _, c := range []struct{ header, want string }{
		{"A: b\r\nC: d\r\n\r\n", "A: b\r\n\r\n"},
		{"C: d\r\n\r\n", "\r\n"},
		{"A: b\r\nC: d\r\n", "A: b\r\n"},
		{"A: b", "A: b\r\n"},
		{"C: d\r\n", ""},
		{"", ""},
		{"A: b\n\n", "A: b\n\n"},
		{"C: d\r\n\r\r\nA: b\r\n\r\n", "A: b\r\n\r\n"}, // CR CR LF does not end a header
	} {
		if got := string(SelectFields([]byte(c.header), []string{"a"}, false)); got != c.want {
			t.Errorf("%q: %q, want %q", c.header, got, c.want)
		}
	}
}

// A header of tiny fields and a command of as many names must not multiply.
func TestSelectFieldsManyNames(t *testing.T) {
	header := []byte(strings.Repeat("ab:\r\n", 200_000) + "\r\n")
	var names []string
	for i := range 16_000 {
		names = append(names, string([]byte{byte('!' + i%90), byte('!' + i/90%26)}))
	}
	start := time.Now()
	got := SelectFields(header, append(names, "Zz"), true)
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("%d octets, %d names: %v", len(header), len(names), d)
	}
	if !bytes.Equal(got, header) {
		t.Errorf("%d octets of %d", len(got), len(header))
	}
	if got := SelectFields(header, append(names, "AB"), true); string(got) != "\r\n" {
		t.Errorf("the last name is not looked at: %d octets", len(got))
	}
}

// What is kept of a message is bounded, however long the names of its types are.
func TestLongTypes(t *testing.T) {
	long := strings.Repeat("x", 120<<10)
	var b strings.Builder
	b.WriteString("Content-Type: multipart/mixed; boundary=b\r\n\r\n")
	for i := range 60 {
		fmt.Fprintf(&b, "--b\r\nContent-Type: %s\r\n\r\n%d\r\n", []string{long + "/y", "x/" + long, "text/" + long}[i%3], i)
	}
	fmt.Fprintf(&b, "--b\r\nContent-Type: multipart/%s; boundary=c\r\n\r\n--c\r\n\r\nword\r\n--c--\r\n--b--\r\n", long[:300])
	m, text := scan(t, []byte(b.String()))
	stored, err := m.AppendBinary(nil)
	if err != nil || len(stored) > 64<<10 {
		t.Errorf("%d octets kept of %d, %v", len(stored), b.Len(), err)
	}
	if m.Faults&FaultContentType == 0 {
		t.Errorf("faults %s", m.Faults)
	}
	for path, want := range map[int]string{1: "application/octet-stream", 2: "application/octet-stream", 3: "text/plain", 61: "multipart/mixed"} {
		if p, ok := m.Part([]int{path}); !ok || p.Type+"/"+p.Subtype != want {
			t.Errorf("part %d: %+v, want %s", path, p, want)
		}
	}
	if found, _ := text.BodyContains([]byte("word")); !found || len(m.Root.Parts) != 61 || len(m.Root.Parts[60].Parts) != 1 {
		t.Error("the parts of a multipart with a long subtype are hidden")
	}
}
