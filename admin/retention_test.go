package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mssd/message"
	"mssd/store"
	"mssd/trace"
)

const addr = "pharmacie@officines.example"

// mail puts a message into a mailbox of the BAL.
func (h *house) mail(t *testing.T, mailbox, raw string, flags store.Flag) store.Ref {
	t.Helper()
	b, err := h.store.BAL(addr)
	if err != nil {
		t.Fatal(err)
	}
	m, err := h.store.Mailbox(b.ID, mailbox)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := h.store.NewBlob()
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Abort()
	if _, err := blob.Write([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	meta, text, err := message.Scan(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if err := blob.Finish(meta, text); err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.Commit(t.Context(), &store.Batch{Blob: blob, Ops: []store.Op{store.AddMessage{Ref: m.Ref, Flags: flags}}}); err != nil {
		t.Fatal(err)
	}
	return m.Ref
}

func (h *house) expungeAll(t *testing.T, r store.Ref) {
	t.Helper()
	if err := h.store.Expunge(t.Context(), store.Expunge{Ref: r, Runs: []store.Run{{First: 1, Count: ^uint32(0)}}}); err != nil {
		t.Fatal(err)
	}
}

// acts are what the operator did, as the trace of a BAL has it. Fields that a test does not know are left out.
func (h *house) acts(t *testing.T) (list []string) {
	t.Helper()
	seen := map[uint64]bool{}
	events, err := h.store.Trace(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if !seen[e.Seq] && e.Attr(trace.KeyAct) != "" {
			seen[e.Seq] = true
			list = append(list, e.Kind.String()+" "+e.BAL+" "+e.Attr(trace.KeyAct))
		}
		if !strings.HasPrefix(e.Person, "unix:") {
			t.Errorf("event %+v names nobody", e)
		}
		if s := e.Line(); strings.Contains(s, "amoxicilline") || strings.Contains(s, "Quatrepommes") {
			t.Errorf("the trace names a subject: %s", s)
		}
	}
	return list
}

func TestDeletedAndUndelete(t *testing.T) {
	h := open(t)
	h.addBAL(t, addr)
	in := h.mail(t, "INBOX", "Subject: =?utf-8?q?amoxicilline_=C3=A9t=C3=A9?=\r\n pour\tM. Quatrepommes\r\nFrom: a@b.example\r\n\r\nx\r\n", store.Deleted|store.Seen)
	h.mail(t, "INBOX", "From: a@b.example\r\n\r\nno subject\r\n", store.Deleted)
	sent := h.mail(t, "Sent", "Subject: \x01bell\xff\r\n\r\ny\r\n", store.Deleted)
	for range 3 {
		h.mail(t, "INBOX", "Subject: z\r\n\r\nz\r\n", store.Deleted)
	}
	if p, err := h.Deleted(t.Context(), addr, "", false); err != nil || len(p.Messages) != 0 {
		t.Errorf("before anything was expunged: %+v, %v", p, err)
	}
	h.expungeAll(t, in)
	h.expungeAll(t, sent)
	p, err := h.Deleted(t.Context(), addr, "", false)
	if err != nil || len(p.Messages) != 6 || p.Next != "" || p.Messages[0].Mailbox != "INBOX" || p.Messages[5].Mailbox != "Sent" {
		t.Fatalf("%+v, %v", p, err)
	}
	for _, d := range p.Messages {
		if d.Subject != "" || d.Size == 0 || time.Since(d.At) > time.Hour {
			t.Errorf("listed without subjects: %+v", d)
		}
	}
	b, err := h.BAL(t.Context(), addr)
	if err != nil || b.Deleted == nil || b.Deleted.Messages != 6 || b.Messages != 0 {
		t.Errorf("shown %+v, %v", b, err)
	}
	withSubjects, err := h.Deleted(t.Context(), addr, "", true)
	var subjects []string
	for _, d := range withSubjects.Messages {
		subjects = append(subjects, d.Subject)
	}
	if want := []string{"amoxicilline été pour M. Quatrepommes", "", "z", "z", "z", "?bell?"}; err != nil || !slices.Equal(subjects, want) {
		t.Errorf("subjects %q, %v; want %q", subjects, err, want)
	}
	if next, err := h.Deleted(t.Context(), addr, p.Messages[3].ID, false); err != nil || len(next.Messages) != 2 {
		t.Errorf("after the fourth: %+v, %v", next, err)
	}

	long := time.Now().Add(-time.Hour)
	soon := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name string
		ask  Undelete
		want Undeleted
	}{
		{"by id, one known, one not", Undelete{IDs: []string{p.Messages[0].ID, "1.2.3"}}, Undeleted{Messages: 1, Gone: 1, Into: []UndeletedInto{{"INBOX", 1}}}},
		{"the same again", Undelete{IDs: []string{p.Messages[0].ID}}, Undeleted{Gone: 1, Into: []UndeletedInto{}}},
		{"since later", Undelete{Since: &soon}, Undeleted{Into: []UndeletedInto{}}},
		{"of a mailbox that lost nothing", Undelete{All: true, Mailbox: "Trash"}, Undeleted{Into: []UndeletedInto{}}},
		{"of one mailbox, since", Undelete{Since: &long, Mailbox: "Sent", To: "Retour/Juin"}, Undeleted{Messages: 1, Into: []UndeletedInto{{"Retour/Juin", 1}}}},
		{"all", Undelete{All: true, Mailbox: "inbox"}, Undeleted{Messages: 4, Into: []UndeletedInto{{"INBOX", 4}}}},
		{"nothing left", Undelete{All: true}, Undeleted{Into: []UndeletedInto{}}},
	} {
		c.want.Address = addr
		got, err := h.Undelete(t.Context(), addr, c.ask)
		if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", c.want) {
			t.Errorf("%s: got %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
	acts := h.acts(t)
	for _, want := range []string{"admin " + addr + " bal deleted", "admin " + addr + " bal deleted with subjects", "recovered " + addr + " bal undelete"} {
		if !slices.Contains(acts, want) {
			t.Errorf("the trace has no %q:\n%s", want, strings.Join(acts, "\n"))
		}
	}
	if s := h.log.String(); strings.Contains(s, "Quatrepommes") || strings.Contains(s, "amoxicilline") {
		t.Errorf("the log names a subject:\n%s", s)
	}
}

func TestHoldRetentionQuota(t *testing.T) {
	h := open(t)
	h.addBAL(t, addr)
	b, err := h.Hold(t.Context(), addr, "ordonnance du tribunal 26/123")
	if err != nil || b.HeldSince == nil || time.Since(*b.HeldSince) > time.Hour {
		t.Errorf("held: %+v, %v", b, err)
	}
	if list, err := h.BALs(t.Context()); err != nil || list[0].HeldSince == nil {
		t.Errorf("the list does not say so: %+v, %v", list, err)
	}
	if b, err = h.Release(t.Context(), addr); err != nil || b.HeldSince != nil {
		t.Errorf("released: %+v, %v", b, err)
	}
	retention := func(r SetRetention) string {
		b, err := h.SetRetention(t.Context(), addr, r)
		if err != nil {
			return err.Error()
		}
		i := slices.IndexFunc(b.Mailboxes, func(m Mailbox) bool { return m.Name == "INBOX" })
		return fmt.Sprint(b.Mailboxes[i].RetentionDays, b.Mailboxes[i].RetentionDefault)
	}
	for _, c := range []struct {
		ask  SetRetention
		want string
	}{
		{SetRetention{Mailbox: "inbox", Days: 30}, "30 false"}, {SetRetention{Mailbox: "INBOX", None: true}, "0 false"},
		{SetRetention{Mailbox: "INBOX", Default: true}, "0 true"},
	} {
		if got := retention(c.ask); got != c.want {
			t.Errorf("%+v: %s, want %s", c.ask, got, c.want)
		}
	}
	n, m := int64(5<<20), int64(7)
	if b, err := h.SetQuota(t.Context(), addr, SetQuota{Octets: &n}); err != nil || b.QuotaOctets != n || b.QuotaMessages != 0 {
		t.Errorf("quota: %+v, %v", b, err)
	}
	if b, err := h.SetQuota(t.Context(), addr, SetQuota{Messages: &m}); err != nil || b.QuotaOctets != n || b.QuotaMessages != m {
		t.Errorf("quota: %+v, %v", b, err)
	}
	if done, err := h.Sweep(t.Context(), false); err != nil || done.Waits != "" {
		t.Errorf("sweep: %+v, %v", done, err)
	}
	acts := h.acts(t)
	for _, want := range []string{"bal " + addr + " bal hold", "bal " + addr + " bal release", "bal " + addr + " bal retention", "bal " + addr + " bal quota", "admin  sweep"} {
		if !slices.Contains(acts, want) {
			t.Errorf("the trace has no %q:\n%s", want, strings.Join(acts, "\n"))
		}
	}
	events, _ := h.store.Trace(t.Context(), 0)
	if !slices.ContainsFunc(events, func(e trace.Event) bool { return e.Attr(trace.KeyReason) == "ordonnance du tribunal 26/123" }) {
		t.Error("the reason of the hold does not stand in the trace")
	}
}

// TestClockWarning: a clock that jumped is said by sweep and health, until the operator says that it is right.
func TestClockWarning(t *testing.T) {
	var years atomic.Int64
	st, err := store.Open(store.Options{Dir: filepath.Join(t.TempDir(), "data"), Create: true, NoSync: true, Now: func() time.Time { return time.Now().AddDate(int(years.Load()), 0, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	h := open(t, func(s *Server) { s.Store = st })
	h.store = st
	h.addBAL(t, addr)
	in := h.mail(t, "INBOX", "Subject: x\r\n\r\nx\r\n", store.Deleted)
	h.expungeAll(t, in)
	for _, c := range []struct {
		years  int64
		trust  bool
		waits  bool
		purged int
	}{{0, false, false, 0}, {10, false, true, 0}, {10, false, true, 0}, {10, true, false, 1}, {10, false, false, 0}} {
		years.Store(c.years)
		done, err := h.Sweep(t.Context(), c.trust)
		health, herr := h.Health(t.Context())
		if err != nil || herr != nil || (done.Waits != "") != c.waits || len(health.Warnings) > 0 != c.waits || done.Purged != c.purged {
			t.Errorf("%+v: %+v, %v; health %+v, %v", c, done, err, health.Warnings, herr)
		}
		if c.waits && (!strings.Contains(done.Waits, "24h0m0s") || health.Warnings[0] != done.Waits && !strings.Contains(health.Warnings[0], "--trust-clock")) {
			t.Errorf("it says %q, health %q", done.Waits, health.Warnings)
		}
	}
}

func TestRetentionRefusals(t *testing.T) {
	h := open(t)
	h.addBAL(t, addr)
	ctx := t.Context()
	minus, nobody := int64(-1), "nobody@officines.example"
	now := time.Now()
	for name, c := range map[string]struct {
		do     func() error
		status int
		text   string
	}{
		"deleted of no BAL":    {func() error { _, err := h.Deleted(ctx, nobody, "", false); return err }, 404, "no such BAL"},
		"deleted after no id":  {func() error { _, err := h.Deleted(ctx, addr, "x", false); return err }, 400, "three numbers"},
		"undelete of no BAL":   {func() error { _, err := h.Undelete(ctx, nobody, Undelete{All: true}); return err }, 404, "no such BAL"},
		"undelete of nothing":  {func() error { _, err := h.Undelete(ctx, addr, Undelete{}); return err }, 400, "expected one of them"},
		"undelete of two":      {func() error { _, err := h.Undelete(ctx, addr, Undelete{All: true, Since: &now}); return err }, 400, "expected one of them"},
		"undelete of a bad id": {func() error { _, err := h.Undelete(ctx, addr, Undelete{IDs: []string{"1.2"}}); return err }, 400, "three numbers"},
		"undelete of ids of a box": {func() error {
			_, err := h.Undelete(ctx, addr, Undelete{IDs: []string{"1.2.3"}, Mailbox: "Sent"})
			return err
		}, 400, "say enough"},
		"hold of no BAL":            {func() error { _, err := h.Hold(ctx, nobody, "x"); return err }, 404, "no such BAL"},
		"hold without a reason":     {func() error { _, err := h.Hold(ctx, addr, " "); return err }, 400, "0 octets"},
		"hold with a long reason":   {func() error { _, err := h.Hold(ctx, addr, strings.Repeat("x", 201)); return err }, 400, "201 octets"},
		"hold with two lines":       {func() error { _, err := h.Hold(ctx, addr, "a\nb"); return err }, 400, "control character"},
		"hold with a patient's INS": {func() error { _, err := h.Hold(ctx, addr, "dossier 2 99 01 75 123 456 78"); return err }, 400, "as long as that of a patient"},
		"release of no BAL":         {func() error { _, err := h.Release(ctx, nobody); return err }, 404, "no such BAL"},
		"release of one not held":   {func() error { _, err := h.Release(ctx, addr); return err }, 409, "under no legal hold"},
		"retention of no BAL": {func() error {
			_, err := h.SetRetention(ctx, nobody, SetRetention{Mailbox: "INBOX", Days: 1})
			return err
		}, 404, "no such BAL"},
		"retention of no mailbox": {func() error { _, err := h.SetRetention(ctx, addr, SetRetention{Mailbox: "Nope", Days: 1}); return err }, 404, "no such mailbox"},
		"retention of nothing":    {func() error { _, err := h.SetRetention(ctx, addr, SetRetention{Mailbox: "INBOX"}); return err }, 400, "no retention"},
		"retention of too many days": {func() error {
			_, err := h.SetRetention(ctx, addr, SetRetention{Mailbox: "INBOX", Days: 36501})
			return err
		}, 400, "no retention"},
		"retention before today": {func() error {
			_, err := h.SetRetention(ctx, addr, SetRetention{Mailbox: "INBOX", Days: -1})
			return err
		}, 400, "no retention"},
		"retention twice": {func() error {
			_, err := h.SetRetention(ctx, addr, SetRetention{Mailbox: "INBOX", Days: 3, None: true})
			return err
		}, 400, "no retention"},
		"quota of no BAL":     {func() error { _, err := h.SetQuota(ctx, nobody, SetQuota{Octets: new(int64)}); return err }, 404, "no such BAL"},
		"quota of nothing":    {func() error { _, err := h.SetQuota(ctx, addr, SetQuota{}); return err }, 400, "no quota"},
		"quota below nothing": {func() error { _, err := h.SetQuota(ctx, addr, SetQuota{Messages: &minus}); return err }, 400, "a quota of -1"},
	} {
		t.Run(name, func(t *testing.T) {
			var p *Problem
			err := c.do()
			if !errors.As(err, &p) || p.Status != c.status || !strings.Contains(p.Text, c.text) {
				t.Errorf("got %v; want status %d with %q", err, c.status, c.text)
			}
		})
	}
	if b, err := h.store.BAL(addr); err != nil || b.Held() || b.QuotaOctets != 0 {
		t.Errorf("a refusal changed the BAL: %+v, %v", b, err)
	}
	if p := problem(fmt.Errorf("x: %w", store.ErrHeld)); p.Status != http.StatusConflict {
		t.Errorf("ErrHeld: %+v", p)
	}
}
