// Package wire is the syntax of IMAP: octets in, values out, and values back into octets.
//
// ReadCommand takes one whole command off the stream, literals included, within Limits; the Parse functions, one per
// command group, turn it into values; the Append functions print what the server answers. The message of an APPEND
// is not read: it is left in the stream behind Command.Literal, to be streamed into the store.
//
// Invariants:
//  1. After a *SyntaxError the command is consumed to its end and the next ReadCommand starts at a command. Whatever
//     cannot be brought to that point is a *FatalError: the octets that follow are never run as commands.
//  2. Nothing is read or allocated beyond Limits, and no set is ever expanded to its numbers.
//  3. No text of a client is part of an error.
//
// It holds no connection, no clock and no session: which command is allowed when, and what a mailbox is, is imapd's
// affair. Types are its own where the public ones of go-imap lose what the answer needs (the name under which an
// item was asked for, the shape of a SEARCH, "*" and "$" in sets).
//
// Security: every octet comes from whoever can connect, before any login. Lines end in CRLF and in nothing else: a
// bare LF ends the connection, because a peer that counts it as data and a server that counts it as a line end
// disagree on where the next command starts.
//
// Standards: RFC 3501, the syntax of RFC 9051, RFC 2971 (ID), RFC 3516 (BINARY), RFC 3691, RFC 4315 (UIDPLUS), RFC 4731 (ESEARCH),
// RFC 4959 (SASL-IR), RFC 5161 (ENABLE), RFC 5182 (SEARCHRES), RFC 5256, RFC 5267 and RFC 5957 (SORT, THREAD), RFC 5258,
// RFC 5819 and RFC 6154 (LIST options), RFC 5465 (NOTIFY), RFC 6851 (MOVE), RFC 9755 and RFC 6855 (UTF8=ACCEPT), RFC 7162
// (CONDSTORE, QRESYNC), RFC 7888 (LITERAL-), RFC 9394 (PARTIAL).
package wire

import "errors"

// Limits bounds one command. A zero field means the value of DefaultLimits.
type Limits struct {
	Line     int   // octets of a command without its literals, line ends included
	Literal  int64 // octets of one literal other than the message of APPEND
	NonSync  int64 // octets of one non-synchronising literal (RFC 7888, Section 5: LITERAL- allows 4096)
	Total    int   // octets of a command with its literals, without the message of APPEND
	Depth    int   // parentheses, NOT and OR within one another
	SetItems int   // ranges of a set
	Keys     int   // search keys, fetch items, list patterns: things of one command
	UTF8     bool  // the session has enabled UTF8=ACCEPT or IMAP4rev2: mailbox names are UTF-8 (RFC 9755, Section 3)
	NoChars  bool  // its texts are UTF-8, so SEARCH names no charset (RFC 9755, Section 3)
}

// DefaultLimits is what a session should allow after login; before it, Total may be much lower.
func DefaultLimits() Limits {
	return Limits{Line: 64 << 10, Literal: 64 << 10, NonSync: 4096, Total: 128 << 10, Depth: 64, SetItems: 10000, Keys: 1000}
}

func (l Limits) filled() Limits {
	d := DefaultLimits()
	if l.Line <= 0 {
		l.Line = d.Line
	}
	if l.Literal <= 0 {
		l.Literal = d.Literal
	}
	if l.NonSync <= 0 {
		l.NonSync = d.NonSync
	}
	if l.Total <= 0 {
		l.Total = d.Total
	}
	if l.Depth <= 0 {
		l.Depth = d.Depth
	}
	if l.SetItems <= 0 {
		l.SetItems = d.SetItems
	}
	if l.Keys <= 0 {
		l.Keys = d.Keys
	}
	return l
}

// Command is one command of a client.
type Command struct {
	Tag     string   // empty when none could be read: answer "* BAD"
	Name    string   // upper case; "UID FETCH" in one
	UID     bool     // Name starts with "UID "
	Args    []byte   // what follows the name and one space; literals as on the wire, "{3}" CRLF and their octets
	Literal *Literal // the message of APPEND, still in the stream; nil otherwise
	Limits  Limits   // those it was read under; the parsers obey them too
}

// SyntaxError is a command that is not IMAP: answer BAD with Msg and go on.
type SyntaxError struct {
	Msg    string // ASCII, one line, no text of the client
	TooBig bool   // a literal over its limit that the client has not sent: answer NO [TOOBIG] instead
	Name   bool   // a string that is no mailbox's name (RFC 3501, Section 5.1.3): answer NO [CANNOT] instead
}

func (e *SyntaxError) Error() string { return "wire: " + e.Msg }

// ErrFatal and ErrTooLong are what a *FatalError is, for errors.Is.
var (
	ErrFatal   = errors.New("wire: fatal")
	ErrTooLong = errors.New("wire: too long") // the command's line or literals; also ErrFatal
)

// FatalError is input whose end cannot be told or is not worth reading: answer BAD or BYE with Msg and close.
type FatalError struct {
	Msg     string // ASCII, one line, no text of the client
	TooLong bool
}

func (e *FatalError) Error() string { return "wire: " + e.Msg }

// Is makes errors.Is know ErrFatal and ErrTooLong.
func (e *FatalError) Is(target error) bool {
	return target == ErrFatal || (target == ErrTooLong && e.TooLong)
}

func bad(msg string) error { return &SyntaxError{Msg: msg} }
