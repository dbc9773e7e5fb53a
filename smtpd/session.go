package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"mssd/delivery"
	"mssd/directory"
	"mssd/message"
	"mssd/store"
	"mssd/trace"
)

// commitWithin bounds a commit: it goes on when the peer hangs up.
const commitWithin = time.Minute

// A session is what go-smtp calls for one connection, always on the goroutine of the connection (go-smtp
// calls Data on another one for BDAT; the wire does not let it see BDAT).
type session struct {
	srv    *Server
	front  front
	w      *wire
	log    *slog.Logger
	state  tls.ConnectionState
	remote netip.Addr
	start  time.Time // of the connection

	helo func() string
	tx   transaction
}

// transaction is one MAIL and what follows; RSET and the end of DATA replace it.
type transaction struct {
	open  bool
	in    delivery.Incoming
	size  int64 // announced by SIZE; 0 unknown
	began time.Time
	taken int // recipients that count for the hour, and are given back unless the message is stored
}

// A front is what the fronts do not have in common: who may send, to whom, what. Its methods are called on the goroutine
// of the connection, in the order in which they stand here.
type front interface {
	// describe adds to in who sends. It is called for each MAIL, refused ones included.
	describe(s *session, in *delivery.Incoming)
	// sender says whether they may send with the reverse path of in.
	sender(s *session, in *delivery.Incoming) error
	// begun is told of a transaction that was let in.
	begun(in *delivery.Incoming)
	// class is who sends, as far as the policy on recipients is concerned.
	class(from message.Address) directory.Class
	// elsewhere is the answer to a recipient at a domain that is not ours, of a message of size octets (0: unknown).
	elsewhere(s *session, to message.Address, size int64) error
	// take counts one recipient more of in; give takes n of them back, counted since a time, when the message was not stored.
	take(in *delivery.Incoming) error
	give(in *delivery.Incoming, n int, since time.Time)
	// limits are those of a message.
	limits() delivery.Limits
	// content judges the message, which has come to its end.
	content(s *session, in *delivery.Incoming, sp *delivery.Spool) error
	// stored is told of a message that is stored and had not been before.
	stored(in *delivery.Incoming)
	// alike says whose refusals are folded into one, and whether they are known.
	alike(s *session, in *delivery.Incoming) (who string, known bool)
}

// answer turns an error into what go-smtp prints, logs and records it.
func (s *session) answer(cmd string, in *delivery.Incoming, to string, err error) error {
	return s.answerDecided(cmd, in, to, err, directory.Decision{})
}

// answerDecided is answer with what the directory said of the recipient; the zero decision says nothing.
func (s *session) answerDecided(cmd string, in *delivery.Incoming, to string, err error, dec directory.Decision) error {
	if err == nil {
		return nil
	}
	r := replyTo(err)
	note := r.text
	if dec.Note != "" {
		note += " (" + dec.Note + ")"
		dec.Note = "" // stands in note
	}
	level := slog.LevelInfo
	if r.code == 451 || r.code == 452 {
		level = slog.LevelWarn
	}
	s.w.guard.Line(s.log, level, "refused", r.String(), "cmd", cmd, "code", r.code, "enhanced", r.status(), "bal", to, "err", err.Error())
	attrs := append(delivery.JudgedAttrs(s.srv.Store, in),
		trace.Attr{Key: trace.KeyCode, Value: r.String()},
		trace.Attr{Key: trace.KeyCommand, Value: cmd},
		trace.Attr{Key: trace.KeyNote, Value: note})
	if dec.Answer != 0 {
		attrs = append(attrs, delivery.DecisionAttrs(dec)...)
	}
	k := trace.Alike{Who: trace.Network(s.remote), Cmd: cmd, Code: r.status()}
	if who, known := s.front.alike(s, in); known {
		k.Who, k.Known = who, true
	}
	e := trace.Event{ID: s.srv.Store.NewID(), Time: s.srv.now(), Kind: trace.Refused, Conn: in.Conn, BAL: to, Attrs: attrs}
	if in.Member != nil {
		e.Person = in.Member.Person
	}
	s.srv.refusals.Add(k, e)
	out := r.smtp()
	out.Message = mark + out.Message
	return out
}

// guarded runs one step of the session; a panic ends the connection, not the server, and nothing of its
// value is logged: it may hold a piece of a message.
func (s *session) guarded(cmd string, step func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("panic", "cmd", cmd, "err", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
			err = replyTo(errPanic).smtp()
			err.(*smtp.SMTPError).Message = mark + replyTo(errPanic).text
		}
	}()
	return step()
}

