package story

import (
	"archive/zip"
	"bytes"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"text/template"
	"time"

	"github.com/emersion/go-message/mail"
)

// The documents of the prescription, as templates over prescription.
var (
	//go:embed ordonnance.xml
	cdaText string
	//go:embed metadata.xml
	metadataText string
	//go:embed index.htm
	indexText string
)

// prescription is what the documents of one letter have in common.
type prescription struct {
	At              time.Time
	INS             string
	Number          string // of the electronic prescription
	DocumentID      string // OID of the CDA document
	SetID           string // OID of the submission set
	Size            int
	Hash            string // SHA-1 of the CDA, as METADATA.XML wants it
	Pharmacy        string
	Stamp, Date     string
	FileName, Title string
}

// Letter is a patient's message as it goes over the wire: lines end in CRLF.
type Letter struct {
	MessageID string // with angle brackets
	Subject   string
	Body      []byte
	Parts     []string // for people: what is attached
}

// NewLetter writes a patient's message to a pharmacy: a text, the prescription as PDF, and the electronic prescription
// (CDA, LOINC 57833-6) inside an IHE XDM archive.
func NewLetter(to string, at time.Time) (*Letter, error) {
	p := prescription{At: at, INS: PatientINS, Number: "01DEMO2JCNZZYGHZ00", Pharmacy: to,
		DocumentID: fmt.Sprintf("1.2.250.1.999.1.1.%d", at.UnixNano()), SetID: fmt.Sprintf("1.2.250.1.999.1.2.%d", at.UnixNano()),
		Stamp: at.UTC().Format("20060102150405") + "+0000", Date: at.UTC().Format("02/01/2006"),
		FileName: "ORD001.XML", Title: "Prescription de médicaments"}
	cda, err := p.render(cdaText)
	if err != nil {
		return nil, err
	}
	archive, err := p.xdm(cda)
	if err != nil {
		return nil, err
	}
	l := &Letter{MessageID: fmt.Sprintf("<demo.%d@%s>", at.UnixNano(), PatientDomain), Subject: "Mon ordonnance"}
	doc := pdf([]string{"ORDONNANCE (document de demonstration, sans valeur)", "", "Dr Camille DUMIRAIL, medecine generale, 99101 VALCLAIR",
		"Le " + p.Date, "", "Patiente : TESTAVRIL Elodie, nee le 03/11/1974", "", "1. Paracetamol 1 g : 1 comprime 3 fois par jour, 5 jours",
		"2. Amoxicilline 500 mg : 2 gelules matin et soir, 6 jours", "", "Numero : " + p.Number})
	return l, l.write(to, at, doc, archive)
}

const letterText = "Bonjour,\r\n\r\nVoici mon ordonnance d'aujourd'hui. Je passerai vers 17 h.\r\nPouvez-vous me dire si tout est disponible ?\r\n\r\n" +
	"Merci beaucoup,\r\nÉlodie TESTAVRIL\r\n"

func (l *Letter) write(to string, at time.Time, doc, archive []byte) error {
	var h mail.Header
	h.SetDate(at)
	h.SetAddressList("From", []*mail.Address{{Name: PatientName + " " + PatientINS, Address: PatientAddress}})
	h.SetAddressList("To", []*mail.Address{{Name: PharmacyName, Address: to}})
	h.SetSubject(l.Subject)
	h.SetMessageID(strings.Trim(l.MessageID, "<>"))
	h.Set("X-MSS-CODECDA", "57833-6")
	h.Set("X-MSS-INS", "O")
	h.Set("X-MSS-NIL", "DEMO000")
	var b bytes.Buffer
	w, err := mail.CreateWriter(&b, h)
	if err != nil {
		return err
	}
	var ih mail.InlineHeader
	ih.SetContentType("text/plain", map[string]string{"charset": "utf-8"})
	if err := part(w.CreateSingleInline(ih))([]byte(letterText)); err != nil {
		return err
	}
	for _, a := range []struct {
		name, kind string
		body       []byte
	}{{"ordonnance_" + at.Format("20060102") + ".pdf", "application/pdf", doc}, {"IHE_XDM.ZIP", "application/zip", archive}} {
		var ah mail.AttachmentHeader
		ah.SetContentType(a.kind, map[string]string{"name": a.name})
		ah.SetFilename(a.name)
		if err := part(w.CreateAttachment(ah))(a.body); err != nil {
			return err
		}
		l.Parts = append(l.Parts, fmt.Sprintf("%s (%s, %d octets)", a.name, a.kind, len(a.body)))
	}
	if err := w.Close(); err != nil {
		return err
	}
	l.Body = b.Bytes()
	return nil
}

// part returns what writes the body of a part and closes it.
func part(w io.WriteCloser, err error) func([]byte) error {
	return func(b []byte) error {
		if err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		return w.Close()
	}
}

func (p *prescription) render(text string) ([]byte, error) {
	t, err := template.New("").Parse(text)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, p)
	return b.Bytes(), err
}

// xdm wraps the document in an archive of the IHE XDM form.
func (p *prescription) xdm(cda []byte) ([]byte, error) {
	p.Size = len(cda)
	sum := sha1.Sum(cda) // the hash that ebXML's metadata want; nothing here relies on its strength
	p.Hash = hex.EncodeToString(sum[:])
	metadata, err := p.render(metadataText)
	if err != nil {
		return nil, err
	}
	index, err := p.render(indexText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range []struct {
		name string
		body []byte
	}{
		{"README.TXT", []byte("Archive IHE XDM de demonstration. Personnes et numeros inventes.\r\n")},
		{"INDEX.HTM", index},
		{"IHE_XDM/SUBSET01/METADATA.XML", metadata},
		{"IHE_XDM/SUBSET01/" + p.FileName, cda},
	} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: p.At})
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(f.body); err != nil {
			return nil, err
		}
	}
	err = z.Close()
	return b.Bytes(), err
}

// pdf is a page of text in PDF 1.4, written by hand: five objects and the table of where they stand.
func pdf(lines []string) []byte {
	var text strings.Builder
	text.WriteString("BT /F1 12 Tf 16 TL 60 780 Td\n")
	for _, l := range lines {
		text.WriteString("(" + strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`).Replace(l) + ") Tj T*\n")
	}
	text.WriteString("ET\n")
	objects := []string{
		"<< /Type /Catalog /Pages 2 0 R >>",
		"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
		fmt.Sprintf("<< /Length %d >>\nstream\n%sendstream", text.Len(), text.String()),
		"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
	}
	var b bytes.Buffer
	b.WriteString("%PDF-1.4\n")
	offsets := make([]int, len(objects))
	for i, o := range objects {
		offsets[i] = b.Len()
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	start := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(objects)+1)
	for _, o := range offsets {
		fmt.Fprintf(&b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(objects)+1, start)
	return b.Bytes()
}
