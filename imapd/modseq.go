package imapd

import (
	"strconv"

	"mssd/imapd/wire"
	"mssd/store"
)

// enableCondStore is for each command that says that the client knows of MODSEQ: from here on every FETCH response
// about flags carries it (RFC 7162, Section 3.1). A client that says so with a mailbox open hears what it knows.
func (c *conn) enableCondStore() {
	if c.condStore {
		return
	}
	c.condStore = true
	if c.sel != nil {
		c.highest(c.sel.modSeq)
	}
}

// highest is the response code HIGHESTMODSEQ (RFC 7162, Section 3.1.2.1).
func (c *conn) highest(m store.ModSeq) {
	c.out.line("* OK [HIGHESTMODSEQ " + strconv.FormatUint(uint64(m), 10) + "] Last change")
}

// appendModSeq appends the FETCH item MODSEQ.
func appendModSeq(b []byte, r store.Row) []byte {
	b = strconv.AppendUint(append(b, "MODSEQ ("...), uint64(r.ModSeq), 10)
	return append(b, ')')
}

// modSeqOf tells of a silent change: who knows of MODSEQ must learn the new one (RFC 7162, Section 3.1.3).
func (c *conn) modSeqOf(r store.Row, withUID bool) {
	n := c.sel.view.seq(r.UID)
	if n == 0 {
		return
	}
	c.out.add(func(b []byte) []byte {
		b = c.head(b, n, r.UID)
		if c.withUID(withUID) {
			b = strconv.AppendUint(append(b, "UID "...), uint64(r.UID), 10)
			b = append(b, ' ')
		}
		return append(appendModSeq(b, r), ")\r\n"...)
	})
}

// modifiedCode is the response code MODIFIED with the messages that a conditional STORE left alone: by number, or by
// UID where the command speaks in UIDs (RFC 7162, Section 3.1.3).
func (c *conn) modifiedCode(left []store.Run, uid bool) string {
	set := ranges(left)
	if !uid {
		set = c.sel.view.numbers(left)
	}
	return "MODIFIED " + string(wire.AppendSet(nil, set))
}
