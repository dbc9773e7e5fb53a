package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"mssd/store"
	"mssd/store/backup"
	"mssd/trace"
)

// A backup over the socket is one long request (POST /v1/backups) that answers with lines of JSON: how far the copy of
// the index is, then the moment. The session lives as long as this request does: when the command goes away, so does
// what was kept for it. Everything else is asked for in short requests that name the session.

// Backup is a backup that the store knows of.
type Backup struct {
	ID         string     `json:"id"`
	Label      string     `json:"label"` // where it lies
	State      string     `json:"state"` // whole, broken off, under way, destroyed
	Began      time.Time  `json:"began"`
	Done       *time.Time `json:"done,omitempty"`
	Forgotten  *time.Time `json:"forgotten,omitempty"`
	Commits    uint64     `json:"commits"`
	HighestBAL uint32     `json:"highest_bal"`
	Opens      []string   `json:"opens_destroyed,omitempty"` // destroyed BALs whose mail it can still open
}

// NewBackup asks for a session.
type NewBackup struct {
	Label string `json:"label"`
}

// backupLine is one line of the answer to NewBackup.
type backupLine struct {
	Stage   string         `json:"stage,omitempty"`
	Done    int64          `json:"done,omitempty"`
	Total   int64          `json:"total,omitempty"`
	Moment  *backup.Moment `json:"moment,omitempty"`
	Problem *Problem       `json:"problem,omitempty"`
}

// signedText is a signed manifest.
type signedText struct {
	Text string `json:"text"`
}

// backups holds the session that is open; one at a time, it keeps bodies from being removed.
type backups struct {
	mu      sync.Mutex
	id      string // of the session, "" none
	began   time.Time
	label   string
	session backup.Session // nil while it begins
	pulse   *pulse         // of the session

	use sync.Mutex // held while the session works
}

func (s *Server) backupRoutes(mux *router) {
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"POST /v1/backups":               s.backupBegin,
		"GET /v1/backups/{id}/index":     s.backupFile(backup.Session.CopyIndex),
		"GET /v1/backups/{id}/keys":      s.backupFile(backup.Session.CopyKeys),
		"POST /v1/backups/{id}/bodies":   s.backupBodies,
		"POST /v1/backups/{id}/manifest": s.backupManifest,
		"POST /v1/backups/{id}/done":     s.backupDone,
		"POST /v1/backups/{id}/alive":    s.backupAlive,
	} {
		mux.handle(pattern, func(w http.ResponseWriter, r *http.Request) {
			// The server's limit on reading is for short requests: it would end this one.
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
			defer func() { _ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) }() // of the next request
			started := &begun{ResponseWriter: &patient{w, s.stalls(), s.backups.heard}}
			err := h(started, r)
			switch {
			case err == nil:
			case started.yes:
				s.Log.Warn("backup: answer broken off", "err", err)
				panic(http.ErrAbortHandler) // the command sees that it is not whole
			default:
				writeProblem(w, problem(err))
			}
		})
	}
}

// begun notes whether an answer was begun.
type begun struct {
	http.ResponseWriter
	yes bool
}

func (b *begun) WriteHeader(status int)      { b.yes = true; b.ResponseWriter.WriteHeader(status) }
func (b *begun) Write(p []byte) (int, error) { b.yes = true; return b.ResponseWriter.Write(p) }
func (b *begun) Unwrap() http.ResponseWriter { return b.ResponseWriter }

func (s *Server) source(r *http.Request) backup.Local {
	return backup.Local{Store: s.Store, Event: func(act string, attrs ...trace.Attr) trace.Event {
		return event(r, trace.Admin, act, attrs...)
	}}
}

