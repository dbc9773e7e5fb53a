package admin

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strconv"

	"mssd/store"
	"mssd/trace"
)

func (s *Server) trace(r *http.Request) (any, error) {
	id, messageID := r.URL.Query().Get("id"), r.URL.Query().Get("message_id")
	if (id == "") == (messageID == "") {
		return nil, badRequest("give either id or message_id")
	}
	var ids []trace.ID
	if id != "" {
		v, err := trace.ParseID(id)
		if err != nil {
			return nil, badRequest("%q: %v", id, err)
		}
		ids = append(ids, v)
	} else {
		var err error
		if ids, err = s.Store.TraceByMessageID(r.Context(), messageID); err != nil {
			return nil, err
		}
	}
	doc := Trace{Messages: []TraceMessage{}}
	for _, v := range ids {
		events, err := s.Store.Trace(r.Context(), v)
		if err != nil {
			return nil, err
		}
		if len(events) == 0 {
			continue
		}
		m := TraceMessage{ID: v.String()}
		for _, e := range events {
			m.Events = append(m.Events, traceEvent(e))
		}
		doc.Messages = append(doc.Messages, m)
	}
	// After the reading, so that this look does not stand in its own answer.
	for _, v := range ids {
		ev := event(r, trace.Admin, "trace read")
		ev.ID = v
		s.Store.Record(ev)
	}
	if len(doc.Messages) == 0 {
		return nil, &Problem{http.StatusNotFound, "the trace knows nothing of it",
			"expected the id that stood in the 250 answer, or the Message-ID with or without its angle brackets"}
	}
	return doc, nil
}

func (s *Server) health(*http.Request) (any, error) { return s.Health(), nil }

// Health is how the daemon does; no request is needed for it.
func (s *Server) Health() Health {
	s.setup()
	h := Health{Status: "ok", Reasons: s.Fronts.Degraded(), Version: s.Version, PID: os.Getpid(), Since: s.since.UTC(),
		Fronts: s.Fronts.Addresses(), BALs: len(s.Store.BALs())}
	if s.Warnings != nil {
		h.Warnings = s.Warnings()
	}
	if w := s.Store.ClockWait(); w.Waiting() {
		h.Warnings = append(h.Warnings, clockText(w))
	}
	if len(h.Reasons) > 0 {
		h.Status = "degraded"
	}
	if free, err := s.Store.FreeSpace(); err == nil {
		h.FreeOctets = free
	}
	if s.List != nil {
		if l := s.List.Current(); l != nil {
			h.List = &ListHealth{l.Version(), l.Domains(), int64(s.List.Age().Seconds())}
		}
	}
	return h
}

func (s *Server) fsck(r *http.Request) (any, error) {
	doc, err := CheckStore(r.Context(), s.Store, r.URL.Query().Has("bodies"), nil)
	if err != nil {
		return nil, err
	}
	s.Store.Record(event(r, trace.Admin, "fsck", trace.Attr{Key: trace.KeyCount, Value: strconv.Itoa(len(doc.Problems))}))
	return doc, nil
}

// CheckStore looks at every invariant of a store; with bodies it also opens each body to its last octet.
func CheckStore(ctx context.Context, st *store.Store, bodies bool, p store.Progress) (Check, error) {
	doc := Check{Problems: []string{}}
	problems, err := st.Check(ctx)
	if err == nil && bodies {
		var more []store.Problem
		more, err = st.VerifyBodies(ctx, p)
		for _, m := range more { // a body that is missing was seen before
			if !slices.Contains(problems, m) {
				problems = append(problems, m)
			}
		}
	}
	if err != nil {
		return Check{}, err
	}
	for _, p := range problems {
		doc.Problems = append(doc.Problems, p.String())
	}
	doc.Lost, err = st.Lost()
	return doc, err
}

func (s *Server) reload(r *http.Request) (any, error) {
	doc := Reloaded{}
	for _, err := range s.Fronts.Reload(r.Context()) {
		doc.Kept = append(doc.Kept, err.Error())
	}
	s.Store.Record(event(r, trace.Admin, "reload", trace.Attr{Key: trace.KeyCount, Value: strconv.Itoa(len(doc.Kept))}))
	return doc, nil
}
