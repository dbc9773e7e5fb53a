package admin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"mssd/message"
	"mssd/store"
	"mssd/trace"
)

const (
	maxReason   = 200  // octets of the reason of a hold
	deletedPage = 1000 // messages in one answer
)

// balEvent is the trace of an act on one BAL.
func balEvent(r *http.Request, kind trace.Kind, act string, b store.BAL, attrs ...trace.Attr) trace.Event {
	ev := event(r, kind, act, attrs...)
	ev.BAL = string(b.Address)
	return ev
}

// deleted lists one page of what was expunged and can come back. A subject says who the patient is, so it is only told
// when it is asked for, and the trace says so.
func (s *Server) deleted(r *http.Request) (any, error) {
	b, err := s.Store.BAL(address(r.PathValue("address")))
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	var after store.ExpungedID
	if a := q.Get("after"); a != "" {
		if after, err = store.ParseExpungedID(a); err != nil {
			return nil, badRequest("%v", err)
		}
	}
	subjects := q.Get("subjects") == "true"
	act := "bal deleted"
	if subjects {
		act = "bal deleted with subjects"
	}
	if after.At.IsZero() || subjects {
		s.Store.Record(balEvent(r, trace.Admin, act, b))
	}
	page, err := s.Store.Expunged(r.Context(), b.ID, after, deletedPage)
	if err != nil {
		return nil, err
	}
	doc := DeletedPage{Messages: []Deleted{}}
	for _, e := range page {
		d := Deleted{ID: e.String(), At: e.At, Mailbox: e.Name, Date: e.Date, SaveDate: e.SaveDate, Size: e.Size}
		if subjects {
			d.Subject = s.subject(b.ID, e.Message)
		}
		doc.Messages = append(doc.Messages, d)
		doc.Next = d.ID
	}
	if len(page) < deletedPage {
		doc.Next = ""
	}
	return doc, nil
}

// subject reads the subject of a message, at most 200 characters, "" where there is none or it cannot be read.
func (s *Server) subject(bal store.BALID, id store.MessageID) string {
	c, err := s.Store.OpenMessage(bal, id)
	if err != nil {
		return ""
	}
	defer c.Close()
	head := make([]byte, min(c.Size(), 64<<10))
	if _, err := c.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	if end := bytes.Index(head, []byte("\r\n\r\n")); end >= 0 {
		head = head[:end+4]
	}
	_, text, _ := strings.Cut(string(message.SelectFields(head, []string{"Subject"}, false)), ":")
	text = strings.Join(strings.Fields(text), " ")
	if plain, err := new(mime.WordDecoder).DecodeHeader(text); err == nil {
		text = plain
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, text)
	if r := []rune(text); len(r) > 200 {
		text = string(r[:200])
	}
	return text
}

// undelete brings expunged messages back, a thousand in a commit: when it breaks off, those before are back, and the
// same request again does the rest.
func (s *Server) undelete(r *http.Request) (any, error) {
	var req Undelete
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	b, err := s.Store.BAL(address(r.PathValue("address")))
	if err != nil {
		return nil, err
	}
	if n := boolCount(len(req.IDs) > 0, req.Since != nil, req.All); n != 1 {
		return nil, badRequest("%d of ids, since and all are given; expected one of them", n)
	}
	u := undeleting{s: s, r: r, bal: b, to: req.To, counts: map[store.Ref]int{}}
	if len(req.IDs) > 0 {
		err = u.byID(req)
	} else {
		err = u.byTime(req)
	}
	if err != nil {
		return nil, err
	}
	return u.answer(), nil
}

func boolCount(list ...bool) (n int) {
	for _, b := range list {
		if b {
			n++
		}
	}
	return n
}

type undeleting struct {
	s      *Server
	r      *http.Request
	bal    store.BAL
	to     string
	counts map[store.Ref]int
	asked  int
}

func (u *undeleting) byID(req Undelete) error {
	if req.Mailbox != "" {
		return badRequest("a mailbox together with ids; the ids say enough")
	}
	var which []store.ExpungedID
	for _, text := range req.IDs {
		id, err := store.ParseExpungedID(text)
		if err != nil {
			return badRequest("%v (mssd bal deleted lists them)", err)
		}
		which = append(which, id)
	}
	for part := range slices.Chunk(which, deletedPage) {
		if err := u.commit(part); err != nil {
			return err
		}
	}
	return nil
}

