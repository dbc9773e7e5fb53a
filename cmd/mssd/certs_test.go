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
	h := newHouse(t, "[directory.ldap]\nurl = \"ldaps://"+freeAddr(t)+"\"\ncert = \"ldap.pem\"\nkey = \"ldap.key\"\nanchors = [\"anchors.pem\"]\n")
	client, err := testpki.SelfSigned(testpki.Request{Subject: testpki.Subject{C: "FR", CN: "annuaire.test"}, NotAfter: time.Now().AddDate(0, 0, 2)})
	must(t, err)
	must(t, client.WriteFiles(h.path("ldap.pem"), h.path("ldap.key")))
	h.start("--create")
	c, err := h.dial()
	must(t, err)
	const bal = "pharmacie@test-officines.mssante.fr"
	h.addBAL(bal, "ORG")
	for i := range 3 {
		_, err = c.send("274999999999999@"+patientDomain, []string{bal}, letter(i, 2000, bal))
		must(t, err)
	}
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
		// Three mails came today: all through the operator front and the list, from a partner below the issuing authority.
		n := 3.0
		if d.What == "certificate of imap" || d.What == "client certificate for LDAP" || d.What == "signer of the list" || strings.Contains(d.Name, "RACINE") {
			n = 0
		}
		if d.MailsPerDay != n {
			t.Errorf("%s (%s): %v mails a day, want %v", d.What, d.Name, d.MailsPerDay, n)
		}
	}
	want := []string{"certificate of smtp", "certificate of imap", "client certificate for LDAP", "white list", "partner of " + patientDomain, "signer of the list", "anchor", "anchor"}
	slices.Sort(want[4:6]) // both are made for a year
	slices.Sort(whats[4:6])
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
	if !regexp.MustCompile(`(?m) partner of \S+ .*, seen \S+, 3\.0 mails a day `).MatchString(out) {
		t.Errorf("mails a day of the partner:\n%s", out)
	}
	if out, err := h.run("health"); err == nil || !strings.Contains(out, "certificate expired on ") {
		t.Errorf("health: %v\n%s", err, out)
	}
}

func TestAtRisk(t *testing.T) {
	now := time.Now()
	in := func(days int) time.Time { return now.AddDate(0, 0, days) }
	dates := []tlsconf.Date{{What: "anchor", Until: in(-1), MailsPerDay: 100}, {What: "partner of ended.test", Until: in(-1), MailsPerDay: 1},
		{What: "partner of a.test", Until: in(5), MailsPerDay: 2}, {What: "anchor", Until: in(6)},
		{What: "partner, mail without sender", Until: in(10), MailsPerDay: 4}, {What: "partner of b.test", Until: in(40), MailsPerDay: 8}}
	for days, want := range map[int]float64{0: 1, 7: 3, 14: 7, 30: 7, 60: 15} {
		if got := atRisk(dates, in(days)); got != want {
			t.Errorf("within %d days: %v, want %v", days, got, want)
		}
	}
	if left := secondsLeft(dates, "anchor"); left < 5*86400 || left > 6*86400 {
		t.Errorf("the first anchor that has not ended lasts %v s", left)
	}
	if left := secondsLeft(dates, "partner"); left > 0 {
		t.Errorf("a partner's certificate that has ended lasts %v s", left)
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
