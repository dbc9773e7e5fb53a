package delivery

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/mail"
	"strings"
	"testing"
	"time"

	"mssd/store"
	"mssd/trace"
)

// What is missing is added, and nothing else is touched, wherever the pieces of a message are cut.
func TestCompleter(t *testing.T) {
	const date, id = "Date: D\r\n", "Message-ID: I\r\n"
	for name, c := range map[string]struct{ in, want string }{
		"both there":       {"Date: x\r\nMessage-ID: y\r\n\r\nbody\r\n", "Date: x\r\nMessage-ID: y\r\n\r\nbody\r\n"},
		"in any case":      {"DATE : x\r\nmessage-id\t: y\r\n\r\n\r\n", "DATE : x\r\nmessage-id\t: y\r\n\r\n\r\n"},
		"both missing":     {"From: a\r\n\r\nbody\r\n\r\nmore\r\n", "From: a\r\n" + date + id + "\r\nbody\r\n\r\nmore\r\n"},
		"date missing":     {"Message-ID: y\r\n\r\nDate: in the body\r\n", "Message-ID: y\r\n" + date + "\r\nDate: in the body\r\n"},
		"id missing":       {"Date: x\r\n\r\n", "Date: x\r\n" + id + "\r\n"},
		"others alike":     {"Resent-Date: x\r\nX-Message-ID: y\r\nDated: z\r\n\r\n", "Resent-Date: x\r\nX-Message-ID: y\r\nDated: z\r\n" + date + id + "\r\n"},
		"in a folded line": {"Subject: x\r\n Date: y\r\n\tMessage-ID: z\r\n\r\n", "Subject: x\r\n Date: y\r\n\tMessage-ID: z\r\n" + date + id + "\r\n"},
		"unreadable":       {"Date: soon\r\nMessage-ID:\r\n\r\n", "Date: soon\r\nMessage-ID:\r\n\r\n"},
		"no header":        {"\r\nbody\r\n", date + id + "\r\nbody\r\n"},
		"no body":          {"From: a\r\n", "From: a\r\n" + date + id},
		"no line end":      {"From: a\r\nDate: x", "From: a\r\nDate: x\r\n" + id},
		"nothing":          {"", date + id},
		"long line":        {"Subject: " + strings.Repeat("Date:", 99) + "\r\n\r\n", "Subject: " + strings.Repeat("Date:", 99) + "\r\n" + date + id + "\r\n"},
		"long name":        {strings.Repeat("d", 99) + ": x\r\nDate: x\r\n\r\n", strings.Repeat("d", 99) + ": x\r\nDate: x\r\n" + id + "\r\n"},
		"a line of spaces": {"From: a\r\n \r\nDate: x\r\n\r\n", "From: a\r\n \r\nDate: x\r\n" + id + "\r\n"},
		"bcc":              {"Date: x\r\nBcc: <secret@y.test>,\r\n <z@y.test>\r\n\t<w@y.test>\r\nSubject: s\r\n t\r\n\r\nBcc: in the body\r\n", "Date: x\r\nSubject: s\r\n t\r\n" + id + "\r\nBcc: in the body\r\n"},
		"bcc, other forms": {"BCC:a\r\nbcc \t : b\r\nResent-Bcc: c\r\nBcc" + strings.Repeat(" ", 99) + ": d\r\nBcc:\r\n \r\n e\r\nDate: x\r\n\r\n", "Date: x\r\n" + id + "\r\n"},
		"like bcc":         {"X-Bcc: a\r\nBccc: b\r\nBc: c\r\nDate: x\r\n\r\n", "X-Bcc: a\r\nBccc: b\r\nBc: c\r\nDate: x\r\n" + id + "\r\n"},
		"bcc in a fold":    {"Subject: a\r\n Bcc: b\r\nDate: x\r\n\r\n", "Subject: a\r\n Bcc: b\r\nDate: x\r\n" + id + "\r\n"},
		"bcc last":         {"Date: x\r\nBcc: a", "Date: x\r\n" + id},
		"bcc alone":        {"Bcc: a", date + id},
		"half a name":      {"Date: x\r\nBcc", "Date: x\r\nBcc\r\n" + id},
		"what we set": {"Return-Path: <a>\r\nAuthentication-Results: mx.operateur.test;\r\n auth=pass\r\nOriginal-Recipient: rfc822;x\r\n" +
			"Original-Envelope-Id: y\r\nX-MSSD-Receipts: NOTIFY=NEVER\r\nX-MSS-NIL: DEV1\r\nDate: x\r\n\r\n", "X-MSS-NIL: DEV1\r\nDate: x\r\n" + id + "\r\n"},
		"empty lines later": {"Date: x\r\n\r\n\r\n\r\n", "Date: x\r\n" + id + "\r\n\r\n\r\n"},
	} {
		for piece := 1; piece <= max(1, len(c.in)); piece++ {
			var out bytes.Buffer
			keep := func(p []byte) error { _, err := out.Write(p); return err }
			x := completer{add: func(d, m bool) (b []byte) {
				if !d {
					b = append(b, date...)
				}
				if !m {
					b = append(b, id...)
				}
				return b
			}}
			for in := c.in; in != ""; in = in[min(piece, len(in)):] {
				if err := x.feed([]byte(in[:min(piece, len(in))]), keep); err != nil {
					t.Fatal(err)
				}
			}
			if err := x.finish(keep); err != nil {
				t.Fatal(err)
			}
			if out.String() != c.want {
				t.Fatalf("%s in pieces of %d: got %q, want %q", name, piece, &out, c.want)
			}
		}
	}
}

