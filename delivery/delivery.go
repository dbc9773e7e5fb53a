// Package delivery makes of one accepted message what the store keeps: the octets as they came, a
// prefix per BAL, a row in each recipient's INBOX and the events of the trace, in one commit.
//
// A front opens a Spool, writes the octets of the message into it as they arrive (each octet is
// checked, hashed, scanned and spooled in the same pass, nothing is kept in memory), finishes it, and
// calls Deliver with what it knows about the peer and the recipients. When Deliver returns without
// an error the message would survive a power failure, for all recipients or for none.
//
// Invariants:
//  1. The blob is exactly what the peer sent; what we add stands in the prefix, at most MaxPrefix octets. The message of a
//     member gets the Date and the Message-ID that it lacks, and loses Bcc and what only we may set (Originate).
//  2. A prefix never names a recipient other than its own.
//  3. Nothing that a peer controls can break a line of a prefix: every such value is printable ASCII
//     there, bounded, and quoted where the grammar wants it.
//  4. A Spool that was not delivered leaves no file (Abort).
//  5. The same message from the same operator, to the same recipients, whose 250 the peer never
//     confirmed, is stored once (Once; design §2.6). Of a member, who may send the same words twice, it is the same message
//     only where it came with a Date or a Message-ID.
//
// It does not judge peers or recipients: that is done before, by the front. It does not repair
// anything in the message; foreign Authentication-Results inside it stay, below ours.
//
// Security: message octets and envelope values come from outside. Errors and logs carry none of them.
//
// Standards: RFC 5321 Section 4.4 (trace information), RFC 8601 (Authentication-Results), RFC 3848 and
// RFC 8314 Section 4.3 (what Received says of TLS), RFC 3461 and RFC 3464 (ORCPT, ENVID), RFC 6376 (DKIM, verified
// by go-msgauth behind bounds of ours: dkim.go).
package delivery

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"mssd/directory"
	"mssd/message"
	"mssd/store"
	"mssd/tlsconf"
	"mssd/trace"
)

// ErrNoRecipients is a fault of the caller: a message for nobody cannot be delivered.
var ErrNoRecipients = errors.New("delivery: no recipients")

// Config of a Delivery.
type Config struct {
	Store    *store.Store
	Hostname string           // our name in Received and Authentication-Results
	Now      func() time.Time // Optional.
}

// Delivery commits messages to one store. It has no state of its own and is safe for concurrent use.
type Delivery struct{ cfg Config }

// New makes a Delivery.
func New(cfg Config) *Delivery {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Delivery{cfg: cfg}
}

// Recipient is one accepted RCPT.
type Recipient struct {
	BAL      store.BAL
	Address  message.Address // as the peer wrote it; differs from BAL.Address for postmaster
	ORCPT    string          // "rfc822;user@domain", decoded; "" when not given
	Notify   string          // "SUCCESS,FAILURE"; "" when not given
	Decision directory.Decision
}

// Incoming is what a front knows about one message besides its octets.
type Incoming struct {
	Conn        uint64          // connection number
	Remote      netip.Addr      // of the peer
	Helo        string          // what it called itself: unchecked text
	Member      *Member         // who has logged in and submits; nil: another operator, of which the next two tell
	Verdict     tlsconf.Verdict // on its certificate, with its DN
	ListVersion string          // of the white list that bound the sender's domain
	TLSVersion  string          // "TLSv1.3"
	Cipher      string          // "TLS_AES_128_GCM_SHA256"
	Protocol    string          // "ESMTPS" (RFC 3848)
	ReversePath message.Address // "" for the null sender
	Recipients  []Recipient
	EnvID, Ret  string // of RFC 3461; "" when not given
	HeaderFrom  HeaderFrom
}

// Member is who submits a message.
type Member struct {
	Person string    // member id
	BAL    store.BAL // it is sent from
	Method string    // of the login
}

// HeaderFrom is what was found out about the From field: whether each of its domains is bound to the peer's
// certificate by the white list.
type HeaderFrom struct {
	Result string // "pass", "fail", "none" (no address in From) or "temperror", words of RFC 8601; "" not looked at
	Domain string // one of the white list: for "pass" the first, for "fail" the first that is bound to another; "" none
}

