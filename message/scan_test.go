package message

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "write the golden files anew")

// dump is what a golden file holds: everything a client could notice.
func dump(m *Meta, t Text) string {
	var b strings.Builder
	fmt.Fprintf(&b, "size %d header %d\nsent %s\nid %s\nfaults %s\n", m.Size, m.HeaderLen,
		m.SentDate.Format("2006-01-02T15:04:05Z07:00"), m.MessageID, m.Faults)
	fmt.Fprintf(&b, "ENVELOPE %s\nBODY %s\nBODYSTRUCTURE %s\n", m.Envelope, m.Body, m.BodyStructure)
	dumpPart(&b, m.Root, "root")
	for _, a := range m.Attachments {
		fmt.Fprintf(&b, "attachment %v %q %s %d\n", a.Part, a.Name, a.Type, a.Size)
	}
	fmt.Fprintf(&b, "header text (cut %t)\n%sbody text (cut %t)\n%s", t.HeaderCut, t.Header, t.BodyCut, t.Body)
	return b.String()
}

func dumpPart(b *strings.Builder, p *Part, name string) {
	fmt.Fprintf(b, "part %s %s/%s %s %q header %d+%d body %d+%d lines %d\n", name, p.Type, p.Subtype, p.Encoding,
		p.Charset, p.Header, p.HeaderLen, p.Offset, p.Len, p.Lines)
	for i, c := range p.Parts {
		dumpPart(b, c, fmt.Sprintf("%s.%d", name, i+1))
	}
	if p.Embedded != nil {
		dumpPart(b, p.Embedded, name+".message")
	}
}

func corpus(t testing.TB) map[string][]byte {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) < 20 {
		t.Fatalf("corpus: %d files, %v", len(files), err)
	}
	c := make(map[string][]byte)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		c[strings.TrimSuffix(f, ".eml")] = b
	}
	return c
}

