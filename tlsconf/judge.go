package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"
)

// Anchors are the authorities that this operator trusts, and no others.
type Anchors struct{}

// LoadAnchors reads authorities' certificates from PEM or DER files.
func LoadAnchors(files []string) (*Anchors, error) { return nil, errors.ErrUnsupported }

// Pools gives the certificates where chains end, and those that may stand between.
func (a *Anchors) Pools() (roots, intermediates *x509.CertPool) { return nil, nil }

// Empty says that nothing can be trusted.
func (a *Anchors) Empty() bool { return true }

// JudgeConfig says by what a peer's certificate is judged.
type JudgeConfig struct {
	AnchorFiles       []string
	CRLFiles          []string         // none: revocation is not looked at
	RequireClientAuth bool             // else serverAuth is accepted too
	CRLGrace          time.Duration    // after nextUpdate; zero is 24 h
	Now               func() time.Time // Optional.
}

// Judge gives the verdict on a peer's certificate.
type Judge struct{}

// NewJudge reads anchors and CRLs; missing trust data is no error here, see Usable.
func NewJudge(cfg JudgeConfig) (*Judge, error) { return nil, errors.ErrUnsupported }

// Peer judges the certificates of a finished handshake, full or resumed.
func (j *Judge) Peer(cs tls.ConnectionState) Verdict { return Verdict{} }

// Reload reads the files again. On an error what was read before stays.
func (j *Judge) Reload() error { return errors.ErrUnsupported }

// Generation grows whenever anchors or CRLs change.
func (j *Judge) Generation() uint64 { return 0 }

// Usable is nil when verdicts can be given now, else says what is missing.
func (j *Judge) Usable() error { return errors.ErrUnsupported }

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

// Verdict is the judgement on one peer at one time.
type Verdict struct {
	Reason     Reason
	DN         DN                // of the leaf, when there is one
	Leaf       *x509.Certificate // nil when the peer showed none
	Serial     string            // upper case hexadecimal
	Usage      string            // extended usages seen: "clientAuth", "serverAuth", "clientAuth+serverAuth", "any", "none" …
	Detail     string            // more about Reason, ASCII; may be empty
	At         time.Time         // of expiry, of revocation, of becoming valid
	Generation uint64            // of the Judge
}

// OK says that the certificate was accepted.
func (v Verdict) OK() bool { return v.Reason == OK }

// Temporary says that the fault is ours: the peer should try again.
func (v Verdict) Temporary() bool { return v.Reason == NotUsable || v.Reason == RevocationUnknown }

// Text is one line of ASCII, fit for an SMTP reply.
func (v Verdict) Text() string { return "" }

// String is the name of the reason.
func (r Reason) String() string { return "" }
