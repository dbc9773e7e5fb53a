package whitelist

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"mssd/tlsconf"
)

// MaxSize is the most octets of a list that are read: sixteen times the list of 2025.
const MaxSize = 64 << 20

// futureSkew is how far ahead of our clock a list may have been made.
const futureSkew = 24 * time.Hour

// Options say whose signature on a list is taken.
type Options struct {
	Anchors *tlsconf.Anchors // where the signer's chain must end
	// AnchorsNow, if set, is asked for the anchors at each load in place of Anchors, so that new ones need no
	// restart. Optional.
	AnchorsNow  func() *tlsconf.Anchors
	SignerNames []string // common names or mail addresses of signers; several, so that they can overlap
	// NoChain: digest and signature only, anybody may have signed. For looking at a file, never for a daemon.
	NoChain bool
	// Judge, if set, is asked whether the signer is revoked now. Optional.
	Judge *tlsconf.Judge
	Now   func() time.Time // Optional.
}

// Errors of Load, beside ErrSignature and *FormError.
var (
	ErrTooLarge  = fmt.Errorf("list is larger than %d octets", MaxSize)
	ErrSigner    = errors.New("signer is not accepted")
	ErrNoAnchors = errors.New("no trust anchors to check the signer against")
)

// List is one checked list. It never changes.
type List struct {
	SHA256 [32]byte // of the whole file

	generated time.Time
	signer    *x509.Certificate
	chained   bool
	rows      int
	domains   map[string]*domain
	dns       map[string]struct{} // canonical keys of all DNs
	dnStrings int
	faults    []error
}

// domain is one mail domain; a parent or a child of it is another one.
type domain struct {
	dns      []tlsconf.DN
	doubtful bool // one of its rows could not be read
}

// Load checks a list and reads it. Nothing is taken from octets that the signature does not cover.
func Load(xml []byte, opt Options) (*List, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if len(xml) > MaxSize {
		return nil, ErrTooLarge
	}
	doc, err := split(xml)
	if err != nil {
		return nil, err
	}
	if err := doc.verify(); err != nil {
		return nil, err
	}
	l := &List{SHA256: sha256.Sum256(xml), signer: doc.certs[0], chained: !opt.NoChain}
	if err := l.read(doc.body); err != nil {
		return nil, err
	}
	if l.generated.After(opt.Now().Add(futureSkew)) {
		return nil, fmt.Errorf("list was made on %s (DateDeGeneration), which lies in the future", l.generated.Format(time.RFC3339))
	}
	if !opt.NoChain {
		if err := checkSigner(doc.certs, l.generated, opt); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Generated is DateDeGeneration, when the list was made.
func (l *List) Generated() time.Time { return l.generated }

// Rows is the number of Domaine elements.
func (l *List) Rows() int { return l.rows }

// Domains is the number of distinct domains.
func (l *List) Domains() int { return len(l.domains) }

// DNs is the number of distinct DNCertificatOperateur texts. (Some print one name in two ways.)
func (l *List) DNs() int { return l.dnStrings }

// Signer is the certificate whose key signed the list.
func (l *List) Signer() *x509.Certificate { return l.signer }

// ChainChecked is false when the list was loaded with NoChain: anybody may have made it.
func (l *List) ChainChecked() bool { return l.chained }

// Faults are the rows that could not be read, each with its number; they bind nothing.
func (l *List) Faults() []error { return l.faults }

// Version names the list in traces: when it was made, and the first digits of its digest.
func (l *List) Version() string {
	return l.generated.Format("20060102T150405Z") + "-" + fmt.Sprintf("%x", l.SHA256[:4])
}

// Bound says whether the list binds this very domain to this DN.
func (l *List) Bound(name string, dn tlsconf.DN) bool {
	d := l.domains[strings.ToLower(name)]
	if d == nil || dn.IsZero() {
		return false
	}
	for _, have := range d.dns {
		if have.Equal(dn) {
			return true
		}
	}
	return false
}

// Listed says whether the domain is in the list, exactly as written: no inheritance from parents.
func (l *List) Listed(name string) bool { return l.domains[strings.ToLower(name)] != nil }

// Doubtful says that a row of this domain could not be read, so a no about it is not certain.
func (l *List) Doubtful(name string) bool {
	d := l.domains[strings.ToLower(name)]
	return d != nil && d.doubtful
}

// KnowsDN says whether any domain is bound to this DN.
func (l *List) KnowsDN(dn tlsconf.DN) bool {
	_, ok := l.dns[dn.Key()]
	return ok && !dn.IsZero()
}

// checkSigner judges the signer as of the day the list was made: a list outlives its signer's certificate.
func checkSigner(certs []*x509.Certificate, generated time.Time, opt Options) error {
	if len(opt.SignerNames) == 0 {
		return fmt.Errorf("%w: no signer's name is configured, and any certificate of the anchors would do", ErrSigner)
	}
	anchors := opt.Anchors
	if opt.AnchorsNow != nil {
		anchors = opt.AnchorsNow()
	}
	if anchors.Empty() {
		return ErrNoAnchors
	}
	signer := certs[0]
	if !namedSigner(signer, opt.SignerNames) {
		return fmt.Errorf("%w: %s, expected one of %s", ErrSigner, signer.Subject, strings.Join(opt.SignerNames, ", "))
	}
	if ku := signer.KeyUsage; ku != 0 && ku&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0 {
		return fmt.Errorf("%w: its key usage has neither digitalSignature nor nonRepudiation", ErrSigner)
	}
	roots, configured := anchors.Pools()
	intermediates := configured.Clone()
	for _, c := range certs[1:] {
		intermediates.AddCert(c)
	}
	chains, err := signer.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: generated,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // the real signer is of the S/MIME family
	})
	if err != nil {
		return fmt.Errorf("%w on %s: %w", ErrSigner, generated.Format(time.DateOnly), err)
	}
	if opt.Judge == nil {
		return nil
	}
	if when, revoked := opt.Judge.RevokedIn(chains[0]); revoked {
		return fmt.Errorf("%w: revoked on %s", ErrSigner, when.UTC().Format(time.DateOnly))
	}
	return nil
}

