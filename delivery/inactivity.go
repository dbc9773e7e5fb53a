package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"mssd/store"
	"mssd/trace"
)

// Bounds of an operator's own text.
const (
	maxNoticeText    = 64 << 10 // octets
	maxNoticeSubject = 200      // octets
)

// noticeText is what a BAL is told when nobody has used it for long.
const noticeText = `Objet: Votre boîte aux lettres MSSanté n'est plus consultée

Bonjour,

Personne n'a consulté la boîte aux lettres {bal} depuis le {depuis},
soit {jours} jours ou davantage.

Des patients et des professionnels de santé peuvent y écrire et attendre
une réponse. Merci de la consulter régulièrement ou, si elle ne sert
plus, de le dire à votre opérateur : elle pourra être fermée et retirée
de l'Annuaire Santé.

Ce message est envoyé automatiquement, une seule fois tant que la boîte
aux lettres n'est pas consultée.

Votre opérateur MSSanté
`

// InactivityNotices tells BALs that nobody uses of it, by a mail from the operator's postmaster into their INBOX. The mail and
// the note that it was sent are one commit: a BAL gets one notice, whatever happens, until it is used again.
type InactivityNotices struct {
	Store    *store.Store
	Hostname string // our name in Message-ID
	File     string // the operator's own text (NoticeFile); "": ours
}

// NoticesSent says what a round of notices did.
type NoticesSent struct {
	Sent   int `json:"sent"`
	Before int `json:"before"` // BALs that are inactive and were told already
	Failed int `json:"failed"` // BALs that are damaged
}

// Send tells the BALs that nobody has used for so many days and that were not told yet. by is who asked, for the trace.
// A clock that jumped ahead makes nobody inactive.
func (n *InactivityNotices) Send(ctx context.Context, days int, by string) (done NoticesSent, err error) {
	text, err := NoticeFile(n.File)
	if err != nil {
		return done, err
	}
	bals, err := n.Store.Usage(ctx)
	if err != nil {
		return done, err
	}
	now := n.Store.Believed()
	for _, b := range bals {
		switch {
		case !b.Inactive(now, days):
			continue
		case !b.Use.Noticed.IsZero():
			done.Before++
			continue
		}
		err := n.send(ctx, b, text, days, by)
		switch {
		case err == nil:
			done.Sent++
		case errors.Is(err, store.ErrNotInactive), errors.Is(err, store.ErrDestroyed): // meanwhile
		case errors.Is(err, store.ErrUnavailable):
			done.Failed++
		default:
			return done, err
		}
	}
	return done, nil
}

func (n *InactivityNotices) send(ctx context.Context, b store.BAL, text Notice, days int, by string) error {
	inbox, err := n.Store.Mailbox(b.ID, "INBOX")
	if err != nil {
		return err
	}
	sp, err := NewSpool(n.Store, true, Limits{})
	if err != nil {
		return err
	}
	defer sp.Abort()
	if err := n.write(sp, b, text, days); err != nil {
		return err
	}
	if err := sp.Finish(); err != nil {
		return err
	}
	prefix := []byte("Return-Path: <>\r\n") // nobody is to answer it by itself (RFC 3834, Section 3.3)
	_, err = n.Store.Commit(ctx, &store.Batch{Blob: sp.blob,
		Ops: []store.Op{store.NoteInactive{BAL: b.ID, Since: b.Silent()},
			store.AddMessage{Ref: inbox.Ref, Prefix: prefix, Size: int64(len(prefix)) + sp.Size(), Delivery: true}},
		Events: []trace.Event{{Kind: trace.BAL, Person: by, BAL: string(b.Address), Mailbox: uint32(inbox.Ref.Mailbox), Attrs: []trace.Attr{
			{Key: trace.KeyAct, Value: "bal inactivity notice"}, {Key: trace.KeyCount, Value: strconv.Itoa(days)}}}},
	})
	return err
}

// write makes the mail (RFC 5322, RFC 2047, RFC 3834).
func (n *InactivityNotices) write(sp *Spool, b store.BAL, text Notice, days int) error {
	_, domain, _ := strings.Cut(string(b.Address), "@")
	fill := strings.NewReplacer("{bal}", string(b.Address), "{jours}", strconv.Itoa(days), "{depuis}", b.Silent().Local().Format("02/01/2006"))
	encoded := func(s string) string {
		// Encoded words are kept apart, so that no line grows too long.
		return strings.ReplaceAll(mime.QEncoding.Encode("utf-8", s), "?= =?", "?=\r\n =?")
	}
	_, err := fmt.Fprintf(sp, "From: %s <postmaster@%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\nAuto-Submitted: auto-generated\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
		encoded("Opérateur MSSanté"), domain, b.Address, encoded(fill.Replace(text.Subject)), n.Store.Now().Local().Format(time.RFC1123Z), sp.ID(), n.Hostname)
	if err != nil {
		return err
	}
	q := quotedprintable.NewWriter(sp)
	if _, err := io.WriteString(q, fill.Replace(text.Text)); err != nil {
		return err
	}
	return q.Close()
}

// Notice is what a notice says: {bal}, {jours} and {depuis} stand for the address, the days and the date of the last use.
type Notice struct{ Subject, Text string }

// NoticeFile reads an operator's own text, or gives ours where name is "".
func NoticeFile(name string) (Notice, error) {
	raw := []byte(noticeText)
	if name != "" {
		f, err := os.Open(name)
		if err != nil {
			return Notice{}, err
		}
		defer f.Close()
		if raw, err = io.ReadAll(io.LimitReader(f, maxNoticeText+1)); err != nil {
			return Notice{}, err
		}
	}
	n, err := parseNotice(raw)
	if err != nil {
		return Notice{}, fmt.Errorf("%s: %w", name, err)
	}
	return n, nil
}

func parseNotice(raw []byte) (Notice, error) {
	if len(raw) > maxNoticeText {
		return Notice{}, fmt.Errorf("more than %d octets", maxNoticeText)
	}
	s := strings.ReplaceAll(strings.TrimPrefix(string(raw), "\ufeff"), "\r\n", "\n")
	control := func(r rune) bool { return r != '\n' && r != '\t' && unicode.IsControl(r) }
	if !utf8.ValidString(s) || strings.ContainsFunc(s, control) {
		return Notice{}, errors.New("holds what is no text; expected UTF-8")
	}
	head, text, ok := strings.Cut(s, "\n\n")
	subject, named := strings.CutPrefix(head, "Objet:")
	subject = strings.TrimSpace(subject)
	if !ok || !named || subject == "" || len(subject) > maxNoticeSubject || strings.ContainsAny(subject, "\n\t") || strings.TrimSpace(text) == "" {
		return Notice{}, fmt.Errorf("expected a first line \"Objet: …\" (at most %d octets), an empty line and the text", maxNoticeSubject)
	}
	return Notice{subject, text}, nil
}
