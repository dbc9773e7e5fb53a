package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mssd/auth"
	"mssd/delivery"
	"mssd/directory"
	"mssd/directory/whitelist"
	"mssd/store"
	"mssd/tlsconf"
	"mssd/trace"
)

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = http.ErrServerClosed

const (
	maxRequest  = 64 << 10 // octets of a request body
	readTimeout = 10 * time.Second
)

// Fronts is what the door asks of the daemon around it.
type Fronts interface {
	// Addresses names each front and where it listens.
	Addresses() map[string]string
	// Reload reads certificates, revocation lists, anchors and the white list again. What could not be read is
	// returned and stays as it was.
	Reload(context.Context) []error
	// Degraded says what is not as it should be, one sentence each.
	Degraded() []string
}

// Server answers the command line. Store, Fronts and Log must be set.
type Server struct {
	Store     *store.Store
	Directory *directory.Directory // nil: no directory is mirrored
	List      *whitelist.Keeper    // nil: no white list
	Partners  *whitelist.Partners  // who was let in lately; nil: nobody remembers
	Judge     *tlsconf.Judge       // nil: peers are not judged
	Fronts    Fronts
	Argon     auth.Params         // for new passwords
	SCRAM     bool                // new passwords get a verifier for SCRAM too
	CertKinds []store.Kind        // of BALs that certificates open; nil: none
	Auth      *auth.Authenticator // verifies the access tokens of owners; nil: none are taken
	AllowUIDs []uint32            // users besides root and our own
	Version   string
	Warnings  func() []string       // what works but someone should look at; nil: nothing
	Dates     func() []tlsconf.Date // what ends and when, the soonest first; nil: nobody knows
	Log       *slog.Logger
	Now       func() time.Time // nil: time.Now

	Notices *delivery.InactivityNotices // tells BALs that nobody uses of it; nil: nobody does

	// MaxImport is the most octets of an imported message; 0: 100 MiB.
	MaxImport int64

	once      sync.Once
	http      *http.Server
	since     time.Time
	stop      sync.Once
	stopping  chan struct{} // closed by Shutdown
	importing sync.Map      // store.BALID: an import into it runs
	transfers chan struct{} // an entry for each export and import that runs
	backups   backups
	stall     time.Duration // a seam for tests; 0: transferStall
	refusals  trace.Folding // a command that is refused for ever fills no trace
}

type uidKey struct{}

// Listen makes the socket. One left behind by a dead daemon is replaced; one that answers is not.
func Listen(path string, shared bool) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s: another daemon answers on this socket", path)
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("%s: is there and is no socket; move it away", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	mode := os.FileMode(0o600)
	if shared {
		mode = 0o666 // the kernel says who it is; the folder above says who may come near
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (s *Server) setup() {
	s.once.Do(func() {
		if s.Now == nil {
			s.Now = time.Now
		}
		if s.MaxImport == 0 {
			s.MaxImport = 100 << 20
		}
		s.since = s.Now()
		s.refusals.Record, s.refusals.Now = s.Store.Record, s.Now
		s.stopping, s.transfers = make(chan struct{}), make(chan struct{}, maxTransfers)
		s.http = &http.Server{
			Handler:           s.guard(s.routes()),
			ReadHeaderTimeout: readTimeout,
			ReadTimeout:       readTimeout,
			IdleTimeout:       readTimeout,
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
			ConnContext: func(ctx context.Context, c net.Conn) context.Context {
				uid, err := peerUID(c)
				if err != nil {
					s.Log.Warn("admin: peer unknown", "err", err)
					return ctx
				}
				return context.WithValue(ctx, uidKey{}, uid)
			},
		}
	})
}

// Serve answers on l until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	s.setup()
	return s.http.Serve(l)
}

// Shutdown lets running requests finish until ctx ends; exports and imports break off at once, between two messages.
func (s *Server) Shutdown(ctx context.Context) error {
	s.setup()
	s.stop.Do(func() { close(s.stopping) })
	defer s.refusals.Flush()
	if err := s.http.Shutdown(ctx); err != nil {
		s.http.Close()
		return err
	}
	return nil
}

// peerUID asks the kernel which user is at the other end of a unix socket.
func peerUID(c net.Conn) (uint32, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var sockErr error
	if err := raw.Control(func(fd uintptr) {
		cred, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if sockErr != nil {
		return 0, sockErr
	}
	return cred.Uid, nil
}

func (s *Server) allowed(uid uint32) bool {
	return uid == 0 || int(uid) == os.Getuid() || slices.Contains(s.AllowUIDs, uid)
}

// guard lets only the users through that may come in.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, ok := r.Context().Value(uidKey{}).(uint32)
		if !ok {
			// The kernel did not say who it is; 0 must not stand for it, that would be root.
			writeProblem(w, &Problem{http.StatusForbidden, "the system does not say which user is asking", "see the daemon's log"})
			return
		}
		if !s.allowed(uid) {
			s.Log.Warn("admin: user refused", "uid", uid, "cmd", r.Method)
			s.refusals.Add(trace.Alike{Who: Person(uid), Known: true, Cmd: "refused"}, trace.Event{Kind: trace.Admin, Time: s.Now().UTC(),
				Person: Person(uid), Attrs: []trace.Attr{{Key: trace.KeyReason, Value: "not allowed"}, {Key: trace.KeyAct, Value: "refused"}}})
			writeProblem(w, &Problem{http.StatusForbidden, fmt.Sprintf("user id %d may not use this socket", uid),
				"run as root or as the daemon's user, or add the id to admin.allow_uids"})
			return
		}
		switch {
		case streams(r):
		case takesLists(r):
			r.Body = http.MaxBytesReader(w, r.Body, whitelist.MaxSize)
		default:
			r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		}
		next.ServeHTTP(w, r)
	})
}

