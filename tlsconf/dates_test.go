package tlsconf_test

import (
	"strings"
	"testing"
	"time"

	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

func TestDatesOfLists(t *testing.T) {
	c := newCourt(t)
	next := c.now.Add(6 * time.Hour).UTC().Truncate(time.Second)
	list := c.crl(t, c.pki.Issuing, c.now.Add(-time.Hour), next, c.pki.Issuing.Cert.SerialNumber)
	j := c.judge(t, func(cfg *tlsconf.JudgeConfig) { cfg.CRLFiles = []string{list} })
	dates := j.Dates()
	if len(dates) != 3 {
		t.Fatalf("%d dates, want two anchors and a list: %+v", len(dates), dates)
	}
	d := dates[2]
	if d.What != "revocation list" || !d.Until.Equal(next) || !strings.Contains(d.Note, "1 revoked, number ") ||
		!strings.Contains(d.Then, next.Add(24*time.Hour).Format("2006-01-02 15:04")) {
		t.Errorf("list: %+v", d)
	}
}

// An anchor is warned of before it ends, not for years afterwards: generations stand side by side.
func TestAnchorsThatEnd(t *testing.T) {
	c := newCourt(t)
	old, err := testpki.SelfSigned(testpki.Request{Subject: testpki.Subject{CN: "AC ANCIENNE TEST"}, CA: true,
		NotBefore: c.now.AddDate(-9, 0, 0), NotAfter: c.now.AddDate(0, 0, 20)})
	if err != nil {
		t.Fatal(err)
	}
	if err := testpki.WriteCerts(c.anchors, c.pki.Root.Cert, c.pki.Issuing.Cert, old.Cert); err != nil {
		t.Fatal(err)
	}
	j := c.judge(t, nil)
	if err := j.Warning(); err == nil || !strings.Contains(err.Error(), "AC ANCIENNE TEST ends in 1") {
		t.Errorf("twenty days before: %v", err)
	}
	for _, months := range []int{-2, 2} {
		c.now = time.Now().AddDate(0, months, 0)
		if err := j.Warning(); err != nil {
			t.Errorf("%d months from now: %v", months, err)
		}
	}
}
