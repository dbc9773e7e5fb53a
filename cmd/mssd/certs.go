package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"mssd/admin"
	"mssd/tlsconf"
)

// partnersWithin is how lately a partner must have been seen for its certificate to count.
const partnersWithin = 30 * 24 * time.Hour

// dates are those of everything that stops mail when it ends, the soonest first.
func (d *daemon) dates(now time.Time) []tlsconf.Date {
	partners := d.partners.List(now.Add(-partnersWithin))
	all, below := 0.0, map[string]float64{} // mails per day, by authority
	for _, p := range partners {
		n := p.PerDay(now)
		all += n
		below[p.Issuer] += n
	}
	var dates []tlsconf.Date
	for i, t := range d.tls {
		for _, e := range t.Dates() {
			if i == 0 { // the operator front: all mail comes through it
				e.MailsPerDay = all
			}
			dates = append(dates, e)
		}
	}
	for _, e := range d.judge.Dates() {
		e.MailsPerDay = below[e.Name]
		dates = append(dates, e)
	}
	if l := d.list.Current(); l != nil {
		dates = append(dates, tlsconf.Date{What: "white list", Name: l.Version(), From: l.Generated(), Until: d.list.Until().UTC(), MailsPerDay: all,
			Then: "mail is answered 451, if the list is not proven to be the newest before",
			Note: fmt.Sprintf("%d domains, proven to be the newest %v ago", l.Domains(), d.list.Age().Round(time.Second))})
		s := l.Signer()
		dates = append(dates, tlsconf.Date{What: "signer of the list", Name: subjectOf(s), Serial: fmt.Sprintf("%X", s.SerialNumber.Bytes()),
			From: s.NotBefore.UTC(), Until: s.NotAfter.UTC(), Then: "lists that it signs later are refused; the one in force stays"})
	}
	dates = append(dates, d.clientDates()...)
	for _, p := range partners {
		what := "partner of " + p.Domain
		if p.Domain == "" {
			what = "partner, mail without sender"
		}
		dates = append(dates, tlsconf.Date{What: what, Name: p.DN, Serial: p.Serial, Until: p.Ends, MailsPerDay: p.PerDay(now),
			Then: "its mail is refused (550), unless it has a new one", Note: "seen " + p.Last.Format(time.DateOnly)})
	}
	slices.SortStableFunc(dates, func(a, b tlsconf.Date) int { return a.Until.Compare(b.Until) })
	return dates
}

// datesFor is how long metrics, of which one look reads many, use the same dates.
const datesFor = 5 * time.Second

// recentDates is dates, of a moment ago.
func (d *daemon) recentDates() []tlsconf.Date {
	d.dated.mu.Lock()
	defer d.dated.mu.Unlock()
	if now := time.Now(); now.Sub(d.dated.at) >= datesFor || now.Before(d.dated.at) {
		d.dated.at, d.dated.dates = now, d.dates(now)
	}
	return d.dated.dates
}

// clientDates are those of the certificates that we show to the servers we ask. They are read when somebody looks: like the
// connections that use them, which read them anew.
func (d *daemon) clientDates() (dates []tlsconf.Date) {
	add := func(what, then, cert string) {
		if cert == "" {
			return
		}
		b, err := readLimited(cert, maxConfigOctets)
		if err != nil {
			return // mssd check says it, and the room that needs it
		}
		block, _ := pem.Decode(b)
		if block == nil {
			return
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return
		}
		dates = append(dates, tlsconf.Date{What: what, Name: subjectOf(c), Serial: fmt.Sprintf("%X", c.SerialNumber.Bytes()),
			From: c.NotBefore.UTC(), Until: c.NotAfter.UTC(), Then: then})
	}
	if l := d.cfg.Directory.LDAP; l != nil {
		add("client certificate for LDAP", "the directory is no longer read: its image grows old", l.Cert)
	}
	if p := d.cfg.Login.PSC; p != nil {
		add("client certificate for Pro Santé Connect", "tokens cannot be asked about: who logs in with one is refused", p.Cert)
	}
	return dates
}

func subjectOf(c *x509.Certificate) string {
	if dn, err := tlsconf.DNFromRaw(c.RawSubject); err == nil {
		return dn.String()
	}
	return c.Subject.String()
}

func newCerts() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "certs",
		Short: "Show what will end: certificates, anchors, revocation lists, the white list",
		Long: "Show everything that stops mail when it ends, the soonest first: our certificates and their chains, anchors, revocation\n" +
			"lists (nextUpdate), the white list and its signer, the certificates we show to other servers, and each partner's certificate as seen in the last 30 days. Mails a\n" +
			"day are those of these 30 days that would have been stopped.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc, err := ask.client().Certs(cmd.Context())
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), doc, func(w io.Writer) { showCerts(w, doc) })
		},
	}
	return ask.flags(c)
}

func showCerts(w io.Writer, doc admin.Certs) {
	row(w, "LEFT", "UNTIL", "WHAT", "NAME", "THEN")
	for _, d := range doc.Dates {
		name := d.Name
		if d.Serial != "" {
			name += " (serial " + d.Serial + ")"
		}
		if d.Note != "" {
			name += ", " + d.Note
		}
		if d.MailsPerDay > 0 {
			name += ", " + perDay(d.MailsPerDay)
		}
		row(w, leftText(d.Until.Sub(doc.Now)), d.Until.UTC().Format("2006-01-02 15:04"), d.What, name, d.Then)
	}
}

// perDay prints how many mails come in a day.
func perDay(n float64) string {
	switch {
	case n < 0.1:
		return "hardly any mail"
	case n < 10:
		return fmt.Sprintf("%.1f mails a day", n)
	}
	return fmt.Sprintf("%.0f mails a day", n)
}

// leftText prints how long something lasts, "ENDED" when it is over, and marks what ends within 7, 14 or 30 days.
func leftText(left time.Duration) string {
	const day = 24 * time.Hour
	text := fmt.Sprintf("%d days", left/day)
	if left < 2*day {
		text = fmt.Sprintf("%d h", left/time.Hour)
	}
	switch {
	case left <= 0:
		return "ENDED"
	case left < 7*day:
		return text + " !!!"
	case left < 14*day:
		return text + " !!"
	case left < 30*day:
		return text + " !"
	}
	return text
}
