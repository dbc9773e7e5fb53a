package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/trace"
)

// What is expunged leaves its row but stays in the bucket expunged for Options.RetainExpunged, outside of the counts
// and the quota: the record takes over the row's reference to the message, so its prefix, its keys and its body stay.
// Undelete makes a row of it again; the sweep lets it go when its time is over, unless the BAL is held.

// ExpungedID names one expunged message of a BAL. It never names another one: UIDs are not used twice.
type ExpungedID struct {
	At      time.Time // when it was expunged, seconds
	Mailbox MailboxID // where it was
	UID     UID       // which one it had
}

// String is the id as people type it: time, mailbox and UID with dots between.
func (e ExpungedID) String() string { return fmt.Sprintf("%d.%d.%d", e.At.Unix(), e.Mailbox, e.UID) }

// ParseExpungedID reads what String wrote.
func ParseExpungedID(s string) (ExpungedID, error) {
	bad := fmt.Errorf("%w: %q names no expunged message; expected three numbers with dots between", ErrInvalid, s)
	f := strings.Split(s, ".")
	if len(f) != 3 {
		return ExpungedID{}, bad
	}
	at, err1 := strconv.ParseInt(f[0], 10, 64)
	box, err2 := strconv.ParseUint(f[1], 10, 32)
	uid, err3 := strconv.ParseUint(f[2], 10, 32)
	if err1 != nil || err2 != nil || err3 != nil || at < 0 {
		return ExpungedID{}, bad
	}
	return ExpungedID{time.Unix(at, 0).UTC(), MailboxID(box), UID(uid)}, nil
}

// Expunged is a message that was expunged and can come back.
type Expunged struct {
	ExpungedID
	Name     string // of the mailbox when the message went; "" where it cannot be read
	Message  MessageID
	Flags    Flag
	Keywords KeywordSet
	Date     time.Time // internal date
	SaveDate time.Time // when it had come into the mailbox
	Size     int64     // octets of prefix and body
}

// expungedLen is the length of a record before the sealed name.
const expungedLen = 8 + 2 + 4 + 8 + 8 + 8

func keyExpunged(b BALID, id ExpungedID) []byte {
	k := be64(be32(make([]byte, 0, 20), uint32(b)), uint64(id.At.Unix()))
	return be32(be32(k, uint32(id.Mailbox)), uint32(id.UID))
}

// expungedID reads the key of a record whose length was checked.
func expungedID(k []byte) ExpungedID {
	return ExpungedID{unixTime(k[4:]), MailboxID(binary.BigEndian.Uint32(k[12:])), UID(binary.BigEndian.Uint32(k[16:]))}
}

// encodeExpunged writes a record around the sealed name.
func encodeExpunged(r *Row, name []byte) []byte {
	b := be64(make([]byte, 0, expungedLen+len(name)), uint64(r.Message))
	b = be32(binary.BigEndian.AppendUint16(b, uint16(r.Flags)), uint32(r.Keywords))
	b = be64(be64(be64(b, uint64(r.Date.Unix())), uint64(r.SaveDate.Unix())), uint64(r.Size))
	return append(b, name...)
}

// decodeExpunged reads a record; the name stays sealed and lies in v.
func decodeExpunged(k, v []byte) (e Expunged, name []byte, err error) {
	if !keyIs(k, 20) || len(v) < expungedLen || len(v) > expungedLen+sealedMore+MaxName {
		return e, nil, corrupt("record of an expunged message")
	}
	return Expunged{ExpungedID: expungedID(k), Message: MessageID(binary.BigEndian.Uint64(v)),
		Flags: Flag(binary.BigEndian.Uint16(v[8:])), Keywords: KeywordSet(binary.BigEndian.Uint32(v[10:])),
		Date: unixTime(v[14:]), SaveDate: unixTime(v[22:]), Size: int64(binary.BigEndian.Uint64(v[30:]))}, v[expungedLen:], nil
}

