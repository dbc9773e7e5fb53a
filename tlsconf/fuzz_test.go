package tlsconf

import (
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// Whatever a responder sends, nothing panics, and an answer that is believed has a time at which it ends.
func FuzzOCSPAnswer(f *testing.F) {
	p := newStaplePKIIn(f, "http://repondeur.test/", f.TempDir())
	now := time.Now()
	f.Add(p.answer(f, ocsp.Good, now, now.Add(time.Hour)))
	f.Add(p.answer(f, ocsp.Revoked, now, now.Add(time.Hour)))
	f.Add(ocsp.UnauthorizedErrorResponse)
	q, err := newOCSPQuestion(p.leaf, p.root, true)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a := q.judge(b, now, nil)
		if a.err == nil && (!a.until.After(now) || a.asked.IsZero()) {
			t.Errorf("believed until %v", a.until)
		}
	})
}

// Whatever stands in an issuingDistributionPoint, nothing panics, and one that names a place is not taken for the whole.
func FuzzCRLScope(f *testing.F) {
	f.Add([]byte{0x30, 0})
	f.Add([]byte{0x30, 3, 0x81, 1, 0xff})
	f.Add([]byte{0x30, 7, 0xa0, 5, 0xa0, 3, 0x86, 1, 'x'})
	leaf := newStaplePKIIn(f, "", f.TempDir()).leaf
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := readCRLScope(b)
		if err == nil && len(s.points) > 0 && s.covers(leaf) {
			t.Errorf("a certificate without places is covered by %q", s.points)
		}
	})
}
