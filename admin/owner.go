package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"mssd/auth"
	"mssd/store"
	"mssd/trace"
)

// What the owner of a BAL does with its members, through a program that speaks for them (a console). The program is a user
// of the socket like others; the owner is who the access token of Pro Santé Connect says, which comes with each request
// (Authorization: Bearer, RFC 6750, Section 2.1) and is verified each time. The trace names the owner as actor, and as
// client the user of the socket.

// ownerMembers is the path of the members that owners manage.
const ownerMembers = "/v1/owner/bals/{address}/members"

// ChangeMember is what becomes of a membership: what is left out is gone.
type ChangeMember struct {
	Role  string     `json:"role"`
	From  *time.Time `json:"from,omitempty"`
	Until *time.Time `json:"until,omitempty"` // nil: no end
}

// Membership is the answer to a change that an owner made.
type Membership struct {
	Members  []Member `json:"members"`            // of the BAL, as they are now
	User     string   `json:"user,omitempty"`     // what a new member types as user name
	Password string   `json:"password,omitempty"` // made up by the daemon; shown this once
}

// OwnerProblem is a refusal of what an owner asked. Code is one word for programs.
type OwnerProblem struct {
	Problem
	Code string `json:"code"`
}

// Unwrap gives the problem without its code.
func (p *OwnerProblem) Unwrap() error { return &p.Problem }

// OwnerMembers lists the members of a BAL for an owner, whom token names.
func (c *Client) OwnerMembers(ctx context.Context, token, address string) ([]Member, error) {
	return callAs[[]Member](ctx, c, token, http.MethodGet, ownerPath(address, ""), nil)
}

// OwnerAdd adds a member for an owner.
func (c *Client) OwnerAdd(ctx context.Context, token, address string, m NewMember) (Membership, error) {
	return callAs[Membership](ctx, c, token, http.MethodPost, ownerPath(address, ""), m)
}

// OwnerChange changes role and dates of a member for an owner.
func (c *Client) OwnerChange(ctx context.Context, token, address, id string, m ChangeMember) (Membership, error) {
	return callAs[Membership](ctx, c, token, http.MethodPut, ownerPath(address, id), m)
}

// OwnerEnd ends a membership for an owner.
func (c *Client) OwnerEnd(ctx context.Context, token, address, id string) (Membership, error) {
	return callAs[Membership](ctx, c, token, http.MethodDelete, ownerPath(address, id), nil)
}

func ownerPath(address, id string) string {
	p := strings.Replace(ownerMembers, "{address}", url.PathEscape(address), 1)
	if id != "" {
		p += "/" + url.PathEscape(id)
	}
	return p
}

func (s *Server) ownerRoutes(mux *router) {
	for pattern, h := range map[string]ownerHandler{
		"GET " + ownerMembers:              s.ownerList,
		"POST " + ownerMembers:             s.ownerAdd,
		"PUT " + ownerMembers + "/{id}":    s.ownerChange,
		"DELETE " + ownerMembers + "/{id}": s.ownerEnd,
	} {
		mux.handle(pattern, s.owned(pattern, h))
	}
}

// An ownerHandler answers to an owner of a BAL, who was one a moment ago.
type ownerHandler func(r *http.Request, b store.BAL, owner store.Member) (any, error)

