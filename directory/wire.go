package directory

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// The search of a content is read here and not by the library: that takes five times the processor's time for each entry,
// loses the cookie of newcookie messages, and hides what it drops. Requests are made of its parts.

const maxMessage = 16 << 20 // octets of one LDAP message

// Tags of RFC 4511: [APPLICATION n], constructed, and universal ones.
const (
	tagEntry        = 0x64
	tagDone         = 0x65
	tagIntermediate = 0x79
	tagExtended     = 0x78
	tagBoolean      = 0x01
	tagOctets       = 0x04
	tagEnumerated   = 0x0a
	tagSequence     = 0x30
	tagSet          = 0x31
)

var errWire = fmt.Errorf("%w: not an LDAP message", ErrFormat)

// stream is a connection that one search goes over.
type stream struct {
	net.Conn
	r *bufio.Reader
}

// dialStream connects, secures and binds, all within ctx and ConnectTimeout.
func (l *LDAPConfig) dialStream(ctx context.Context) (*stream, error) {
	return reach(ctx, l, func(ctx context.Context, nc net.Conn, conf *tls.Config, secret string) (*stream, error) {
		secured, err := l.login(ctx, nc, conf, secret)
		if err != nil {
			return nil, err
		}
		return &stream{secured, bufio.NewReaderSize(secured, readerSize)}, nil
	})
}

// login does StartTLS and the bind that are configured.
func (l *LDAPConfig) login(ctx context.Context, nc net.Conn, conf *tls.Config, secret string) (net.Conn, error) {
	if l.StartTLS {
		op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationExtendedRequest, nil, "")
		op.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 0, "1.3.6.1.4.1.1466.20037", ""))
		if err := exchange(nc, 1, op); err != nil {
			return nil, fmt.Errorf("StartTLS: %w", err)
		}
		tc := tls.Client(nc, conf)
		if err := tc.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("StartTLS: %w", err)
		}
		nc = tc
	}
	if !l.External && l.BindDN == "" {
		return nc, nil
	}
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationBindRequest, nil, "")
	op.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, 3, ""))
	op.AppendChild(octets(l.BindDN))
	who := "as " + l.BindDN
	if l.External {
		who = "with the client certificate"
		sasl := ber.Encode(ber.ClassContext, ber.TypeConstructed, 3, nil, "")
		sasl.AppendChild(octets("EXTERNAL"))
		sasl.AppendChild(octets(""))
		op.AppendChild(sasl)
	} else {
		op.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 0, secret, ""))
	}
	if err := exchange(nc, 2, op); err != nil {
		return nil, fmt.Errorf("bind %s: %w", who, err)
	}
	return nc, nil
}

func octets(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}

func message(id int64, op *ber.Packet, controls ...ldap.Control) []byte {
	m := ber.NewSequence("")
	m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	m.AppendChild(op)
	if len(controls) > 0 {
		list := ber.Encode(ber.ClassContext, ber.TypeConstructed, 0, nil, "")
		for _, c := range controls {
			list.AppendChild(c.Encode())
		}
		m.AppendChild(list)
	}
	return m.Bytes()
}

// exchange sends a request and reads its answer, octet for octet: what follows may be TLS.
func exchange(nc net.Conn, id int64, op *ber.Packet) error {
	if _, err := nc.Write(message(id, op)); err != nil {
		return err
	}
	answer, err := ber.ReadPacket(nc)
	if err != nil {
		return err
	}
	return ldap.GetLDAPError(answer)
}

// search sends the request for the rows, all attributes that are wanted, below the base.
func (s *stream) search(l *LDAPConfig, controls ...ldap.Control) error {
	filter, err := ldap.CompileFilter(l.Filter)
	if err != nil {
		return fmt.Errorf("%w: filter: %w", ErrConfig, err)
	}
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchRequest, nil, "")
	op.AppendChild(octets(l.BaseDN))
	for _, n := range []int{ldap.ScopeWholeSubtree, ldap.NeverDerefAliases} {
		op.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, n, ""))
	}
	for range 2 { // no limits of size and time
		op.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, 0, ""))
	}
	op.AppendChild(ber.NewBoolean(ber.ClassUniversal, ber.TypePrimitive, ber.TagBoolean, false, ""))
	op.AppendChild(filter)
	names := ber.NewSequence("")
	for _, n := range l.Attributes.names() {
		names.AppendChild(octets(n))
	}
	op.AppendChild(names)
	_, err = s.Write(message(3, op, controls...))
	return err
}