func (s *Server) backupBegin(w http.ResponseWriter, r *http.Request) error {
	var req NewBackup
	if err := decode(r, &req); err != nil {
		return err
	}
	b := &s.backups
	if err := b.take(req.Label, s.Now()); err != nil {
		return err
	}
	defer b.release()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	enc, flusher := json.NewEncoder(w), http.NewResponseController(w)
	line := func(l backupLine) error {
		return errors.Join(enc.Encode(l), flusher.Flush())
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	session, err := s.source(r).Begin(ctx, req.Label, func(stage string, done, total int64) {
		_ = line(backupLine{Stage: stage, Done: done, Total: total}) // a command that is gone ends the context
	})
	if err != nil {
		s.Log.Error("backup refused", "err", err)
		return line(backupLine{Problem: problem(err)})
	}
	m := session.Moment()
	heard := b.open(m.ID, session)
	s.Log.Info("backup begun", "cmd", m.ID)
	if err := line(backupLine{Moment: &m}); err != nil {
		return err
	}
	if heard.awaitSilence(ctx, s.stalls()) {
		s.Log.Warn("backup ended: nothing is heard of its command any more", "cmd", m.ID, "dur", s.stalls())
		panic(http.ErrAbortHandler) // the command sees it, should it go on
	}
	return nil
}

func (b *backups) take(label string, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.began.IsZero() {
		return &Problem{http.StatusConflict, "another backup is under way since " + b.began.UTC().Format(time.RFC3339) + ", to " + b.label, "wait until it is done"}
	}
	b.began, b.label = now, label
	return nil
}

func (b *backups) open(id string, session backup.Session) *pulse {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.id, b.session, b.pulse = id, session, newPulse()
	return b.pulse
}

// release ends the session, once nobody works with it.
func (b *backups) release() {
	b.mu.Lock()
	session := b.session
	b.id, b.session, b.pulse = "", nil, nil
	b.mu.Unlock()
	b.use.Lock()
	if session != nil {
		session.Close()
	}
	b.use.Unlock()
	b.mu.Lock()
	b.began = time.Time{}
	b.mu.Unlock()
}

// with runs fn with the session that a request names; one request at a time.
func (s *Server) with(r *http.Request, fn func(backup.Session) error) error {
	b := &s.backups
	b.use.Lock()
	defer b.use.Unlock()
	b.mu.Lock()
	id, session := b.id, b.session
	b.mu.Unlock()
	if session == nil || id != r.PathValue("id") {
		return &Problem{http.StatusNotFound, "this backup is not under way", "begin it again"}
	}
	b.heard()
	defer b.heard()
	return fn(session)
}

func (s *Server) backupFile(copy func(backup.Session, context.Context, io.Writer) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		return s.with(r, func(b backup.Session) error {
			w.Header().Set("Content-Type", "application/octet-stream")
			return copy(b, r.Context(), w)
		})
	}
}

func (s *Server) backupBodies(w http.ResponseWriter, r *http.Request) error {
	var ask backup.Ask
	if err := decode(r, &ask); err != nil {
		return err
	}
	if len(ask.IDs) > backup.MaxAsk {
		return badRequest("more than %d bodies in one request", backup.MaxAsk)
	}
	return s.with(r, func(b backup.Session) error {
		w.Header().Set("Content-Type", "application/octet-stream")
		out := backup.NewFrames(w)
		if err := b.Bodies(r.Context(), ask, out.Body); err != nil {
			return err
		}
		return out.End()
	})
}

func (s *Server) backupManifest(w http.ResponseWriter, r *http.Request) error {
	var c backup.Contents
	if err := decode(r, &c); err != nil {
		return err
	}
	return s.with(r, func(b backup.Session) error {
		text, err := b.Manifest(r.Context(), c)
		if err == nil {
			writeJSON(w, http.StatusOK, signedText{string(text)})
		}
		return err
	})
}

func (s *Server) backupDone(w http.ResponseWriter, r *http.Request) error {
	return s.with(r, func(b backup.Session) error {
		err := b.Done(r.Context())
		if err == nil {
			s.Log.Info("backup done", "cmd", b.Moment().ID)
			writeJSON(w, http.StatusOK, struct{}{})
		}
		return err
	})
}

func (s *Server) backupList(*http.Request) (any, error) {
	all, err := s.Store.Backups()
	if err != nil {
		return nil, err
	}
	s.backups.mu.Lock()
	open := s.backups.id
	s.backups.mu.Unlock()
	bals := s.Store.BALs()
	list := []Backup{}
	for _, b := range all {
		d := backupDoc(b, open)
		for _, bal := range bals {
			if bal.State == store.Destroyed && b.Holds(bal) {
				d.Opens = append(d.Opens, string(bal.Address))
			}
		}
		list = append(list, d)
	}
	return list, nil
}

func backupDoc(b store.Backup, open string) Backup {
	d := Backup{ID: b.ID.String(), Label: b.Label, State: "broken off", Began: b.Began, Commits: b.Commits, HighestBAL: uint32(b.HighestBAL)}
	if d.ID == open {
		d.State = "under way"
	}
	if !b.Done.IsZero() {
		d.State, d.Done = "whole", &b.Done
	}
	if !b.Forgotten.IsZero() {
		d.State, d.Forgotten = "destroyed", &b.Forgotten
	}
	return d
}