// Person names an operator in the trace, by the user id of who asks: login name and number, for names are given anew, or
// the number alone where nobody knows a name.
func Person(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return "unix:" + u.Username + "(" + id + ")"
	}
	return "unix:" + id
}

func who(r *http.Request) string {
	uid, _ := r.Context().Value(uidKey{}).(uint32)
	return Person(uid)
}

// asker is who a request is done for: the owner whose token was good, else the user of the socket.
func asker(r *http.Request) string {
	if a, ok := r.Context().Value(deedKey{}).(*deed); ok {
		if p := a.owner.Load(); p != nil {
			return *p
		}
	}
	return who(r)
}

// event is the trace of one act of an operator.
func event(r *http.Request, kind trace.Kind, act string, attrs ...trace.Attr) trace.Event {
	if a, ok := r.Context().Value(deedKey{}).(*deed); ok {
		a.recorded.Store(true)
	}
	ev := trace.Event{Kind: kind, Person: asker(r), Attrs: append([]trace.Attr{{Key: trace.KeyAct, Value: act}}, attrs...)}
	if through := who(r); through != ev.Person {
		ev.Attrs = append(ev.Attrs, trace.Attr{Key: trace.KeyClient, Value: through})
	}
	return ev
}

// A handler answers with a document or an error; one place writes both.
type handler func(*http.Request) (any, error)

// mayLast are the requests that a big store or BAL makes long. They end when the command goes away.
var mayLast = map[string]bool{"POST /v1/fsck": true, "POST /v1/sweep": true, "POST /v1/bals/{address}/undelete": true,
	"GET /v1/bals/{address}": true, "GET /v1/bals/{address}/history": true, "GET /v1/inactive": true, "POST /v1/inactive/notices": true, "GET /v1/bals/{address}/expunged": true}

// router is a mux that knows its patterns; each request is recorded.
type router struct {
	*http.ServeMux
	s        *Server
	patterns []string
}

func (m *router) handle(pattern string, h http.HandlerFunc) {
	m.patterns = append(m.patterns, pattern)
	m.HandleFunc(pattern, m.s.traced(pattern, h))
}

func (s *Server) routes() *router {
	mux := &router{ServeMux: http.NewServeMux(), s: s}
	for pattern, h := range map[string]handler{
		"GET /v1/bals":                           s.balList,
		"POST /v1/bals":                          s.balAdd,
		"POST /v1/declarations":                  s.declare,
		"GET /v1/bals/{address}":                 s.balShow,
		"GET /v1/members":                        s.memberList,
		"POST /v1/members":                       s.memberImport,
		"POST /v1/bals/{address}/members":        s.memberAdd,
		"DELETE /v1/bals/{address}/members/{id}": s.memberEnd,
		"GET /v1/inactive":                       s.inactive,
		"POST /v1/inactive/notices":              s.notifyInactive,
		"GET /v1/bals/{address}/history":         s.history,
		"GET /v1/bals/{address}/expunged":        s.deleted,
		"POST /v1/restored/settled":              s.settled,
		"PUT /v1/bals/{address}/state":           s.setState,
		"PUT /v1/bals/{address}/listing":         s.setListing,
		"POST /v1/bals/{address}/destruction":    s.destroy,
		"POST /v1/bals/{address}/undelete":       s.undelete,
		"PUT /v1/bals/{address}/hold":            s.hold,
		"DELETE /v1/bals/{address}/hold":         s.release,
		"PUT /v1/bals/{address}/retention":       s.retention,
		"PUT /v1/bals/{address}/quota":           s.quota,
		"POST /v1/sweep":                         s.sweep,
		"GET /v1/trace":                          s.trace,
		"GET /v1/publication":                    s.publication,
		"POST /v1/publication/acks":              s.publicationAck,
		"GET /v1/directory":                      s.directoryStatus,
		"POST /v1/directory/accept":              s.directoryAccept,
		"GET /v1/directory/find":                 s.directoryFind,
		"GET /v1/directory/audit":                s.directoryAudit,
		"GET /v1/health":                         s.health,
		"GET /v1/certs":                          s.certs,
		"GET /v1/whitelist":                      s.whitelistStatus,
		"GET /v1/whitelist/find":                 s.whitelistFind,
		"POST /v1/whitelist/accept":              s.whitelistAccept,
		"POST /v1/whitelist/preview":             s.whitelistPreview,
		"POST /v1/fsck":                          s.fsck,
		"POST /v1/reload":                        s.reload,
		"GET /v1/backups":                        s.backupList,
		"POST /v1/backups/{id}/forgotten":        s.backupForget,
	} {
		mux.handle(pattern, func(w http.ResponseWriter, r *http.Request) {
			if mayLast[pattern] {
				// The server's limit on reading is for short requests: it would end this one after its body was read.
				_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
			}
			doc, err := h(r)
			if err != nil {
				p := problem(err)
				if p.Status >= 500 {
					s.Log.Error("admin request failed", "cmd", pattern, "err", err)
				}
				writeProblem(w, p)
				return
			}
			writeJSON(w, http.StatusOK, doc)
		})
	}
	for pattern, h := range map[string]streamer{
		"GET /v1/bals/{address}/mail":  s.balExport,
		"POST /v1/bals/{address}/mail": s.balImport,
	} {
		mux.handle(pattern, s.stream(pattern, h))
	}
	s.backupRoutes(mux)
	s.ownerRoutes(mux)
	mux.handle("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, &Problem{http.StatusNotFound, "no such request: " + r.Method + " " + r.URL.Path,
			"the command and the daemon may be of different versions (mssd version, mssd health)"})
	})
	return mux
}