// owned lets only owners through.
func (s *Server) owned(pattern string, h ownerHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, owner, err := s.owner(r)
		var doc any
		if err == nil {
			doc, err = h(r, b, owner)
		}
		if err == nil {
			writeJSON(w, http.StatusOK, doc)
			return
		}
		p := ownerProblem(err)
		if p.Status >= http.StatusInternalServerError {
			s.Log.Error("admin request failed", "cmd", pattern, "err", err)
		}
		if v, ok := r.Context().Value(deedKey{}).(*deed); ok && v.reason.Load() == nil {
			v.reason.Store(&p.Code)
		}
		if p.Status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`) // RFC 6750, Section 3
		}
		writeJSON(w, p.Status, p)
	}
}

// owner finds out whose token came with a request, and whether they own the BAL of its path.
func (s *Server) owner(r *http.Request) (b store.BAL, m store.Member, err error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" || len(r.Header.Values("Authorization")) > 1 {
		return b, m, &OwnerProblem{Problem{http.StatusUnauthorized, "no access token came with the request", "expected one header Authorization: Bearer and the token"}, "NoToken"}
	}
	if s.Auth == nil {
		return b, m, &auth.Refusal{Err: auth.ErrCredentials, Reason: "NoIssuer"}
	}
	b, m, err = s.Auth.Holder(r.Context(), string(address(r.PathValue("address"))), strings.TrimSpace(token), auth.Peer{})
	deed, _ := r.Context().Value(deedKey{}).(*deed)
	var refused *auth.Refusal
	if errors.As(err, &refused) && deed != nil {
		deed.reason.Store(&refused.Reason) // the trace says more than the answer
		if refused.Person != "" {
			deed.owner.Store(&refused.Person)
		}
	}
	if err != nil {
		return b, m, err
	}
	if deed != nil {
		deed.owner.Store(&m.ID)
	}
	if m.Role != store.Owner {
		return b, m, store.ErrNotOwner
	}
	return b, m, nil
}

// ownerProblem is the one place where an error becomes an answer to an owner.
func ownerProblem(err error) *OwnerProblem {
	var done *OwnerProblem
	var refused *auth.Refusal
	switch {
	case errors.As(err, &done):
		return done
	case errors.As(err, &refused):
		return refusedOwner(refused)
	case errors.Is(err, auth.ErrUnavailable):
		return &OwnerProblem{Problem{http.StatusServiceUnavailable, "nobody can say now whose token this is", "ask again; mssd health says what is missing"}, "Unavailable"}
	case errors.Is(err, store.ErrNotOwner):
		return &OwnerProblem{Problem{http.StatusForbidden, "only an owner of this BAL may see and change its members", "ask an owner, or the operator"}, "NotOwner"}
	case errors.Is(err, store.ErrLastOwner):
		return &OwnerProblem{Problem{http.StatusConflict, "this would leave the BAL without an owner", "make somebody else an owner first, without an end before this one's"}, "LastOwner"}
	case errors.Is(err, store.ErrMemberExists):
		return &OwnerProblem{Problem{http.StatusConflict, "this is a member of the BAL already", "change the membership, or end it and add it again"}, "MemberExists"}
	}
	p := problem(err)
	code := "Failed"
	switch {
	case errors.Is(err, store.ErrNoMember):
		code = "NoMember"
	case p.Status == http.StatusBadRequest:
		code = "BadRequest"
	case p.Status == http.StatusServiceUnavailable:
		code = "Unavailable"
	}
	return &OwnerProblem{*p, code}
}

// refusedOwner says why a token opens nothing; whether there is such a BAL is no part of it.
func refusedOwner(r *auth.Refusal) *OwnerProblem {
	switch {
	case r.Reason == "NoIssuer":
		return &OwnerProblem{Problem{http.StatusServiceUnavailable, "this daemon takes no access tokens", "the operator has to set login.psc"}, "NoIssuer"}
	case errors.Is(r, auth.ErrThrottled):
		return &OwnerProblem{Problem{http.StatusTooManyRequests, "too many requests that were refused", "ask again in some minutes"}, "Throttled"}
	case strings.HasPrefix(r.Reason, "Token"):
		return &OwnerProblem{Problem{http.StatusUnauthorized, "the access token was refused: " + r.Reason, "log in at Pro Santé Connect again"}, r.Reason}
	}
	return &OwnerProblem{Problem{http.StatusForbidden, "this person may not open such a BAL", "ask an owner, or the operator"}, "NoRight"}
}

func (s *Server) ownerList(r *http.Request, b store.BAL, _ store.Member) (any, error) {
	s.Store.Record(balEvent(r, trace.Admin, "owner: member list", b))
	return s.members(b.ID), nil
}

func (s *Server) members(id store.BALID) []Member {
	list := []Member{}
	for _, m := range s.Store.Members(id) {
		list = append(list, s.member(m))
	}
	return list
}

func (s *Server) ownerAdd(r *http.Request, b store.BAL, owner store.Member) (any, error) {
	var req NewMember
	if err := decode(r, &req); err != nil {
		return nil, err
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
	if err := s.byOwner(r, "member add", store.MemberByOwner{Address: b.Address, By: owner.ID, Act: store.AddMember, Member: m}); err != nil {
		return nil, err
	}
	made := Membership{Members: s.members(b.ID), Password: password}
	if m.PasswordHash != "" {
		made.User = auth.UserName(b.Address, m, s.Store.Members(b.ID), s.Now())
	}
	return made, nil
}

func (s *Server) ownerChange(r *http.Request, b store.BAL, owner store.Member) (any, error) {
	var req ChangeMember
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	m, _, err := s.newMember(r.Context(), b.Address, NewMember{ID: canonicalID(r.PathValue("id")), Role: req.Role, From: req.From, Until: req.Until, NoPassword: true})
	if err != nil {
		return nil, err
	}
	if err := s.byOwner(r, "member change", store.MemberByOwner{Address: b.Address, By: owner.ID, Act: store.ChangeMember, Member: m}); err != nil {
		return nil, err
	}
	return Membership{Members: s.members(b.ID)}, nil
}

func (s *Server) ownerEnd(r *http.Request, b store.BAL, owner store.Member) (any, error) {
	id := canonicalID(r.PathValue("id"))
	if err := s.byOwner(r, "member end", store.MemberByOwner{Address: b.Address, By: owner.ID, Act: store.DropMember, Member: store.Member{ID: id}}); err != nil {
		return nil, err
	}
	return Membership{Members: s.members(b.ID)}, nil
}

// byOwner does an owner's act with its event: both or none.
func (s *Server) byOwner(r *http.Request, act string, op store.MemberByOwner) error {
	_, err := s.Store.Commit(r.Context(), &store.Batch{Ops: []store.Op{op}, Events: []trace.Event{memberEvent(r, act, op.Address, op.Member)}})
	return err
}
