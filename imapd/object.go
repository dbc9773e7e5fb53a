package imapd

import (
	"fmt"

	"mssd/message"
	"mssd/store"
)

// emailID names what a message says: its copies in the mailboxes of a BAL have the same one. In another BAL the prefix
// is another, so that the octets are too (RFC 8474, Section 5.1).
func (c *conn) emailID(r store.Row) string {
	return fmt.Sprintf("M%x-%x", uint32(c.sel.ref.BAL), uint64(r.Message))
}

// mailboxID names a mailbox as long as its UIDVALIDITY holds, whatever its name becomes (RFC 8474, Section 4).
func mailboxID(m store.Mailbox) string {
	return fmt.Sprintf("F%x-%x", uint32(m.Mailbox), uint32(m.UIDValidity))
}

// threadID names the messages of a BAL that begin with the same one: the first that References names, else that of In-Reply-To,
// else the message itself. A message carries it in its own header, so that it is the same in each mailbox and never changes
// (RFC 8474, Section 5.2); an answer that names only the one before it, not the first, is a thread of its own.
func (c *conn) threadID(r store.Row, references string, k message.SortKeys) string {
	root := k.ID
	if k.InReplyTo != (message.RefID{}) {
		root = k.InReplyTo
	}
	for id := range message.References(references) {
		root = message.NewRefID(id)
		break
	}
	if root == (message.RefID{}) { // no Message-ID: nobody can answer to it
		return fmt.Sprintf("T%x-m%x", uint32(c.sel.ref.BAL), uint64(r.Message))
	}
	return fmt.Sprintf("T%x-%x", uint32(c.sel.ref.BAL), root)
}

// fetchThread is the name of the thread of a message whose structure is known.
func (c *conn) fetchThread(m *source) (string, error) {
	field, err := c.referencesOf(m.row)
	if err != nil {
		return "", err
	}
	return c.threadID(m.row, field, m.meta.SortKeys()), nil
}

// threadJudge finds the messages of a thread.
func (c *conn) threadJudge(want string) judge {
	return func(m *candidate) (verdict, error) {
		if m.depth < byText {
			return open, nil
		}
		field, err := c.referencesField(m.row, m.text)
		if err != nil {
			return no_, unreadable(err)
		}
		keys, err := c.srv.Store.SortKeys(c.ctx, []store.MessageID{m.row.Message})
		if err != nil {
			return no_, unreadable(err)
		}
		return verdictOf(c.threadID(m.row, field, keys[0]) == want), nil
	}
}