// next reads one message: what stands in its sequence.
func (s *stream) next() ([]byte, error) {
	var head [6]byte
	if _, err := io.ReadFull(s.r, head[:2]); err != nil {
		return nil, err
	}
	n := int(head[1])
	if head[0] != tagSequence || n == 0x80 {
		return nil, errWire
	}
	if n > 0x80 {
		k := n & 0x7f
		if k > 4 {
			return nil, errWire
		}
		if _, err := io.ReadFull(s.r, head[2:2+k]); err != nil {
			return nil, err
		}
		n = 0
		for _, c := range head[2 : 2+k] {
			n = n<<8 | int(c)
		}
	}
	if n > maxMessage {
		return nil, fmt.Errorf("%w: a message of %d octets", ErrTooLarge, n)
	}
	msg := make([]byte, n)
	_, err := io.ReadFull(s.r, msg)
	return msg, err
}

// tlv takes the first element off b; ok is false where b does not hold it whole.
func tlv(b []byte) (tag byte, value, rest []byte, ok bool) {
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return 0, nil, nil, false
	}
	n, at := int(b[1]), 2
	if n >= 0x80 {
		k := n & 0x7f
		if k == 0 || k > 4 || len(b) < 2+k {
			return 0, nil, nil, false
		}
		n = 0
		for _, c := range b[2 : 2+k] {
			n = n<<8 | int(c)
		}
		at += k
	}
	if n > len(b)-at {
		return 0, nil, nil, false
	}
	return b[0], b[at : at+n], b[at+n:], true
}

// expect is tlv for an element that must have a tag.
func expect(b []byte, want byte) (value, rest []byte, err error) {
	tag, value, rest, ok := tlv(b)
	if !ok || tag != want {
		return nil, nil, errWire
	}
	return value, rest, nil
}

// parseEvent reads what a message of a search says. Its slices point into msg.
func (a *attributeNames) parseEvent(msg []byte) (e syncEvent, err error) {
	_, _, msg, ok := tlv(msg) // its number: there is one request
	if !ok {
		return e, errWire
	}
	tag, op, rest, ok := tlv(msg)
	if !ok {
		return e, errWire
	}
	switch tag {
	case tagEntry:
		e.entry = true
		if err := a.parseEntry(op, &e); err != nil {
			return e, err
		}
	case tagDone:
		e.ended = true
		e.err, err = parseResult(op)
		if err != nil {
			return e, err
		}
	case tagIntermediate:
		return e, parseIntermediate(op, &e)
	case tagExtended: // RFC 4511, Section 4.4.1: notice of disconnection
		e.ended = true
		if e.err, err = parseResult(op); e.err == nil {
			e.err = io.EOF
		}
		return e, err
	default:
		return e, nil // a referral: what it points at is not ours to read
	}
	return e, parseControls(rest, &e)
}

// parseResult gives the error of an LDAPResult, nil for success.
func parseResult(op []byte) (result, err error) {
	code, rest, err := expect(op, tagEnumerated)
	if err != nil || len(code) == 0 || len(code) > 2 {
		return nil, errWire
	}
	n := uint16(0)
	for _, c := range code {
		n = n<<8 | uint16(c)
	}
	if n == 0 {
		return nil, nil
	}
	text := ldap.LDAPResultCodeMap[n]
	if _, rest, err = expect(rest, tagOctets); err == nil {
		if said, _, err := expect(rest, tagOctets); err == nil && len(said) > 0 {
			text = string(bytes.ToValidUTF8(said[:min(len(said), 500)], nil))
		}
	}
	return &ldap.Error{ResultCode: n, Err: errors.New(text)}, nil
}

// attributeNames are the attributes that are wanted, in the order of a record; nil: not asked for.
type attributeNames [recordFields][]byte

func (a Attributes) wire() *attributeNames {
	var out attributeNames
	for i, n := range a.fields() {
		if n != "-" {
			out[i] = []byte(n)
		}
	}
	return &out
}

func (a *attributeNames) parseEntry(op []byte, e *syncEvent) error {
	_, rest, err := expect(op, tagOctets) // its name: it may change, and is not asked for
	if err != nil {
		return err
	}
	list, _, err := expect(rest, tagSequence)
	for err == nil && len(list) > 0 {
		var attr, name, set []byte
		if attr, list, err = expect(list, tagSequence); err != nil {
			break
		}
		if name, attr, err = expect(attr, tagOctets); err != nil {
			break
		}
		if set, _, err = expect(attr, tagSet); err == nil {
			err = a.parseValues(name, set, e)
		}
	}
	return err
}

