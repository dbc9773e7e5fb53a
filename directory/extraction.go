package directory

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxExtraction = 1 << 30   // octets of text
	maxLine       = 64 << 10  // octets
	minColumns    = 7         // the last one needed, without the header
	allColumns    = 31        // of the published form
	maxKind       = 8         // octets of a type of BAL
	maxAddress    = 254       // octets; RFC 5321, Section 4.5.3.1.3 less the angle brackets
	readerSize    = 256 << 10 // octets
)

// FormatError says where a file is not as expected. It never quotes the file.
type FormatError struct {
	File   string
	Line   int    // from 1
	Column string // its header name; "" the whole line
	Fault  string
}

func (e *FormatError) Error() string {
	if e.Column == "" {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Fault)
	}
	return fmt.Sprintf("%s:%d: column %q: %s", e.File, e.Line, e.Column, e.Fault)
}

func (e *FormatError) Unwrap() error { return ErrFormat }

// columns are those that are kept, in the order of a record: beginning of the header name, and place in the published
// form, from 0.
var columns = [recordFields]struct {
	name  string
	place int
}{
	{"Adresse BAL", 1}, {"Type de BAL", 0}, {"Type identifiant structure", 5}, {"Identification Structure", 6},
	{"Type Identifiant PP", 2}, {"Identifiant PP", 3}, {"Code Profession", 13},
	{"Nom d'exercice", 9}, {"Prénom d'exercice", 10}, {"Raison Sociale structure", 18}, {"Service de rattachement", 7},
	{"Code postal", 28}, {"L6LIGNEACHEMINEMENT", 27}, {"Enseigne commerciale", 19},
}

// readFile reads the file if it changed. older: one not newer than the image held is an error without being read.
func (d *Directory) readFile(ctx context.Context, feed *feed, older bool) (*image, error) {
	x := d.cfg.Extraction
	f, err := os.Open(x.File)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s: not a file", ErrUnavailable, x.File)
	}
	stamp := fmt.Sprintf("%s %d %d", x.File, st.Size(), st.ModTime().UnixNano())
	if err := feed.seen(stamp); err != nil {
		return nil, err
	}
	return d.parseExtraction(ctx, feed, document{file: f, size: st.Size(), where: x.File, stamp: stamp, name: filepath.Base(x.File),
		modified: st.ModTime(), fallback: older})
}

// document is an extraction that lies open on disk.
type document struct {
	file     *os.File
	size     int64
	where    string // it comes from: file or URL
	stamp    string
	name     string // that may tell its date, if that of a ZIP member does not
	modified time.Time
	fallback bool // a newer one is held or it is not read
}

// parseExtraction makes an image of a document.
func (d *Directory) parseExtraction(ctx context.Context, feed *feed, doc document) (*image, error) {
	text, member, err := openText(doc.file, doc.size, doc.where)
	if err != nil {
		return nil, err
	}
	defer text.Close()
	generated := generatedAt(doc.modified, member, doc.name)
	if held := feed.image.Load(); doc.fallback && held != nil && !generated.After(held.generated) {
		return nil, fmt.Errorf("%w: %s is of %s, the one held of %s", ErrOlder, doc.where, generated.UTC().Format(time.RFC3339),
			held.generated.UTC().Format(time.RFC3339))
	}
	x := d.cfg.Extraction
	p := parser{file: doc.where, maxFaults: x.MaxFaults, maxRows: x.MaxRows, b: d.newBuilder(feed, int(min(doc.size/150, 1<<20)))}
	if err := p.parse(ctx, text); err != nil {
		p.b.abandon()
		return nil, err
	}
	img, err := p.b.image()
	if err != nil {
		return nil, err
	}
	img.generated, img.stamp, img.faults, img.doubt = generated, doc.stamp, p.faults, p.doubt()
	if p.first != nil {
		img.firstFault = p.first.Error()
	}
	return img, nil
}