// byTime goes through what was expunged since a moment, up to now: what is expunged meanwhile is left alone.
func (u *undeleting) byTime(req Undelete) error {
	var after store.ExpungedID
	if req.Since != nil {
		after.At = req.Since.UTC().Truncate(time.Second) // before each id of that second
	}
	until := u.s.Now()
	for {
		page, err := u.s.Store.Expunged(u.r.Context(), u.bal.ID, after, deletedPage)
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1].ExpungedID
		var which []store.ExpungedID
		for _, e := range page {
			if e.At.After(until) {
				continue
			}
			if req.Mailbox == "" || u.was(e, req.Mailbox) {
				which = append(which, e.ExpungedID)
			}
		}
		if err := u.commit(which); err != nil {
			return err
		}
	}
}

// was reports whether a message was in the mailbox of that name, then or now.
func (u *undeleting) was(e store.Expunged, name string) bool {
	if same := strings.EqualFold(name, "INBOX") && e.Name == "INBOX"; same || e.Name == name {
		return true
	}
	m, err := u.s.Store.MailboxByRef(store.Ref{BAL: u.bal.ID, Mailbox: e.Mailbox})
	return err == nil && m.Name == name
}

func (u *undeleting) commit(which []store.ExpungedID) error {
	if len(which) == 0 {
		return nil
	}
	u.asked += len(which)
	op := store.Undelete{BAL: u.bal.ID, Which: which, To: u.to, Event: balEvent(u.r, trace.Recovered, "bal undelete", u.bal)}
	res, err := u.s.Store.Commit(u.r.Context(), &store.Batch{Ops: []store.Op{op}})
	if err != nil {
		return err
	}
	for _, back := range res.Ops[0].Undeleted {
		u.counts[back.To]++
	}
	return nil
}

func (u *undeleting) answer() Undeleted {
	doc := Undeleted{Address: string(u.bal.Address), Into: []UndeletedInto{}}
	for ref, n := range u.counts {
		into := UndeletedInto{Messages: n}
		if m, err := u.s.Store.MailboxByRef(ref); err == nil {
			into.Mailbox = m.Name
		}
		doc.Messages += n
		doc.Into = append(doc.Into, into)
	}
	slices.SortFunc(doc.Into, func(a, b UndeletedInto) int { return strings.Compare(a.Mailbox, b.Mailbox) })
	doc.Gone = u.asked - doc.Messages
	return doc
}

// hold begins a legal hold. The reason stands in the trace for good: it names an order, never a patient.
func (s *Server) hold(r *http.Request) (any, error) {
	var req Hold
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	req.Reason = strings.TrimSpace(req.Reason)
	if err := checkReason(req.Reason); err != nil {
		return nil, err
	}
	b, err := s.Store.BAL(address(r.PathValue("address")))
	if err != nil {
		return nil, err
	}
	return s.setHold(r, b, true, balEvent(r, trace.BAL, "bal hold", b, trace.Attr{Key: trace.KeyReason, Value: req.Reason}))
}

func (s *Server) release(r *http.Request) (any, error) {
	b, err := s.Store.BAL(address(r.PathValue("address")))
	if err != nil {
		return nil, err
	}
	if !b.Held() {
		return nil, &Problem{http.StatusConflict, fmt.Sprintf("%s is under no legal hold", b.Address), "mssd bal list says which BALs are"}
	}
	return s.setHold(r, b, false, balEvent(r, trace.BAL, "bal release", b))
}

func (s *Server) setHold(r *http.Request, b store.BAL, on bool, ev trace.Event) (any, error) {
	_, err := s.Store.Commit(r.Context(), &store.Batch{Ops: []store.Op{store.SetHold{Address: b.Address, On: on}}, Events: []trace.Event{ev}})
	if err != nil {
		return nil, err
	}
	if b, err = s.Store.BAL(b.Address); err != nil {
		return nil, err
	}
	return s.bal(b), nil
}

// checkReason holds a reason to a line that names no patient by number.
func checkReason(reason string) error {
	digits := 0
	for _, r := range reason {
		switch {
		case unicode.IsControl(r):
			return badRequest("the reason holds a control character; expected one line of text")
		case unicode.IsDigit(r):
			if digits++; digits >= 13 {
				return badRequest("the reason holds a number as long as that of a patient; it would stand in the trace in clear: name the order or the file instead")
			}
		case r != ' ':
			digits = 0
		}
	}
	if reason == "" || len(reason) > maxReason || !utf8.ValidString(reason) {
		return badRequest("the reason has %d octets; expected a line of text of at most %d, naming the order or the file and no patient", len(reason), maxReason)
	}
	return nil
}

