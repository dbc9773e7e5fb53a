package smtpd

import (
	"mssd/delivery"
	"mssd/directory"
	"mssd/message"
	"mssd/store"
	"mssd/trace"
)

// query asks the directory about a BAL of ours.
func (s *session) query(bal store.BAL, from message.Address) directory.Query {
	return directory.Query{Address: string(bal.Address), Kind: bal.Kind.String(), Structure: bal.Structure, Listing: bal.Listing.String(),
		Sender: s.front.class(from)}
}

// askLater has the directory asked itself about recipients of a stored message that it was not asked about at RCPT. What it
// says comes into the trace; nobody waits for it.
func (s *session) askLater(id trace.ID, in *delivery.Incoming) {
	conn := in.Conn
	for _, r := range in.Recipients {
		if r.Decision.Answer == 0 {
			continue // postmaster: no matter of the directory
		}
		bal := string(r.BAL.Address)
		s.srv.Directory.Later(s.query(r.BAL, in.ReversePath), r.Decision, func(dec directory.Decision) {
			s.srv.Store.Record(trace.Event{ID: id, Kind: trace.Asked, Conn: conn, BAL: bal, Attrs: delivery.DecisionAttrs(dec)})
		})
	}
}