// Mail begins a transaction: RFC 5321, Section 3.3. The address is that of the wire; go-smtp has a
// placeholder.
func (s *session) Mail(_ string, opts *smtp.MailOptions) error {
	return s.guarded("MAIL", func() error {
		in := s.incoming(opts)
		if s.tx.open { // go-smtp would let a second MAIL pass
			return s.answer("MAIL", &in, "", errSequence)
		}
		if err := s.mail(&in, opts.Size); err != nil {
			return s.answer("MAIL", &in, "", err)
		}
		s.tx = transaction{open: true, in: in, size: opts.Size, began: s.srv.now()}
		s.front.begun(&in)
		return nil
	})
}

func (s *session) incoming(opts *smtp.MailOptions) delivery.Incoming {
	in := delivery.Incoming{
		Conn: s.w.guard.ID(), Remote: s.remote, Helo: s.helo(), ReversePath: s.w.path,
		TLSVersion: tlsVersion(s.state.Version), Cipher: tls.CipherSuiteName(s.state.CipherSuite),
		Protocol: s.w.protocol, EnvID: opts.EnvelopeID, Ret: string(opts.Return),
	}
	s.front.describe(s, &in)
	return in
}

func (s *session) mail(in *delivery.Incoming, size int64) error {
	if err := s.front.sender(s, in); err != nil {
		return err
	}
	if err := s.srv.Store.Slow(); err != nil {
		return err
	}
	// Below the floor nothing new begins, so that a full disk never reaches a sync.
	free, err := s.srv.Store.FreeSpace()
	if err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	if free-size < s.srv.Store.SpaceFloor() {
		return store.ErrNoSpace
	}
	return nil
}

// Rcpt adds a recipient; what it answers binds us (design §2.4).
func (s *session) Rcpt(_ string, opts *smtp.RcptOptions) error {
	return s.guarded("RCPT", func() error {
		tx, addr := s.tx, s.w.path
		r := delivery.Recipient{Address: addr, Notify: notify(opts.Notify)}
		if opts.OriginalRecipient != "" {
			r.ORCPT = strings.ToLower(string(opts.OriginalRecipientType)) + ";" + opts.OriginalRecipient
		}
		if !tx.open {
			return s.answer("RCPT", &tx.in, "", errSequence)
		}
		err := s.rcpt(&r, &tx)
		if err != nil {
			// Only a BAL of ours is named: an address elsewhere, or one that we do not have, may be a
			// patient's.
			return s.answerDecided("RCPT", &tx.in, string(r.BAL.Address), err, r.Decision)
		}
		same := func(o delivery.Recipient) bool { return o.BAL.ID == r.BAL.ID }
		if !slices.ContainsFunc(tx.in.Recipients, same) {
			if err := s.front.take(&tx.in); err != nil {
				return s.answer("RCPT", &tx.in, string(r.BAL.Address), err)
			}
			tx.taken++
			tx.in.Recipients = append(slices.Clip(tx.in.Recipients), r)
			s.tx = tx
		}
		if r.Decision.Action == directory.AcceptAlert {
			s.log.Warn("recipient accepted against the directory", "bal", string(r.BAL.Address), "directory", r.Decision.Answer.String())
		}
		return nil
	})
}

func (s *session) rcpt(r *delivery.Recipient, tx *transaction) error {
	size := tx.size
	if strings.EqualFold(r.Address.Local(), "postmaster") || r.Address == "postmaster" {
		return s.postmaster(r, size)
	}
	if !s.srv.Store.HasDomain(r.Address.Domain()) {
		return s.front.elsewhere(s, r.Address, size)
	}
	bal, err := s.srv.Store.BAL(store.Address(string(r.Address.Lower())))
	if err != nil {
		return err
	}
	r.BAL = bal
	if err := usable(bal, size); err != nil {
		return err
	}
	r.Decision = s.srv.Directory.Decide(s.w.ctx, s.query(bal, tx.in.ReversePath))
	switch r.Decision.Action {
	case directory.Accept, directory.AcceptNote, directory.AcceptAlert:
		return nil
	case directory.Refuse550:
		return errNotInDir
	case directory.Defer450:
		return errDirBusy
	}
	return errDirLater
}

// usable says whether a BAL may receive a message of size octets, 0 when the peer did not say.
func usable(bal store.BAL, size int64) error {
	switch bal.State {
	case store.Active:
	case store.Declared:
		return errNotOpen
	case store.Suspended:
		return errSuspended
	default:
		return errClosedBAL
	}
	if bal.Full(max(size, 1)) {
		return store.ErrOverQuota
	}
	return nil
}