func (a *attributeNames) parseValues(name, set []byte, e *syncEvent) error {
	for first := true; len(set) > 0; first = false {
		value, rest, err := expect(set, tagOctets)
		if err != nil {
			return err
		}
		set = rest
		for i, want := range a {
			if len(want) != len(name) || !bytes.EqualFold(want, name) {
				continue
			}
			if i == fieldAddress {
				e.mails = append(e.mails, value)
			} else if first {
				e.row[i] = value
			}
		}
	}
	return nil
}

// parseControls reads the controls of content synchronisation and of pages; others are passed over.
func parseControls(b []byte, e *syncEvent) error {
	tag, list, _, ok := tlv(b)
	if len(b) == 0 {
		return nil
	}
	if !ok || tag != 0xa0 {
		return errWire
	}
	for len(list) > 0 {
		control, rest, err := expect(list, tagSequence)
		if err != nil {
			return err
		}
		list = rest
		oid, control, err := expect(control, tagOctets)
		if err != nil {
			return err
		}
		tag, value, rest, ok := tlv(control)
		if ok && tag == tagBoolean {
			tag, value, _, ok = tlv(rest)
		}
		if !ok || tag != tagOctets {
			continue
		}
		switch string(oid) {
		case ldap.ControlTypeSyncState:
			e.state, err = parseState(value)
		case ldap.ControlTypeSyncDone:
			e.done = &syncInfo{}
			if value, _, err = expect(value, tagSequence); err == nil {
				err = e.done.parse(value)
			}
		case ldap.ControlTypePaging: // RFC 2696: an estimate, the cookie
			if value, _, err = expect(value, tagSequence); err == nil {
				if _, _, value, ok = tlv(value); !ok {
					return errWire
				}
				e.page, _, err = expect(value, tagOctets)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// States of an entry and kinds of a Sync Info message.
const (
	statePresent = 0
	stateDelete  = 3

	infoCookie  = 0
	infoDelete  = 1
	infoPresent = 2
	infoSet     = 3
)

// syncState is the Sync State control: what an entry is about.
type syncState struct {
	state  byte // 0 present, 1 add, 2 modify, 3 delete
	id     [16]byte
	cookie []byte
}

func parseState(b []byte) (*syncState, error) {
	b, _, err := expect(b, tagSequence)
	if err != nil {
		return nil, err
	}
	state, b, err := expect(b, tagEnumerated)
	if err != nil || len(state) != 1 || state[0] > 3 {
		return nil, errWire
	}
	id, b, err := expect(b, tagOctets)
	if err != nil || len(id) != 16 {
		return nil, errWire
	}
	s := &syncState{state: state[0], id: [16]byte(id)}
	if len(b) > 0 {
		s.cookie, _, err = expect(b, tagOctets)
	}
	return s, err
}

// syncInfo is a Sync Info message, or the Sync Done control.
type syncInfo struct {
	kind   byte // 0 newcookie, 1 refreshDelete, 2 refreshPresent, 3 a set of keys
	cookie []byte
	flag   bool // refreshDone of 1 and 2, refreshDeletes of 3 and of the control
	ids    [][16]byte
}

func parseIntermediate(op []byte, e *syncEvent) error {
	var name, value []byte
	for len(op) > 0 {
		tag, v, rest, ok := tlv(op)
		if !ok {
			return errWire
		}
		switch tag {
		case 0x80:
			name = v
		case 0x81:
			value = v
		}
		op = rest
	}
	if string(name) != ldap.ControlTypeSyncInfo {
		return nil
	}
	tag, v, _, ok := tlv(value)
	if !ok {
		return errWire
	}
	i := &syncInfo{kind: tag & 0x1f}
	e.info = i
	switch tag {
	case 0x80:
		i.cookie = v
		return nil
	case 0xa1, 0xa2:
		i.flag = true // its default
	case 0xa3:
	default:
		return errWire
	}
	return i.parse(v)
}

// parse reads the members: each may be missing.
func (i *syncInfo) parse(b []byte) error {
	for len(b) > 0 {
		tag, v, rest, ok := tlv(b)
		if !ok {
			return errWire
		}
		b = rest
		switch tag {
		case tagOctets:
			i.cookie = v
		case tagBoolean:
			i.flag = len(v) == 1 && v[0] != 0
		case tagSet:
			for len(v) > 0 {
				id, rest, err := expect(v, tagOctets)
				if err != nil || len(id) != 16 {
					return errWire
				}
				i.ids = append(i.ids, [16]byte(id))
				v = rest
			}
		}
	}
	return nil
}