// Deliver stores the message for all recipients and returns its ID. With duplicate true nothing was
// stored: the ID is that of the first copy. The Spool is spent in any case.
func (d *Delivery) Deliver(ctx context.Context, sp *Spool, in *Incoming) (id trace.ID, duplicate bool, err error) {
	defer sp.Abort()
	if len(in.Recipients) == 0 {
		return 0, false, ErrNoRecipients
	}
	rcpts := foldRecipients(in.Recipients)
	now := d.cfg.Now()
	batch := &store.Batch{
		Blob: sp.blob,
		Ops:  make([]store.Op, 0, len(rcpts)),
	}
	if in.Member == nil || sp.named() {
		batch.Once = &store.Once{Key: onceKey(in, rcpts, sp.SHA256())}
	}
	inboxes := make([]store.Ref, 0, len(rcpts))
	for _, r := range rcpts {
		inbox, err := d.cfg.Store.Mailbox(r.BAL.ID, "INBOX")
		if err != nil {
			return 0, false, fmt.Errorf("delivery: INBOX: %w", err)
		}
		prefix := d.prefix(in, sp.signed, r, len(rcpts) == 1, sp.ID(), now)
		batch.Ops = append(batch.Ops, store.AddMessage{
			Ref: inbox.Ref, Message: sp.ID(), Prefix: prefix,
			Date: now, Size: int64(len(prefix)) + sp.Size(), Delivery: true,
		})
		inboxes = append(inboxes, inbox.Ref)
	}
	batch.Events = d.events(in, rcpts, inboxes, sp, now)
	res, err := d.cfg.Store.Commit(ctx, batch)
	if err != nil {
		return 0, false, fmt.Errorf("delivery: commit: %w", err)
	}
	if res.Duplicate {
		d.cfg.Store.Record(trace.Event{ID: res.ID, Time: now, Kind: trace.Duplicate, Conn: in.Conn,
			Attrs: []trace.Attr{{Key: trace.KeyPrevious, Value: res.ID.String()}}})
		return res.ID, true, nil
	}
	return sp.ID(), false, nil
}

// foldRecipients keeps the first of several recipients that mean the same BAL.
func foldRecipients(in []Recipient) []Recipient {
	out := make([]Recipient, 0, len(in))
	for _, r := range in {
		if !slices.ContainsFunc(out, func(o Recipient) bool { return o.BAL.ID == r.BAL.ID }) {
			out = append(out, r)
		}
	}
	return out
}

// onceKey names a transaction by who sent what to whom; never by Message-ID, which is the peer's to choose.
func onceKey(in *Incoming, rcpts []Recipient, blob [32]byte) [32]byte {
	names := make([]string, 0, len(rcpts))
	for _, r := range rcpts {
		names = append(names, string(r.BAL.Address))
	}
	slices.Sort(names)
	h := sha256.New()
	add := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	if m := in.Member; m != nil {
		add("member") // the key of a name begins otherwise
		add(m.Person)
		add(string(m.BAL.Address))
	} else {
		add(in.Verdict.DN.Key())
	}
	add(string(in.ReversePath))
	for _, n := range names {
		add(n)
	}
	h.Write(blob[:])
	return [32]byte(h.Sum(nil))
}

// events tells the story of the transaction up to its commit: the verdict or who submits, each recipient, the row
// of each (whose UID the store fills in).
func (d *Delivery) events(in *Incoming, rcpts []Recipient, inboxes []store.Ref, sp *Spool, now time.Time) []trace.Event {
	id := sp.ID()
	evs := make([]trace.Event, 0, 1+2*len(rcpts))
	first := trace.Event{ID: id, Time: now, Kind: trace.Judged, Conn: in.Conn, Attrs: JudgedAttrs(d.cfg.Store, in)}
	if m := in.Member; m != nil {
		first.Kind, first.Person, first.BAL = trace.Submitted, m.Person, string(m.BAL.Address)
	}
	evs = append(evs, first)
	for _, r := range rcpts {
		evs = append(evs, trace.Event{ID: id, Time: now, Kind: trace.Recipient, Conn: in.Conn,
			BAL: string(r.BAL.Address), Attrs: DecisionAttrs(r.Decision)})
	}
	sum := sp.SHA256()
	attrs := []trace.Attr{
		{Key: trace.KeySize, Value: strconv.FormatInt(sp.Size(), 10)},
		{Key: trace.KeyRecipients, Value: strconv.Itoa(len(rcpts))},
		{Key: trace.KeyBlobSHA, Value: d.cfg.Store.Pseudonym("blob", hex.EncodeToString(sum[:]))},
	}
	if m := sp.Meta(); m != nil {
		if m.MessageID != "" {
			attrs = append(attrs, trace.Attr{Key: trace.KeyMessageID, Value: d.cfg.Store.Pseudonym("message-id", m.MessageID)})
		}
		if m.Faults != 0 {
			attrs = append(attrs, trace.Attr{Key: trace.KeyFaults, Value: fmt.Sprint(m.Faults)})
		}
	}
	if len(sp.signed) > 0 {
		attrs = append(attrs, trace.Attr{Key: trace.KeyDKIM, Value: dkimWords(sp.signed)})
	}
	if in.HeaderFrom.Result != "" {
		attrs = append(attrs, trace.Attr{Key: trace.KeyHeaderFrom, Value: clip(strings.TrimSpace(in.HeaderFrom.Result+" "+printable(in.HeaderFrom.Domain)), 300)})
	}
	if in.EnvID != "" {
		attrs = append(attrs, trace.Attr{Key: trace.KeyEnvID, Value: d.cfg.Store.Pseudonym("envid", in.EnvID)})
	}
	for i, r := range rcpts {
		evs = append(evs, trace.Event{ID: id, Time: now, Kind: trace.Committed, Conn: in.Conn,
			BAL: string(r.BAL.Address), Mailbox: uint32(inboxes[i].Mailbox), Attrs: attrs})
	}
	return evs
}

