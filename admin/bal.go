package admin

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"mssd/auth"
	"mssd/store"
	"mssd/trace"
)

func (s *Server) bal(b store.BAL) BAL {
	doc := BAL{Address: string(b.Address), Kind: b.Kind.String(), State: b.State.String(), Listing: b.Listing.String(),
		Structure: b.Structure, Created: b.Created, Messages: b.Messages, Octets: b.Octets,
		QuotaOctets: b.QuotaOctets, QuotaMessages: b.QuotaMessages, Destroyed: destruction(b)}
	if !b.Use.Last.IsZero() {
		doc.LastLogin = &b.Use.Last
	}
	if b.Held() {
		doc.HeldSince = &b.HeldSince
	}
	return doc
}

func (s *Server) balList(r *http.Request) (any, error) {
	s.Store.Record(event(r, trace.Admin, "bal list"))
	list := []BAL{}
	faults := s.faults()
	for _, b := range s.Store.BALs() {
		doc := s.bal(b)
		doc.Unavailable = faults[b.ID]
		list = append(list, doc)
	}
	slices.SortFunc(list, func(a, b BAL) int { return strings.Compare(a.Address, b.Address) })
	return list, nil
}

func (s *Server) balShow(r *http.Request) (any, error) {
	b, err := s.Store.BAL(address(r.PathValue("address")))
	unavailable := errors.Is(err, store.ErrUnavailable) && b.Address != ""
	if err != nil && !unavailable {
		return nil, err
	}
	ev := event(r, trace.Admin, "bal show")
	ev.BAL = string(b.Address)
	s.Store.Record(ev)
	if unavailable {
		doc := s.bal(b)
		doc.Unavailable = s.faults()[b.ID]
		return doc, nil
	}
	return s.wholeBAL(b)
}

// faults says why BALs are unavailable.
func (s *Server) faults() map[store.BALID]string {
	m := map[store.BALID]string{}
	for _, f := range s.Store.Unavailable() {
		m[f.BAL] = f.Reason
	}
	return m
}

func (s *Server) wholeBAL(b store.BAL) (BAL, error) {
	doc := s.bal(b)
	for _, m := range s.Store.Members(b.ID) {
		doc.Members = append(doc.Members, s.member(m))
	}
	boxes, err := s.Store.Mailboxes(b.ID)
	if err != nil {
		return BAL{}, err
	}
	deleted := DeletedSum{}
	if deleted.Messages, deleted.Octets, err = s.Store.CountExpunged(b.ID); err != nil {
		return BAL{}, err
	}
	doc.Deleted = &deleted
	for _, m := range boxes {
		if m.Created {
			doc.Mailboxes = append(doc.Mailboxes, s.mailbox(m))
		}
	}
	return doc, nil
}

func address(s string) store.Address { return store.Address(strings.ToLower(strings.TrimSpace(s))) }

func (s *Server) balAdd(r *http.Request) (any, error) {
	var req NewBAL
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if a := address(req.Address); checkAddress(string(a)) == nil {
		about(r, a)
	}
	b, err := newBAL(req)
	if err != nil {
		return nil, err
	}
	batch := &store.Batch{Ops: []store.Op{store.PutBAL{BAL: b, Create: true, AfterRestore: req.AfterRestore}}}
	ev := event(r, trace.BAL, "bal add", trace.Attr{Key: trace.KeyState, Value: b.State.String()})
	ev.BAL = string(b.Address)
	batch.Events = append(batch.Events, ev)
	made := Made{}
	if req.Member != nil {
		if req.Member.Role == "" {
			req.Member.Role = store.Owner.String()
		}
		if err := s.certMember(req.Member, b.Kind); err != nil {
			return nil, err
		}
		m, password, err := s.newMember(r.Context(), b.Address, *req.Member)
		if err != nil {
			return nil, err
		}
		batch.Ops = append(batch.Ops, store.PutMember{Address: b.Address, Member: m})
		batch.Events = append(batch.Events, memberEvent(r, "member add", b.Address, m))
		made.Member, made.Password = m.ID, password
	}
	if _, err := s.Store.Commit(r.Context(), batch); err != nil {
		return nil, err
	}
	return s.finish(made, b.Address)
}

// finish completes the answer to an addition with what the store now holds.
func (s *Server) finish(made Made, a store.Address) (Made, error) {
	b, err := s.Store.BAL(a)
	if err != nil {
		return Made{}, err
	}
	if made.BAL, err = s.wholeBAL(b); err != nil {
		return Made{}, err
	}
	if made.Member != "" {
		members := s.Store.Members(b.ID)
		for _, m := range members {
			if m.ID == made.Member && m.PasswordHash != "" {
				made.User = auth.UserName(a, m, members, s.Now())
			}
		}
	}
	return made, nil
}

func newBAL(req NewBAL) (store.BAL, error) {
	b := store.BAL{Address: address(req.Address), State: store.Active, Structure: req.Structure,
		QuotaOctets: req.QuotaOctets, QuotaMessages: req.QuotaMessages}
	if err := checkAddress(string(b.Address)); err != nil {
		return b, err
	}
	var err error
	if b.Kind, err = store.ParseKind(req.Kind); err != nil {
		return b, badRequest("%v", err)
	}
	b.Listing = store.Published
	if b.Kind == store.APP {
		b.Listing = store.Unlisted
	}
	if req.Listing != "" {
		if b.Listing, err = store.ParseListing(req.Listing); err != nil {
			return b, badRequest("%v", err)
		}
	}
	if req.State != "" {
		if b.State, err = store.ParseState(req.State); err != nil {
			return b, badRequest("%v", err)
		}
	}
	if b.QuotaOctets < 0 || b.QuotaMessages < 0 {
		return b, badRequest("a quota is negative; expected 0 (no limit) or more")
	}
	return b, nil
}

// checkAddress holds the addresses of our BALs to what every client in the field can write: an RFC 5321 Dot-string
// and a domain, ASCII, no quotes, no tag.
func checkAddress(a string) error {
	local, domain, ok := strings.Cut(a, "@")
	if !ok || len(a) > 254 || len(local) > 64 || !dotted(local, "abcdefghijklmnopqrstuvwxyz0123456789!#$&'*-/=?^_`{|}~") ||
		!dotted(domain, "abcdefghijklmnopqrstuvwxyz0123456789-") || !strings.Contains(domain, ".") {
		return badRequest("%q is no address of a BAL; expected local-part@domain in plain letters, digits, dots and hyphens (no + and no %%)", a)
	}
	if domain == "patient.mssante.fr" {
		return badRequest("patient.mssante.fr belongs to the patient platform; expected a domain of this operator")
	}
	return nil
}

func dotted(s, allowed string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || strings.Trim(label, allowed) != "" {
			return false
		}
	}
	return true
}

func memberState(m store.Member, now time.Time) string {
	switch {
	case m.Ended:
		return "ended"
	case !m.From.IsZero() && now.Before(m.From):
		return "not yet"
	case !m.Until.IsZero() && !now.Before(m.Until):
		return "over"
	}
	return "active"
}