// postmaster exists at every domain of ours, and without one (RFC 5321, Section 4.5.1). It is no BAL of
// the directory, so the policy is not asked.
func (s *session) postmaster(r *delivery.Recipient, size int64) error {
	domain := r.Address.Domain()
	if r.Address == "postmaster" {
		domain = ""
	} else if !s.srv.Store.HasDomain(domain) {
		return s.front.elsewhere(s, r.Address, size)
	}
	bal, err := s.srv.postmasterBAL(domain)
	if err != nil {
		return err
	}
	r.BAL = bal
	return usable(bal, size)
}

// Data takes the message: RFC 5321, Section 3.3 and RFC 3030, Section 2.
// The reader of go-smtp is not used: it would work octet by octet.
func (s *session) Data(io.Reader) error {
	s.srv.transfers.Add(1)
	defer s.srv.transfers.Done()
	s.w.active.Add(1)
	defer s.w.active.Add(-1)
	tx := s.tx
	cmd := "DATA"
	read := s.w.message
	if s.w.verb == "BDAT" {
		cmd, read = "BDAT", s.w.chunked
	}
	return s.guarded(cmd, func() error {
		s.w.guard.StartTransfer()
		defer s.w.guard.EndTransfer()
		id, text, err := s.data(&tx, read)
		if errors.Is(err, errGone) || errors.Is(err, errAborted) {
			s.w.guard.Line(s.log, slog.LevelInfo, "transfer aborted", "", "cmd", cmd)
			return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: mark} // not said
		}
		if err != nil {
			return s.answer(cmd, &tx.in, "", err)
		}
		s.w.accepted(id)
		out := replyTo(&stored{text}).smtp()
		out.Message = mark + out.Message
		return out
	})
}

// errGone says that the message did not come to its end.
var errGone = errors.New("smtpd: transfer ended before the message did")

// data returns the ID of the stored message, and what the 250 says: that, and the Message-ID where it was given here.
func (s *session) data(tx *transaction, read func(io.Writer) error) (id trace.ID, text string, err error) {
	sp, err := delivery.NewSpool(s.srv.Store, true, s.front.limits())
	if err != nil {
		// The octets must be read all the same: they are no commands.
		if rerr := read(failed{err}); rerr != nil {
			return 0, "", rerr
		}
		return 0, "", err // an empty message has no octet to refuse
	}
	defer sp.Abort()
	if err := read(sp); err != nil {
		return 0, "", err
	}
	if err := sp.Finish(); err != nil {
		return 0, "", err
	}
	if err := s.front.content(s, &tx.in, sp); err != nil {
		return 0, "", err
	}
	if err := s.w.beginCommit(); err != nil { // it is over when the answer has been queued: readLine
		return 0, "", err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.w.ctx), commitWithin)
	defer cancel()
	id, dup, err := s.srv.Delivery.Deliver(ctx, sp, &tx.in)
	if err != nil {
		return 0, "", err
	}
	if !dup {
		s.tx.taken = 0
		s.askLater(id, &tx.in)
		s.front.stored(&tx.in)
	}
	bals := make([]string, 0, len(tx.in.Recipients))
	for _, r := range tx.in.Recipients {
		bals = append(bals, string(r.BAL.Address))
	}
	log := s.log
	if tx.in.Member == nil {
		log = log.With("operator", tx.in.Verdict.DN.String())
	}
	log.Info("message stored", "id", id.String(), "bal", bals, "rcpts", len(bals),
		"size", sp.Size(), "dur", s.srv.now().Sub(tx.began), "duplicate", dup)
	text = id.String()
	if added := sp.AddedID(id); added != "" {
		text += " " + added
	}
	return id, text, nil
}

// failed is a sink that takes nothing.
type failed struct{ err error }

func (f failed) Write([]byte) (int, error) { return 0, f.err }

// Reset is called for RSET, EHLO and after each message.
func (s *session) Reset() {
	if n := s.tx.taken; n > 0 {
		s.front.give(&s.tx.in, n, s.tx.began)
	}
	s.tx = transaction{}
}

// Logout is the end of the connection, or of what go-smtp knows about it.
func (s *session) Logout() error {
	s.Reset()
	return nil
}

func notify(n []smtp.DSNNotify) string {
	words := make([]string, len(n))
	for i, v := range n {
		words[i] = string(v)
	}
	return strings.Join(words, ",")
}

func tlsVersion(v uint16) string { return strings.Replace(tls.VersionName(v), "TLS ", "TLSv", 1) }