// JudgedAttrs are the facts about the peer and the sender that stand in the trace. Fronts use them for
// refusals too, so that both read alike.
func JudgedAttrs(st *store.Store, in *Incoming) []trace.Attr {
	var attrs []trace.Attr
	if in.Member == nil {
		attrs = append(attrs, trace.Attr{Key: trace.KeyReason, Value: in.Verdict.Reason.String()})
	}
	attrs = append(attrs, trace.Attr{Key: trace.KeySender, Value: SenderName(st, in.ReversePath)})
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, trace.Attr{Key: key, Value: clip(value, 512)})
		}
	}
	if !in.Verdict.DN.IsZero() {
		add(trace.KeyOperatorDN, in.Verdict.DN.String())
	}
	if in.Member != nil {
		add(trace.KeyMethod, in.Member.Method)
	}
	add(trace.KeyDomain, in.ReversePath.Domain())
	add(trace.KeyTLS, in.TLSVersion)
	add(trace.KeyCipher, in.Cipher)
	add(trace.KeyUsage, in.Verdict.Usage)
	add(trace.KeySerial, in.Verdict.Serial)
	add(trace.KeyListVersion, in.ListVersion)
	if in.Remote.IsValid() {
		add(trace.KeyRemote, in.Remote.String())
	}
	return attrs
}

// SenderName is how a sender stands in the trace: "<>" for the null sender, the address of a BAL of
// ours, a pseudonym for everybody else. The local part of a patient's address is the national health
// number, and no name of a domain says for certain that no patient writes from there.
func SenderName(st *store.Store, a message.Address) string {
	if a == "" {
		return "<>"
	}
	if bal, _ := st.BAL(store.Address(a.Lower())); bal.Address != "" {
		return string(bal.Address)
	}
	return st.Pseudonym("sender", strings.ToLower(string(a)))
}

// DecisionAttrs are what the directory and the policy said of a recipient, as it stands in the trace. Fronts use them for
// refusals too. The note is the last of them.
func DecisionAttrs(dec directory.Decision) []trace.Attr {
	attrs := []trace.Attr{
		{Key: trace.KeyDirectory, Value: dec.Answer.String()},
		{Key: trace.KeyPolicy, Value: dec.Action.String()},
		{Key: trace.KeyClass, Value: dec.Sender.String()},
	}
	if dec.Source != "" {
		attrs = append(attrs, trace.Attr{Key: trace.KeySource, Value: clip(dec.Source, 128)},
			trace.Attr{Key: trace.KeyGeneration, Value: strconv.FormatUint(dec.Generation, 10)},
			trace.Attr{Key: trace.KeyAge, Value: dec.Age.Round(time.Second).String()})
	}
	if dec.Live {
		attrs = append(attrs, trace.Attr{Key: trace.KeyLive, Value: "yes"})
	}
	if dec.Note != "" {
		attrs = append(attrs, trace.Attr{Key: trace.KeyNote, Value: clip(dec.Note, 256)})
	}
	return attrs
}

// dkimWords are the results alone: a domain there is the sender's to choose and may be anything.
func dkimWords(signed []Signature) string {
	words := make([]string, len(signed))
	for i, s := range signed {
		words[i] = s.Result
	}
	return strings.Join(words, " ")
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
