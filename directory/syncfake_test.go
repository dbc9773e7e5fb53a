package directory

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"mssd/directory/slapdtest"
)

// fakeLDAP answers searches with the sync control by a script, for what slapd does not do at our will. Any other search
// finds nothing.
type fakeLDAP struct {
	net.Listener
	// script answers one search; cookie is the one asked with. Packets are what say gives. It returns to end the connection.
	script func(cookie string, say func(op *ber.Packet, controls ...*ber.Packet))
	asked  atomic.Int32
}

func newFake(t *testing.T, script func(cookie string, say func(*ber.Packet, ...*ber.Packet))) *fakeLDAP {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeLDAP{Listener: ln, script: script}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); all.Wait() })
	return f
}

func (f *fakeLDAP) url() string { return "ldap://" + f.Addr().String() }

func (f *fakeLDAP) serve(c net.Conn) {
	defer c.Close()
	for {
		p, err := ber.ReadPacket(c)
		if err != nil || len(p.Children) < 2 {
			return
		}
		say := func(op *ber.Packet, controls ...*ber.Packet) {
			m := ber.NewSequence("message")
			m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, p.Children[0].Value, ""))
			m.AppendChild(op)
			if len(controls) > 0 {
				list := ber.Encode(ber.ClassContext, ber.TypeConstructed, 0, nil, "")
				for _, x := range controls {
					list.AppendChild(x)
				}
				m.AppendChild(list)
			}
			_, _ = c.Write(m.Bytes())
		}
		if p.Children[1].Tag != ldap.ApplicationSearchRequest {
			return
		}
		if len(p.Children) < 3 {
			say(result(0))
			continue
		}
		if len(p.Children[2].Children[0].Children) < 3 { // that of pages: it is not critical
			f.script("", say)
			continue
		}
		var cookie string
		value := ber.DecodePacket(p.Children[2].Children[0].Children[2].Data.Bytes())
		for _, x := range value.Children {
			if x.Tag == ber.TagOctetString {
				cookie = string(x.ByteValue)
			}
		}
		f.asked.Add(1)
		f.script(cookie, say)
		return
	}
}

func result(code int64) *ber.Packet {
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultDone, nil, "")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, ""))
	p.AppendChild(text8(""))
	p.AppendChild(text8(""))
	return p
}

func text8(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}

func control(oid string, value *ber.Packet) *ber.Packet {
	p := ber.NewSequence("")
	p.AppendChild(text8(oid))
	p.AppendChild(text8(string(value.Bytes())))
	return p
}

func uuidOf(n byte) string { return strings.Repeat(string([]byte{n}), 16) }

// entryOf is a BAL under the key n, in a state; "" for no cookie.
func entryOf(n byte, mail string, state int64, cookie string) (op, state1 *ber.Packet) {
	op = ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultEntry, nil, "")
	op.AppendChild(text8("cn=x"))
	attrs := ber.NewSequence("")
	if mail != "" {
		for _, kv := range [][2]string{{"mail", mail}, {"TypeBAL", "ORG"}} {
			a := ber.NewSequence("")
			a.AppendChild(text8(kv[0]))
			set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
			set.AppendChild(text8(kv[1]))
			a.AppendChild(set)
			attrs.AppendChild(a)
		}
	}
	op.AppendChild(attrs)
	v := ber.NewSequence("")
	v.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, state, ""))
	v.AppendChild(text8(uuidOf(n)))
	if cookie != "" {
		v.AppendChild(text8(cookie))
	}
	return op, control(ldap.ControlTypeSyncState, v)
}

func doneOf(cookie string, deletes bool) (op, done *ber.Packet) {
	v := ber.NewSequence("")
	if cookie != "" {
		v.AppendChild(text8(cookie))
	}
	v.AppendChild(ber.NewBoolean(ber.ClassUniversal, ber.TypePrimitive, ber.TagBoolean, deletes, ""))
	return result(0), control(ldap.ControlTypeSyncDone, v)
}