func scan(t testing.TB, b []byte) (*Meta, Text) {
	t.Helper()
	m, text, err := Scan(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return m, text
}

func TestGolden(t *testing.T) {
	for name, b := range corpus(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			m, text := scan(t, b)
			got := dump(m, text)
			if *update {
				if err := os.WriteFile(name+".golden", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(name + ".golden")
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			checkScan(t, b)
		})
	}
}

// checkScan asserts what must hold for every message.
func checkScan(t testing.TB, b []byte) {
	t.Helper()
	m, text := scan(t, b)
	if m.Size != int64(len(b)) || m.Root == nil {
		t.Fatalf("size %d of %d", m.Size, len(b))
	}
	checkPart(t, m.Root, 0, m.Size, b)
	whole := dump(m, text)
	for _, r := range []io.Reader{iotest.OneByteReader(bytes.NewReader(b)), &cutReader{b: b, sizes: []int{7, 1, 64, 2, 3}}} {
		m2, t2, err := Scan(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := dump(m2, t2); got != whole {
			t.Fatalf("chunks change the result (-whole +chunks)\n%s", cmp.Diff(whole, got))
		}
	}
	if len(text.Header)+len(text.Body) > MaxText {
		t.Fatalf("text of %d octets", len(text.Header)+len(text.Body))
	}
	checkCodec(t, m, text)
	for _, w := range [][]byte{m.Envelope, m.Body, m.BodyStructure} {
		if rest, err := readWire(w); err != nil || len(rest) > 0 {
			t.Fatalf("not in wire form: %v, rest %q\n%q", err, rest, w)
		}
	}
}

func checkPart(t testing.TB, p *Part, from, to int64, b []byte) {
	t.Helper()
	if p.Header < from || p.HeaderLen < 0 || p.Offset < p.Header+p.HeaderLen || p.Len < 0 || p.End() > to || p.wire != nil {
		t.Fatalf("part outside its parent [%d,%d): %+v", from, to, p)
	}
	if n := int64(bytes.Count(b[p.Offset:p.End()], lf)); p.Lines != n {
		t.Fatalf("%d lines, want %d: %+v", p.Lines, n, p)
	}
	at := p.Offset
	for _, c := range p.Parts {
		checkPart(t, c, at, p.End(), b)
		at = c.End()
	}
	if p.Embedded != nil {
		checkPart(t, p.Embedded, p.Offset, p.End(), b)
	}
}

func checkCodec(t testing.TB, m *Meta, text Text) {
	t.Helper()
	mb, err := m.AppendBinary([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	m2, err := ParseMeta(mb[1:])
	if err != nil {
		t.Fatal(err)
	}
	// Not cmp.Diff on the trees: its time grows exponentially with their depth.
	if before, after := dump(m, text), dump(m2, text); before != after || m2.Version != m.Version {
		t.Fatalf("codec (-scanned +parsed)\n%s", cmp.Diff(before, after))
	}
	tb, err := text.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	t2, err := ParseText(tb)
	if err != nil || !cmp.Equal(text, t2, cmpopts.EquateEmpty()) {
		t.Fatalf("text codec: %v", err)
	}
}

// readWire reads one parenthesised list of nstrings and numbers, as an IMAP client would.
func readWire(b []byte) (rest []byte, err error) {
	errWire := errors.New("syntax")
	if len(b) == 0 {
		return nil, errWire
	}
	switch c := b[0]; {
	case c == '(':
		b = b[1:]
		for len(b) > 0 && b[0] != ')' {
			if b, err = readWire(b); err != nil {
				return nil, err
			}
			if len(b) > 0 && b[0] == ' ' {
				b = b[1:]
			}
		}
		if len(b) == 0 {
			return nil, errWire
		}
		return b[1:], nil
	case c == '"':
		for i := 1; i < len(b); i++ {
			switch {
			case b[i] == '\\' && i+1 < len(b) && (b[i+1] == '"' || b[i+1] == '\\'):
				i++
			case b[i] == '"':
				return b[i+1:], nil
			case b[i] == '\\' || b[i] >= 0x80 || b[i] == '\r' || b[i] == '\n' || b[i] == 0:
				return nil, errWire
			}
		}
		return nil, errWire
	case c == '{':
		var n int
		if _, err := fmt.Sscanf(string(b[:min(len(b), 20)]), "{%d}\r\n", &n); err != nil {
			return nil, err
		}
		i := bytes.IndexByte(b, '\n') + 1
		if n > len(b)-i || bytes.IndexByte(b[i:i+n], 0) >= 0 {
			return nil, errWire
		}
		return b[i+n:], nil
	case bytes.HasPrefix(b, []byte("NIL")):
		return b[3:], nil
	}
	i := 0
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	if i == 0 {
		return nil, errWire
	}
	return b[i:], nil
}

// cutReader yields b in pieces of the given sizes, over and over.
type cutReader struct {
	b     []byte
	sizes []int
	i     int
}

func (r *cutReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := min(r.sizes[r.i%len(r.sizes)], len(r.b), len(p))
	r.i++
	copy(p, r.b[:n])
	r.b = r.b[n:]
	return n, nil
}

func FuzzScan(f *testing.F) {
	for _, b := range corpus(f) {
		f.Add(b, uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		if len(b) > 1<<16 {
			return
		}
		checkScan(t, b)
		checkSearch(t, b, int(n))
	})
}

// checkSearch: SearchBlob finds every word that Text holds, where Text has it.
func checkSearch(t testing.TB, b []byte, n int) {
	_, text := scan(t, b)
	for place, in := range map[Place][]byte{PlaceText: text.Header, PlaceBody: text.Body} {
		line, _, _ := bytes.Cut(in[min(n, len(in)):], lf)
		needle := line[:min(len(line), 40)]
		found, err := SearchBlob(&cutReader{b: b, sizes: []int{5, 1, 900}}, needle, place, "")
		if err != nil || !found {
			t.Fatalf("SearchBlob does not find %q, which the text holds (%v)", needle, err)
		}
	}
}
