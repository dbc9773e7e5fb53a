package audit

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mssd/directory/whitelist"
	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

// Names of the invented trust space. Nothing ends in a name that exists.
const (
	Hostname   = "mss.autotest.test"
	ListSigner = "liste-blanche.autotest.test"

	OurDomain = "officines.autotest.test"
	Active    = "pharmacie@" + OurDomain
	Suspended = "suspendue@" + OurDomain
	Closed    = "fermee@" + OurDomain
	Declared  = "declaree@" + OurDomain
	Full      = "pleine@" + OurDomain // a quota of one octet

	nobody        = "inconnue@" + OurDomain
	partnerDomain = "partenaire.test"
	partnerCN     = "mail." + partnerDomain
	day           = 24 * time.Hour
)

// Trust is the invented trust space and its files.
type Trust struct {
	Anchors    string // root and issuing authority
	Root       string // the root alone
	CRLs       []string
	List       string
	Cert, Key  string // of the operator
	authority  *testpki.PKI
	impostor   *testpki.PKI // the same names, other keys
	signer     *testpki.Identity
	signers    map[signerKey]*testpki.Identity
	began      time.Time
	revokedAt  time.Time
	revoked    []*big.Int
	peers      map[string]*testpki.Identity
	rows       []whitelist.Binding
	issuingCRL string
}

// New makes the trust space in dir, which must exist.
func New(dir string) (*Trust, error) {
	file := func(name string) string { return filepath.Join(dir, name) }
	t := &Trust{Anchors: file("autorites.pem"), Root: file("racine.pem"), CRLs: []string{file("emettrice.crl"), file("racine.crl")},
		List: file("listeblanche.xml"), Cert: file("serveur.pem"), Key: file("serveur.key"), issuingCRL: file("emettrice.crl"),
		began: time.Now(), peers: make(map[string]*testpki.Identity), signers: make(map[signerKey]*testpki.Identity)}
	t.revokedAt = t.began.Add(-2 * day).Truncate(time.Second)
	var err error
	if t.authority, err = testpki.New(); err != nil {
		return nil, err
	}
	if t.impostor, err = testpki.New(); err != nil {
		return nil, err
	}
	if t.signer, err = t.signerOf(t.authority, ListSigner, t.began.Add(300*day)); err != nil {
		return nil, err
	}
	if err := t.issue(); err != nil {
		return nil, err
	}
	if err := t.authority.WriteAnchors(t.Anchors); err != nil {
		return nil, err
	}
	if err := testpki.WriteCerts(t.Root, t.authority.Root.Cert); err != nil {
		return nil, err
	}
	if err := t.peers["own"].WriteFiles(t.Cert, t.Key); err != nil {
		return nil, err
	}
	root, err := t.authority.Root.CRL(t.revokedAt, t.began.Add(30*day))
	if err != nil {
		return nil, err
	}
	if err := tlsconf.ReplaceFile(t.CRLs[1], root); err != nil {
		return nil, err
	}
	t.revoked = []*big.Int{t.peers["revoked"].Cert.SerialNumber}
	if err := t.writeCRL(t.revokedAt, t.began.Add(7*day)); err != nil {
		return nil, err
	}
	return t, t.writeList(t.listOf(t.rows, t.signer, t.began.Add(-time.Hour)))
}

