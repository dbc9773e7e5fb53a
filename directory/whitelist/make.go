package whitelist

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"mssd/tlsconf"
)

// Binding is one row of a list to be made.
type Binding struct{ Domain, DN, Description string }

// Make writes a signed list in the form of the real one. Rows are sorted by domain and otherwise left in their order.
// The key must be the signer's, RSA. Every faulty row is an error: a list that we make has none.
func Make(w io.Writer, rows []Binding, signer *x509.Certificate, key crypto.Signer, generated time.Time) error {
	if err := checkMaker(signer, key); err != nil {
		return err
	}
	body, err := makeBody(rows, generated)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(canonicalBody(body))
	info := signedInfoXML(digest)
	// In its place SignedInfo inherits the namespace; by itself it declares it.
	canonical := expandEmpty(strings.Replace(info, "<SignedInfo>", `<SignedInfo xmlns="`+dsigNS+`">`, 1))
	hash := sha256.Sum256([]byte(canonical))
	value, err := key.Sign(rand.Reader, hash[:], crypto.SHA256)
	if err != nil {
		return err
	}
	sig := `<Signature xmlns="` + dsigNS + `">` + info +
		"<SignatureValue>" + base64Lines(value) + "</SignatureValue>" +
		"<KeyInfo><X509Data><X509Certificate>" + base64Lines(signer.Raw) + "</X509Certificate></X509Data></KeyInfo></Signature>"
	doc := declarations[0] + body + sig + "</ListeBlancheMSSante>"
	// What cannot be loaded (a control character in a description, say) is not written.
	if _, err := Load([]byte(doc), Options{NoChain: true, Now: func() time.Time { return generated }}); err != nil {
		return fmt.Errorf("whitelist: rows do not give a list: %w", err)
	}
	_, err = io.WriteString(w, doc)
	return err
}

func checkMaker(signer *x509.Certificate, key crypto.Signer) error {
	pub, ok := key.Public().(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("whitelist: key is %T, expected RSA: lists are signed with rsa-sha256", key.Public())
	}
	if !pub.Equal(signer.PublicKey) {
		return fmt.Errorf("whitelist: key does not belong to the certificate of %s", signer.Subject)
	}
	if pub.N.BitLen() < minSignerBits {
		return fmt.Errorf("whitelist: key has %d bits, expected at least %d", pub.N.BitLen(), minSignerBits)
	}
	return nil
}

// makeBody gives the root without its Signature and its end. It is in canonical form.
func makeBody(rows []Binding, generated time.Time) (string, error) {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b Binding) int { return strings.Compare(a.Domain, b.Domain) })
	at := generated.UTC().Format("2006-01-02T15:04:05Z")
	var b bytes.Buffer
	fmt.Fprintf(&b, "<ListeBlancheMSSante xmlns=\"%s\">\n    <DateDeGeneration>%s</DateDeGeneration>\n    <ListeDomaines>\n", listNS, at)
	for i, r := range rows {
		if !validDomain(r.Domain) {
			return "", fmt.Errorf("whitelist: row %d: %q is not a domain name in lower case", i+1, r.Domain)
		}
		if _, err := tlsconf.ParseDN(r.DN); err != nil {
			return "", fmt.Errorf("whitelist: row %d (%s): DN: %w", i+1, r.Domain, err)
		}
		if r.Description == "" {
			r.Description = "Domaine " + r.Domain
		}
		contact := "postmaster@" + r.Domain
		b.WriteString("        <Domaine>\n")
		for j, v := range []string{r.Domain, r.Description, r.DN, contact, contact, at} {
			fmt.Fprintf(&b, "            <%s>%s</%[1]s>\n", rowFields[j], appendText(nil, []byte(v)))
		}
		b.WriteString("        </Domaine>\n")
	}
	b.WriteString("    </ListeDomaines>\n")
	return b.String(), nil
}

func canonicalBody(body string) []byte { return []byte(body + "</ListeBlancheMSSante>") }

func signedInfoXML(digest [32]byte) string {
	return `<SignedInfo><CanonicalizationMethod Algorithm="` + algC14N + `"/><SignatureMethod Algorithm="` + algRSASHA256 +
		`"/><Reference URI=""><Transforms><Transform Algorithm="` + algEnveloped + `"/><Transform Algorithm="` + algC14N +
		`"/></Transforms><DigestMethod Algorithm="` + algSHA256 + `"/><DigestValue>` +
		base64.StdEncoding.EncodeToString(digest[:]) + `</DigestValue></Reference></SignedInfo>`
}

// expandEmpty writes <x a="b"/> as <x a="b"></x>.
func expandEmpty(s string) string {
	for _, name := range []string{"CanonicalizationMethod", "SignatureMethod", "Transform", "DigestMethod"} {
		parts := strings.Split(s, "<"+name+" ")
		for i := 1; i < len(parts); i++ {
			parts[i] = strings.Replace(parts[i], "/>", "></"+name+">", 1)
		}
		s = strings.Join(parts, "<"+name+" ")
	}
	return s
}

// base64Lines breaks lines at 76 characters with a CR that stands as a reference, as the real list does.
func base64Lines(b []byte) string {
	s := base64.StdEncoding.EncodeToString(b)
	var lines []string
	for len(s) > 76 {
		lines = append(lines, s[:76])
		s = s[76:]
	}
	return strings.Join(append(lines, s), "&#13;\n")
}
