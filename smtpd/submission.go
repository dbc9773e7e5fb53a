package smtpd

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"mssd/auth"
	"mssd/delivery"
	"mssd/directory"
	"mssd/message"
	"mssd/store"
	"mssd/tlsconf"
	"mssd/trace"
)

// Submission makes a Server the submission front (RFC 6409): its peers are members, who log in and send from the BAL they
// logged in to. Judge, Partners, HeaderFrom, DKIM, PatientFirst, Seen and Stored are not looked at then.
type Submission struct {
	Auth       *auth.Authenticator // needed
	Implicit   bool                // TLS from the first octet (port 465, RFC 8314); false: STARTTLS (port 587)
	Mechanisms []string            // SASL mechanisms offered; nil: PLAIN
	App        *tlsconf.AppFront   // front of applications; nil: none

	Quota       *Quota        // recipients an hour; nil: no limits
	MaxPatient  int64         // octets of a message to the patient platform; 0: 25 MiB
	MaxFailures int           // refused logins before the connection is closed; 0: 5
	LoginTime   time.Duration // from the end of the TLS handshake to a login; 0: 60 s
}

func (sub *Submission) init() {
	if sub.Mechanisms == nil {
		sub.Mechanisms = []string{auth.Plain}
	}
	if sub.MaxPatient <= 0 {
		sub.MaxPatient = 25 << 20
	}
	if sub.MaxFailures <= 0 {
		sub.MaxFailures = 5
	}
	if sub.LoginTime <= 0 {
		sub.LoginTime = time.Minute
	}
}

// memberFront is the submission front: who sends is who has logged in.
type memberFront struct {
	srv   *Server
	login *login
}

// describe: a message is sent from the BAL that MAIL FROM names, of those that the login opened; the null sender names none.
// The wire lets nobody come here who has not logged in.
func (f memberFront) describe(_ *session, in *delivery.Incoming) { f.from(in, in.ReversePath) }

// from has the message sent from the BAL of an address; of another address than theirs it is the one named at the login.
func (f memberFront) from(in *delivery.Incoming, a message.Address) {
	p := f.login.who
	in.Member = &delivery.Member{Person: p.Person, BAL: p.Grants[0].BAL, Method: p.Method}
	for _, g := range p.Grants {
		if string(g.BAL.Address) == string(a.Lower()) {
			in.Member.BAL = g.BAL
		}
	}
}

// sender: what is sent from a BAL carries its address, or none at all where it is a receipt, which content finds out.
func (f memberFront) sender(_ *session, in *delivery.Incoming) error {
	if in.ReversePath != "" && string(in.ReversePath.Lower()) != string(in.Member.BAL.Address) {
		return errNotYours
	}
	return f.mayWrite(in.Member.BAL)
}

// mayWrite says whether the right to send from a BAL is in force now. When that to the BAL of the login has ended, the session
// ends.
func (f memberFront) mayWrite(bal store.BAL) error {
	p, check := f.login.who, f.srv.Submission.Auth.Check
	if err := check(p, p.Grants[0]); err != nil {
		err = endedBy(err)
		f.login.ended(err)
		return err
	}
	for _, g := range p.Grants {
		if g.BAL.ID != bal.ID {
			continue
		}
		write := g
		if write.Role = store.Writer; check(p, write) == nil {
			return nil
		}
		if check(p, g) == nil {
			return errReader
		}
	}
	return errNotYours
}

func (memberFront) begun(*delivery.Incoming) {}

func (memberFront) class(message.Address) directory.Class { return directory.Member }

// elsewhere: there is no relay yet, so that nothing for other operators is taken. What can be said already is said.
func (f memberFront) elsewhere(s *session, to message.Address, size int64) error {
	domain := to.Lower().Domain()
	if slices.Contains(f.srv.patients(), domain) && size > f.srv.Submission.MaxPatient {
		return errTooLargePatient
	}
	if err := f.inSpace(domain); err != nil {
		return err
	}
	return errNoRelay
}

// inSpace says whether a domain is one of the trust space.
func (f memberFront) inSpace(domain string) error {
	if f.srv.Store.HasDomain(domain) {
		return nil
	}
	switch l := f.srv.List.Current(); {
	case l == nil:
		return errListUnknown
	case !l.Listed(domain):
		return errNoSuchSpace
	}
	return nil
}

// replyTo: answers may go to any BAL of the trust space (applications name that of a person), and nowhere else.
func (f memberFront) replyTo(domains []string) error {
	for _, d := range domains {
		switch err := f.inSpace(d); {
		case errors.Is(err, errNoSuchSpace):
			return errReplyTo
		case err != nil:
			return err
		}
	}
	return nil
}

func (f memberFront) take(in *delivery.Incoming) error {
	return f.srv.Submission.Quota.Take(in.Member.BAL, in.Member.Person, 1)
}

func (f memberFront) give(in *delivery.Incoming, n int, since time.Time) {
	f.srv.Submission.Quota.Give(in.Member.BAL, in.Member.Person, n, since)
}

func (f memberFront) limits() delivery.Limits {
	return delivery.Limits{Size: f.srv.maxMessage(), Originate: &delivery.Originate{Hostname: f.srv.Hostname, Now: f.srv.now}}
}

// content: the BAL of the login is that of From, so that nobody reads another sender than the one who answers for it. The
// right is looked at once more: it may have ended while the message came in.
func (f memberFront) content(_ *session, in *delivery.Incoming, sp *delivery.Spool) error {
	origin := sp.Origin()
	if in.ReversePath == "" {
		f.from(in, origin.From)
	}
	if err := origin.By(message.Address(in.Member.BAL.Address)); err != nil {
		return fmt.Errorf("smtpd: %w", err)
	}
	if in.ReversePath == "" && !origin.Receipt {
		return errNullSender
	}
	if err := f.replyTo(sp.ReplyToDomains()); err != nil {
		return err
	}
	return f.mayWrite(in.Member.BAL)
}

func (memberFront) stored(*delivery.Incoming) {}

func (f memberFront) alike(*session, *delivery.Incoming) (string, bool) {
	return f.login.who.Person + " " + string(f.login.who.Grants[0].BAL.Address), true
}

// endedBy is what a session is told whose right, or time, is over.
func endedBy(err error) error {
	if errors.Is(err, auth.ErrSessionOver) {
		return err
	}
	return errRight
}

// recordEnd has the trace say whose session ended, and why.
func (s *Server) recordEnd(conn uint64, p *auth.Principal, err error) {
	reason := "RightEnded"
	if errors.Is(err, auth.ErrSessionOver) {
		reason = "SessionOver"
	}
	s.Store.Record(trace.Event{Time: s.now(), Kind: trace.Logout, Conn: conn, Person: p.Person, BAL: string(p.Grants[0].BAL.Address),
		Attrs: []trace.Attr{{Key: trace.KeyReason, Value: reason}, {Key: trace.KeyMethod, Value: p.Method}, {Key: trace.KeyCommand, Value: "AUTH"}}})
}
