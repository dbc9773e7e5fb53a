package tlsconf

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"mssd/tlsconf/fetch"
)

// OCSPMode says what the responder of the authorities (RFC 6960) is asked for.
type OCSPMode uint8

const (
	OCSPOff     OCSPMode = iota // nothing is asked
	OCSPPrefer                  // its answer counts; without one the revocation lists do
	OCSPRequire                 // without an answer the verdict is temporary
)

const (
	ocspWithin    = 3 * time.Second  // a question, inside MAIL
	ocspFresh     = 10 * time.Minute // an answer is not asked for again for so long
	ocspSkew      = 5 * time.Minute  // between the responder's clock and ours
	ocspNoUpdate  = 24 * time.Hour   // an answer without nextUpdate is believed for so long after its thisUpdate
	ocspFailures  = 3                // in a row, after which nobody is asked for a while
	ocspPause     = 30 * time.Second
	ocspMaxPause  = 5 * time.Minute
	maxOCSPAnswer = 64 << 10 // octets
	maxOCSPKnown  = 4096     // answers remembered
)

// errOCSPUnknown is what a responder that works says of a certificate that it does not know.
var errOCSPUnknown = errors.New("the responder does not know this certificate")

var errOCSPPaused = errors.New("OCSP responder failed several times and is left alone for a moment")

// ocspAnswer is what the responder said of one certificate; err says why nothing is known.
type ocspAnswer struct {
	revoked bool
	at      time.Time // of revocation
	until   time.Time // the answer is no longer believed after
	asked   time.Time
	raw     []byte
	err     error
}

// ocspClient asks the responder of the configuration, never one that a peer's certificate names.
type ocspClient struct {
	url    string
	http   *http.Client
	now    func() time.Time
	listed func(issuer, c *x509.Certificate) bool // whether a revocation list names a certificate

	mu      sync.Mutex // guards what follows
	known   map[[32]byte]ocspAnswer
	flights map[[32]byte]chan struct{} // closed when the question has its answer
	fails   int                        // in a row
	pause   time.Time                  // nothing is asked before
	lastErr error
}

func newOCSPClient(url string, roots func() *x509.CertPool, now func() time.Time, listed func(issuer, c *x509.Certificate) bool) (*ocspClient, error) {
	if err := fetch.Check(url, true); err != nil { // the answers are signed (RFC 6960, Appendix A.1)
		return nil, err
	}
	return &ocspClient{url: url, http: ocspHTTP(roots), now: now, listed: listed,
		known: make(map[[32]byte]ocspAnswer), flights: make(map[[32]byte]chan struct{})}, nil
}

func ocspHTTP(roots func() *x509.CertPool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				host, _, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, err
				}
				d := tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: roots()}}
				return d.DialContext(ctx, network, addr)
			},
			MaxResponseHeaderBytes: 64 << 10, DisableCompression: true, DisableKeepAlives: true,
		},
		CheckRedirect: func(req *http.Request, _ []*http.Request) error {
			return fmt.Errorf("redirected to %s, which is not followed", req.URL.Host)
		},
	}
}

// ask gives the answer remembered, or asks: once at a time for one certificate, for ocspWithin at most. An answer that
// could not be renewed counts until its own end.
func (o *ocspClient) ask(ctx context.Context, leaf, issuer *x509.Certificate) ocspAnswer {
	ctx, cancel := context.WithTimeout(ctx, ocspWithin)
	defer cancel()
	key := sha256.Sum256(leaf.Raw)
	o.mu.Lock()
	now := o.now()
	if a, ok := o.known[key]; ok && a.err == nil && now.Before(a.until) && since(now, a.asked) < ocspFresh {
		o.mu.Unlock()
		return a
	}
	done := o.flights[key]
	if done == nil {
		if now.Before(o.pause) && o.pause.Sub(now) <= ocspMaxPause {
			defer o.mu.Unlock()
			return o.remembered(key, now, errOCSPPaused)
		}
		done = make(chan struct{})
		o.flights[key] = done
		go o.fly(key, leaf, issuer, done)
	}
	o.mu.Unlock()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.remembered(key, o.now(), err)
}

