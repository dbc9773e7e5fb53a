package admin

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"

	"mssd/store"
	"mssd/trace"
)

// routeActs names the requests whose name in the trace differs from their pattern; a pattern that is not here stands in the
// trace as it is. What a handler records itself says more than this name: it is used where a request is refused, and where
// a handler recorded nothing.
var routeActs = map[string]string{
	"GET /v1/bals":                           "bal list",
	"POST /v1/bals":                          "bal add",
	"POST /v1/declarations":                  "bal declare",
	"GET /v1/bals/{address}":                 "bal show",
	"GET /v1/members":                        "member export",
	"POST /v1/members":                       "member import",
	"POST /v1/bals/{address}/members":        "member add",
	"DELETE /v1/bals/{address}/members/{id}": "member end",
	"GET /v1/inactive":                       "bal inactive",
	"POST /v1/inactive/notices":              "bal inactive, notify",
	"GET /v1/bals/{address}/history":         "bal history",
	"GET /v1/bals/{address}/expunged":        "bal deleted",
	"POST /v1/restored/settled":              "bal settled",
	"PUT /v1/bals/{address}/state":           "bal state",
	"PUT /v1/bals/{address}/listing":         "bal listing",
	"POST /v1/bals/{address}/destruction":    "bal destroy",
	"POST /v1/bals/{address}/undelete":       "bal undelete",
	"PUT /v1/bals/{address}/hold":            "bal hold",
	"DELETE /v1/bals/{address}/hold":         "bal release",
	"PUT /v1/bals/{address}/retention":       "bal retention",
	"PUT /v1/bals/{address}/quota":           "bal quota",
	"GET /v1/bals/{address}/mail":            "bal export",
	"POST /v1/bals/{address}/mail":           "bal import",
	"POST /v1/sweep":                         "sweep",
	"GET /v1/trace":                          "trace read",
	"GET /v1/publication":                    "directory publish",
	"POST /v1/publication/acks":              "directory publish, acknowledged",
	"GET /v1/directory":                      "directory status",
	"POST /v1/directory/accept":              "directory accept",
	"GET /v1/directory/find":                 "directory find",
	"GET /v1/directory/audit":                "directory audit",
	"GET /v1/certs":                          "certs",
	"GET /v1/whitelist":                      "whitelist status",
	"GET /v1/whitelist/find":                 "whitelist find",
	"POST /v1/whitelist/accept":              "whitelist accept",
	"POST /v1/whitelist/preview":             "whitelist preview",
	"GET " + ownerMembers:                    "owner: member list",
	"POST " + ownerMembers:                   "owner: member add",
	"PUT " + ownerMembers + "/{id}":          "owner: member change",
	"DELETE " + ownerMembers + "/{id}":       "owner: member end",
	"POST /v1/fsck":                          "fsck",
	"POST /v1/reload":                        "reload",
	"GET /v1/backups":                        "backup list",
	"POST /v1/backups":                       "backup",
	"GET /v1/backups/{id}/index":             "backup: copy of the index",
	"GET /v1/backups/{id}/keys":              "backup: copy of the keys",
	"POST /v1/backups/{id}/manifest":         "backup: manifest",
	"POST /v1/backups/{id}/done":             "backup: done",
	"POST /v1/backups/{id}/forgotten":        "backup forget",
	"/":                                      "a request that is none",
}

// quiet are the requests that are recorded only when they are refused, with the reason.
var quiet = map[string]string{
	"GET /v1/health":               "supervision asks every few seconds; it changes nothing and shows nothing of any BAL but that it is damaged",
	"POST /v1/backups/{id}/alive":  "a sign of life, each minute, of a backup whose beginning is recorded",
	"POST /v1/backups/{id}/bodies": "one of thousands of parts of a backup whose beginning is recorded; the bodies stay sealed",
}

type deedKey struct{}

// deed is what is known of a request while it is answered.
type deed struct {
	recorded atomic.Bool                   // a handler made an event of it
	bal      atomic.Pointer[store.Address] // what it is about, where the path does not say it
	owner    atomic.Pointer[string]        // whose token was good: the person it is done for
	reason   atomic.Pointer[string]        // why it was refused, where that is more than its status
}

// traced has each request recorded with who asked: what a handler recorded of one that succeeded is enough, a refused one
// is recorded here, with the status as code. It is on its way to the trace before the first octet of the answer leaves.
func (s *Server) traced(pattern string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a := &deed{}
		r = r.WithContext(context.WithValue(r.Context(), deedKey{}, a))
		rec := &recorder{ResponseWriter: w, tell: func(status int) { s.record(pattern, r, a, status) }}
		defer func() {
			if !rec.told { // broken off before its answer
				rec.told = true
				s.record(pattern, r, a, http.StatusInternalServerError)
			}
		}()
		next(rec, r)
	}
}

// record writes the event of a request down, where it needs one.
func (s *Server) record(pattern string, r *http.Request, a *deed, status int) {
	refused := status >= http.StatusBadRequest
	if !refused && (a.recorded.Load() || quiet[pattern] != "") {
		return
	}
	name := routeActs[pattern]
	if name == "" {
		name = pattern
	}
	ev := event(r, trace.Admin, name)
	ev.BAL, ev.Time = string(s.object(r, a)), s.Now().UTC()
	if !refused {
		s.Store.Record(ev)
		return
	}
	code := strconv.Itoa(status)
	ev.Attrs = append(ev.Attrs, trace.Attr{Key: trace.KeyCode, Value: code}, trace.Attr{Key: trace.KeyReason, Value: http.StatusText(status)})
	if why := a.reason.Load(); why != nil {
		ev.Attrs[len(ev.Attrs)-1].Value, code = *why, code+" "+*why
	}
	s.refusals.Add(trace.Alike{Who: ev.Person, Known: true, Cmd: name, Code: code}, ev)
}

// object is the BAL that a request is about, "" where it is none of ours: what was typed may be the address of a patient.
func (s *Server) object(r *http.Request, a *deed) store.Address {
	if named := a.bal.Load(); named != nil {
		return *named
	}
	b, _ := s.Store.BAL(address(r.PathValue("address"))) // one that is unavailable has its address too
	return b.Address
}

// about says which BAL a request is about whose path does not name it: one of ours, or an address that could be.
func about(r *http.Request, a store.Address) {
	if v, ok := r.Context().Value(deedKey{}).(*deed); ok {
		v.bal.Store(&a)
	}
}

// recorder tells the status of an answer before it leaves.
type recorder struct {
	http.ResponseWriter
	tell func(status int)
	told bool
}

func (w *recorder) WriteHeader(status int) {
	w.once(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	w.once(http.StatusOK)
	return w.ResponseWriter.Write(p)
}

// FlushError is what http.ResponseController calls: a flush sends the header.
func (w *recorder) FlushError() error {
	w.once(http.StatusOK)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *recorder) once(status int) {
	if !w.told && status >= http.StatusOK {
		w.told = true
		w.tell(status)
	}
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
