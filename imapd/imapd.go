// Package imapd is the front that mail is read through: IMAP4rev1 and IMAP4rev2 for the software of pharmacies and practices.
//
// Serve accepts connections behind tlsconf/guard. Each has one goroutine that owns its state (conn): it reads a
// command with imapd/wire, finds it in the table (command.go), and runs its handler, which parses, checks, acts
// on the store and appends untagged responses. A handler returns how the command ends, or an error that
// response.go makes a response of. Responses are gathered and written once per command, or when 64 KiB wait;
// bodies stream from the store into that buffer. After the handler the session compares its view of the selected
// mailbox with the store and tells what others did (sync.go), as far as the command allows it.
//
// Invariants:
//  1. A sequence number means what the client was last told: the view changes only with EXISTS and EXPUNGE
//     responses, and EXPUNGE is never sent during FETCH, STORE or SEARCH (RFC 3501, Section 7.4.1).
//  2. Nothing is written to the network while a transaction of the store is open: a slow reader costs itself only.
//  3. Octets that belong to a message, or that came before a TLS handshake, are never run as commands.
//  4. After the length of a literal was announced either all its octets follow or the connection closes.
//  5. The right on a BAL is asked at every command; a withdrawn one ends the session with BYE.
//
// It stores nothing itself, parses no message (package message did, once), and knows no other front.
//
// Security: whoever can connect can send anything, and much of it: every line, literal, set and list is bounded by
// wire.Limits, connections and time by guard, logins by auth, commands a second by pace. Before TLS no password is accepted. Replies carry
// fixed texts; logs carry no name, subject, mailbox name or password.
//
// Standards: RFC 3501 (IMAP4rev1) and RFC 9051 (IMAP4rev2); RFC 2342 (NAMESPACE), RFC 2971 (ID), RFC 3348 (CHILDREN),
// RFC 3502 (MULTIAPPEND), RFC 3516 (BINARY), RFC 3691 (UNSELECT), RFC 4314 (ACL, to be read), RFC 4315 (UIDPLUS), RFC 4731 (ESEARCH), RFC 4959
// (SASL-IR), RFC 4978 (COMPRESS=DEFLATE), RFC 5032 (WITHIN), RFC 5161 (ENABLE), RFC 5182 (SEARCHRES), RFC 5256 (SORT, THREAD), RFC 5258
// (LIST-EXTENDED), RFC 5267 (ESORT), RFC 5464 (METADATA), RFC 5530 (codes), RFC 5819 (LIST-STATUS), RFC 5957 (SORT=DISPLAY), RFC 6154
// (SPECIAL-USE), RFC 5465 (NOTIFY), RFC 6851 (MOVE), RFC 7162 (CONDSTORE, QRESYNC), RFC 7888 (LITERAL-), RFC 7889 (APPENDLIMIT), RFC 8438
// (STATUS=SIZE), RFC 8440 (LIST-MYRIGHTS), RFC 8474 (OBJECTID), RFC 8508 (REPLACE), RFC 8514 (SAVEDATE), RFC 8970
// (PREVIEW), RFC 9208 (QUOTA, to be read), RFC 9394 (PARTIAL), RFC 9585 (INPROGRESS), RFC 9586
// (UIDONLY), RFC 9590 (LIST-METADATA), RFC 9755 (UTF8=ACCEPT).
package imapd
