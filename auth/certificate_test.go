package auth_test

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"mssd/auth"
	"mssd/store"
	"mssd/store/storetest"
	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

func TestParseCertMember(t *testing.T) {
	for in, want := range map[string]string{
		"cert:CN=a.test":                         "cert:CN=a.test",
		"cert:cn=a.test, ou=3000":                "cert:CN=a.test,OU=3000",
		"cert:CN=a.test;issuer=CN=AC TEST, C=FR": "cert:CN=a.test;issuer=CN=AC TEST,C=FR",
		"cert:SERIALNUMBER=12":                   "cert:SERIALNUMBER=12",
		"cert:":                                  "",
		"cert:C=FR":                              "", // of everybody
		"cert:O=LABO,C=FR":                       "",
		"cert:a.test":                            "",
		"cert:CN=a.test;issuer=":                 "",
		"cert:CN=a.test;issuer=x":                "",
		"CN=a.test":                              "",
		"cert:CN=" + strings.Repeat("a", 600):    "",
	} {
		got, err := auth.ParseCertMember(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
		if again, err := auth.ParseCertMember(got); want != "" && (again != got || err != nil) {
			t.Errorf("%q read again: %q, %v", got, again, err)
		}
	}
}

// TestCertificateOfASession: a session ends when its certificate is revoked or over, not when nobody can tell.
func TestCertificateOfASession(t *testing.T) {
	pki, err := testpki.New()
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.Issuing.Issue(testpki.Request{Subject: testpki.Subject{OU: "3000", CN: "logiciel.labo.test"}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		t.Fatal(err)
	}
	st := storetest.New(t)
	storetest.AddBAL(t, st, "labo@officine.test", store.APP)
	if _, err := st.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.PutMember{Address: "labo@officine.test",
		Member: store.Member{ID: "cert:CN=logiciel.labo.test,OU=3000", Role: store.Writer}}}}); err != nil {
		t.Fatal(err)
	}
	now, reason := time.Now(), tlsconf.OK
	a := auth.New(auth.Config{Store: st, Now: func() time.Time { return now }, CertKinds: []store.Kind{store.APP},
		JudgeCert: func(_ context.Context, shown []*x509.Certificate) tlsconf.Verdict {
			dn, err := tlsconf.DNFromRaw(shown[0].RawSubject)
			if err != nil {
				t.Error(err)
			}
			return tlsconf.Verdict{Reason: reason, DN: dn, Leaf: shown[0], Usage: "clientAuth"}
		}})
	peer := auth.Peer{Remote: office, Certs: []*x509.Certificate{id.Cert}, ByCertificate: true}
	p, err := a.Certificate(context.Background(), "Labo@officine.test", peer)
	if err != nil {
		t.Fatal(err)
	}
	check := func(want error) {
		t.Helper()
		if err := a.Check(p, p.Grants[0]); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%v, want %v", err, want)
		}
	}
	check(nil)
	reason = tlsconf.RevocationUnknown
	if _, err := a.Certificate(context.Background(), "labo@officine.test", peer); !errors.Is(err, auth.ErrUnavailable) || errors.Is(err, auth.ErrCredentials) {
		t.Errorf("a login when nobody can tell: %v", err)
	}
	now = now.Add(61 * time.Second)
	check(nil)
	reason = tlsconf.Revoked
	now = now.Add(61 * time.Second)
	check(auth.ErrWithdrawn)
	check(auth.ErrWithdrawn) // who asks next hears it too, within the same minute
	reason = tlsconf.OK
	check(auth.ErrWithdrawn)
	now = id.Cert.NotAfter.Add(time.Second)
	check(auth.ErrSessionOver)
}
