package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

const (
	there = "pharmacie@example.test"
	here  = "cabinet@example.test"
)

var letterDate = time.Date(2025, 4, 3, 2, 1, 0, 0, time.UTC)

// letter is an invented message.
func letter(n int) string {
	return fmt.Sprintf("From: <a@example.test>\r\nMessage-ID: <%d@example.test>\r\nSubject: Ordonnance %d\r\n\r\nBonjour %d\r\n", n, n, n)
}

type item struct {
	mailbox, raw    string
	flags, keywords []string
	date            time.Time
}

// put imports items into a BAL, as the command does, and yields the answers.
func (h *house) put(t *testing.T, address string, head TransferHead, items ...item) (TransferEnd, []TransferAnswer, error) {
	t.Helper()
	answers := make(chan TransferAnswer, len(items))
	im, err := h.ImportBAL(t.Context(), address, head, func(_ int64, a TransferAnswer) { answers <- a })
	if err != nil {
		return TransferEnd{}, nil, err
	}
	seen := map[string]bool{}
	for _, it := range items {
		if !seen[it.mailbox] {
			seen[it.mailbox] = true
			if err = im.Mailbox(TransferMailbox{Name: it.mailbox, Subscribed: true}); err != nil {
				break
			}
		}
		m := TransferMessage{Mailbox: it.mailbox, Flags: it.flags, Keywords: it.keywords, Date: it.date}
		if err = im.Message(m, strings.NewReader(it.raw), error.Error); err != nil {
			break
		}
	}
	var end TransferEnd
	if err == nil {
		end, err = im.End()
	}
	close(answers)
	var list []TransferAnswer
	for a := range answers {
		list = append(list, a)
	}
	return end, list, err
}

