package smtpd

import (
	"context"
	"errors"
	"fmt"

	"github.com/emersion/go-smtp"

	"mssd/auth"
	"mssd/delivery"
	"mssd/message"
	"mssd/store"
	"mssd/tlsconf"
)

// What a session can say, besides the errors of other rooms. The text of an error is for the log; the
// peer reads that of the reply table only.
var (
	errNeedTLS       = errors.New("smtpd: TLS needed")
	errTLSActive     = errors.New("smtpd: TLS is active already")
	errSyntax        = errors.New("smtpd: syntax error in parameters")
	errCommand       = errors.New("smtpd: unknown or malformed command")
	errNotImpl       = errors.New("smtpd: command not implemented")
	errParameter     = errors.New("smtpd: unknown parameter")
	errSequence      = errors.New("smtpd: bad sequence of commands")
	errLineTooLong   = errors.New("smtpd: command line too long")
	errLineEnd       = errors.New("smtpd: command line not ended by CRLF")
	errAddress       = errors.New("smtpd: malformed address")
	errNonASCII      = errors.New("smtpd: address with octets outside ASCII")
	errNotBound      = errors.New("smtpd: white list does not bind the sender's domain to the certificate")
	errNotListed     = errors.New("smtpd: sender's domain not in the white list")
	errFrom          = errors.New("smtpd: white list does not bind the domain of From to the certificate")
	errListUnknown   = errors.New("smtpd: white list cannot tell now")
	errRelay         = errors.New("smtpd: recipient's domain not ours")
	errNotOpen       = errors.New("smtpd: BAL declared, not opened")
	errSuspended     = errors.New("smtpd: BAL suspended")
	errClosedBAL     = errors.New("smtpd: BAL closed")
	errNotInDir      = errors.New("smtpd: BAL not in the directory")
	errPatientFirst  = errors.New("smtpd: a patient writes first to a BAL that is not ORG")
	errDirLater      = errors.New("smtpd: directory cannot tell now")
	errDirBusy       = errors.New("smtpd: policy defers this recipient")
	errTooManyRcpt   = errors.New("smtpd: too many recipients")
	errTooManyBad    = errors.New("smtpd: too many refused recipients")
	errTooManyError  = errors.New("smtpd: too many errors")
	errTooManyJunk   = errors.New("smtpd: too many commands without a message")
	errTooManyConns  = errors.New("smtpd: too many connections")
	errTooManyOfPeer = errors.New("smtpd: too many connections of this operator")
	errMadeRoom      = errors.New("smtpd: connection made room for another")
	errChunk         = errors.New("smtpd: malformed BDAT")
	errIdle          = errors.New("smtpd: idle for too long")
	errSlow          = errors.New("smtpd: peer too slow")
	errDrain         = errors.New("smtpd: refused message goes on for too long")
	errEnding        = errors.New("smtpd: server is ending")
	errPanic         = errors.New("smtpd: panic")

	// Of the submission front. errLoggedIn is not an error: it is how AUTH gets its 235.
	errLoggedIn        = errors.New("smtpd: logged in")
	errNeedAuth        = errors.New("smtpd: login needed")
	errLoginEarly      = errors.New("smtpd: login before EHLO")
	errLoginTwice      = errors.New("smtpd: login after a login")
	errCancelled       = errors.New("smtpd: AUTH cancelled")
	errBase64          = errors.New("smtpd: not base64")
	errTooManyLogins   = errors.New("smtpd: too many refused logins")
	errReader          = errors.New("smtpd: a reader may not send")
	errNotYours        = errors.New("smtpd: sender is not the BAL of the login")
	errNullSender      = errors.New("smtpd: null sender, and not a receipt")
	errRight           = errors.New("smtpd: the right of the session has ended")
	errNoRelay         = errors.New("smtpd: recipient of another operator, and there is no relay")
	errReplyTo         = errors.New("smtpd: Reply-To outside the trust space")
	errNoSuchSpace     = errors.New("smtpd: recipient's domain not in the white list")
	errTooLargePatient = errors.New("smtpd: message too large for the patient platform")
)

