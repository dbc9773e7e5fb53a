// Package audit plays to an operator front, over the wire, the peers that must get in and those that must not, and
// writes down what was seen.
//
// New makes an invented trust space in a folder: authority, certificates, revocation list, signed white list. Whoever
// starts the daemon (cmd) takes the files from there, one start for each Stage, and gives Play the address of the front
// and a Witness of what the instance says of itself. Each case sends mail as a peer would, and must see three things: the
// reply, that the message was kept or was not, and the trace of it. PlayOutside is for a front elsewhere, with a
// certificate of the real trust space: it sees replies only.
//
// Invariants:
//  1. A refused peer goes on all the same, up to the message: a refusal that does not hold is found.
//  2. Each peer that must be refused is one that would be accepted but for the fault that the case names.
//  3. PlayOutside sends no message unless it was asked to, and none at all to a front that has not proven its name.
//
// It does not look at IMAP, at the directory or at outbound mail. What cannot be played is reported as such.
//
// Security: it talks to the front that it is given. The keys of the invented authority lie in the folder, which its
// maker removes; nothing that it signs is believed anywhere else.
//
// Standards: RFC 5321, RFC 3207, RFC 3463, RFC 5246 (renegotiation), RFC 8996 (TLS 1.1 is gone).
package audit
