package imapd

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"mssd/auth"
	"mssd/imapd/wire"
	"mssd/store"
)

// TestRespond covers each row of the table of responses, and the default.
func TestRespond(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{bad("CLIENTBUG", "x"), "BAD [CLIENTBUG]"},
		{errReadOnly, "NO []"},
		{errNoRight, "NO [NOPERM]"},
		{&wire.SyntaxError{Msg: "x"}, "BAD []"},
		{&wire.SyntaxError{Msg: "x", TooBig: true}, "NO [TOOBIG]"},
		{&wire.FatalError{Msg: "x"}, "BYE []"},
		{errCutOff, "BYE []"},
		{wire.ErrBadCharset, "NO [BADCHARSET (US-ASCII UTF-8)]"},
		{store.ErrNoMailbox, "NO [NONEXISTENT]"},
		{store.ErrNoBAL, "NO [NONEXISTENT]"},
		{tryCreate(store.ErrNoMailbox), "NO [TRYCREATE]"},
		{store.ErrMailboxExists, "NO [ALREADYEXISTS]"},
		{store.ErrName, "NO [CANNOT]"},
		{store.ErrNoMessage, "NO [EXPUNGEISSUED]"},
		{store.ErrOverQuota, "NO [OVERQUOTA]"},
		{store.ErrUnavailable, "NO [UNAVAILABLE]"},
		{store.ErrSlow, "NO [UNAVAILABLE]"},
		{store.ErrNoWrite, "NO [UNAVAILABLE]"},
		{store.ErrNoSpace, "NO [UNAVAILABLE]"},
		{store.ErrMissing, "NO [UNAVAILABLE]"},
		{store.ErrCorrupt, "NO [UNAVAILABLE]"},
		{store.ErrKeyword, "NO [LIMIT]"},
		{store.ErrTooLong, "NO [METADATA MAXSIZE 4096]"},
		{store.ErrTooMany, "NO [METADATA TOOMANY]"},
		{store.ErrLimit, "NO [LIMIT]"},
		{store.ErrClosed, "BYE [UNAVAILABLE]"},
		{store.ErrFailed, "BYE [UNAVAILABLE]"},
		{errTooBig, "NO [TOOBIG]"},
		{errGone, "BYE []"},
		{errRight, "BYE []"},
		{auth.ErrCredentials, "NO [AUTHENTICATIONFAILED]"},
		{auth.ErrThrottled, "NO [UNAVAILABLE]"},
		{auth.ErrUnavailable, "NO [UNAVAILABLE]"},
		{auth.ErrPrivacy, "NO [PRIVACYREQUIRED]"},
		{context.Canceled, "NO [UNAVAILABLE]"},
		{errors.New("secret cause"), "NO [SERVERBUG]"},
	} {
		r, known := respond(fmt.Errorf("wrapped: %w", c.err))
		if got := fmt.Sprintf("%s [%s]", r.status, r.code); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
		for _, b := range []byte(r.text) {
			if b < ' ' || b > '~' {
				t.Errorf("%v: text %q is not one line of ASCII", c.err, r.text)
			}
		}
		if r.text == "secret cause" || (r.code == "SERVERBUG" && known) {
			t.Errorf("%v: the cause of an unknown error belongs in the log: %q, known %v", c.err, r.text, known)
		}
	}
}
