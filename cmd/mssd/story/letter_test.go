package story

import (
	"archive/zip"
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-message/mail"
)

// The letter is what a pharmacy's software expects: text, PDF and an XDM archive whose metadata are true.
func TestLetter(t *testing.T) {
	l, err := NewLetter(Pharmacy, time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(bytes.ReplaceAll(l.Body, []byte("\r\n"), nil), []byte("\n")) || !bytes.HasSuffix(l.Body, []byte("\r\n")) {
		t.Error("a line does not end in CRLF")
	}
	r, err := mail.CreateReader(bytes.NewReader(l.Body))
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string][]byte{}
	for {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p.Body)
		if err != nil {
			t.Fatal(err)
		}
		name := "text"
		if h, ok := p.Header.(*mail.AttachmentHeader); ok {
			name, _ = h.Filename()
		}
		parts[name] = b
	}
	if got := string(parts["text"]); got != letterText {
		t.Errorf("text %q", got)
	}
	checkPDF(t, parts["ordonnance_20261122.pdf"])
	checkXDM(t, parts["IHE_XDM.ZIP"])
}

// checkPDF looks whether each object stands where the table says.
func checkPDF(t *testing.T, b []byte) {
	t.Helper()
	m := regexp.MustCompile(`startxref\n(\d+)\n%%EOF\n$`).FindSubmatch(b)
	if !bytes.HasPrefix(b, []byte("%PDF-1.4\n")) || m == nil {
		t.Fatalf("not a PDF: %q", b[:min(20, len(b))])
	}
	start, _ := strconv.Atoi(string(m[1]))
	for i, row := range regexp.MustCompile(`(\d{10}) 00000 n `).FindAllSubmatch(b[start:], -1) {
		at, _ := strconv.Atoi(string(row[1]))
		if want := fmt.Sprintf("%d 0 obj\n", i+1); !bytes.HasPrefix(b[at:], []byte(want)) {
			t.Errorf("object %d is not at %d", i+1, at)
		}
	}
}

func checkXDM(t *testing.T, b []byte) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if files[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	cda, metadata := files["IHE_XDM/SUBSET01/ORD001.XML"], files["IHE_XDM/SUBSET01/METADATA.XML"]
	for name, b := range map[string][]byte{"CDA": cda, "METADATA.XML": metadata} {
		if err := xml.Unmarshal(b, new(struct{})); err != nil || len(b) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !bytes.Contains(cda, []byte(`code="57833-6"`)) || !bytes.Contains(cda, []byte(`root="1.2.250.1.213.1.1.1.39"`)) {
		t.Error("the CDA is no e-prescription")
	}
	sum := sha1.Sum(cda)
	for _, want := range []string{hex.EncodeToString(sum[:]), fmt.Sprintf("<rim:Value>%d</rim:Value>", len(cda)), PatientINS + "^^^&amp;1.2.250.1.213.1.4.10&amp;ISO^NH"} {
		if !strings.Contains(string(metadata), want) {
			t.Errorf("METADATA.XML lacks %s", want)
		}
	}
	for _, name := range []string{"README.TXT", "INDEX.HTM"} {
		if len(files[name]) == 0 {
			t.Errorf("%s is missing", name)
		}
	}
}

// The invented number has a right control key, as every number in the field: 97 less the rest of 13 digits by 97.
func TestPatientINS(t *testing.T) {
	n, err := strconv.ParseInt(PatientINS[:13], 10, 64)
	if err != nil || len(PatientINS) != 15 {
		t.Fatal(PatientINS)
	}
	if want := fmt.Sprintf("%02d", 97-n%97); PatientINS[13:] != want {
		t.Errorf("control key %s, want %s", PatientINS[13:], want)
	}
}
