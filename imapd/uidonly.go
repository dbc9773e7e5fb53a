package imapd

import (
	"slices"

	"mssd/imapd/wire"
	"mssd/store"
)

// numbered are the commands that name messages by number, or are answered with numbers.
var numbered = []string{"COPY", "FETCH", "MOVE", "REPLACE", "SEARCH", "SORT", "STORE", "THREAD"}

// errUIDRequired: RFC 9586, Section 3.
var errUIDRequired = bad("UIDREQUIRED", "Message numbers are not used in this session")

// knowsNumber refuses a command by number in a session that has given them up.
func (c *conn) knowsNumber(name string) error {
	if c.uidOnly && slices.Contains(numbered, name) {
		return errUIDRequired
	}
	return nil
}

// head begins a FETCH response, or UIDFETCH where the client knows no numbers (RFC 9586, Section 3.3).
func (c *conn) head(b []byte, n SeqNum, uid store.UID) []byte {
	if c.uidOnly {
		return append(wire.AppendNumber(append(b, "* "...), uint64(uid)), " UIDFETCH ("...)
	}
	return wire.AppendFetchHead(b, uint32(n))
}

// withUID says whether a FETCH response about flags names the UID.
func (c *conn) withUID(asked bool) bool { return !c.uidOnly && (asked || c.qresync || c.rev2) }

// vanishes says whether EXPUNGE is told as VANISHED.
func (c *conn) vanishes() bool { return c.qresync || c.uidOnly }
