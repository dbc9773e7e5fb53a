package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"mssd/auth"
	"mssd/store"
	"mssd/trace"
)

const (
	minPassword = 12   // characters
	maxPassword = 1024 // octets
)

func (s *Server) member(m store.Member) Member {
	doc := Member{ID: m.ID, Role: m.Role.String(), HasPassword: m.PasswordHash != "", HasSCRAM: m.SCRAM != "", State: memberState(m, s.Now())}
	if !m.From.IsZero() {
		doc.From = &m.From
	}
	if !m.Until.IsZero() {
		doc.Until = &m.Until
	}
	return doc
}

func (s *Server) memberAdd(r *http.Request) (any, error) {
	var req NewMember
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	b, err := s.Store.BAL(address(r.PathValue("address")))
	if err != nil {
		return nil, err
	}
	req.ID = canonicalID(req.ID)
	for _, old := range s.Store.Members(b.ID) {
		if old.ID == req.ID && !old.Ended {
			return nil, &Problem{http.StatusConflict, fmt.Sprintf("%s is a member of this BAL already", req.ID),
				"end the membership first (mssd member end), then add it again"}
		}
	}
	if req.Role == "" {
		req.Role = store.Writer.String()
	}
	if err := s.certMember(&req, b.Kind); err != nil {
		return nil, err
	}
	m, password, err := s.newMember(r.Context(), b.Address, req)
	if err != nil {
		return nil, err
	}
	_, err = s.Store.Commit(r.Context(), &store.Batch{
		Ops:    []store.Op{store.PutMember{Address: b.Address, Member: m}},
		Events: []trace.Event{memberEvent(r, "member add", b.Address, m)},
	})
	if err != nil {
		return nil, err
	}
	return s.finish(Made{Member: m.ID, Password: password}, b.Address)
}

func (s *Server) memberEnd(r *http.Request) (any, error) {
	b, err := s.Store.BAL(address(r.PathValue("address")))
	if err != nil {
		return nil, err
	}
	m := store.Member{ID: canonicalID(r.PathValue("id"))}
	for _, old := range s.Store.Members(b.ID) {
		if old.ID == m.ID {
			m = old
		}
	}
	_, err = s.Store.Commit(r.Context(), &store.Batch{
		Ops:    []store.Op{store.EndMember{Address: b.Address, Member: m.ID}},
		Events: []trace.Event{memberEvent(r, "member end", b.Address, m)},
	})
	if err != nil {
		return nil, err
	}
	return s.finish(Made{}, b.Address)
}

func memberEvent(r *http.Request, act string, a store.Address, m store.Member) trace.Event {
	ev := event(r, trace.Member, act, trace.Attr{Key: trace.KeyMember, Value: m.ID})
	if m.Role != 0 {
		ev.Attrs = append(ev.Attrs, trace.Attr{Key: trace.KeyRole, Value: m.Role.String()})
	}
	ev.BAL = string(a)
	return ev
}

// newMember is the member asked for; password is set when it was made up here.
func (s *Server) newMember(ctx context.Context, a store.Address, req NewMember) (m store.Member, password string, err error) {
	if err := checkMemberID(req.ID); err != nil {
		return m, "", err
	}
	m = store.Member{ID: req.ID}
	if m.Role, err = store.ParseRole(req.Role); err != nil {
		return m, "", badRequest("%v", err)
	}
	if req.From != nil {
		m.From = *req.From
	}
	if req.Until != nil {
		m.Until = *req.Until
	}
	if !m.Until.IsZero() && !m.From.Before(m.Until) {
		return m, "", badRequest("the membership ends (%s) before it begins (%s)", m.Until.Format(time.RFC3339), m.From.Format(time.RFC3339))
	}
	if req.NoPassword {
		return m, "", nil
	}
	secret := req.Password
	if secret == "" {
		secret = auth.GeneratePassword()
		password = secret
	} else if err := checkPassword(secret); err != nil {
		return m, "", err
	}
	if s.SCRAM {
		if m.SCRAM, err = auth.HashSCRAM(s.Store, a, secret); err != nil {
			return m, "", err
		}
	}
	m.PasswordHash, err = auth.HashPassword(s.Argon, secret)
	return m, password, err
}

// canonicalID is the form of an id that is kept: certificates have one, whatever order and blanks they are written with.
func canonicalID(id string) string {
	if c, err := auth.ParseCertMember(id); err == nil {
		return c
	}
	return id
}

// certMember holds a certificate to the kinds of BALs that certificates open; it has no password.
func (s *Server) certMember(req *NewMember, kind store.Kind) error {
	if !strings.HasPrefix(req.ID, auth.CertMember) {
		return nil
	}
	if req.Password != "" {
		return badRequest("%q is a certificate; expected no password with it", req.ID)
	}
	if !slices.Contains(s.CertKinds, kind) {
		return badRequest("a BAL of kind %s is not opened by certificates; expected the kind among imap.app.kinds, and a table imap.app", kind)
	}
	req.ID, req.NoPassword = canonicalID(req.ID), true
	return nil
}

// checkMemberID holds an id to its family: rpps:, adeli: or local:.
func checkMemberID(id string) error {
	family, value, ok := strings.Cut(id, ":")
	const digits = "0123456789"
	good := false
	if strings.HasPrefix(id, auth.CertMember) {
		if _, err := auth.ParseCertMember(id); err != nil {
			return badRequest("%q is no certificate: %v; expected cert: and attributes of its subject, as cert:OU=300000000000009,CN=app.exemple.fr", id, err)
		}
		return nil
	}
	switch family {
	case "rpps":
		good = len(value) == 11 && strings.Trim(value, digits) == ""
	case "adeli":
		good = len(value) == 9 && strings.Trim(strings.ToUpper(value), digits+"ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
	case "local":
		good = value != "" && len(value) <= 64 && strings.Trim(value, digits+"abcdefghijklmnopqrstuvwxyz.-_") == ""
	}
	if !ok || !good {
		return badRequest("%q is no member id; expected rpps: and 11 digits, adeli: and 9 characters, local: and a name in small letters, digits, dots, hyphens, or cert: and a name of a certificate", id)
	}
	return nil
}

// checkPassword holds a password that an operator chose to a length. RFC 4616, Section 2 forbids NUL in PLAIN;
// other control characters could not be typed into every client.
func checkPassword(p string) error {
	if n := len([]rune(p)); n < minPassword || len(p) > maxPassword {
		return badRequest("the password has %d characters; expected %d or more (at most %d octets)", n, minPassword, maxPassword)
	}
	if strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return badRequest("the password holds a control character; expected printable ones")
	}
	return nil
}
