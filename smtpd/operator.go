package smtpd

import (
	"log/slog"
	"time"

	"mssd/delivery"
	"mssd/directory"
	"mssd/directory/whitelist"
	"mssd/message"
	"mssd/tlsconf"
)

// operatorFront is port 25: who sends is in the peer's certificate, and the white list says for which domains.
type operatorFront struct{ srv *Server }

// prove judges the peer once, at the first EHLO or HELO after TLS.
func (f operatorFront) prove(s *session) error {
	w, v := s.w, s.judge()
	if !v.OK() {
		w.guard.Line(w.log, slog.LevelInfo, "peer judged", "", "operator", v.DN.String(), "reason", v.Reason.String())
		return nil
	}
	w.log.Info("peer judged", "operator", v.DN.String(), "reason", v.Reason.String())
	if why := f.srv.set.Prove(w.guard, v.DN.Key(), f.srv.connsOf(v.DN)); why != "" {
		_ = w.end(errTooManyOfPeer)
		return errTooManyOfPeer
	}
	return nil
}

// judge gives the verdict on the peer. The Judge remembers it for a minute at most, and not longer than the
// certificate or the trust data last; a memory of our own would add to that minute (design §2.2).
func (s *session) judge() tlsconf.Verdict { return s.srv.Judge.PeerNow(s.w.ctx, s.state) }

func (f operatorFront) describe(s *session, in *delivery.Incoming) {
	in.Verdict = s.judge()
	if l := f.srv.List.Current(); l != nil {
		in.ListVersion = l.Version()
	}
}

func (f operatorFront) sender(s *session, in *delivery.Incoming) error {
	if !in.Verdict.OK() {
		return &peerError{in.Verdict}
	}
	return s.bound(in.ReversePath, in.Verdict.DN)
}

// bound asks the white list whether this certificate may speak for the sender's domain; the null sender
// is anybody's whom the list knows.
func (s *session) bound(from message.Address, dn tlsconf.DN) error {
	var a whitelist.Answer
	if from == "" {
		a = s.srv.List.KnowsDN(s.w.ctx, dn, s.start)
	} else {
		a = s.srv.List.Judge(s.w.ctx, from.Domain(), dn, s.start)
	}
	switch a {
	case whitelist.Bound:
		return nil
	case whitelist.NotBound:
		return errNotBound
	case whitelist.NotListed:
		return errNotListed
	}
	return errListUnknown
}

func (f operatorFront) begun(in *delivery.Incoming) {
	if f.srv.Seen != nil {
		f.srv.Seen(in.ReversePath.Domain(), in.Verdict)
	}
}

func (f operatorFront) class(from message.Address) directory.Class { return f.srv.class(from) }

// elsewhere: nobody's mail is relayed here.
func (operatorFront) elsewhere(*session, message.Address, int64) error { return errRelay }

// take: what another operator sends is bounded by its connections and by the space of the BALs.
func (operatorFront) take(*delivery.Incoming) error           { return nil }
func (operatorFront) give(*delivery.Incoming, int, time.Time) {}

func (f operatorFront) limits() delivery.Limits {
	return delivery.Limits{Size: f.srv.maxMessage(), DKIM: f.srv.DKIM}
}

func (operatorFront) content(s *session, in *delivery.Incoming, sp *delivery.Spool) error {
	if err := s.headerFrom(in, sp.FromDomains()); err != nil {
		return err
	}
	return s.patientFirst(in, sp.Begins())
}

func (f operatorFront) stored(in *delivery.Incoming) {
	if f.srv.Stored != nil {
		f.srv.Stored(in.ReversePath.Domain(), in.Verdict)
	}
}

func (operatorFront) alike(_ *session, in *delivery.Incoming) (string, bool) {
	return in.Verdict.DN.Key(), in.Verdict.OK()
}