// get exports a BAL; damaged ones have the word for it as their octets.
func (h *house) get(t *testing.T, address string) ([]item, TransferEnd) {
	t.Helper()
	var items []item
	end, err := h.ExportBAL(t.Context(), address, Export{
		Head:    func(TransferHead) error { return nil },
		Mailbox: func(TransferMailbox) error { return nil },
		Message: func(m TransferMessage, body io.Reader, hash func() string) error {
			raw, err := io.ReadAll(body)
			if errors.Is(err, ErrDamaged) {
				raw = []byte("damaged")
			} else if err != nil {
				return err
			} else if int64(len(raw)) != m.Size || len(hash()) != 64 {
				t.Errorf("%d octets came, %d were told, hash %q", len(raw), m.Size, hash())
			}
			items = append(items, item{m.Mailbox, string(raw), m.Flags, m.Keywords, m.Date})
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return items, end
}

func (h *house) addTwo(t *testing.T) {
	t.Helper()
	h.addBAL(t, there)
	h.addBAL(t, here)
}

func TestTransferThereAndBack(t *testing.T) {
	h := open(t)
	h.addTwo(t)
	var sent []item
	for i := range 30 {
		sent = append(sent, item{"INBOX", letter(i), []string{`\Seen`, `\Flagged`}, []string{"$Forwarded", "urgent"}, letterDate.Add(time.Duration(i) * time.Hour)})
	}
	sent = append(sent, item{"Patients/Été 2025", letter(3), nil, nil, letterDate}, item{"Patients/Été 2025", letter(3), nil, nil, letterDate})
	end, answers, err := h.put(t, there, TransferHead{Messages: 32}, sent...)
	if err != nil || end.Messages != 32 || len(answers) != 32 {
		t.Fatalf("%+v %d %v", end, len(answers), err)
	}
	got, _ := h.get(t, there)
	if fmt.Sprint(got) != fmt.Sprint(sent) { // in this order: UIDs follow the stream
		t.Errorf("exported:\n%v\nimported:\n%v", got, sent)
	}
	// The export of one BAL is the import of another.
	if end, _, err := h.put(t, here, TransferHead{}, got...); err != nil || end.Messages != 32 {
		t.Fatalf("%+v %v", end, err)
	}
	if again, _ := h.get(t, here); fmt.Sprint(again) != fmt.Sprint(sent) {
		t.Errorf("second BAL:\n%v", again)
	}
}

// What Deliver puts before a body is part of the message.
func TestExportHasThePrefix(t *testing.T) {
	h := open(t)
	h.addBAL(t, there)
	b, err := h.store.BAL(there)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Deliver(t, h.store, b.ID, letter(1))
	got, _ := h.get(t, there)
	if len(got) != 1 || got[0].raw != "Return-Path: <>\r\n"+letter(1) {
		t.Errorf("got %v", got)
	}
}

func TestImportAgainStoresNothingTwice(t *testing.T) {
	h := open(t)
	h.addBAL(t, there)
	items := []item{{"INBOX", letter(1), nil, nil, letterDate}, {"INBOX", letter(1), nil, nil, letterDate},
		{"INBOX", letter(2), nil, nil, letterDate}, {"Sent", letter(1), nil, nil, letterDate}, {"INBOX", letter(3), nil, nil, time.Time{}}}
	if end, _, err := h.put(t, there, TransferHead{}, items[:1]...); err != nil || end.Messages != 1 {
		t.Fatal(end, err)
	}
	// The same letter twice in the source is there twice, the one that is there counts as one of them.
	end, answers, err := h.put(t, there, TransferHead{}, items...)
	if err != nil || end.Messages != 4 || end.Present != 1 || answers[0].Outcome != TransferPresent || answers[1].Outcome != TransferStored {
		t.Fatalf("%+v %v %v", end, answers, err)
	}
	end, _, err = h.put(t, there, TransferHead{}, items...)
	if err != nil || end.Messages != 0 || end.Present != 5 {
		t.Fatalf("%+v %v", end, err)
	}
	items[0].date = letterDate.Add(time.Second)
	items[1].raw = letter(7)
	if end, _, err := h.put(t, there, TransferHead{}, items[:2]...); err != nil || end.Messages != 2 {
		t.Errorf("another date and another text are other messages: %+v %v", end, err)
	}
}

func TestImportRefusals(t *testing.T) {
	h := open(t, func(s *Server) { s.MaxImport = 1000 })
	h.addBAL(t, there)
	end, answers, err := h.put(t, there, TransferHead{},
		item{"INBOX", letter(1), nil, nil, letterDate},
		item{"INBOX", "", nil, nil, letterDate},
		item{"INBOX", "Subject: a\x00b\r\n\r\n", nil, nil, letterDate},
		item{"INBOX", letter(1) + strings.Repeat("x", 1000), nil, nil, letterDate},
		item{"INBOX", letter(2), []string{`\Nonsense`}, []string{"no atom"}, letterDate},
		item{"INBOX", letter(3), []string{`\Seen`}, nil, letterDate})
	if err != nil || end.Messages != 3 || end.Refused != 3 {
		t.Fatalf("%+v %v %v", end, answers, err)
	}
	for i, want := range []string{"", "no octets", "NUL", "larger than 1000", "without its keywords", ""} {
		if !strings.Contains(answers[i].Reason, want) || want == "" && answers[i].Outcome != TransferStored {
			t.Errorf("message %d: %+v, want %q", i, answers[i], want)
		}
	}
	if got, _ := h.get(t, there); len(got) != 3 {
		t.Errorf("stored %v", got)
	}
}

func TestImportStopsAtTheQuota(t *testing.T) {
	h := open(t)
	_, err := h.AddBAL(t.Context(), NewBAL{Address: there, Kind: "ORG", QuotaMessages: 3})
	if err != nil {
		t.Fatal(err)
	}
	var items []item
	for i := range 200 {
		items = append(items, item{"INBOX", letter(i), nil, []string{"a"}, letterDate})
	}
	_, _, err = h.put(t, there, TransferHead{}, items...)
	var p *Problem
	if !errors.As(err, &p) || !strings.Contains(p.Error(), "quota") || !strings.Contains(p.Error(), "--over-quota") {
		t.Fatalf("got %v", err)
	}
	if got, _ := h.get(t, there); len(got) != 3 {
		t.Errorf("%d messages in a BAL for 3", len(got))
	}
	end, _, err := h.put(t, there, TransferHead{OverQuota: true}, items...)
	if err != nil || end.Messages != 197 || end.Present != 3 {
		t.Errorf("over quota: %+v %v", end, err)
	}
}

func TestImportInto(t *testing.T) {
	h := open(t)
	h.addBAL(t, there)
	if _, _, err := h.put(t, there, TransferHead{Into: "Ancien"}, item{"INBOX", letter(1), nil, nil, letterDate}); err != nil {
		t.Fatal(err)
	}
	got, _ := h.get(t, there)
	if len(got) != 1 || got[0].mailbox != "Ancien/INBOX" {
		t.Errorf("got %v", got)
	}
	var p *Problem
	if _, _, err := h.put(t, there, TransferHead{Into: "/"}, item{"INBOX", letter(1), nil, nil, letterDate}); !errors.As(err, &p) || p.Status != 400 {
		t.Errorf("a prefix that is no name: %v", err)
	}
}

func TestImportRefusesClosedAndUnknown(t *testing.T) {
	h := open(t)
	h.addBAL(t, there)
	var p *Problem
	if _, _, err := h.put(t, here, TransferHead{}); !errors.As(err, &p) || p.Status != 404 {
		t.Errorf("unknown: %v", err)
	}
	if _, err := h.store.Commit(t.Context(), &store.Batch{Ops: []store.Op{store.SetBALState{Address: there, State: store.Closed}}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.put(t, there, TransferHead{}); !errors.As(err, &p) || p.Status != 409 {
		t.Errorf("closed: %v", err)
	}
	if _, end := h.get(t, there); end.Damaged != 0 {
		t.Error("a closed BAL cannot be exported")
	}
}

// A command that goes away in the middle of a message leaves what was whole, and the next one goes on.
func TestImportBrokenOff(t *testing.T) {
	h := open(t)
	h.addBAL(t, there)
	ctx, cancel := context.WithCancel(t.Context())
	im, err := h.ImportBAL(ctx, there, TransferHead{}, func(int64, TransferAnswer) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := im.Mailbox(TransferMailbox{Name: "INBOX"}); err != nil {
		t.Fatal(err)
	}
	if err := im.Message(TransferMessage{Mailbox: "INBOX", Date: letterDate}, strings.NewReader(letter(1)), error.Error); err != nil {
		t.Fatal(err)
	}
	broken := io.MultiReader(strings.NewReader(letter(2)), strings.NewReader(strings.Repeat("x", 200<<10)), cancelling{cancel})
	if err := im.Message(TransferMessage{Mailbox: "INBOX", Date: letterDate}, broken, error.Error); err == nil {
		_, err = im.End()
		if err == nil {
			t.Fatal("the import went through")
		}
	}
	items := []item{{"INBOX", letter(1), nil, nil, letterDate}, {"INBOX", letter(2), nil, nil, letterDate}}
	var end TransferEnd
	for { // the former one may take a moment to notice
		var p *Problem
		end, _, err = h.put(t, there, TransferHead{}, items...)
		if !errors.As(err, &p) || p.Status != 409 {
			break
		}
	}
	if err != nil || end.Messages+end.Present != 2 {
		t.Fatalf("%+v %v", end, err)
	}
	if got, _ := h.get(t, there); len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

type cancelling struct{ cancel func() }

func (c cancelling) Read([]byte) (int, error) {
	c.cancel()
	return 0, context.Canceled
}

func TestTransfersAreOnRecord(t *testing.T) {
	h := open(t)
	h.addBAL(t, there)
	if _, _, err := h.put(t, there, TransferHead{}, item{"INBOX", letter(1), nil, nil, letterDate}); err != nil {
		t.Fatal(err)
	}
	h.get(t, there)
	ids, err := h.store.TraceByMessageID(t.Context(), "<1@example.test>")
	if err != nil || len(ids) != 1 {
		t.Fatal(ids, err)
	}
	events, err := h.store.Trace(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(events, func(e trace.Event) bool { return e.Kind == trace.Appended })
	if i < 0 || events[i].Person != Person(0) && !strings.HasPrefix(events[i].Person, "unix:") || events[i].Attr(trace.KeyAct) != "bal import" {
		t.Errorf("the message does not say who imported it: %v", events)
	}
	if s := h.log.String(); strings.Contains(s, "Ordonnance") || strings.Contains(s, "Bonjour") {
		t.Errorf("content in the log: %s", s)
	}
}

func TestFramesAreBounded(t *testing.T) {
	for name, row := range map[string]string{
		"too long":  "M\x00\x01\x00\x01x",
		"huge":      "M\xff\xff\xff\xffx",
		"cut":       "M\x00\x00\x00\x09{}",
		"no length": "M\x00",
		"nothing":   "",
	} {
		if _, _, err := newFrameReader(strings.NewReader(row)).next(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A daemon that dies before its first word is noticed.
func TestImportIntoADyingDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if c, err := l.Accept(); err == nil {
			_, _ = c.Read(make([]byte, 16))
			c.Close()
		}
	}()
	c := &Client{Socket: socket}
	if _, err := c.ImportBAL(t.Context(), there, TransferHead{}, func(int64, TransferAnswer) {}); err == nil {
		t.Error("no error")
	}
	<-gone
	l.Close()
}

// The end of an import must not let a third one in beside the second: each would store what the other does.
func TestImportsOfOneBALStayApart(t *testing.T) {
	h := open(t)
	h.addTwo(t)
	// The first is refused in mid-stream, and lingers: its handler waits for the rest of the request.
	body, rest := io.Pipe()
	defer rest.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, mailURL(there), body)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = rest.Write([]byte{'?', 0, 0, 0, 0}) }()
	first, err := h.send(req)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Body.Close()
	if kind, _, err := newFrameReader(first.Body).next(); err != nil || kind != frameProblem {
		t.Fatalf("%c %v, expected a problem", kind, err)
	}
	second, err := h.ImportBAL(t.Context(), there, TransferHead{}, func(int64, TransferAnswer) {})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Abort(errors.New("enough"))
	rest.Close() // now the first handler returns
	if _, err := io.Copy(io.Discard, first.Body); err != nil {
		t.Fatal(err)
	}
	_, err = h.ImportBAL(t.Context(), there, TransferHead{}, func(int64, TransferAnswer) {})
	if err == nil || !strings.Contains(err.Error(), "is running") {
		t.Errorf("a third import: %v, expected a refusal", err)
	}
}
