package imapd

import (
	"context"
	"errors"
	"fmt"

	"mssd/auth"
	"mssd/imapd/wire"
	"mssd/store"
)

// status is the first word of a tagged response (RFC 9051, Section 7.1).
type status uint8

const (
	statusOK status = iota
	statusNO
	statusBAD
	statusBYE // untagged; the connection ends
)

func (s status) String() string {
	return [...]string{"OK", "NO", "BAD", "BYE"}[s]
}

// response is how a command ends. code stands in brackets, without them; text is fixed, ASCII, one line.
type response struct {
	status status
	code   string
	text   string
}

func okay(text string) response { return response{statusOK, "", text} }

// fault is an error whose response is known where it happens: syntax, order and the like.
type fault struct{ response }

func (f *fault) Error() string { return fmt.Sprintf("imapd: %s [%s] %s", f.status, f.code, f.text) }

func no(code, text string) error  { return &fault{response{statusNO, code, text}} }
func bad(code, text string) error { return &fault{response{statusBAD, code, text}} }

// The errors of this package that handlers meet in several places.
var (
	errReadOnly     = no("", "The mailbox is selected read-only")
	errNoRight      = no("NOPERM", "Your role does not allow this")
	errGone         = errors.New("imapd: the selected mailbox is gone")
	errRight        = errors.New("imapd: the right was withdrawn")
	errCutOff       = errors.New("imapd: the message of an APPEND did not come whole")
	errTooBig       = errors.New("imapd: message over the size limit")
	errQResync      = bad("", "ENABLE QRESYNC first")
	errNumber       = bad("", "No message has that number")
	errNameFixed    = no("CANNOT", "This mailbox can be neither created nor removed")
	errNULLiteral   = bad("", "NUL is not allowed in a message")
	errBinary       = no("UNKNOWN-CTE", "A message with NUL octets is not kept: encode them") // RFC 3516, Section 4.4
	errTooMany      = no("LIMIT", "Too many messages to sort: ask for fewer")
	errManyMessages = no("LIMIT", "Too many messages in one APPEND, or too large together: send at most 100 and 256 MB at a time")
	errUnknownCTE   = no("UNKNOWN-CTE", "The encoding of this part is not known")
	errEmpty        = no("", "A message without octets is not kept") // an APPEND called off: RFC 3502, Section 6.3.11
)

// respond is the one place where an error becomes a response. known is false for the default row: the
// cause then belongs in the log. Unknown means temporary (NO [SERVERBUG]).
func respond(err error) (r response, known bool) {
	var f *fault
	var syn *wire.SyntaxError
	var fatal *wire.FatalError
	var ref *auth.Refusal
	switch {
	case errors.As(err, &f):
		return f.response, true
	case errors.As(err, &syn):
		if syn.TooBig {
			return response{statusNO, "TOOBIG", "A literal is too large"}, true
		}
		if syn.Name {
			return response{statusNO, "CANNOT", syn.Msg}, true
		}
		return response{statusBAD, "", syn.Msg}, true
	case errors.As(err, &fatal):
		return response{statusBYE, "", fatal.Msg}, true
	case errors.Is(err, errCutOff):
		return response{statusBYE, "", "The message was cut off"}, true
	case errors.Is(err, wire.ErrBadCharset):
		return response{statusNO, "BADCHARSET (US-ASCII UTF-8)", "Use UTF-8"}, true

	case errors.Is(err, store.ErrNoMailbox), errors.Is(err, store.ErrNoBAL):
		return response{statusNO, "NONEXISTENT", "No such mailbox"}, true
	case errors.Is(err, store.ErrMailboxExists):
		return response{statusNO, "ALREADYEXISTS", "The mailbox exists already"}, true
	case errors.Is(err, store.ErrName):
		return response{statusNO, "CANNOT", "This is not a possible mailbox name"}, true
	case errors.Is(err, store.ErrNoMessage):
		return response{statusNO, "EXPUNGEISSUED", "Some of the messages no longer exist"}, true
	case errors.Is(err, store.ErrOverQuota):
		return response{statusNO, "OVERQUOTA", "The mailbox is full"}, true
	case errors.Is(err, store.ErrNoSpace):
		return response{statusNO, "UNAVAILABLE", "No space is left for now"}, true
	case errors.Is(err, store.ErrSlow), errors.Is(err, store.ErrNoWrite):
		return response{statusNO, "UNAVAILABLE", "The disk cannot be written for now"}, false
	case errors.Is(err, store.ErrUnavailable):
		return response{statusNO, "UNAVAILABLE", "This mailbox cannot be used for now"}, false
	case errors.Is(err, store.ErrMissing), errors.Is(err, store.ErrCorrupt):
		return response{statusNO, "UNAVAILABLE", "The content of a message cannot be read"}, false
	case errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrFailed):
		return response{statusBYE, "UNAVAILABLE", "The store is closed"}, true

	case errors.Is(err, store.ErrTooLong):
		return response{statusNO, "METADATA MAXSIZE " + itoa(store.MaxAnnotation), "A value is too long"}, true
	case errors.Is(err, store.ErrTooMany):
		return response{statusNO, "METADATA TOOMANY", "There are too many entries"}, true
	case errors.Is(err, store.ErrKeyword), errors.Is(err, store.ErrLimit):
		return response{statusNO, "LIMIT", "A limit of this mailbox is reached"}, true

	case errors.Is(err, errTooBig):
		return response{statusNO, "TOOBIG", "The message is too large"}, true
	case errors.Is(err, errGone):
		return response{statusBYE, "", "The selected mailbox no longer exists"}, true
	case errors.Is(err, auth.ErrSessionOver):
		return response{statusBYE, "", "The session has lasted as long as it may, log in again"}, true
	case errors.Is(err, errRight):
		return response{statusBYE, "", "Your right to this mailbox has ended"}, true

	case errors.As(err, &ref) && errors.Is(err, auth.ErrCredentials):
		return response{statusNO, "AUTHENTICATIONFAILED", ref.Text()}, true
	case errors.Is(err, auth.ErrCredentials):
		return response{statusNO, "AUTHENTICATIONFAILED", "The name or the password is wrong"}, true
	case errors.Is(err, auth.ErrMechanism):
		return response{statusNO, "", "This mechanism is not offered"}, true
	case errors.Is(err, auth.ErrMessage):
		return response{statusBAD, "", "This is not a message of the mechanism"}, true
	case errors.Is(err, auth.ErrIdentity):
		return response{statusNO, "AUTHORIZATIONFAILED", "The authorisation identity must be the login name"}, true
	case errors.Is(err, auth.ErrThrottled):
		return response{statusNO, "UNAVAILABLE", "Too many failed logins, try later"}, true
	case errors.Is(err, auth.ErrUnavailable):
		return response{statusNO, "UNAVAILABLE", "Login is not possible for now"}, false
	case errors.Is(err, auth.ErrPrivacy):
		return response{statusNO, "PRIVACYREQUIRED", "TLS first"}, true

	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return response{statusNO, "UNAVAILABLE", "The command was interrupted"}, true
	}
	return response{statusNO, "SERVERBUG", "Internal fault, it has been noted"}, false
}

// tryCreate changes the code for COPY, MOVE and APPEND, whose target the client may create
// (RFC 9051, Section 6.3.12).
func tryCreate(err error) error {
	if errors.Is(err, store.ErrNoMailbox) {
		return no("TRYCREATE", "No such mailbox, create it first")
	}
	return err
}