// issue makes every certificate. A peer that must be refused for its certificate has a domain that the list binds to it.
func (t *Trust) issue() error {
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	subject := func(name string) testpki.Subject {
		return testpki.Subject{C: "FR", ST: "Paris (75)", O: "OPERATEUR TEST " + strings.ToUpper(name), OU: "300000000000099", CN: "mail." + name + ".test"}
	}
	partner := subject("partenaire")
	other := partner
	other.O = "AUTRE OPERATEUR TEST"
	issuing := t.authority.Issuing
	for _, p := range []struct {
		name, domain string // "": the list has no row of its own for it
		by           *testpki.Authority
		req          testpki.Request
	}{
		{"partner", partnerDomain, issuing, testpki.Request{Subject: partner}},
		{"other", "autre.test", issuing, testpki.Request{Subject: subject("autre")}},
		{"leaving", "sortant.test", issuing, testpki.Request{Subject: subject("sortant")}},
		{"expired", "expire.test", issuing, testpki.Request{Subject: subject("expire"), NotBefore: t.began.Add(-800 * day), NotAfter: t.began.Add(-day)}},
		{"early", "futur.test", issuing, testpki.Request{Subject: subject("futur"), NotBefore: t.began.Add(2 * day)}},
		{"revoked", "revoque.test", issuing, testpki.Request{Subject: subject("revoque")}},
		{"mailonly", "usage.test", issuing, testpki.Request{Subject: subject("usage"), Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}},
		{"kept", "garde.test", issuing, testpki.Request{Subject: subject("garde")}},
		{"resumed12", "reprise12.test", issuing, testpki.Request{Subject: subject("reprise12")}},
		{"resumed13", "reprise13.test", issuing, testpki.Request{Subject: subject("reprise13")}},
		{"own", OurDomain, issuing, testpki.Request{Subject: testpki.Subject{C: "FR", ST: "Paris (75)", O: "OPERATEUR TEST AUTOTEST", OU: "300000000000098", CN: Hostname},
			DNSNames: []string{Hostname}}},
		{"spelt", "", issuing, testpki.Request{Subject: subject("ecriture")}},
		{"foreign", "", t.impostor.Issuing, testpki.Request{Subject: partner}},
		{"alone", "", nil, testpki.Request{Subject: partner}},
		{"unlisted", "", issuing, testpki.Request{Subject: subject("horsliste")}},
		{"moved", "", issuing, testpki.Request{Subject: other}},
	} {
		if p.req.Usages == nil {
			p.req.Usages = usages
		}
		id, err := (*testpki.Identity)(nil), error(nil)
		if p.by == nil {
			id, err = testpki.SelfSigned(p.req)
		} else {
			id, err = p.by.Issue(p.req)
		}
		if err != nil {
			return fmt.Errorf("certificate %s: %w", p.name, err)
		}
		t.peers[p.name] = id
		if p.domain != "" {
			t.rows = append(t.rows, whitelist.Binding{Domain: p.domain, DN: id.DN(), Description: "autotest"})
		}
	}
	spelt := strings.NewReplacer("O=OPERATEUR TEST ECRITURE", `O="Operateur  Test  Ecriture"`).Replace(t.peers["spelt"].DN())
	t.rows = append(t.rows, whitelist.Binding{Domain: "ecriture.test", DN: spelt, Description: "autotest"},
		whitelist.Binding{Domain: "deux.test", DN: t.peers["other"].DN(), Description: "autotest"},
		whitelist.Binding{Domain: "deux.test", DN: spelt, Description: "autotest"})
	leaf := *t.peers["partner"]
	leaf.Chain = leaf.Chain[:1]
	t.peers["leaf"] = &leaf
	return nil
}

// signerOf is who signs lists under a name of an authority until a time: of the S/MIME family with an RSA key, as the real
// one is, and valid for longer than the oldest list is old. It is made once.
func (t *Trust) signerOf(pki *testpki.PKI, name string, until time.Time) (*testpki.Identity, error) {
	key := signerKey{pki, name, until}
	if id := t.signers[key]; id != nil {
		return id, nil
	}
	id, err := pki.Issuing.Issue(testpki.Request{Subject: testpki.Subject{C: "FR", O: "SIGNATAIRE TEST", CN: name}, Key: testpki.RSA2048,
		NotBefore: t.began.Add(-30 * day), NotAfter: until, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment})
	if err == nil {
		t.signers[key] = id
	}
	return id, err
}

type signerKey struct {
	by    *testpki.PKI
	name  string
	until time.Time
}

// revoke publishes a list that names one more peer, and writes when.
func (t *Trust) revoke(who string) error {
	t.revoked = append(t.revoked, t.peers[who].Cert.SerialNumber)
	return t.writeCRL(t.revokedAt, t.began.Add(7*day))
}

// writeCRL publishes the list of the issuing authority.
func (t *Trust) writeCRL(thisUpdate, nextUpdate time.Time) error {
	der, err := t.authority.Issuing.CRL(thisUpdate, nextUpdate, t.revoked...)
	if err != nil {
		return err
	}
	return tlsconf.ReplaceFile(t.issuingCRL, der)
}

// listOf makes a signed white list; the error comes with writeList.
func (t *Trust) listOf(rows []whitelist.Binding, signer *testpki.Identity, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	err := whitelist.Make(&b, rows, signer.Cert, signer.Key, at)
	return b.Bytes(), err
}

func (t *Trust) writeList(b []byte, err error) error {
	if err != nil {
		return fmt.Errorf("white list: %w", err)
	}
	return tlsconf.ReplaceFile(t.List, b)
}

// good is the list of the beginning, made a moment later.
func (t *Trust) good() ([]byte, error) { return os.ReadFile(t.List) }

// Authorities names the root and the issuing authority, for the report.
func (t *Trust) Authorities() []Authority {
	var out []Authority
	for _, c := range []*x509.Certificate{t.authority.Root.Cert, t.authority.Issuing.Cert} {
		sum := sha256.Sum256(c.Raw)
		dn, _ := tlsconf.DNFromRaw(c.RawSubject)
		out = append(out, Authority{Subject: dn.String(), SHA256: hex.EncodeToString(sum[:])})
	}
	return out
}

// roots verify the certificate of the front.
func (t *Trust) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(t.authority.Root.Cert)
	return pool
}
