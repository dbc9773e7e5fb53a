// Package admin is the operator's door: what the command line asks of a running daemon.
//
// Server answers HTTP with JSON on a unix socket. Each request passes three stations: who is it (the kernel says,
// SO_PEERCRED), may this user, then one handler that acts on the store and writes a trace event that names the user
// and the act. Client is the other end, used by the sub-commands of mssd.
//
// The mail of a BAL comes out (export) and goes in (import) as octets: the command makes files of them, as the user who
// runs it. The daemon never opens a path that a client names.
//
// What an owner of a BAL does with its members comes from a program (a console) with the owner's access token, which auth
// verifies; it is done, and recorded, in the owner's name (owner.go).
//
// Invariants: no act goes unrecorded, a read of the trace included; a password comes in or goes out once, in the
// body of one request, and is never logged, recorded or listed, and no more is an access token.
//
// It does not serve a network and it does not judge mail.
//
// Security: only local processes reach the socket (mode 0600, or 0660 where other users are allowed), and of these
// only root, the daemon's own user and the users of AllowUIDs are answered. Who is root can read the store anyway. A
// request is at most 64 KiB; the mail of a BAL goes in and out as a stream of frames, each bounded (transfer.go). What it is sent is taken apart strictly: an unknown field is an error.
//
// Standards: HTTP/1.1 (RFC 9112), JSON (RFC 8259), problem details (RFC 9457) in a simpler form.
package admin