func (s *Server) backupForget(r *http.Request) (any, error) {
	id, err := trace.ParseID(r.PathValue("id"))
	if err != nil {
		return nil, badRequest("%v", err)
	}
	s.backups.mu.Lock()
	open := s.backups.id
	s.backups.mu.Unlock()
	if open == id.String() {
		return nil, &Problem{http.StatusConflict, "this backup is under way", "end it first"}
	}
	err = s.source(r).Forget(r.Context(), id)
	if errors.Is(err, store.ErrNoBackup) {
		return nil, &Problem{http.StatusNotFound, "the store knows no backup " + id.String(), "mssd backup list shows those it knows"}
	}
	return struct{}{}, err
}

// Begin implements backup.Source.
func (c *Client) Begin(ctx context.Context, label string, p store.Progress) (backup.Session, error) {
	resp, done, err := c.open(ctx, "POST", "/v1/backups", NewBackup{label})
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(resp.Body)
	for {
		var l backupLine
		err := dec.Decode(&l)
		switch {
		case err != nil:
			done()
			return nil, c.broken(err)
		case l.Problem != nil:
			done()
			return nil, l.Problem
		case l.Moment != nil:
			alive, over := context.WithCancel(ctx) // the session ends with it too
			b := &backupSession{c, *l.Moment, func() { over(); done() }}
			go b.tellAlive(alive, transferStall/5)
			return b, nil
		case p != nil:
			p(l.Stage, l.Done, l.Total)
		}
	}
}

// Forget implements backup.Source.
func (c *Client) Forget(ctx context.Context, id trace.ID) error {
	_, err := call[struct{}](ctx, c, "POST", "/v1/backups/"+id.String()+"/forgotten", nil)
	return err
}

// Backups lists the backups that the store knows of.
func (c *Client) Backups(ctx context.Context) ([]Backup, error) {
	return call[[]Backup](ctx, c, "GET", "/v1/backups", nil)
}

// backupSession is a backup.Session of a daemon.
type backupSession struct {
	c      *Client
	moment backup.Moment
	done   func()
}

func (b *backupSession) path(what string) string { return "/v1/backups/" + b.moment.ID + "/" + what }

func (b *backupSession) Moment() backup.Moment { return b.moment }

func (b *backupSession) CopyIndex(ctx context.Context, w io.Writer) error {
	return b.copy(ctx, "index", w, b.moment.Index.Octets)
}

func (b *backupSession) CopyKeys(ctx context.Context, w io.Writer) error {
	return b.copy(ctx, "keys", w, b.moment.Keys.Octets)
}

func (b *backupSession) copy(ctx context.Context, what string, w io.Writer, octets int64) error {
	resp, done, err := b.c.open(ctx, "GET", b.path(what), nil)
	if err != nil {
		return err
	}
	defer done()
	in := &noted{r: io.LimitReader(resp.Body, octets)}
	if _, err := io.Copy(w, in); in.err != nil {
		return b.c.broken(in.err)
	} else if err != nil {
		return err
	}
	return nil
}

// noted keeps the error of a reader apart from that of the writer it is copied to.
type noted struct {
	r   io.Reader
	err error
}

func (n *noted) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		n.err = err
	}
	return k, err
}

func (b *backupSession) Bodies(ctx context.Context, ask backup.Ask, fn func(backup.Body, io.Reader) error) error {
	resp, done, err := b.c.open(ctx, "POST", b.path("bodies"), ask)
	if err != nil {
		return err
	}
	defer done()
	in := &noted{r: resp.Body}
	err = backup.ReadFrames(in, !ask.SumsOnly, fn)
	if in.err != nil {
		return b.c.broken(in.err)
	}
	return err
}

func (b *backupSession) Manifest(ctx context.Context, c backup.Contents) ([]byte, error) {
	t, err := call[signedText](ctx, b.c, "POST", b.path("manifest"), c)
	return []byte(t.Text), err
}

func (b *backupSession) Done(ctx context.Context) error {
	_, err := call[struct{}](ctx, b.c, "POST", b.path("done"), struct{}{})
	return err
}

func (b *backupSession) Close() error {
	b.done()
	return nil
}