// infoOf is a Sync Info message: tag 1 refreshDelete, 2 refreshPresent, 3 a set of keys.
func infoOf(tag ber.Tag, cookie string, flag bool, keys ...byte) *ber.Packet {
	v := ber.Encode(ber.ClassContext, ber.TypeConstructed, tag, nil, "")
	if cookie != "" {
		v.AppendChild(text8(cookie))
	}
	v.AppendChild(ber.NewBoolean(ber.ClassUniversal, ber.TypePrimitive, ber.TagBoolean, flag, ""))
	if tag == 3 {
		set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
		for _, k := range keys {
			set.AppendChild(text8(uuidOf(k)))
		}
		v.AppendChild(set)
	}
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationIntermediateResponse, nil, "")
	p.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 0, ldap.ControlTypeSyncInfo, ""))
	p.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 1, string(v.Bytes()), ""))
	return p
}

// TestSyncStages plays the stages of RFC 4533, Section 3.3, in every order that it allows, after a first content of a, b, c.
func TestSyncStages(t *testing.T) {
	const a, b, c, x = "a@x.test", "b@x.test", "c@x.test", "x@x.test"
	type sayer = func(*ber.Packet, ...*ber.Packet)
	put := func(say sayer, n byte, mail string, state int64) {
		op, st := entryOf(n, mail, state, "")
		say(op, st)
	}
	first := func(say sayer) {
		put(say, 1, a, 1)
		put(say, 2, b, 1)
		put(say, 3, c, 1)
		op, done := doneOf("eins", true)
		say(op, done)
	}
	for _, tc := range []struct {
		name   string
		second func(cookie string, say sayer)
		want   string // letters that are known
		asked  int32
		cookie string
		err    error
	}{
		{"nothing changed, no cookie", func(_ string, say sayer) { op, d := doneOf("", true); say(op, d) }, "abc", 2, "eins", nil},
		{"delete stage", func(_ string, say sayer) {
			say(infoOf(3, "teil", true, 2))
			put(say, 4, x, 1)
			op, d := doneOf("zwei", true)
			say(op, d)
		}, "acx", 2, "zwei", nil},
		{"delete by entry", func(_ string, say sayer) {
			put(say, 2, "", 3)
			op, d := doneOf("zwei", true)
			say(op, d)
		}, "ac", 2, "zwei", nil},
		{"present stage, by entries", func(_ string, say sayer) {
			put(say, 1, "", 0)
			put(say, 3, "", 0)
			put(say, 4, x, 1)
			op, d := doneOf("zwei", false)
			say(op, d)
		}, "acx", 2, "zwei", nil},
		{"present stage, by sets", func(_ string, say sayer) {
			say(infoOf(3, "", false, 1))
			say(infoOf(3, "", false, 2))
			op, d := doneOf("zwei", false)
			say(op, d)
		}, "ab", 2, "zwei", nil},
		{"present stage, then delete stage", func(_ string, say sayer) {
			say(infoOf(3, "", false, 1, 2))
			say(infoOf(2, "teil", false))
			say(infoOf(3, "", true, 2))
			put(say, 4, x, 2)
			op, d := doneOf("zwei", true)
			say(op, d)
		}, "ax", 2, "zwei", nil},
		{"keys that are not ours are gone", func(_ string, say sayer) {
			say(infoOf(3, "", true, 9, 10))
			op, d := doneOf("zwei", true)
			say(op, d)
		}, "abc", 2, "zwei", nil},
		{"one entry twice: the latter", func(_ string, say sayer) {
			put(say, 4, "w@x.test", 1)
			put(say, 4, x, 2)
			op, d := doneOf("zwei", true)
			say(op, d)
		}, "abcx", 2, "zwei", nil},
		{"refresh required", func(cookie string, say sayer) {
			if cookie != "" {
				say(result(4096))
				return
			}
			put(say, 1, a, 1)
			put(say, 4, x, 1)
			put(say, 4, "w@x.test", 2) // again in a first content: the latter
			put(say, 5, b, 1)
			op, d := doneOf("drei", false)
			say(op, d)
		}, "abw", 3, "drei", nil},
		{"everything, and no cookie: it took ours for nonsense", func(cookie string, say sayer) {
			put(say, 1, a, 1)
			put(say, 2, b, 1)
			if op, d := doneOf("", true); cookie != "" {
				say(op, d)
			} else {
				op, d = doneOf("drei", true)
				say(op, d)
			}
		}, "ab", 3, "drei", nil},
		{"cut off", func(_ string, say sayer) { put(say, 2, "", 3) }, "abc", 2, "eins", ErrUnavailable},
		{"size limit", func(_ string, say sayer) { put(say, 2, "", 3); say(result(4)) }, "abc", 2, "eins", ErrPartial},
		{"busy", func(_ string, say sayer) { say(result(51)) }, "abc", 2, "eins", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			calls := 0
			f := newFake(t, func(cookie string, say func(*ber.Packet, ...*ber.Packet)) {
				if calls++; calls == 1 {
					first(say)
					return
				}
				if calls == 2 && cookie != "eins" {
					t.Errorf("asked with the cookie %q", cookie)
				}
				tc.second(cookie, say)
			})
			m := newMirror(t, LDAPConfig{URL: f.url()})
			m.cfg.MaxLoss = 1
			m.reopen()
			m.refresh()
			err := m.Refresh(context.Background())
			if (tc.err == nil && tc.name != "busy") != (err == nil) || !errors.Is(err, tc.err) && tc.err != nil {
				t.Errorf("got %v, want %v", err, tc.err)
			}
			got := ""
			for _, letter := range "abcwx" {
				if m.knows(string(letter) + "@x.test") {
					got += string(letter)
				}
			}
			cookie := m.Directory.cfg.LDAP.ownCookie(m.feeds[0].image.Load().cookie)
			if got != tc.want || f.asked.Load() != tc.asked || string(cookie) != tc.cookie {
				t.Errorf("knows %s, asked %d times, cookie %q; want %s, %d, %q\n%s", got, f.asked.Load(), cookie, tc.want, tc.asked, tc.cookie, m.log)
			}
		})
	}
}

