package smtpd

import (
	"mssd/delivery"
	"mssd/directory/whitelist"
)

// HeaderFrom says what is done about a From field whose domain the white list does not bind to the peer's
// certificate: the envelope is judged in any case, but it is From that people read.
type HeaderFrom uint8

const (
	NoteFrom   HeaderFrom = iota // Authentication-Results and the trace tell (x-mssante-from=)
	RefuseFrom                   // 550 5.7.1; 451 while there is no list
	IgnoreFrom                   // nobody looks
)

// headerFrom judges the domains of From by the list that is in force.
func (s *session) headerFrom(in *delivery.Incoming, domains []string) error {
	if s.srv.HeaderFrom == IgnoreFrom {
		return nil
	}
	in.HeaderFrom = s.judgeFrom(in, domains)
	if s.srv.HeaderFrom != RefuseFrom {
		return nil
	}
	switch in.HeaderFrom.Result {
	case "pass":
		return nil
	case "temperror":
		return errListUnknown
	}
	return errFrom
}

func (s *session) judgeFrom(in *delivery.Incoming, domains []string) delivery.HeaderFrom {
	l := s.srv.List.Current()
	switch {
	case len(domains) == 0:
		return delivery.HeaderFrom{Result: "none"}
	case l == nil:
		return delivery.HeaderFrom{Result: "temperror"}
	}
	for _, d := range domains {
		if l.Bound(d, in.Verdict.DN) {
			continue
		}
		if s.cannotTell(l, d, in) {
			return delivery.HeaderFrom{Result: "temperror"}
		}
		bad := delivery.HeaderFrom{Result: "fail"}
		if l.Listed(d) { // what is no domain of the trust space may be anything, a person's number too
			bad.Domain = d
		}
		return bad
	}
	return delivery.HeaderFrom{Result: "pass", Domain: domains[0]}
}

// cannotTell says that a no about a domain is not certain. Where it would refuse the message, the list must be proven
// current first, as for the envelope.
func (s *session) cannotTell(l *whitelist.List, domain string, in *delivery.Incoming) bool {
	if s.srv.HeaderFrom != RefuseFrom {
		return l.Doubtful(domain)
	}
	a := s.srv.List.Judge(s.w.ctx, domain, in.Verdict.DN, s.start)
	return a == whitelist.CannotTell || a == whitelist.Bound // Bound: by a newer list; the repetition is judged by it
}