func namedSigner(c *x509.Certificate, names []string) bool {
	for _, n := range names {
		if n != "" && strings.EqualFold(n, c.Subject.CommonName) {
			return true
		}
		for _, m := range c.EmailAddresses {
			if n != "" && strings.EqualFold(n, m) {
				return true
			}
		}
	}
	return false
}

// rowFields are the children of Domaine: all of them, in this order.
var rowFields = [...]string{"Nom", "Description", "DNCertificatOperateur", "ResponsableContact", "SupportContact", "DateMAJ"}

const (
	fieldNom     = 0
	fieldDN      = 2
	fieldDateMAJ = 5
)

// bodyReader reads the rows from the canonical octets.
type bodyReader struct {
	s    scanner
	list *List
	seen map[string]tlsconf.DN // by the text of a DN: 391 texts stand in 6,494 rows
	bad  map[string]error
}

func (l *List) read(body []byte) error {
	l.domains, l.dns = make(map[string]*domain), make(map[string]struct{})
	r := &bodyReader{s: scanner{b: body}, list: l, seen: make(map[string]tlsconf.DN), bad: make(map[string]error)}
	if _, err := r.s.next(); err != nil { // the root, known since split
		return err
	}
	if err := r.open("DateDeGeneration"); err != nil {
		return err
	}
	text, at, err := r.leaf("DateDeGeneration")
	if err != nil {
		return err
	}
	if l.generated, err = parseTime(string(text)); err != nil {
		return r.s.fail(at, "DateDeGeneration as 2006-01-02T15:04:05Z")
	}
	if err := r.open("ListeDomaines"); err != nil {
		return err
	}
	if err := r.readRows(); err != nil {
		return err
	}
	l.dnStrings = len(r.seen) + len(r.bad)
	t, err := r.tag() // </ListeBlancheMSSante>
	if err == nil && t.kind != tokEnd {
		err = r.s.fail(t.offset, "</ListeBlancheMSSante> after ListeDomaines")
	}
	return err
}