// openText gives the text, and the name of the one member where it is a ZIP archive.
func openText(f *os.File, size int64, where string) (io.ReadCloser, string, error) {
	var magic [4]byte
	n, err := f.ReadAt(magic[:], 0)
	if err != nil && err != io.EOF {
		return nil, "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if string(magic[:n]) != "PK\x03\x04" {
		return io.NopCloser(io.NewSectionReader(f, 0, size)), "", nil
	}
	bad := func(fault string) (io.ReadCloser, string, error) {
		return nil, "", fmt.Errorf("%w: %s: ZIP archive: %s", ErrFormat, where, fault)
	}
	z, err := zip.NewReader(f, size)
	if err != nil {
		return bad(err.Error())
	}
	var member *zip.File
	for _, m := range z.File {
		if !strings.EqualFold(path.Ext(m.Name), ".txt") && len(z.File) > 1 {
			continue
		}
		if member != nil {
			return bad("more than one text in it")
		}
		member = m
	}
	if member == nil {
		return bad("no text in it")
	}
	r, err := member.Open()
	if err != nil {
		return bad(err.Error())
	}
	return r, path.Base(member.Name), nil
}

var dateInName = regexp.MustCompile(`_(20\d{10})\.`)

// generatedAt is the time in the first name that tells one, which is that of Paris, else modified.
func generatedAt(modified time.Time, names ...string) time.Time {
	for _, name := range names {
		m := dateInName.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		paris, err := time.LoadLocation("Europe/Paris")
		if err != nil {
			paris = time.FixedZone("CET", 3600) // no table of zones on this machine: an hour wrong in summer
		}
		if t, err := time.ParseInLocation("200601021504", m[1], paris); err == nil {
			return t.UTC()
		}
	}
	return modified
}

// parser reads the lines of an extraction into a builder.
type parser struct {
	file      string
	maxFaults int
	maxRows   int
	b         *builder

	line   int
	width  int // columns of a line
	place  [recordFields]int
	last   int // the highest of place
	faults int
	first  error
	cells  [][]byte
}

func (p *parser) parse(ctx context.Context, r io.Reader) error {
	br := bufio.NewReaderSize(&bounded{r: r, left: maxExtraction}, readerSize)
	for {
		line, err := p.next(br)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if p.line%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if p.width == 0 {
			var header bool
			if header, err = p.begin(line); err != nil {
				return err
			}
			if header {
				continue
			}
		}
		if err := p.row(line); err != nil {
			return err
		}
	}
}

// next gives the next line that is not empty, without its end.
func (p *parser) next(br *bufio.Reader) ([]byte, error) {
	for {
		line, err := br.ReadSlice('\n')
		p.line++
		switch {
		case errors.Is(err, bufio.ErrBufferFull), len(line) > maxLine:
			return nil, p.fault("", fmt.Sprintf("line of more than %d octets", maxLine))
		case err != nil && err != io.EOF:
			return nil, fmt.Errorf("%s:%d: %w", p.file, p.line, err)
		case err == io.EOF && len(line) == 0:
			return nil, io.EOF
		}
		if p.line == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(bytes.TrimSpace(line)) > 0 {
			return line, nil
		}
	}
}

func (p *parser) fault(column, what string) *FormatError {
	return &FormatError{File: p.file, Line: p.line, Column: column, Fault: what}
}

// begin finds the columns in the first line. It is the header if it names the address or the type; a first line that
// holds an address where the published form has it is a row already.
func (p *parser) begin(line []byte) (header bool, err error) {
	p.split(line)
	taken := make(map[int]bool)
	missing := 0
	for i, c := range columns {
		p.place[i] = -1
		for at, cell := range p.cells {
			if !taken[at] && hasPrefixFold(cell, c.name) {
				p.place[i], taken[at] = at, true
				break
			}
		}
		if p.place[i] < 0 {
			missing++
		}
	}
	header = p.place[0] >= 0 || p.place[1] >= 0
	if !header && len(p.cells) >= minColumns && validAddress(p.cells[columns[0].place]) {
		p.width, missing = len(p.cells), recordFields
	} else if !header && len(p.cells) < allColumns {
		return false, p.fault("", fmt.Sprintf("neither a header with %q and %q nor a line of %d columns separated by |",
			columns[1].name, columns[0].name, allColumns))
	} else {
		header = true
	}
	p.width = len(p.cells)
	for i, c := range columns {
		if p.place[i] >= 0 {
			continue
		}
		// By position only in the published form: elsewhere another column may stand there.
		byPlace := p.width == allColumns || missing == recordFields
		if byPlace && c.place < p.width && !taken[c.place] {
			p.place[i] = c.place
		} else if i < 2 {
			return false, p.fault(c.name, "not in the header")
		}
	}
	for _, at := range p.place[:entryFields] {
		p.last = max(p.last, at)
	}
	return header, nil
}