// retention sets after how long the messages of a mailbox are expunged. The name of a mailbox may be that of a patient:
// the trace has its number.
func (s *Server) retention(r *http.Request) (any, error) {
	var req SetRetention
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if n := boolCount(req.Days > 0, req.None, req.Default); n != 1 || req.Days < 0 || req.Days > store.MaxRetention {
		return nil, badRequest("no retention; expected 1 to %d days, none, or default", store.MaxRetention)
	}
	b, err := s.Store.BAL(address(r.PathValue("address")))
	if err != nil {
		return nil, err
	}
	m, err := s.Store.Mailbox(b.ID, req.Mailbox)
	if err != nil {
		return nil, err
	}
	days, text := uint32(req.Days), strconv.Itoa(req.Days)+" days"
	switch {
	case req.None:
		days, text = store.Never, "none"
	case req.Default:
		days, text = 0, "default"
	}
	ev := balEvent(r, trace.BAL, "bal retention", b, trace.Attr{Key: trace.KeyNote, Value: text})
	ev.Mailbox = uint32(m.Ref.Mailbox)
	ev.UIDs = "" // no message is touched
	_, err = s.Store.Commit(r.Context(), &store.Batch{Ops: []store.Op{store.SetRetention{Ref: m.Ref, Days: days}}, Events: []trace.Event{ev}})
	if err != nil {
		return nil, err
	}
	if b, err = s.Store.BAL(b.Address); err != nil {
		return nil, err
	}
	return s.wholeBAL(b)
}

// mailbox describes a mailbox with the retention in force.
func (s *Server) mailbox(m store.Mailbox) Mailbox {
	doc := Mailbox{Name: m.Name, Messages: m.Messages, Unseen: m.Unseen, Octets: m.Octets, RetentionDays: m.RetentionDays}
	switch m.RetentionDays {
	case 0:
		doc.RetentionDays, doc.RetentionDefault = s.Store.DefaultRetention(m.SpecialUse), true
	case store.Never:
		doc.RetentionDays = 0
	}
	return doc
}

// quota sets the limits of a BAL; what is not given stays as it is.
func (s *Server) quota(r *http.Request) (any, error) {
	var req SetQuota
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	for _, n := range []*int64{req.Octets, req.Messages} {
		if n != nil && *n < 0 {
			return nil, badRequest("a quota of %d; expected 0 (no limit) or more", *n)
		}
	}
	if req.Octets == nil && req.Messages == nil {
		return nil, badRequest("no quota is given; expected octets, messages or both")
	}
	b, err := s.Store.BAL(address(r.PathValue("address")))
	if err != nil {
		return nil, err
	}
	ev := balEvent(r, trace.BAL, "bal quota", b, trace.Attr{Key: trace.KeyNote, Value: quotaNote(req)})
	_, err = s.Store.Commit(r.Context(), &store.Batch{Ops: []store.Op{store.SetQuota{Address: b.Address, Octets: req.Octets, Messages: req.Messages}}, Events: []trace.Event{ev}})
	if err != nil {
		return nil, err
	}
	if b, err = s.Store.BAL(b.Address); err != nil {
		return nil, err
	}
	return s.bal(b), nil
}

func quotaNote(req SetQuota) string {
	var parts []string
	if req.Octets != nil {
		parts = append(parts, fmt.Sprintf("%d octets", *req.Octets))
	}
	if req.Messages != nil {
		parts = append(parts, fmt.Sprintf("%d messages", *req.Messages))
	}
	return strings.Join(parts, ", ")
}

// sweep does now what the store does every hour.
func (s *Server) sweep(r *http.Request) (any, error) {
	var req Sweep
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	act := "sweep"
	if req.TrustClock {
		act = "sweep, trusting the clock"
	}
	s.Store.Record(event(r, trace.Admin, act))
	done, err := s.Store.Sweep(r.Context(), req.TrustClock)
	if err != nil {
		return nil, err
	}
	doc := Swept{Retired: done.Retired, Purged: done.Purged, Bodies: done.Bodies}
	if done.Clock.Waiting() {
		doc.Waits = clockText(done.Clock)
	}
	return doc, nil
}

// clockText says to people why nothing is let go.
func clockText(w store.ClockWait) string {
	return fmt.Sprintf("the clock says %s, the last sweep believed %s: mail is not expunged or let go for its age until the daemon has run another %s, or mssd sweep --trust-clock says that the clock is right",
		w.Clock.UTC().Format(time.RFC3339), w.Believed.UTC().Format(time.RFC3339), time.Duration(math.Ceil(w.Left.Minutes()))*time.Minute)
}