// The message of a member: completed, traced with who sent it, and repeated only once although its fields are ours.
func TestDeliverOfMember(t *testing.T) {
	d, st, rcpts, _ := open(t, 2)
	const sent = "From: <bal0@officine.test>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0100\r\nSubject: x\r\n\r\nbonjour\r\n"
	spoolOf := func(sent string) *Spool {
		sp, err := NewSpool(st, true, Limits{Originate: &Originate{Hostname: "mx.operateur.test"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(sp, sent); err != nil {
			t.Fatal(err)
		}
		if err := sp.Finish(); err != nil {
			t.Fatal(err)
		}
		return sp
	}
	spool := func() *Spool { return spoolOf(sent) }
	in := testIncoming(t)
	in.Member = &Member{Person: "rpps:99900000052", BAL: rcpts[0].BAL, Method: "psc"}
	in.ReversePath, in.Recipients = "bal0@officine.test", rcpts[1:]
	sp := spool()
	added := sp.AddedID(sp.ID())
	if want := "<" + sp.ID().String() + "@mx.operateur.test>"; added != want {
		t.Errorf("AddedID is %q, want %q", added, want)
	}
	if sp.SHA256() != sha256.Sum256([]byte(sent)) {
		t.Error("the hash is not that of what came")
	}
	if m := sp.Meta(); m.MessageID != added {
		t.Errorf("readers will see Message-ID %q", m.MessageID)
	}
	first, dup, err := d.Deliver(t.Context(), sp, in)
	if err != nil || dup {
		t.Fatalf("Deliver: %v, duplicate %v", err, dup)
	}
	if again, dup, err := d.Deliver(t.Context(), spool(), in); err != nil || !dup || again != first {
		t.Errorf("repetition: %v %v %v, want the first id %v", again, dup, err, first)
	}
	var last trace.ID
	for range 2 { // nothing tells whether these are one message or two
		sp := spoolOf("From: <bal0@officine.test>\r\n\r\nrésultats disponibles\r\n")
		if m := sp.Meta(); time.Since(m.SentDate).Abs() > time.Hour {
			t.Errorf("readers will see the date %v", m.SentDate)
		}
		id, dup, err := d.Deliver(t.Context(), sp, in)
		if err != nil || dup || id == last {
			t.Errorf("the same words again: %v %v %v, want a message of its own", id, dup, err)
		}
		last = id
	}
	for what, other := range map[string]*Member{"another person": {Person: "rpps:99900000060", BAL: rcpts[0].BAL}, "another BAL": {Person: "rpps:99900000052", BAL: rcpts[1].BAL}, "an operator": nil} {
		in := *in
		in.Member = other
		if id, dup, err := d.Deliver(t.Context(), spool(), &in); err != nil || dup {
			t.Errorf("the same octets from %s: %v %v %v, want a message of its own", what, id, dup, err)
		}
	}
	c, err := st.OpenMessage(rcpts[1].BAL.ID, first)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, _ := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	got := string(b)
	if !strings.Contains(got, "auth=pass\r\n smtp.auth=bal0@officine.test\r\n") || strings.Contains(got, "x-tls-client-cert") || strings.Contains(got, "99900000052") {
		t.Errorf("the recipient reads:\n%s", got)
	}
	if !strings.HasSuffix(got, "\r\nMessage-ID: "+added+"\r\n\r\nbonjour\r\n") {
		t.Errorf("the recipient reads:\n%s", got)
	}
	row := must(st.Mailbox(rcpts[1].BAL.ID, "INBOX"))(t)
	_ = st.Rows(t.Context(), row.Ref, must(st.Snapshot(row.Ref, false))(t).Runs, func(r store.Row) bool {
		if r.Message == first && r.Size != int64(len(got)) {
			t.Errorf("the row says %d octets, the message has %d", r.Size, len(got))
		}
		return true
	})
	evs, err := st.Trace(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range evs {
		kinds = append(kinds, e.Kind.String())
		if e.Kind == trace.Submitted && (e.Person != "rpps:99900000052" || e.BAL != "bal0@officine.test" || e.Attr(trace.KeyMethod) != "psc" || e.Attr(trace.KeySender) != "bal0@officine.test" || e.Attr(trace.KeyReason) != "") {
			t.Errorf("the trace says: %s", e.Line())
		}
	}
	if fmt.Sprint(kinds[:min(3, len(kinds))]) != "[submitted recipient committed]" {
		t.Errorf("events: %v", kinds)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// FuzzCompleter: a reader that knows nothing of ours, net/mail, finds Date and Message-ID and none of the fields that are left
// out; of all others, and of the body, it sees what it saw before, however the octets were cut.
func FuzzCompleter(f *testing.F) {
	for _, s := range []string{"From: a@b\r\n\r\nbody\r\n", "Date: x\r\n y\r\nBcc: a\r\n b\r\nMessage-ID: <a>\r\n\r\n", "\r\nbody", "bcc : a", "A\r\n B: c\r\n\r\n"} {
		f.Add(s, uint8(3))
	}
	o := &Originate{Hostname: "mx.operateur.test"}
	complete := func(s string, piece int) string {
		var out bytes.Buffer
		keep := func(p []byte) error { _, err := out.Write(p); return err }
		c := &completer{add: func(d, m bool) []byte { return o.fields(1, d, m) }}
		for ; s != ""; s = s[min(piece, len(s)):] {
			_ = c.feed([]byte(s[:min(piece, len(s))]), keep)
		}
		_ = c.finish(keep)
		return out.String()
	}
	leftOut := func(name string) bool { // what stands behind a space makes it no field, and is not looked at
		name, _, _ = strings.Cut(strings.ReplaceAll(name, "\t", " "), " ")
		return notSent[strings.ToLower(name)]
	}
	f.Fuzz(func(t *testing.T, s string, n uint8) {
		s = strings.ReplaceAll(strings.ReplaceAll(s, "\r", ""), "\n", "\r\n")
		got := complete(s, len(s)+1)
		if again := complete(s, int(n)%9+1); len(again) != len(got) { // the time of the Date may differ
			t.Fatalf("%q: %q whole, %q in pieces of %d", s, got, again, n%9+1)
		}
		before, err := mail.ReadMessage(strings.NewReader(s))
		if err != nil {
			return
		}
		after, err := mail.ReadMessage(strings.NewReader(got))
		if err != nil {
			t.Fatalf("%q became %q: %v", s, got, err)
		}
		if after.Header.Get("Date") == "" && len(before.Header["Date"]) == 0 || after.Header.Get("Message-ID") == "" && len(before.Header["Message-Id"]) == 0 {
			t.Fatalf("%q became %q", s, got)
		}
		for name, values := range after.Header {
			if leftOut(name) {
				t.Fatalf("%q: %s is there", s, name)
			}
			if was := before.Header[name]; fmt.Sprint(was) != fmt.Sprint(values) && (len(was) > 0 || name != "Date" && name != "Message-Id") {
				t.Fatalf("%q: %s was %q, is %q", s, name, was, values)
			}
		}
		for name := range before.Header {
			if len(after.Header[name]) == 0 && !leftOut(name) {
				t.Fatalf("%q: %s is gone", s, name)
			}
		}
		b1, _ := io.ReadAll(before.Body)
		b2, _ := io.ReadAll(after.Body)
		if !bytes.Equal(b1, b2) {
			t.Fatalf("%q: the body was %q, is %q", s, b1, b2)
		}
	})
}