// expungedPage bounds what Expunged reads at a time.
const expungedPage = 1000

// Expunged lists what was expunged from a BAL and can come back, the oldest first: those after an id (the zero id: from
// the first on), at most max and never more than 1000. An empty page is the end.
func (s *Store) Expunged(ctx context.Context, bal BALID, after ExpungedID, max int) ([]Expunged, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, err := s.bal(bal); err != nil {
		return nil, err
	}
	max = min(max, expungedPage)
	var page []Expunged
	var names [][]byte
	err := s.read(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketNames[bktExpunged]).Cursor()
		from := keyBAL(bal)
		if !after.At.IsZero() {
			from = keyExpunged(bal, after)
		}
		for k, v := c.Seek(from); len(page) < max && bytes.HasPrefix(k, from[:4]); k, v = c.Next() {
			if bytes.Equal(k, from) {
				continue
			}
			e, name, err := decodeExpunged(k, v)
			if err != nil {
				continue // Check reports it
			}
			page, names = append(page, e), append(names, bytes.Clone(name))
		}
		return nil
	})
	for i := range page {
		if name, err := s.keys.open(bal, bktExpunged, keyExpunged(bal, page[i].ExpungedID), names[i]); err == nil {
			page[i].Name = string(name)
		}
	}
	return page, err
}

// CountExpunged counts what was expunged from a BAL and can come back.
func (s *Store) CountExpunged(bal BALID) (messages, octets int64, err error) {
	from := keyBAL(bal)
	for from != nil && err == nil {
		err = s.read(func(tx *bolt.Tx) error {
			c := tx.Bucket(bucketNames[bktExpunged]).Cursor()
			k, v := c.Seek(from)
			from = nil
			for n := 0; bytes.HasPrefix(k, keyBAL(bal)); k, v = c.Next() {
				if n++; n > 10*expungedPage {
					from = bytes.Clone(k)
					return nil
				}
				e, _, err := decodeExpunged(k, v)
				if err != nil {
					continue // Check reports it
				}
				messages, octets = messages+1, octets+e.Size
			}
			return nil
		})
	}
	return messages, octets, err
}

// retainExpunged is how long an expunged message can come back; 0: not at all.
func (s *Store) retainExpunged() time.Duration {
	switch {
	case s.opt.RetainExpunged == 0:
		return defaultRetain
	case s.opt.RetainExpunged < 0:
		return 0
	}
	return s.opt.RetainExpunged
}

// Expunge removes what op names in as many commits as it takes, so that a big one does not keep others from theirs. The
// events are those of each commit.
func (s *Store) Expunge(ctx context.Context, op Expunge, events ...trace.Event) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		res, err := s.Commit(ctx, &Batch{Ops: []Op{op}, Events: events})
		if err != nil || len(res.Ops[0].Rest) == 0 {
			return err
		}
		op.Runs = res.Ops[0].Rest
	}
}

// DeleteMailbox deletes a mailbox in as many commits as it takes: a big one is emptied first. Broken off, it is still there
// with the rest, and deleting it again goes on. The events of the messages are those of each commit, last is one more
// of the commit that takes the mailbox away.
func (s *Store) DeleteMailbox(ctx context.Context, ref Ref, last trace.Event, events ...trace.Event) error {
	all := Expunge{Ref: ref, Runs: everything, All: true}
	for {
		if m, err := s.MailboxByRef(ref); err != nil {
			return err
		} else if m.Name != "INBOX" && m.Messages > MaxExpunge {
			if err := s.Expunge(ctx, all, events...); err != nil {
				return err
			}
		}
		_, err := s.Commit(ctx, &Batch{Ops: []Op{DeleteMailbox{ref}}, Events: append(slices.Clone(events), last)})
		if !errors.Is(err, ErrLimit) { // else more have come meanwhile
			return err
		}
	}
}
