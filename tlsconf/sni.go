package tlsconf

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// CertFiles are those of a further certificate of a front.
type CertFiles struct{ CertFile, KeyFile string }

// addMore loads the further certificates. Each is a front of its own, with its own ticket keys and its own OCSP answer, that
// shares the listener: a session of one name cannot be resumed under another.
func (f *Front) addMore() error {
	for _, p := range f.cfg.More {
		cfg := f.cfg
		cfg.CertFile, cfg.KeyFile, cfg.More = p.CertFile, p.KeyFile, nil
		m, err := NewFront(cfg)
		if err != nil {
			return err
		}
		f.more = append(f.more, m)
	}
	return nil
}

// pick chooses the certificate for a peer: the first that holds the name it asks for (RFC 6066, Section 3) and that it can
// use; else the first that it can use, whatever its name; else the first. A peer that asks for no name gets the first that
// it can use, so that an RSA and an elliptic certificate may stand side by side.
func (f *Front) pick(hello *tls.ClientHelloInfo) *Front {
	if len(f.more) == 0 || hello == nil {
		return f
	}
	for _, name := range []string{hello.ServerName, ""} {
		h := *hello
		h.ServerName = name
		for _, m := range append([]*Front{f}, f.more...) {
			if h.SupportsCertificate(&m.loaded.Load().config.Certificates[0]) == nil {
				return m
			}
		}
	}
	return f
}

// Reload reads the files again. A pair that is at fault, which the error names, stays as it was; the others are taken.
func (f *Front) Reload() error {
	err := f.reload()
	for _, m := range f.more {
		err = errors.Join(err, m.reload())
	}
	return err
}

// Warning says what is not right with the certificates in use, nil if nothing: one is expired, expires within 30 days or is
// not valid yet, or is revoked. It is used all the same: the peer decides.
func (f *Front) Warning() error {
	err := f.warning()
	for _, m := range f.more {
		err = errors.Join(err, m.warning())
	}
	return err
}

// Dates are those of the certificates shown and of the chains in their files.
func (f *Front) Dates() []Date {
	dates := f.dates()
	for _, m := range f.more {
		dates = append(dates, m.dates()...)
	}
	return dates
}

// EndsFirst is when the first of the certificates shown ends.
func (f *Front) EndsFirst() time.Time {
	at := f.Leaf().NotAfter
	for _, m := range f.more {
		if end := m.Leaf().NotAfter; end.Before(at) {
			at = end
		}
	}
	return at
}

// KeepStapled shows, in each handshake, what the responder named in our own certificate says of it (RFC 6066, Section 8),
// until ctx ends. It does nothing for a certificate that names none; handshakes never wait for it, and go on without
// while the responder is away. anchors may hold the issuer where the certificate's file does not.
func (f *Front) KeepStapled(ctx context.Context, anchors func() *Anchors) {
	var all sync.WaitGroup
	for _, m := range append([]*Front{f}, f.more...) {
		all.Go(func() { m.keepStapled(ctx, anchors) })
	}
	all.Wait()
}

// Bears says whether one of the certificates is for a host name (RFC 9525, Section 6); the error names those that they are for.
func (f *Front) Bears(host string) error {
	var names []string
	for _, m := range append([]*Front{f}, f.more...) {
		leaf := m.Leaf()
		if leaf.VerifyHostname(host) == nil {
			return nil
		}
		names = append(names, leaf.DNSNames...)
	}
	if len(names) == 0 {
		return fmt.Errorf("front %s: the certificate names no host (subjectAltName); expected %s", f.cfg.Name, host)
	}
	const shown = 10
	more := ""
	if len(names) > shown {
		names, more = names[:shown], ", …"
	}
	return fmt.Errorf("front %s: the certificate is for %s%s; expected %s", f.cfg.Name, strings.Join(names, ", "), more, host)
}
