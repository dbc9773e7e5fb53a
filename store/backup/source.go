package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"mssd/store"
	"mssd/trace"
)

// Source is a store that can be backed up: a daemon asked over its socket (admin.Client), or a store of our own (Local).
type Source interface {
	// Begin takes a moment of the store and registers the backup under a label.
	Begin(ctx context.Context, label string, p store.Progress) (Session, error)
	// Forget registers that a backup was destroyed. store.ErrNoBackup: none is registered under this id.
	Forget(ctx context.Context, id trace.ID) error
}

// Session is one backup of a Source. Until Close no body of its moment is removed from the store.
type Session interface {
	Moment() Moment
	CopyIndex(ctx context.Context, w io.Writer) error
	CopyKeys(ctx context.Context, w io.Writer) error
	// Bodies shows bodies in the order asked for. r holds the file of one where Status says that it is there and
	// content was asked for; it is read before fn returns.
	Bodies(ctx context.Context, ask Ask, fn func(Body, io.Reader) error) error
	// Manifest completes and signs a manifest.
	Manifest(ctx context.Context, c Contents) ([]byte, error)
	// Done registers that the backup is whole.
	Done(ctx context.Context) error
	Close() error
}

// Moment is what a backup is of.
type Moment struct {
	ID         string    `json:"id"`
	Store      string    `json:"store"` // its name
	Time       time.Time `json:"time"`  // seconds, UTC
	Commits    uint64    `json:"commits"`
	Events     uint64    `json:"events"`
	LastID     string    `json:"last_id"`
	HighestBAL uint32    `json:"highest_bal"`
	BALs       int64     `json:"bals"`
	Mailboxes  int64     `json:"mailboxes"`
	Messages   int64     `json:"messages"`
	MasterKey  string    `json:"master_key"` // its name
	Index      Sum       `json:"index"`
	Keys       Sum       `json:"keys"`
	Device     uint64    `json:"device"` // of the file system of the store
}

// Sum says what a file holds.
type Sum struct {
	Octets int64  `json:"octets"`
	SHA256 string `json:"sha256"` // hex
}

func newSum(octets int64, sum []byte) Sum { return Sum{octets, hex.EncodeToString(sum)} }

// MaxAsk is the most bodies in one Ask.
const MaxAsk = 512

// Ask is which bodies are wanted, and how.
type Ask struct {
	IDs      []trace.ID `json:"ids"`
	SumsOnly bool       `json:"sums_only"` // they are at hand: only say what they must be
	Fast     bool       `json:"fast"`      // do not open them
}

// Status is what the store found when it read a body.
type Status uint8

// Good bodies were opened to their last frame (with Fast: were read). Locked ones were read, but no key at hand opens
// them. Damaged ones do not open, Missing ones are not there; neither is sent.
const (
	Good Status = iota + 1
	Locked
	Damaged
	Missing
)

func (s Status) String() string {
	return [...]string{"unknown", "good", "no key at hand opens it", "damaged", "missing"}[min(s, Missing)]
}

// There reports whether the file could be read.
func (s Status) There() bool { return s == Good || s == Locked }

// Body is a body as the store has it.
type Body struct {
	ID     trace.ID
	Status Status
	Octets int64 // of the file
	Sum    [sha256.Size]byte
}

// Contents is what a run adds to the moment for the manifest.
type Contents struct {
	List    Sum   `json:"list"` // the file bodies
	Version Sum   `json:"version"`
	Bodies  int64 `json:"bodies"`
	Octets  int64 `json:"octets"`
	Damaged int64 `json:"damaged"` // bodies that the store could not give
}

// Local is a Source for a store that this process has open.
type Local struct {
	Store *store.Store
	// Event makes the event that is committed with an act; nil: one of the daemon itself.
	Event func(act string, attrs ...trace.Attr) trace.Event
}

func (l Local) events(act string, id trace.ID) []trace.Event {
	attr := trace.Attr{Key: trace.KeyPrevious, Value: id.String()}
	if l.Event != nil {
		return []trace.Event{l.Event(act, attr)}
	}
	return []trace.Event{{Kind: trace.System, Attrs: []trace.Attr{{Key: trace.KeyAct, Value: act}, attr}}}
}

