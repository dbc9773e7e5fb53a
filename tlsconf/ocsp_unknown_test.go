package tlsconf_test

import (
	"io"
	"net/http"
	"testing"

	"golang.org/x/crypto/ocsp"

	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

// A peer whose certificate the responder does not know must not take the responder away from the others.
func TestOCSPUnknownPeerHarmsNobodyElse(t *testing.T) {
	for name, unauthorized := range map[string]bool{"unknown": false, "unauthorized": true} {
		t.Run(name, func(t *testing.T) {
			c := newCourt(t)
			stranger, peer := must(c.pki.Operator(operator))(t), must(c.pki.Operator(operator))(t)
			r := newResponder(t)
			r.set(func(w http.ResponseWriter, q *http.Request) {
				body, _ := io.ReadAll(q.Body)
				req, err := ocsp.ParseRequest(body)
				if err != nil {
					t.Error(err)
					return
				}
				o := testpki.OCSP{}
				if req.SerialNumber.Cmp(stranger.Cert.SerialNumber) == 0 {
					if o.Status = ocsp.Unknown; unauthorized {
						_, _ = w.Write(ocsp.UnauthorizedErrorResponse)
						return
					}
				}
				der, err := c.pki.Issuing.OCSPAnswer(req.SerialNumber, o)
				if err != nil {
					t.Error(err)
				}
				_, _ = w.Write(der)
			})
			j := c.asking(t, tlsconf.OCSPRequire, r.url)
			for range 5 {
				if v := j.PeerNow(t.Context(), peerOf(stranger.Chain)); !v.Temporary() {
					t.Errorf("the stranger: %s", v.Text())
				}
			}
			if v := j.PeerNow(t.Context(), peerOf(peer.Chain)); !v.OK() {
				t.Errorf("another peer: %s", v.Text())
			}
		})
	}
}