func (r *bodyReader) readRows() error {
	for {
		t, err := r.tag()
		if err != nil {
			return err
		}
		if t.kind == tokEnd {
			return nil
		}
		if t.name != "Domaine" {
			return r.s.fail(t.offset, "<Domaine> in ListeDomaines")
		}
		r.list.rows++
		if err := r.row(); err != nil {
			return fmt.Errorf("row %d: %w", r.list.rows, err)
		}
	}
}

func (r *bodyReader) row() error {
	var name, dnText string
	for i, field := range rowFields {
		if err := r.open(field); err != nil {
			return err
		}
		text, at, err := r.leaf(field)
		if err != nil {
			return err
		}
		switch i {
		case fieldNom:
			name = string(text)
		case fieldDN:
			dnText = string(text)
		case fieldDateMAJ:
			// It may lie after DateDeGeneration, and does; it must only be a date.
			if _, err := parseTime(string(text)); err != nil {
				return r.s.fail(at, "DateMAJ as 2006-01-02T15:04:05Z")
			}
		}
	}
	t, err := r.tag()
	if err == nil && t.kind != tokEnd {
		err = r.s.fail(t.offset, "</Domaine> after DateMAJ")
	}
	if err == nil {
		r.bind(name, dnText)
	}
	return err
}

// bind adds a row to the index. The same pair twice is one.
func (r *bodyReader) bind(name, dnText string) {
	l := r.list
	name = strings.ToLower(name)
	if !validDomain(name) {
		l.faults = append(l.faults, fmt.Errorf("row %d: Nom: %q is not a domain name", l.rows, cut(name)))
		return
	}
	d := l.domains[name]
	if d == nil {
		d = &domain{}
		l.domains[name] = d
	}
	dn, err := r.parseDN(dnText)
	if err != nil {
		d.doubtful = true
		l.faults = append(l.faults, fmt.Errorf("row %d (%s): DNCertificatOperateur: %w", l.rows, name, err))
		return
	}
	for _, have := range d.dns {
		if have.Equal(dn) {
			return
		}
	}
	d.dns = append(d.dns, dn)
	l.dns[dn.Key()] = struct{}{}
}

func (r *bodyReader) parseDN(text string) (tlsconf.DN, error) {
	if dn, ok := r.seen[text]; ok {
		return dn, nil
	}
	if err, ok := r.bad[text]; ok {
		return tlsconf.DN{}, err
	}
	dn, err := tlsconf.ParseDN(text)
	if err != nil {
		r.bad[text] = err
		return tlsconf.DN{}, err
	}
	r.seen[text] = dn
	return dn, nil
}

// tag gives the next token that is a tag; between tags stands white space only.
func (r *bodyReader) tag() (token, error) {
	for {
		t, err := r.s.next()
		if err != nil || t.kind != tokText {
			return t, err
		}
		if len(bytes.TrimSpace(t.text)) > 0 {
			return t, r.s.fail(t.offset, "an element, not text")
		}
	}
}

func (r *bodyReader) open(name string) error {
	t, err := r.tag()
	if err == nil && (t.kind != tokStart || t.name != name) {
		err = r.s.fail(t.offset, "<"+name+">")
	}
	return err
}

// leaf gives the text of an element that has nothing else inside, and passes its end.
func (r *bodyReader) leaf(name string) (text []byte, at int, err error) {
	t, err := r.s.next()
	at = t.offset
	if err == nil && t.kind == tokText {
		text = bytes.TrimSpace(t.text)
		t, err = r.s.next()
	}
	if err == nil && t.kind != tokEnd {
		err = r.s.fail(t.offset, "text only in "+name)
	}
	return text, at, err
}

func parseTime(s string) (time.Time, error) {
	t, err := time.Parse("2006-01-02T15:04:05Z07:00", s)
	return t.UTC(), err
}

// validDomain takes names in lower case ASCII (RFC 5321, Section 4.1.2, Domain).
func validDomain(s string) bool {
	if len(s) == 0 || len(s) > 255 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

func cut(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
