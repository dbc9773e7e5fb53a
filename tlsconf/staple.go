package tlsconf

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"

	"mssd/tlsconf/fetch"
)

const (
	stapleLook    = time.Minute      // between two looks at whether an answer is due
	stapleWithin  = 20 * time.Second // a question; no handshake waits for it
	stapleRetry   = 5 * time.Minute  // after a failure, doubling
	stapleAtLeast = time.Hour
	stapleAtMost  = 12 * time.Hour
)

// stapling is what is known of the answer about our own certificate; one goroutine uses it.
type stapling struct {
	leaf  *x509.Certificate // that the rest is about
	until time.Time         // the answer shown ends; zero: none is shown
	due   time.Time         // ask again
	fails int
}

func (f *Front) keepStapled(ctx context.Context, anchors func() *Anchors) {
	var s stapling
	for {
		f.staple(ctx, &s, anchors())
		select {
		case <-ctx.Done():
			return
		case <-time.After(stapleLook):
		}
	}
}

// staple asks when an answer is due.
func (f *Front) staple(ctx context.Context, s *stapling, anchors *Anchors) {
	was, now := f.loaded.Load(), f.cfg.Now()
	if s.leaf == nil || !s.leaf.Equal(was.leaf) {
		*s = stapling{leaf: was.leaf}
	}
	if !s.until.IsZero() && !now.Before(s.until) {
		was = f.show(was, nil)
		s.until = time.Time{}
	}
	if now.Before(s.due) && s.due.Sub(now) <= stapleAtMost {
		return
	}
	url, issuer := stapleSource(was, anchors)
	if url == "" {
		s.due = now.Add(stapleAtLeast)
		return
	}
	a := f.askStaple(ctx, url, was.leaf, issuer, anchors)
	if a.err != nil {
		s.due = now.Add(min(stapleRetry<<min(s.fails, 8), stapleAtMost))
		s.fails++
		f.cfg.Log.Warn("no OCSP answer about our own certificate", "front", f.cfg.Name, "err", a.err)
		return
	}
	s.fails, s.until = 0, a.until
	// Half of what is left: there is time for many more attempts before it ends.
	s.due = now.Add(min(max(a.until.Sub(now)/2, stapleAtLeast), stapleAtMost))
	if f.mu.Lock(); a.revoked {
		f.revoked = a.at
	} else {
		f.revoked = time.Time{}
	}
	f.mu.Unlock()
	if a.revoked {
		f.cfg.Log.Error("our own certificate is revoked", "front", f.cfg.Name, "since", a.at)
		a.raw = nil
	}
	f.show(was, a.raw)
}

func (f *Front) askStaple(ctx context.Context, url string, leaf, issuer *x509.Certificate, anchors *Anchors) ocspAnswer {
	if issuer == nil {
		return ocspAnswer{err: errors.New("its issuer is neither in its file nor among the anchors")}
	}
	ctx, cancel := context.WithTimeout(ctx, stapleWithin)
	defer cancel()
	client := ocspHTTP(func() *x509.CertPool {
		roots, _ := anchors.Pools()
		return roots
	})
	// No nonce: what is shown to many is no answer to one of them.
	return askOCSP(ctx, client, url, leaf, issuer, false, f.cfg.Now, nil)
}

// stapleSource is the responder that our certificate names, and its issuer.
func stapleSource(s *frontState, anchors *Anchors) (url string, issuer *x509.Certificate) {
	for _, u := range s.leaf.OCSPServer {
		if fetch.Check(u, true) == nil {
			url = u
			break
		}
	}
	candidates := anchors.Certs()
	for _, der := range s.config.Certificates[0].Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			candidates = append(candidates[:len(candidates):len(candidates)], c)
		}
	}
	for _, c := range candidates {
		if bytes.Equal(c.RawSubject, s.leaf.RawIssuer) && s.leaf.CheckSignatureFrom(c) == nil {
			return url, c
		}
	}
	return url, nil
}

// show puts an answer beside the certificate of was, nil none, unless another certificate came meanwhile.
func (f *Front) show(was *frontState, answer []byte) *frontState {
	cert := was.config.Certificates[0]
	cert.OCSPStaple = answer
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.loaded.Load() != was {
		return f.loaded.Load()
	}
	return f.install(&cert)
}

// install makes a certificate the one that is shown; f.mu is held and ticket keys are there.
func (f *Front) install(cert *tls.Certificate) *frontState {
	config := &tls.Config{
		Certificates: []tls.Certificate{*cert},
		MinVersion:   f.cfg.MinVersion,
		CipherSuites: f.cfg.CipherSuites,
		// The verdict on the peer is the Judge's, after the handshake, so that a refusal can be read by the peer.
		ClientAuth: f.clientAuth(),
		Time:       f.cfg.Now,
	}
	config.SetSessionTicketKeys(f.keys)
	s := &frontState{config: config, leaf: cert.Leaf}
	f.loaded.Store(s)
	return s
}
