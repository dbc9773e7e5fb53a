package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mssd/admin"
	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

// Our own certificate has ended and the daemon serves all the same; the operator reads what ends, in order, and the
// partner that wrote.
func TestCerts(t *testing.T) {
	h := newHouse(t, "")
	h.start("--create")
	c, err := h.dial()
	must(t, err)
	_, err = c.cmd(250, "MAIL FROM:<274999999999999@%s>", patientDomain)
	must(t, err)
	must(t, h.stop())

	now := time.Now()
	ended, err := testpki.SelfSigned(testpki.Request{Subject: testpki.Subject{C: "FR", CN: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: now.AddDate(-3, 0, 0), NotAfter: now.AddDate(0, 0, -1)})
	must(t, err)
	must(t, ended.WriteFiles(h.path("server.pem"), h.path("server.key")))
	h.start()
	out, err := h.run("certs", "--json")
	must(t, err)
	var doc admin.Certs
	must(t, json.Unmarshal([]byte(out), &doc))
	var whats []string
	for _, d := range doc.Dates {
		whats = append(whats, d.What)
		if d.Name == "" || d.Then == "" || d.Until.IsZero() {
			t.Errorf("%+v says too little", d)
		}
	}
	want := []string{"certificate of smtp", "certificate of imap", "white list", "partner of " + patientDomain, "signer of the list", "anchor", "anchor"}
	slices.Sort(want[3:5]) // both are made for a year
	slices.Sort(whats[3:5])
	if !slices.Equal(whats, want) {
		t.Errorf("got %q\nwant %q", whats, want)
	}
	if !slices.IsSortedFunc(doc.Dates, func(a, b tlsconf.Date) int { return a.Until.Compare(b.Until) }) {
		t.Error("the soonest is not the first")
	}
	if strings.Contains(out, "274999999999999") {
		t.Error("a patient's address is shown")
	}
	out, err = h.run("certs")
	must(t, err)
	if !regexp.MustCompile(`(?m)^ENDED +\S+ \S+ +certificate of smtp +CN=localhost,C=FR `).MatchString(out) {
		t.Errorf("the certificate that has ended is not marked:\n%s", out)
	}
	if out, err := h.run("health"); err == nil || !strings.Contains(out, "certificate expired on ") {
		t.Errorf("health: %v\n%s", err, out)
	}
}

func TestLeftText(t *testing.T) {
	const day = 24 * time.Hour
	for left, want := range map[time.Duration]string{
		-time.Second: "ENDED", 0: "ENDED", time.Hour: "1 h !!!", 47 * time.Hour: "47 h !!!", 6 * day: "6 days !!!", 7 * day: "7 days !!",
		13 * day: "13 days !!", 14 * day: "14 days !", 29 * day: "29 days !", 30 * day: "30 days", 4000 * day: "4000 days",
	} {
		if got := leftText(left); got != want {
			t.Errorf("%v: %q, want %q", left, got, want)
		}
	}
}