// since is how old something is; a clock set back makes it old, not young for ever.
func since(now, at time.Time) time.Duration {
	if d := now.Sub(at); d >= 0 {
		return d
	}
	return ocspFresh
}

// remembered is the answer held, if it still counts; o.mu is held.
func (o *ocspClient) remembered(key [32]byte, now time.Time, err error) ocspAnswer {
	a, ok := o.known[key]
	if ok && a.err == nil && now.Before(a.until) {
		return a
	}
	if err == nil {
		err = o.lastErr
	}
	if err == nil {
		err = errors.New("OCSP responder gave no answer")
	}
	return ocspAnswer{err: err}
}

// fly asks one question. It goes on when who asked has gone.
func (o *ocspClient) fly(key [32]byte, leaf, issuer *x509.Certificate, done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), ocspWithin)
	defer cancel()
	a := askOCSP(ctx, o.http, o.url, leaf, issuer, true, o.now, o.listed)
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.flights, key)
	close(done)
	if o.lastErr = a.err; errors.Is(a.err, errOCSPUnknown) {
		o.fails, o.pause = 0, time.Time{} // it answers: others may ask
		return
	} else if a.err != nil {
		if o.fails++; o.fails >= ocspFailures {
			o.pause = o.now().Add(min(ocspPause<<min(o.fails-ocspFailures, 8), ocspMaxPause))
		}
		return
	}
	o.fails, o.pause = 0, time.Time{}
	if len(o.known) >= maxOCSPKnown {
		clear(o.known)
	}
	o.known[key] = a
}

// fault is why the last question got no answer, nil when it did.
func (o *ocspClient) fault() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lastErr != nil {
		return fmt.Errorf("OCSP responder %s: %w", o.url, o.lastErr)
	}
	return nil
}

// askOCSP puts one question to a responder and judges the answer. With a nonce, an answer to another question is refused;
// one without any nonce is taken, since responders that sign beforehand have none (RFC 5019, Section 4).
func askOCSP(ctx context.Context, client *http.Client, url string, leaf, issuer *x509.Certificate, nonce bool, now func() time.Time,
	listed func(issuer, c *x509.Certificate) bool) (a ocspAnswer) {
	q, err := newOCSPQuestion(leaf, issuer, nonce)
	if err != nil {
		return ocspAnswer{err: err}
	}
	body, err := q.post(ctx, client, url)
	if err != nil {
		return ocspAnswer{err: err}
	}
	return q.judge(body, now(), listed)
}

func (q *ocspQuestion) post(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(q.der))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	req.Header.Set("Accept", "application/ocsp-response")
	req.Header.Set("User-Agent", "mssd")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s, expected 200", resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxOCSPAnswer+1))
	if err == nil && len(b) > maxOCSPAnswer {
		err = fmt.Errorf("answer of more than %d octets", maxOCSPAnswer)
	}
	return b, err
}

// judge reads an answer: RFC 6960, Section 3.2.
func (q *ocspQuestion) judge(body []byte, now time.Time, listed func(issuer, c *x509.Certificate) bool) ocspAnswer {
	fail := func(format string, args ...any) ocspAnswer { return ocspAnswer{err: fmt.Errorf(format, args...)} }
	// The issuer is not given: the library would take any certificate that it issued for a responder's.
	r, err := ocsp.ParseResponseForCert(body, q.leaf, nil)
	var refused ocsp.ResponseError
	if errors.As(err, &refused) && refused.Status == ocsp.Unauthorized { // RFC 5019, Section 2.2.3
		return fail("%w: %w", errOCSPUnknown, err)
	}
	if err != nil {
		return fail("answer: %w", err)
	}
	if err := q.answered(r); err != nil {
		return fail("answer: %w", err)
	}
	if err := responderFault(r, q.issuer, now, listed); err != nil {
		return fail("responder: %w", err)
	}
	a := ocspAnswer{asked: now, until: r.NextUpdate, raw: body}
	if a.until.IsZero() {
		a.until = r.ThisUpdate.Add(ocspNoUpdate)
	}
	switch {
	case r.ThisUpdate.After(now.Add(ocspSkew)):
		return fail("answer is of %s, which lies ahead", r.ThisUpdate.UTC().Format(time.RFC3339))
	case !now.Before(a.until):
		return fail("answer was to be renewed on %s", a.until.UTC().Format(time.RFC3339))
	case r.Status == ocsp.Unknown:
		return ocspAnswer{err: errOCSPUnknown}
	case r.Status == ocsp.Revoked:
		a.revoked, a.at = true, r.RevokedAt
	}
	return a
}