// Begin implements Source.
func (l Local) Begin(ctx context.Context, label string, p store.Progress) (Session, error) {
	m, err := l.Store.Moment(ctx, p)
	if err != nil {
		return nil, err
	}
	s := &local{Local: l, m: m, record: store.Backup{ID: m.ID, Label: label, Began: m.Time, Commits: m.Commits,
		Events: m.Events, HighestBAL: m.HighestBAL}}
	// Registered before a key leaves the store.
	if err := s.register(ctx, "backup begun"); err != nil {
		m.Close()
		return nil, err
	}
	return s, nil
}

// Forget implements Source.
func (l Local) Forget(ctx context.Context, id trace.ID) error {
	_, err := l.Store.Commit(ctx, &store.Batch{Ops: []store.Op{store.ForgetBackup{ID: id}}, Events: l.events("backup forgotten", id)})
	return err
}

// local is a Session of a Local. One goroutine at a time uses it.
type local struct {
	Local
	m      *store.Moment
	record store.Backup
	buf    bytes.Buffer
}

func (s *local) register(ctx context.Context, act string) error {
	_, err := s.Store.Commit(ctx, &store.Batch{Ops: []store.Op{store.PutBackup{Backup: s.record}}, Events: s.events(act, s.m.ID)})
	return err
}

func (s *local) Moment() Moment {
	keys := sha256.Sum256(s.m.Keys)
	return Moment{ID: s.m.ID.String(), Store: s.m.Store, Time: s.m.Time.Truncate(time.Second), Commits: s.m.Commits, Events: s.m.Events,
		LastID: s.m.LastID.String(), HighestBAL: uint32(s.m.HighestBAL), BALs: int64(s.m.BALs), Mailboxes: int64(s.m.Mailboxes),
		Messages: s.m.Messages, MasterKey: s.m.MasterKey, Index: newSum(s.m.IndexSize, s.m.IndexSum[:]),
		Keys: newSum(int64(len(s.m.Keys)), keys[:]), Device: s.m.Device}
}

func (s *local) CopyIndex(ctx context.Context, w io.Writer) error {
	_, err := io.Copy(w, &ctxReader{ctx, io.NewSectionReader(s.m.Index(), 0, s.m.IndexSize)})
	return err
}

func (s *local) CopyKeys(_ context.Context, w io.Writer) error {
	_, err := w.Write(s.m.Keys)
	return err
}

func (s *local) Bodies(ctx context.Context, ask Ask, fn func(Body, io.Reader) error) error {
	if len(ask.IDs) > MaxAsk {
		return fmt.Errorf("%w: more than %d bodies asked for", store.ErrInvalid, MaxAsk)
	}
	for _, id := range ask.IDs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.body(id, ask, fn); err != nil {
			return err
		}
	}
	return nil
}

func (s *local) body(id trace.ID, ask Ask, fn func(Body, io.Reader) error) error {
	f, err := s.m.Body(id, !ask.Fast, &s.buf)
	b := Body{ID: id, Status: Good}
	switch {
	case errors.Is(err, store.ErrNoKey):
		b.Status = Locked
	case errors.Is(err, store.ErrMissing):
		b.Status = Missing
	case errors.Is(err, store.ErrCorrupt):
		b.Status = Damaged
	case err != nil:
		return fmt.Errorf("%w; the body may be whole, run the backup again", err) // too many open files, a disk that went away
	}
	if !b.Status.There() {
		return fn(b, nil)
	}
	defer f.Close()
	b.Octets, b.Sum = f.Octets, f.Sum
	if ask.SumsOnly {
		return fn(b, nil)
	}
	return fn(b, io.NewSectionReader(f, 0, f.Octets))
}

func (s *local) Manifest(_ context.Context, c Contents) ([]byte, error) {
	text := (&Manifest{Moment: s.Moment(), Contents: c}).text()
	return fmt.Appendf(text, macWord+" %x\n", s.m.Manifest(text)), nil
}

func (s *local) Done(ctx context.Context) error {
	s.record.Done = s.Store.Now()
	return s.register(ctx, "backup done")
}

func (s *local) Close() error { return s.m.Close() }

// ctxReader ends with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