// A peerError is a verdict on the peer's certificate that is not OK.
type peerError struct{ verdict tlsconf.Verdict }

func (e *peerError) Error() string { return "smtpd: peer refused: " + e.verdict.Reason.String() }

// A stored is not an error: go-smtp prints whatever Session.Data returns, and this is how the 250 gets
// its enhanced code and the trace id.
type stored struct{ id string }

func (s *stored) Error() string { return "stored " + s.id }

// reply is one answer: code, enhanced code (RFC 3463), text.
type reply struct {
	code     int
	enhanced [3]int
	text     string
}

func (r reply) smtp() *smtp.SMTPError {
	return &smtp.SMTPError{Code: r.code, EnhancedCode: r.enhanced, Message: r.text}
}

func (r reply) line() string {
	return fmt.Sprintf("%d %s %s\r\n", r.code, r.status(), r.text)
}

// String is the code and the enhanced code: 550 5.7.1.
func (r reply) String() string { return fmt.Sprintf("%d %s", r.code, r.status()) }

func (r reply) status() string {
	return fmt.Sprintf("%d.%d.%d", r.enhanced[0], r.enhanced[1], r.enhanced[2])
}

// replyTo is the one place where an error becomes an answer. Texts are fixed, ASCII and one line; the
// text of a verdict names fields of the peer's own certificate at most. What is not known is
// temporary: a wrong 4xx delays a letter, a wrong 5xx loses it.
func replyTo(err error) reply {
	var peer *peerError
	var ok *stored
	var origin *message.OriginError
	var login *auth.Refusal
	r := func(code, a, b, c int, text string) reply { return reply{code, [3]int{a, b, c}, text} }
	switch {
	case errors.As(err, &ok):
		return r(250, 2, 0, 0, ok.id)

	// The peer.
	case errors.As(err, &peer) && peer.verdict.Temporary():
		return r(451, 4, 7, 1, oneLine(peer.verdict.Text()))
	case errors.As(err, &peer):
		return r(550, 5, 7, 1, oneLine(peer.verdict.Text()))
	case errors.Is(err, errNotBound):
		return r(550, 5, 7, 1, "certificate not bound to the sender's domain in the white list")
	case errors.Is(err, errNotListed):
		return r(550, 5, 7, 1, "sender's domain is not in the white list")
	case errors.Is(err, errFrom):
		return r(550, 5, 7, 1, "From: names a domain that the white list does not bind to your certificate, or none")
	case errors.Is(err, errListUnknown):
		return r(451, 4, 7, 1, "white list cannot be checked now, try again later")
	case errors.Is(err, errNeedTLS):
		return r(530, 5, 7, 0, "must issue a STARTTLS command first") // RFC 3207, Section 4

	// The login (RFC 4954, Sections 4 and 6).
	case errors.Is(err, errLoggedIn):
		return r(235, 2, 7, 0, "logged in")
	case errors.Is(err, errNeedAuth):
		return r(530, 5, 7, 0, "Authentication required")
	case errors.Is(err, errLoginEarly):
		return r(503, 5, 5, 1, "AUTH comes after EHLO (HELO offers none)")
	case errors.Is(err, errLoginTwice):
		return r(503, 5, 5, 1, "already logged in; another login needs another connection")
	case errors.As(err, &login) && errors.Is(err, auth.ErrCredentials):
		return r(535, 5, 7, 8, oneLine(login.Text()))
	case errors.Is(err, auth.ErrCredentials):
		return r(535, 5, 7, 8, "the name or the password is wrong")
	case errors.Is(err, auth.ErrIdentity):
		return r(535, 5, 7, 8, "the authorisation identity must be the login name")
	case errors.Is(err, auth.ErrThrottled):
		return r(454, 4, 7, 0, "too many failed logins, try again later")
	case errors.Is(err, auth.ErrUnavailable):
		return r(454, 4, 7, 0, "login is not possible for now, try again later")
	case errors.Is(err, auth.ErrMechanism):
		return r(504, 5, 5, 4, "this mechanism is not offered")
	case errors.Is(err, auth.ErrMessage):
		return r(501, 5, 5, 2, "this is not a message of the mechanism")
	case errors.Is(err, errBase64):
		return r(501, 5, 5, 2, "not base64")
	case errors.Is(err, errCancelled):
		return r(501, 5, 7, 0, "login cancelled")
	case errors.Is(err, errTooManyLogins):
		return r(421, 4, 7, 0, "too many refused logins, closing connection")
	case errors.Is(err, auth.ErrSessionOver):
		return r(421, 4, 7, 0, "the session has lasted as long as it may, log in again")
	case errors.Is(err, errRight):
		return r(421, 4, 7, 0, "your right to this mailbox has ended, closing connection")

	// What a member sends.
	case errors.Is(err, errReader):
		return r(550, 5, 7, 1, "your role in this mailbox lets you read only")
	case errors.Is(err, errNotYours):
		return r(550, 5, 7, 1, "MAIL FROM must be the address of the mailbox you have logged in to")
	case errors.Is(err, ErrQuota):
		return r(450, 4, 7, 1, "too many recipients within an hour, try again later")
	case errors.Is(err, errNullSender):
		return r(550, 5, 7, 1, "an empty MAIL FROM is for read receipts only")
	case errors.As(err, &origin) && origin.Field == "":
		return r(550, 5, 6, 0, "the header is malformed or too long")
	case errors.As(err, &origin) && errors.Is(err, message.ErrDisguise):
		return r(550, 5, 7, 1, origin.Field+": the name beside your address shows another address")
	case errors.As(err, &origin) && origin.Field == "Sender":
		return r(550, 5, 7, 1, "Sender: must be left out, or be the address of your mailbox and nothing else")
	case errors.As(err, &origin):
		return r(550, 5, 7, 1, "From: must be the address of your mailbox and nothing else")
	case errors.Is(err, errReplyTo):
		return r(550, 5, 7, 1, "Reply-To: must hold addresses of the trust space only")
	case errors.Is(err, errNoRelay):
		return r(550, 5, 3, 3, "mail to other operators cannot be sent from here yet")
	case errors.Is(err, errNoSuchSpace):
		return r(550, 5, 7, 1, "recipient's domain is not in the white list")
	case errors.Is(err, errTooLargePatient):
		return r(552, 5, 3, 4, "message too large for the patient platform")

	// The envelope.
	case errors.Is(err, errAddress):
		return r(501, 5, 1, 3, "malformed address")
	case errors.Is(err, errNonASCII):
		return r(553, 5, 6, 7, "address needs SMTPUTF8, which is not offered") // RFC 6531, Section 3.5
	case errors.Is(err, errRelay):
		return r(550, 5, 7, 1, "relaying denied")
	case errors.Is(err, store.ErrNoBAL), errors.Is(err, errNotOpen):
		return r(550, 5, 1, 1, "no such mailbox here")
	case errors.Is(err, store.ErrUnavailable):
		return r(451, 4, 3, 0, "mailbox cannot be used now, try again later")
	case errors.Is(err, errNotInDir):
		return r(550, 5, 1, 1, "mailbox is not in the directory")
	case errors.Is(err, errPatientFirst):
		return r(550, 5, 7, 1, "a patient cannot begin a conversation with this mailbox")
	case errors.Is(err, errSuspended):
		return r(450, 4, 2, 1, "mailbox suspended, try again later")
	case errors.Is(err, errClosedBAL):
		return r(550, 5, 2, 1, "mailbox closed")
	case errors.Is(err, store.ErrOverQuota):
		return r(452, 4, 2, 2, "mailbox full")
	case errors.Is(err, errDirLater):
		return r(451, 4, 4, 3, "directory cannot be asked now, try again later")
	case errors.Is(err, errDirBusy):
		return r(450, 4, 2, 1, "mailbox cannot be used now, try again later")
	case errors.Is(err, errTooManyRcpt):
		return r(452, 4, 5, 3, "too many recipients")

	// The message.
	case errors.Is(err, delivery.ErrBareCR), errors.Is(err, delivery.ErrBareLF):
		return r(550, 5, 5, 2, "message has a bare CR or LF")
	case errors.Is(err, delivery.ErrNUL):
		return r(550, 5, 5, 2, "message has a NUL octet")
	case errors.Is(err, delivery.ErrTooLarge):
		return r(552, 5, 3, 4, "message too large")
	case errors.Is(err, delivery.ErrHops):
		return r(554, 5, 4, 6, "too many hops")
	case errors.Is(err, store.ErrNoSpace):
		return r(452, 4, 3, 1, "not enough storage now, try again later")
	case errors.Is(err, store.ErrSlow), errors.Is(err, store.ErrNoWrite):
		return r(451, 4, 3, 0, "storage does not answer now, try again later")

	// The dialogue.
	case errors.Is(err, errSequence):
		return r(503, 5, 5, 1, "bad sequence of commands")
	case errors.Is(err, errTLSActive):
		return r(503, 5, 5, 1, "TLS is active already")
	case errors.Is(err, errSyntax):
		return r(501, 5, 5, 4, "syntax error in parameters")
	case errors.Is(err, errCommand):
		return r(500, 5, 5, 2, "command not recognized")
	case errors.Is(err, errNotImpl):
		return r(502, 5, 5, 1, "command not implemented")
	case errors.Is(err, errParameter):
		return r(555, 5, 5, 4, "parameter not recognized or not implemented") // RFC 5321, Section 4.1.1.11
	case errors.Is(err, errLineEnd):
		return r(500, 5, 5, 2, "line must end with CRLF and hold no control characters")
	case errors.Is(err, errChunk):
		return r(501, 5, 5, 4, "malformed BDAT, closing connection")
	case errors.Is(err, errLineTooLong):
		return r(500, 5, 5, 6, "line too long, closing connection")

	// The connection.
	case errors.Is(err, errTooManyBad):
		return r(421, 4, 7, 0, "too many refused recipients, closing connection")
	case errors.Is(err, errTooManyError):
		return r(421, 4, 7, 0, "too many errors, closing connection")
	case errors.Is(err, errTooManyJunk):
		return r(421, 4, 7, 0, "too many commands, closing connection")
	case errors.Is(err, errTooManyConns):
		return r(421, 4, 7, 0, "too many connections, try again later")
	case errors.Is(err, errTooManyOfPeer):
		return r(421, 4, 7, 0, "too many connections of your operator, use those you have")
	case errors.Is(err, errMadeRoom):
		return r(421, 4, 3, 2, "too many connections, this one was idle; connect again when you have mail")
	case errors.Is(err, errIdle):
		return r(421, 4, 4, 2, "idle for too long, closing connection")
	case errors.Is(err, errSlow):
		return r(421, 4, 4, 2, "transfer too slow, closing connection")
	case errors.Is(err, errDrain):
		return r(421, 4, 3, 0, "message refused, closing connection")
	case errors.Is(err, errEnding), errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrFailed),
		errors.Is(err, context.Canceled):
		return r(421, 4, 3, 2, "service is shutting down, try again later")
	case errors.Is(err, errPanic):
		return r(421, 4, 3, 0, "internal error, closing connection")
	}
	return r(451, 4, 3, 0, "temporary failure, try again later")
}

// oneLine keeps a text fit for a reply line, whatever it came from (RFC 5321, Section 4.5.3.1.5).
func oneLine(s string) string {
	b := []byte(s)
	if len(b) > 400 {
		b = b[:400]
	}
	for i, c := range b {
		if c < ' ' || c >= 0x7f {
			b[i] = '?'
		}
	}
	return string(b)
}
