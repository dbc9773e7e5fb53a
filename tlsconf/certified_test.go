package tlsconf_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"
	"time"

	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

// mazeKey is the costly key of an attacker.
func mazeKey(t testing.TB) *ecdsa.PrivateKey {
	return must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))(t)
}

// maze is a chain of as many certificates as may be shown, all of authorities with one name and one key, so that each has
// issued each: there are more ways up than anybody could try, and each of its dates is another moment to try them at.
func maze(t testing.TB, key *ecdsa.PrivateKey, name []byte, now time.Time) []*x509.Certificate {
	var chain []*x509.Certificate
	for i := range 10 {
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(i) + 1), RawSubject: name, BasicConstraintsValid: true, IsCA: i > 0,
			NotBefore: now.Add(-time.Duration(i) * time.Hour), NotAfter: now.Add(time.Duration(20-i) * time.Hour)}
		if i == 0 {
			c.RawSubject, c.NotBefore, c.NotAfter = []byte{0x30, 0}, now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0)
		}
		der := must(x509.CreateCertificate(rand.Reader, c, &x509.Certificate{RawSubject: name}, key.Public(), key))(t)
		chain = append(chain, must(x509.ParseCertificate(der))(t))
	}
	return chain
}

// A stranger's chain, however it is made, costs us no more than some signature checks.
func TestHostileChainIsCheap(t *testing.T) {
	c := newCourt(t)
	j := c.judge(t, nil)
	key := mazeKey(t)
	sum := sha512.Sum512([]byte("x"))
	sig := must(ecdsa.SignASN1(rand.Reader, key, sum[:]))(t)
	least := func(f func()) time.Duration { // of some tries: the machine may be busy
		best := time.Hour
		for range 3 {
			began := time.Now()
			f()
			best = min(best, time.Since(began))
		}
		return best
	}
	check := least(func() {
		for range 50 {
			ecdsa.VerifyASN1(&key.PublicKey, sum[:], sig)
		}
	})
	for who, name := range map[string][]byte{"a name of his own": must(testpki.SelfSigned(testpki.Request{Subject: operator}))(t).Cert.RawSubject,
		"the name of our authority": c.pki.Issuing.Cert.RawSubject} {
		chain := maze(t, key, name, c.now)
		took := least(func() {
			c.now = c.now.Add(2 * time.Minute) // nothing is remembered
			if v := j.Certificates(chain); v.Reason != tlsconf.ForeignChain {
				t.Fatalf("%s: %v", who, v.Reason)
			}
		})
		if took > check {
			t.Errorf("%s: judged in %v; 50 checks of its signature take %v", who, took, check)
		}
	}
}

// Whatever else is shown, in whatever order, a genuine chain is found, also one that has ended.
func TestGenuineAmongOthers(t *testing.T) {
	c := newCourt(t)
	sub := must(c.pki.Issuing.Authority("AC TEST DESSOUS", testpki.P256))(t)
	good := must(sub.Issue(testpki.Request{Subject: operator}))(t).Chain
	ended := must(sub.Issue(testpki.Request{Subject: operator, NotBefore: c.now.AddDate(-2, 0, 0), NotAfter: c.now.AddDate(-1, 0, 0)}))(t).Chain
	noise := maze(t, mazeKey(t), sub.Cert.RawSubject, c.now)[1:6]
	j := c.judge(t, nil)
	for name, tt := range map[string]struct {
		shown []*x509.Certificate
		want  tlsconf.Reason
	}{
		"behind others":      {slices.Concat(good[:1], noise, good[1:]), tlsconf.OK},
		"before others":      {slices.Concat(good, noise), tlsconf.OK},
		"upside down":        {slices.Concat(good[:1], []*x509.Certificate{c.pki.Root.Cert, c.pki.Issuing.Cert, sub.Cert}), tlsconf.OK},
		"each twice":         {slices.Concat(good, good[1:], good[1:]), tlsconf.OK},
		"ended, with others": {slices.Concat(ended[:1], noise, ended[1:]), tlsconf.Expired},
		"without its issuer": {slices.Concat(good[:1], noise), tlsconf.ForeignChain},
		"the root itself":    {[]*x509.Certificate{c.pki.Root.Cert}, tlsconf.WrongUsage},
	} {
		if v := j.Certificates(tt.shown); v.Reason != tt.want {
			t.Errorf("%s: %v (%s), want %v", name, v.Reason, v.Text(), tt.want)
		}
	}
}

func BenchmarkHostileChain(b *testing.B) {
	c := newCourt(b)
	j := c.judge(b, nil)
	for name, subject := range map[string][]byte{"foreign": {0x30, 0}, "named as ours": c.pki.Issuing.Cert.RawSubject} {
		chain := maze(b, mazeKey(b), subject, c.now)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c.now = c.now.Add(2 * time.Minute)
				j.Certificates(chain)
			}
		})
	}
}