func hasPrefixFold(cell []byte, name string) bool {
	return len(cell) >= len(name) && strings.EqualFold(string(cell[:len(name)]), name)
}

// split cuts a line at the separators into p.cells; spaces and a pair of quotes around a cell are dropped.
func (p *parser) split(line []byte) {
	p.cells = p.cells[:0]
	for {
		cell, rest, more := bytes.Cut(line, []byte{'|'})
		cell = bytes.TrimSpace(cell)
		if len(cell) >= 2 && cell[0] == '"' && cell[len(cell)-1] == '"' {
			cell = cell[1 : len(cell)-1]
		}
		p.cells = append(p.cells, cell)
		if !more {
			return
		}
		line = rest
	}
}

// doubt says that too many lines are faulty for the rest to be believed.
func (p *parser) doubt() error {
	if p.faults <= p.maxFaults {
		return nil
	}
	return fmt.Errorf("%d faulty lines, more than %d, the first: %w", p.faults, p.maxFaults, p.first)
}

// row takes one line. A faulty one is left out and counted.
func (p *parser) row(line []byte) error {
	p.split(line)
	if fault := p.check(); fault != nil {
		if p.first == nil {
			p.first = fault
		}
		p.faults++
		return nil
	}
	if p.b.n >= p.maxRows {
		return fmt.Errorf("%w: %s: more than %d rows", ErrTooLarge, p.file, p.maxRows)
	}
	var row record
	for i, at := range p.place {
		if at >= 0 && at < len(p.cells) {
			row[i] = p.cells[at]
		}
	}
	if !utf8.Valid(line) {
		for i := range row {
			row[i] = fromLatin1(row[i])
		}
	}
	if len(row[2]) > 0 {
		row[2] = []byte(structureType(string(row[2])))
	}
	row[1] = bytes.ToUpper(row[1])
	row[0] = row[0][:min(len(row[0]), maxField/2)]
	return p.b.add(nil, &row)
}

// check looks at the cells of a row.
func (p *parser) check() error {
	n := len(p.cells)
	// A trailing empty column may be missing, or stand there once more.
	if n < p.width-1 || n <= p.last || n > p.width+1 || n == p.width+1 && len(p.cells[n-1]) > 0 {
		return p.fault("", fmt.Sprintf("%d columns, expected %d", n, p.width))
	}
	if !validAddress(p.cells[p.place[0]]) {
		return p.fault(columns[0].name, "not an address of the form local@domain")
	}
	kind := p.cells[p.place[1]]
	if len(kind) == 0 || len(kind) > maxKind {
		return p.fault(columns[1].name, "not a type of BAL (PER, ORG, …)")
	}
	for _, c := range kind {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			return p.fault(columns[1].name, "not a type of BAL (PER, ORG, …)")
		}
	}
	for i, at := range p.place[:entryFields] {
		// Latin-1 takes twice the room in UTF-8.
		if at >= 0 && at < n && len(p.cells[at]) > maxField/4 && i > 0 {
			return p.fault(columns[i].name, fmt.Sprintf("more than %d octets", maxField/4))
		}
	}
	return nil
}

// validAddress is what an address needs to be looked up: one @ with something before it and a domain behind it, no
// space, no control character, RFC 5321's length.
func validAddress(b []byte) bool {
	at := bytes.IndexByte(b, '@')
	if at < 1 || at == len(b)-1 || len(b) > maxAddress || bytes.IndexByte(b[at+1:], '@') >= 0 {
		return false
	}
	for _, c := range b {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

func fromLatin1(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = utf8.AppendRune(out, rune(c))
	}
	return out
}

// bounded fails where a reader gives more than it should: a ZIP member may say anything of its size.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%w: more than %d octets", ErrTooLarge, maxExtraction)
	}
	return n, err
}
