package tlsconf

import (
	"crypto/x509"
	"fmt"
	"time"
)

// Date is a day on which something of the trust ends.
type Date struct {
	What   string    `json:"what"` // "certificate of smtp", "anchor", "revocation list", …
	Name   string    `json:"name"` // the subject, or who issued it
	Serial string    `json:"serial,omitempty"`
	From   time.Time `json:"from,omitzero"`
	Until  time.Time `json:"until"`
	Then   string    `json:"then"`           // what happens when it has ended
	Note   string    `json:"note,omitempty"` // more about it
	// MailsPerDay is how many messages of the last 30 days came in a day of those that this would stop; 0: none, or it is
	// not known whom it would stop.
	MailsPerDay float64 `json:"mails_per_day,omitempty"`
}

// IssuerText names the authority of a certificate, as Date.Name names anchors and the issuers of revocation lists.
func IssuerText(c *x509.Certificate) string {
	dn, err := DNFromRaw(c.RawIssuer)
	if err != nil {
		return ""
	}
	return dn.String()
}

func certDate(what string, c *x509.Certificate, then string) Date {
	return Date{What: what, Name: subjectText(c), Serial: serialText(c), From: c.NotBefore.UTC(), Until: c.NotAfter.UTC(), Then: then}
}

func (f *Front) dates() []Date {
	s := f.loaded.Load()
	d := certDate("certificate of "+f.cfg.Name, s.leaf, "who connects to "+f.cfg.Name+" breaks off")
	if a := s.config.Certificates[0].OCSPStaple; a != nil {
		d.Note = "shown with its OCSP answer"
	}
	dates := []Date{d}
	for _, der := range s.config.Certificates[0].Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			dates = append(dates, certDate("chain of "+f.cfg.Name, c, "who connects to "+f.cfg.Name+" breaks off"))
		}
	}
	return dates
}

// Dates are those of the anchors and of the revocation lists in force.
func (j *Judge) Dates() []Date {
	t := j.trust.Load()
	var dates []Date
	for _, c := range t.anchors.Certs() {
		dates = append(dates, certDate("anchor", c, "peers below it get 550, expired"))
	}
	for _, c := range t.crls {
		d := Date{What: "revocation list", Name: subjectText(c.issuer), From: c.thisUpdate.UTC(), Until: c.nextUpdate.UTC(),
			Then: "peers get 451 from " + c.nextUpdate.Add(j.cfg.CRLGrace).UTC().Format("2006-01-02 15:04") + " on, if no newer one has come",
			Note: fmt.Sprintf("%d revoked", len(c.revoked))}
		if s := c.scope.String(); s != "" {
			d.Note += " (" + s + ")"
		}
		if c.number != nil {
			d.Note += fmt.Sprintf(", number %v", c.number)
		}
		dates = append(dates, d)
	}
	return dates
}

// endingSoon names the anchors that end within expiryWarning. One that has ended is no news: it is of a generation that
// is over.
func (t *trust) endingSoon(now time.Time) (faults []error) {
	for _, c := range t.anchors.Certs() {
		if left := c.NotAfter.Sub(now); left > 0 && left < expiryWarning {
			faults = append(faults, fmt.Errorf("anchor %s ends %s: peers below it get 550 then", subjectText(c), inDays(left, c.NotAfter)))
		}
	}
	return faults
}

// inDays prints when something ends: "in 13 days, on 2026-05-03".
func inDays(left time.Duration, at time.Time) string {
	switch days := int(left / (24 * time.Hour)); days {
	case 0:
		return "within a day, on " + at.UTC().Format(time.RFC3339)
	case 1:
		return "in 1 day, on " + day(at)
	default:
		return fmt.Sprintf("in %d days, on %s", days, day(at))
	}
}
