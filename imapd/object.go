package imapd

import (
	"fmt"

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
