package smtpd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"mssd/delivery"
	"mssd/message"
	"mssd/store"
	"mssd/tlsconf"
)

func TestReplyTable(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string // beginning of the line
	}{
		{&stored{"01ABCDEFGHJKM"}, "250 2.0.0 01ABCDEFGHJKM"},
		{&peerError{tlsconf.Verdict{Reason: tlsconf.NoCertificate}}, "550 5.7.1 "},
		{&peerError{tlsconf.Verdict{Reason: tlsconf.ForeignChain}}, "550 5.7.1 "},
		{&peerError{tlsconf.Verdict{Reason: tlsconf.Expired}}, "550 5.7.1 "},
		{&peerError{tlsconf.Verdict{Reason: tlsconf.Revoked}}, "550 5.7.1 "},
		{&peerError{tlsconf.Verdict{Reason: tlsconf.NotUsable}}, "451 4.7.1 "},
		{&peerError{tlsconf.Verdict{Reason: tlsconf.RevocationUnknown}}, "451 4.7.1 "},
		{&QuotaError{"person"}, "450 4.7.1 "}, {errReplyTo, "550 5.7.1 Reply-To"},
		{&message.OriginError{Field: "From", Err: message.ErrDisguise}, "550 5.7.1 From: the name beside"}, {&message.OriginError{Err: message.ErrHeader}, "550 5.6.0 "},
		{errNotBound, "550 5.7.1 "}, {errNotListed, "550 5.7.1 "}, {errListUnknown, "451 4.7.1 "},
		{errNeedTLS, "530 5.7.0 "}, {errAddress, "501 5.1.3 "}, {errNonASCII, "553 5.6.7 "}, {errRelay, "550 5.7.1 "},
		{store.ErrNoBAL, "550 5.1.1 "}, {errNotOpen, "550 5.1.1 "}, {errNotInDir, "550 5.1.1 "},
		{errSuspended, "450 4.2.1 "}, {errClosedBAL, "550 5.2.1 "}, {store.ErrOverQuota, "452 4.2.2 "},
		{store.ErrUnavailable, "451 4.3.0 "}, {store.ErrSlow, "451 4.3.0 "}, {store.ErrNoWrite, "451 4.3.0 "},
		{errPatientFirst, "550 5.7.1 "}, {errDirLater, "451 4.4.3 "}, {errDirBusy, "450 4.2.1 "}, {errTooManyRcpt, "452 4.5.3 "},
		{delivery.ErrBareCR, "550 5.5.2 "}, {delivery.ErrBareLF, "550 5.5.2 "}, {delivery.ErrNUL, "550 5.5.2 "},
		{delivery.ErrTooLarge, "552 5.3.4 "}, {delivery.ErrHops, "554 5.4.6 "}, {store.ErrNoSpace, "452 4.3.1 "},
		{errSequence, "503 5.5.1 "}, {errLoginEarly, "503 5.5.1 AUTH"}, {errLoginTwice, "503 5.5.1 already"}, {errTLSActive, "503 5.5.1 "}, {errSyntax, "501 5.5.4 "}, {errCommand, "500 5.5.2 "},
		{errNotImpl, "502 5.5.1 "}, {errParameter, "555 5.5.4 "}, {errLineEnd, "500 5.5.2 "}, {errChunk, "501 5.5.4 "},
		{errLineTooLong, "500 5.5.6 "}, {errTooManyBad, "421 4.7.0 "}, {errTooManyError, "421 4.7.0 "},
		{errTooManyJunk, "421 4.7.0 "}, {errTooManyConns, "421 4.7.0 "}, {errIdle, "421 4.4.2 "}, {errSlow, "421 4.4.2 "},
		{errDrain, "421 4.3.0 "}, {errEnding, "421 4.3.2 "}, {store.ErrClosed, "421 4.3.2 "}, {store.ErrFailed, "421 4.3.2 "},
		{context.Canceled, "421 4.3.2 "}, {errPanic, "421 4.3.0 "},
		{errors.New("open /var/lib/x: permission denied"), "451 4.3.0 "}, {nil, "451 4.3.0 "},
	} {
		for _, err := range []error{tc.err, fmt.Errorf("delivery: commit: %w", tc.err)} {
			if tc.err == nil {
				err = nil
			}
			got := replyTo(err).line()
			if !strings.HasPrefix(got, tc.want) || !strings.HasSuffix(got, "\r\n") || len(got) > 512 {
				t.Errorf("%v: %q, want %q", err, got, tc.want)
			}
			if strings.Contains(got, "/var") || strings.Contains(got, "delivery:") || strings.Contains(got, "smtpd:") {
				t.Errorf("%v: the text of the error reached the peer: %q", err, got)
			}
		}
	}
}

func TestOneLine(t *testing.T) {
	got := oneLine("a\r\nb\x00é" + strings.Repeat("x", 900))
	if len(got) > 400 || strings.ContainsAny(got, "\r\n\x00") || !strings.HasPrefix(got, "a??b???x") {
		t.Errorf("oneLine = %q", got)
	}
}
