package imapd

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"mssd/store"
	"mssd/trace"
)

// maxUnconfirmed bounds what a connection remembers; the commands of one read are fewer.
const maxUnconfirmed = 64

// An APPEND whose OK the client may not have read, because the connection broke or the disk was too slow for an answer
// in time, is done again by the client, which cannot know better. As for deliveries (design §2.6) the repetition is
// answered with the first message, or messages, and stores nothing, until the client has gone on after the OK: then the same octets
// again are a message of their own. It counts for the same person, mailbox, flags, date and octets, and only while the
// mailbox holds all of them.
type unconfirmed struct {
	ids  []trace.ID
	read int64 // octets read from the client when the last OK was written
}

// appended notes the message of an OK that is about to be written.
func (c *conn) appended(id trace.ID) {
	if len(c.unconfirmed.ids) < maxUnconfirmed { // else they are told apart for some days for nothing
		c.unconfirmed.ids = append(c.unconfirmed.ids, id)
	}
	c.unconfirmed.read = c.guard.BytesRead()
}

// heard is called with each command: the client goes on, so it has read the OK. What had come before the OK proves nothing.
func (c *conn) heard() {
	if len(c.unconfirmed.ids) == 0 || c.guard.BytesRead() <= c.unconfirmed.read {
		return
	}
	for _, id := range c.unconfirmed.ids {
		c.srv.Store.Confirm(id)
	}
	c.unconfirmed = unconfirmed{}
}

// appendOnce names an APPEND by what its client would say again.
func (c *conn) appendOnce(m store.Mailbox, msgs []incoming) *store.Once {
	h := sha256.New()
	add := func(b ...byte) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		h.Write(b)
	}
	add([]byte("APPEND")...)
	add([]byte(c.user.who.Person)...)
	add(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(m.Ref.BAL)), uint64(m.Ref.Mailbox))...)
	for _, in := range msgs {
		add(byte(storeFlag(in.Flags.System)))
		words := slices.Clone(in.Flags.Keywords)
		slices.Sort(words)
		for _, w := range words {
			add([]byte(w)...)
		}
		add(binary.BigEndian.AppendUint64(nil, uint64(in.Date.Unix()))...) // that of the zero time where none is given
		add(in.sum[:]...)
	}
	return &store.Once{Key: [32]byte(h.Sum(nil)), In: m.Ref}
}
