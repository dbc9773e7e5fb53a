package store

import (
	"context"
	"log/slog"
	"time"

	"mssd/message"
	"mssd/trace"
)

type Options struct {
	Dir            string
	Create         bool             // make a store where the directory is empty or missing
	Log            *slog.Logger     // nil: none
	Now            func() time.Time // nil: time.Now
	SpaceFloor     int64            // octets that stay free; 0: 64 MiB, negative: none
	RetainExpunged time.Duration    // a body stays this long after its last row went; 0: 7 days, negative: none
	NoSync         bool             // tests and benchmarks only: nothing survives a power failure
}
type Store struct{}

func Open(Options) (*Store, error)                                { return nil, ErrClosed }
func (*Store) Close() error                                       { return nil }
func (*Store) Check(context.Context) ([]Problem, error)           { return nil, nil }
func (*Store) Failed() <-chan struct{}                            { return nil }
func (*Store) Err() error                                         { return nil }
func (*Store) Pseudonym(purpose, value string) string             { return "" }
func (*Store) NewID() trace.ID                                    { return 0 }
func (*Store) BAL(Address) (BAL, error)                           { return BAL{}, nil }
func (*Store) BALByID(BALID) (BAL, error)                         { return BAL{}, nil }
func (*Store) BALs() []BAL                                        { return nil }
func (*Store) Domains() []string                                  { return nil }
func (*Store) HasDomain(string) bool                              { return false }
func (*Store) Members(BALID) []Member                             { return nil }
func (*Store) Mailboxes(BALID) ([]Mailbox, error)                 { return nil, nil }
func (*Store) Mailbox(BALID, string) (Mailbox, error)             { return Mailbox{}, nil }
func (*Store) MailboxByRef(Ref) (Mailbox, error)                  { return Mailbox{}, nil }
func (*Store) Subscriptions(BALID) ([]string, error)              { return nil, nil }
func (*Store) Keywords(KeywordSet) []string                       { return nil }
func (*Store) MailboxKeywords(Ref) []string                       { return nil }
func (*Store) Snapshot(r Ref, claimRecent bool) (Snapshot, error) { return Snapshot{}, nil }

// ClaimRecent tells that a session announces the messages below next: they are recent for no other.
func (*Store) ClaimRecent(r Ref, next UID) (first UID)                { return 0 }
func (*Store) Rows(context.Context, Ref, []Run, func(Row) bool) error { return nil }
func (*Store) Changes(Ref, ModSeq) (Changes, error)                   { return Changes{}, nil }
func (*Store) Watch(Ref) *Watcher                                     { return nil }

type Watcher struct{ C <-chan struct{} }

func (*Watcher) Close()                                                                   {}
func (*Store) Meta(context.Context, MessageID) (*message.Meta, error)                     { return nil, nil }
func (*Store) Text(context.Context, MessageID) (message.Text, error)                      { return message.Text{}, nil }
func (*Store) Texts(context.Context, []MessageID, func(i int, t message.Text) bool) error { return nil }
func (*Store) OpenMessage(BALID, MessageID) (*Content, error)                             { return nil, nil }

type Content struct{}

func (*Content) ReadAt(p []byte, off int64) (int, error) { return 0, nil }
func (*Content) Prefix() []byte                          { return nil }
func (*Content) Size() int64                             { return 0 }
func (*Content) BlobSize() int64                         { return 0 }
func (*Content) Close() error                            { return nil }
func (*Store) NewBlob() (*Blob, error)                   { return nil, nil }

type Blob struct{}

func (*Blob) Write(p []byte) (int, error)                      { return 0, nil }
func (*Blob) ID() trace.ID                                     { return 0 }
func (*Blob) Size() int64                                      { return 0 }
func (*Blob) Finish(*message.Meta, message.Text) error         { return nil }
func (*Blob) Abort()                                           {}
func (*Store) Commit(context.Context, *Batch) (*Result, error) { return nil, nil }
func (*Store) Confirm(trace.ID)                                {}
func (*Store) Record(trace.Event)                              {}

// Dropped counts the events that Record had no room for.
func (*Store) Dropped() uint64                                              { return 0 }
func (*Store) Trace(context.Context, trace.ID) ([]trace.Event, error)       { return nil, nil }
func (*Store) TraceByMessageID(context.Context, string) ([]trace.ID, error) { return nil, nil }
func (*Store) FreeSpace() (int64, error)                                    { return 0, nil }
func (*Store) SpaceFloor() int64                                            { return 0 }

type Problem struct {
	Invariant int
	Text      string
}
