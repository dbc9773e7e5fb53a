package directory

import (
	"bufio"
	"bytes"
	"errors"
	"strings"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// inner is a message as next gives it.
func inner(op *ber.Packet, controls ...*ber.Packet) []byte {
	m := ber.NewSequence("")
	m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, 3, ""))
	m.AppendChild(op)
	if len(controls) > 0 {
		list := ber.Encode(ber.ClassContext, ber.TypeConstructed, 0, nil, "")
		for _, x := range controls {
			list.AppendChild(x)
		}
		m.AppendChild(list)
	}
	s := &stream{r: bufio.NewReader(bytes.NewReader(m.Bytes()))}
	msg, err := s.next()
	if err != nil {
		panic(err)
	}
	return msg
}

func newCookie(cookie string) *ber.Packet {
	v := ber.NewString(ber.ClassContext, ber.TypePrimitive, 0, cookie, "")
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationIntermediateResponse, nil, "")
	p.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 0, ldap.ControlTypeSyncInfo, ""))
	p.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 1, string(v.Bytes()), ""))
	return p
}

func TestParseEvents(t *testing.T) {
	names := DefaultAttributes().wire()
	op, state := entryOf(7, "a@x.test", 2, "keks")
	e, err := names.parseEvent(inner(op, state))
	if err != nil || !e.entry || len(e.mails) != 1 || string(e.mails[0]) != "a@x.test" || string(e.row[fieldKind]) != "ORG" ||
		e.state.state != 2 || string(e.state.id[:]) != uuidOf(7) || string(e.state.cookie) != "keks" {
		t.Errorf("entry: %+v, %v", e, err)
	}
	if e, err = names.parseEvent(inner(newCookie("neu"))); err != nil || e.info == nil || e.info.kind != infoCookie || string(e.info.cookie) != "neu" {
		t.Errorf("newcookie: %+v, %v", e.info, err)
	}
	if e, err = names.parseEvent(inner(infoOf(3, "c", true, 1, 2))); err != nil || e.info.kind != infoSet || !e.info.flag || len(e.info.ids) != 2 {
		t.Errorf("set: %+v, %v", e.info, err)
	}
	var le *ldap.Error
	if e, err = names.parseEvent(inner(result(4096))); err != nil || !e.ended || !errors.As(e.err, &le) || le.ResultCode != 4096 {
		t.Errorf("result: %+v, %v", e, err)
	}
	// Where the parts of an entry end before they should, it is refused whole.
	whole := inner(op, state)
	for n := range len(whole) {
		if e, err := names.parseEvent(whole[:n]); err == nil && e.state != nil {
			t.Errorf("cut after %d of %d octets: %+v", n, len(whole), e)
		}
	}
}

func TestMessageBounds(t *testing.T) {
	for name, raw := range map[string]string{
		"too large": "\x30\x84\x7f\xff\xff\xff", "length of no end": "\x30\x80", "length of five octets": "\x30\x85\x00\x00\x00\x00\x01",
		"no sequence": "\x04\x01x", "HTTP": "HTTP/1.1 400",
	} {
		s := &stream{r: bufio.NewReader(strings.NewReader(raw + strings.Repeat("x", 100)))}
		if msg, err := s.next(); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %d octets, %v", name, len(msg), err)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	op, state := entryOf(7, "a@x.test", 2, "keks")
	f.Add(inner(op, state))
	f.Add(inner(infoOf(3, "c", true, 1, 2)))
	f.Add(inner(infoOf(1, "", false)))
	f.Add(inner(newCookie("neu")))
	done, control := doneOf("drei", true)
	f.Add(inner(done, control))
	f.Add([]byte{2, 1, 3, tagEntry, 0x84, 0xff, 0xff, 0xff, 0xff})
	names := DefaultAttributes().wire()
	f.Fuzz(func(t *testing.T, msg []byte) {
		e, err := names.parseEvent(msg)
		if err != nil {
			return
		}
		if e.entry && e.state != nil {
			_, _ = e.change()
		}
		for _, m := range e.mails {
			if len(m) > len(msg) {
				t.Fatal("a value longer than its message")
			}
		}
	})
}