func writeJSON(w http.ResponseWriter, status int, doc any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(doc) // the command has gone away: nobody to tell
}

func writeProblem(w http.ResponseWriter, p *Problem) { writeJSON(w, p.Status, p) }

// problem is the one place where an error becomes an answer.
func problem(err error) *Problem {
	var p *Problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, store.ErrNoBAL):
		return &Problem{http.StatusNotFound, "this store has no such BAL", "mssd bal list shows those it has"}
	case errors.Is(err, store.ErrSlow):
		return &Problem{http.StatusServiceUnavailable, "the disk of the store does not answer", "nobody knows yet whether this was done: look again when mssd health is well"}
	case errors.Is(err, store.ErrUnavailable):
		return &Problem{http.StatusServiceUnavailable, "this BAL is unavailable: what is kept of it is damaged", "mssd bal show and mssd fsck say why; nothing was changed"}
	case errors.Is(err, store.ErrBALExists):
		return &Problem{http.StatusConflict, "a BAL of this address is there already", "mssd bal show prints it"}
	case errors.Is(err, store.ErrRestored):
		return &Problem{http.StatusConflict, "this store was restored from a backup: whether somebody had this address after that is not known here",
			"see docs/operations.md; --after-restore says that nobody else had it, mssd bal settled that all addresses given since are here"}
	case errors.Is(err, store.ErrNoMember):
		return &Problem{http.StatusNotFound, "this BAL has no such member", "mssd bal show prints its members"}
	case errors.Is(err, store.ErrNoMailbox):
		return &Problem{http.StatusNotFound, "this BAL has no such mailbox", "mssd bal show prints its mailboxes"}
	case errors.Is(err, store.ErrDestroyed):
		return &Problem{http.StatusConflict, "this BAL was destroyed; its address is never given again", "mssd bal show says when"}
	case errors.Is(err, store.ErrNotClosed):
		return &Problem{http.StatusConflict, "only a closed BAL can be destroyed", "mssd bal close ends its sessions and refuses its mail"}
	case errors.Is(err, store.ErrHeld):
		return &Problem{http.StatusConflict, "this BAL is under legal hold", "mssd bal release ends it"}
	case errors.Is(err, store.ErrNoSpace):
		return &Problem{http.StatusInsufficientStorage, "no space left on the disk of the store", "make room; nothing was changed"}
	case errors.Is(err, store.ErrOverQuota):
		return &Problem{http.StatusInsufficientStorage, "the quota of this BAL is reached", "give it more room, or import with --over-quota; what was stored stays, and is not stored again"}
	case errors.Is(err, errFrame):
		return &Problem{http.StatusBadRequest, err.Error(), "compare mssd version with mssd health"}
	case errors.Is(err, store.ErrInvalid), errors.Is(err, store.ErrLimit), errors.Is(err, store.ErrName), errors.Is(err, store.ErrBALFixed):
		return &Problem{http.StatusBadRequest, err.Error(), ""}
	case errors.Is(err, store.ErrFailed), errors.Is(err, store.ErrClosed):
		return &Problem{http.StatusServiceUnavailable, "the store is closing or has failed", "see the daemon's log"}
	}
	return &Problem{http.StatusInternalServerError, err.Error(), "the daemon's log says more"}
}

// decode reads one JSON document, strictly.
func decode(r *http.Request, doc any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(doc); err != nil {
		return &Problem{http.StatusBadRequest, "the request cannot be read: " + err.Error(),
			"the command and the daemon may be of different versions"}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &Problem{http.StatusBadRequest, "the request holds more than one document", ""}
	}
	return nil
}

func badRequest(format string, args ...any) error {
	return &Problem{Status: http.StatusBadRequest, Text: fmt.Sprintf(format, args...)}
}