// responderFault says why who signed an answer may not answer for the issuer: RFC 6960, Section 4.2.2.2.
func responderFault(r *ocsp.Response, issuer *x509.Certificate, now time.Time, listed func(issuer, c *x509.Certificate) bool) error {
	switch r.SignatureAlgorithm {
	case x509.UnknownSignatureAlgorithm, x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return fmt.Errorf("signature algorithm %v", r.SignatureAlgorithm)
	}
	c := r.Certificate // the answer's signature was checked with it
	switch {
	case c == nil:
		return r.CheckSignatureFrom(issuer)
	case bytes.Equal(c.RawSubjectPublicKeyInfo, issuer.RawSubjectPublicKeyInfo):
		return nil // the authority itself
	case !bytes.Equal(c.RawIssuer, issuer.RawSubject) || c.CheckSignatureFrom(issuer) != nil:
		return fmt.Errorf("%s is not certified by %s", subjectText(c), subjectText(issuer))
	case !explicitOCSPSigning(c):
		return fmt.Errorf("%s may not sign answers: expected extended key usage OCSPSigning", subjectText(c))
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return fmt.Errorf("%s may not sign: its key usage lacks digitalSignature", subjectText(c))
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return fmt.Errorf("certificate of %s is not valid now", subjectText(c))
	case weakKey(c) != "":
		return errors.New(weakKey(c))
	case listed != nil && listed(issuer, c):
		return fmt.Errorf("certificate of %s is revoked", subjectText(c))
	}
	return nil
}

func explicitOCSPSigning(c *x509.Certificate) bool {
	for _, u := range c.ExtKeyUsage {
		if u == x509.ExtKeyUsageOCSPSigning {
			return true
		}
	}
	return false
}

// openOCSP prepares the responder that is configured.
func (j *Judge) openOCSP() (err error) {
	if j.cfg.OCSP == OCSPOff {
		return nil
	}
	j.ocsp, err = newOCSPClient(j.cfg.OCSPURL, j.webRoots, j.cfg.Now, j.listed)
	return err
}

// listed says whether the revocation list of an authority names a certificate.
func (j *Judge) listed(issuer, c *x509.Certificate) bool {
	_, ok := j.trust.Load().crls.revoked(issuer, c)
	return ok
}

// PeerNow is Peer, and asks the OCSP responder where the configuration says so; ctx and 3 s bound the wait. What a
// revocation list says against a certificate no responder can lift.
func (j *Judge) PeerNow(ctx context.Context, cs tls.ConnectionState) Verdict {
	v := j.Peer(cs)
	if j.ocsp == nil || v.issuer == nil || v.Reason != OK && v.Reason != RevocationUnknown {
		return v
	}
	a := j.ocsp.ask(ctx, v.Leaf, v.issuer)
	switch {
	case a.err != nil && j.cfg.OCSP == OCSPRequire:
		return v.because(RevocationUnknown, "", time.Time{})
	case a.err != nil:
		return v
	case a.revoked:
		return v.because(Revoked, "", a.at)
	}
	return v.because(OK, "", time.Time{})
}