// TestSyncIgnored: a server that takes no notice of the control, critical as it is, is read in pages.
func TestSyncIgnored(t *testing.T) {
	f := newFake(t, func(_ string, say func(*ber.Packet, ...*ber.Packet)) {
		op, _ := entryOf(1, "a@x.test", 1, "")
		say(op)
		say(result(0))
	})
	m := newMirror(t, LDAPConfig{URL: f.url()})
	m.refresh()
	if !m.knows("a@x.test") || m.feeds[0].image.Load().keyed() {
		t.Errorf("%+v", m.Status().Feeds[0])
	}
}

// TestSyncDeadStream: the stream of changes is cut somewhere on the way without either end noticing, while the server
// answers others. What changes then is seen all the same.
func TestSyncDeadStream(t *testing.T) {
	s := slapdtest.Start(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var swallow atomic.Bool // on the first connection
	var conns sync.Map
	all.Go(func() {
		for n := 0; ; n++ {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", s.Addr())
			if err != nil {
				_ = in.Close()
				continue
			}
			conns.Store(in, out)
			all.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
			all.Go(func() {
				buf := make([]byte, 1<<16)
				for {
					k, err := out.Read(buf)
					if err != nil {
						_ = in.Close()
						return
					}
					if n > 0 || !swallow.Load() {
						_, _ = in.Write(buf[:k])
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		conns.Range(func(in, out any) bool { _ = in.(net.Conn).Close(); _ = out.(net.Conn).Close(); return true })
		all.Wait()
	})
	m := newMirror(t, LDAPConfig{URL: "ldap://" + ln.Addr().String(), ProgressTimeout: 3 * time.Second})
	t.Cleanup(m.stop) // before the proxy goes
	m.run()
	swallow.Store(true)
	first := m.Status().Feeds[0].Generated
	m.wait("a look at the server", func() bool { return m.Status().Feeds[0].Generated.After(first) })
	s.AddBAL(newBAL, "ORG", "")
	m.wait("the change", func() bool { return m.knows(newBAL) })
	if !strings.Contains(m.log.String(), "sends nothing") {
		t.Errorf("not told why\n%s", m.log)
	}
}
