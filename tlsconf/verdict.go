package tlsconf

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// Reason is why a peer's certificate was accepted or refused.
type Reason uint8

const (
	NotUsable         Reason = iota // our anchors are missing: temporary
	OK                              // may speak, for the domains of its DN
	NoCertificate                   // the peer showed none
	ForeignChain                    // does not lead to our anchors
	Expired                         // it, or an authority above it
	NotYetValid                     // it, or an authority above it
	Revoked                         // by its authority
	WrongUsage                      // not made for TLS
	WeakKey                         // RSA under 2048 bits, SHA-1 and the like
	RevocationUnknown               // our CRL is missing or stale: temporary
)

// reasons has, for each reason, the name for logs and the words for the peer.
var reasons = [...]struct{ name, text string }{
	NotUsable:         {"not_usable", "certificates cannot be checked now"},
	OK:                {"ok", "certificate accepted"},
	NoCertificate:     {"no_certificate", "no client certificate was presented"},
	ForeignChain:      {"foreign_chain", "certificate is not issued by a trusted authority"},
	Expired:           {"expired", "certificate expired"},
	NotYetValid:       {"not_yet_valid", "certificate not yet valid"},
	Revoked:           {"revoked", "certificate revoked"},
	WrongUsage:        {"wrong_usage", "certificate is not made for this use"},
	WeakKey:           {"weak_key", "certificate is too weak"},
	RevocationUnknown: {"revocation_unknown", "revocation of the certificate cannot be checked now"},
}

// String is the name of the reason, for logs, traces and metrics.
func (r Reason) String() string {
	if int(r) >= len(reasons) {
		return fmt.Sprintf("reason_%d", uint8(r))
	}
	return reasons[r].name
}

// Verdict is the judgement on one peer at one time.
type Verdict struct {
	Reason     Reason
	DN         DN                // of the leaf, when there is one that can be read
	Leaf       *x509.Certificate // nil when the peer showed none
	Serial     string            // of the leaf, upper case hexadecimal
	Usage      string            // extended usages seen: "clientAuth", "serverAuth", "clientAuth+serverAuth", "any", "none" …
	Detail     string            // more about Reason, ASCII; may be empty
	At         time.Time         // of expiry, of revocation, of becoming valid
	Generation uint64            // of the Judge

	issuer *x509.Certificate // of the leaf, where a responder can settle what is left open; else nil
}

// OK says that the certificate was accepted.
func (v Verdict) OK() bool { return v.Reason == OK }

// Temporary says that the fault is ours: the peer should try again.
func (v Verdict) Temporary() bool { return v.Reason == NotUsable || v.Reason == RevocationUnknown }

// Text is one line of ASCII, fit for an SMTP reply, such as "certificate revoked on 2026-05-03 (serial 0A1B)".
func (v Verdict) Text() string {
	if int(v.Reason) >= len(reasons) {
		return "certificate refused"
	}
	var b strings.Builder
	b.WriteString(reasons[v.Reason].text)
	if v.Detail != "" {
		b.WriteString(": " + v.Detail)
	}
	switch {
	case v.At.IsZero():
	case v.Reason == NotYetValid:
		b.WriteString(" (valid from " + day(v.At) + ")")
	default:
		b.WriteString(" on " + day(v.At))
	}
	if v.Reason == Revoked && v.Serial != "" {
		b.WriteString(" (serial " + v.Serial + ")")
	}
	return b.String()
}

// serialText prints a serial number in whole octets; a peer could show one of any length.
func serialText(c *x509.Certificate) string {
	s := fmt.Sprintf("%X", c.SerialNumber.Bytes())
	if len(s) > 64 {
		s = s[:64]
	}
	if s == "" {
		s = "00"
	}
	return s
}

var usageNames = map[x509.ExtKeyUsage]string{
	x509.ExtKeyUsageAny: "any", x509.ExtKeyUsageClientAuth: "clientAuth", x509.ExtKeyUsageServerAuth: "serverAuth",
	x509.ExtKeyUsageEmailProtection: "emailProtection", x509.ExtKeyUsageCodeSigning: "codeSigning",
	x509.ExtKeyUsageTimeStamping: "timeStamping", x509.ExtKeyUsageOCSPSigning: "OCSPSigning",
}

// usageText names the extended usages of a certificate, clientAuth first.
func usageText(c *x509.Certificate) string {
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 {
		return "none"
	}
	var names []string
	add := func(n string) {
		for _, o := range names {
			if o == n {
				return
			}
		}
		names = append(names, n)
	}
	for _, u := range c.ExtKeyUsage {
		if u == x509.ExtKeyUsageClientAuth {
			add("clientAuth")
		}
	}
	for _, u := range c.ExtKeyUsage {
		if n, ok := usageNames[u]; ok {
			add(n)
		} else {
			add("other")
		}
	}
	if len(c.UnknownExtKeyUsage) > 0 {
		add("other")
	}
	return strings.Join(names, "+")
}
