package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"mssd/store"
)

// Bounds of what a client may say.
const (
	maxScram  = 4096 // octets of a message
	maxNonce  = 512  // octets of its part
	bindLabel = "EXPORTER-Channel-Binding"
)

// scram is the state of an exchange.
type scram struct {
	plus  bool
	nonce func() string // of the server

	step     int
	gs2      string // header of the client's first message, as it stood
	binding  []byte // of the connection, where the client binds to it
	user     string
	bare     string // the client's first message without gs2
	first    string // ours
	nonces   string
	accepted *Principal
}

func newScram(plus bool) *scram {
	return &scram{plus: plus, nonce: func() string {
		b := make([]byte, 18)
		rand.Read(b) // never fails
		return base64.StdEncoding.EncodeToString(b)
	}}
}

// next takes a message of the client: the first, the one with the proof, and the empty one that ends it.
func (s *scram) next(ctx context.Context, a *Authenticator, peer Peer, message []byte) (challenge []byte, p *Principal, err error) {
	s.step++
	if len(message) > maxScram {
		return nil, nil, fmt.Errorf("%w: SCRAM: more than %d octets", ErrMessage, maxScram)
	}
	switch s.step {
	case 1:
		if err := s.begin(string(message), peer); err != nil {
			return nil, nil, err
		}
		v := a.scramOf(s.user, a.resolve(s.user, a.cfg.Now()))
		s.first = fmt.Sprintf("r=%s,s=%s,i=%d", s.nonces, b64std.EncodeToString(v.salt), v.iterations)
		return []byte(s.first), nil, nil
	case 2:
		signature, p, err := s.prove(ctx, a, peer, string(message))
		s.accepted = p
		return signature, nil, err
	}
	if len(message) > 0 || s.accepted == nil {
		return nil, nil, fmt.Errorf("%w: SCRAM: nothing was expected", ErrMessage)
	}
	p, s.accepted = s.accepted, nil
	return nil, p, nil
}

// begin reads the client's first message (RFC 5802, Section 7): gs2-header [reserved-mext ","] username "," nonce ["," extensions].
func (s *scram) begin(message string, peer Peer) error {
	bad := fmt.Errorf("%w: SCRAM: the first message", ErrMessage)
	f := strings.SplitN(message, ",", 3)
	if len(f) < 3 {
		return bad
	}
	s.gs2, s.bare = f[0]+","+f[1]+",", f[2]
	if err := s.bind(f[0], peer); err != nil {
		return err
	}
	attrs, ok := attributes(s.bare)
	if !ok || len(attrs) < 2 || attrs[0].name != 'n' || attrs[1].name != 'r' {
		return bad // an extension that must be understood ("m=") stands where the name should
	}
	if s.user, ok = saslName(attrs[0].value); !ok {
		return bad
	}
	if f[1] != "" {
		authz, isAuthz := strings.CutPrefix(f[1], "a=")
		as, ok := saslName(authz)
		if !isAuthz || !ok {
			return bad
		}
		if !strings.EqualFold(as, s.user) {
			return ErrIdentity
		}
	}
	if nonce := attrs[1].value; len(nonce) > maxNonce || !printableASCII(nonce) {
		return bad
	}
	s.nonces = attrs[1].value + s.nonce()
	return nil
}

// bind reads the flag of the channel binding (RFC 5802, Section 6).
func (s *scram) bind(flag string, peer Peer) error {
	refused := func(reason string) error { return &Refusal{Err: ErrCredentials, Reason: reason} }
	kind, asked := strings.CutPrefix(flag, "p=")
	switch {
	case asked && !s.plus, !asked && flag != "n" && flag != "y":
		return fmt.Errorf("%w: SCRAM: the channel binding flag", ErrMessage)
	case !asked && s.plus:
		return refused("ChannelBindingMissing")
	case flag == "y" && peer.Plus:
		// The client can bind and was made to believe that we cannot: somebody stands in between.
		return refused("ChannelBindingDowngrade")
	case !asked:
		return nil
	case kind != "tls-exporter" || peer.Binding == nil:
		return refused("ChannelBindingKind")
	}
	var err error
	if s.binding, err = peer.Binding(); err != nil {
		return refused("ChannelBindingKind")
	}
	return nil
}

// prove reads the client's final message: channel-binding "," nonce ["," extensions] "," proof. It gives our signature, by which the
// client knows that it speaks to who has the verifier.
func (s *scram) prove(ctx context.Context, a *Authenticator, peer Peer, message string) ([]byte, *Principal, error) {
	bad := fmt.Errorf("%w: SCRAM: the final message", ErrMessage)
	attrs, ok := attributes(message)
	if !ok || len(attrs) < 3 || attrs[0].name != 'c' || attrs[1].name != 'r' || attrs[len(attrs)-1].name != 'p' {
		return nil, nil, bad
	}
	bound, err := b64std.DecodeString(attrs[0].value)
	if err != nil {
		return nil, nil, bad
	}
	last := attrs[len(attrs)-1].value
	proof, err := b64std.DecodeString(last)
	if err != nil || len(proof) != 32 {
		return nil, nil, bad
	}
	if attrs[1].value != s.nonces {
		return nil, nil, bad
	}
	want := append([]byte(s.gs2), s.binding...)
	if subtle.ConstantTimeCompare(bound, want) != 1 {
		return nil, nil, &Refusal{Err: ErrCredentials, Reason: "ChannelBindingOther"}
	}
	messages := s.bare + "," + s.first + "," + strings.TrimSuffix(message, ",p="+last)
	key, p, err := a.scramProof(ctx, s.user, messages, proof, peer)
	if err != nil {
		return nil, nil, err
	}
	return []byte("v=" + b64std.EncodeToString(hmacOf(key, messages))), p, nil
}

// scramOf is the verifier of a candidate, or one that nothing proves and that looks the same from outside.
func (a *Authenticator) scramOf(user string, c candidate) scramVerifier {
	if c.found {
		if v, err := parseVerifier(c.member.SCRAM); err == nil {
			return v
		}
	}
	// What a client is told of an address without members must not depend on how the member is named.
	address := strings.ToLower(user)
	if at := strings.LastIndexByte(address, '@'); !c.inBAL && at >= 0 {
		address = address[strings.LastIndexByte(address[:at], '%')+1:]
	}
	if c.inBAL {
		address = string(c.bal.Address)
	}
	v := scramVerifier{iterations: scramIterations, salt: scramSalt(a.cfg.Store, address), storedKey: make([]byte, 32), serverKey: make([]byte, 32)}
	rand.Read(v.storedKey) // never fails
	return v
}

// scramProof is Password for a proof: the same throttle, the same answers. It gives the server key of the member too.
func (a *Authenticator) scramProof(ctx context.Context, user, messages string, proof []byte, peer Peer) ([]byte, *Principal, error) {
	now := a.cfg.Now()
	c := a.resolve(user, now)
	v := a.scramOf(user, c)
	match := v.proves(messages, proof) && c.member.SCRAM != ""
	t := a.attempt(user, c, peer.Remote, now)
	// A client may choose SCRAM by itself, and have the right password: that is no guess at it, and keeps nobody from PLAIN.
	without := c.ok() && c.member.SCRAM == ""
	if without {
		t.user, t.known = t.user+"/without a verifier", false
	}
	refused := func(why any, err error) ([]byte, *Principal, error) {
		a.cfg.Log.Warn("login refused", "bal", c.logBAL(), "remote", peer.Remote, "err", why)
		if !errors.Is(err, ErrUnavailable) {
			err = c.refused(err)
		}
		return nil, nil, err
	}
	switch {
	case ctx.Err() != nil:
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	case a.blocked(t, now):
		return refused("throttled", ErrThrottled)
	case c.later:
		return refused(store.ErrUnavailable, ErrUnavailable)
	case without:
		a.users.fail(t.user, guess{}, now)
		_, _, err := refused("the password was set while SCRAM was not offered", ErrCredentials)
		return nil, nil, noVerifier(err)
	case !match || !c.ok():
		a.failed(t, guess{}, now)
		return refused(c.why(match), ErrCredentials)
	}
	a.succeeded(t, now)
	p := a.welcome(c)
	p.Method = "scram"
	return v.serverKey, p, nil
}

func noVerifier(err error) error {
	var named *NamedRefusal
	if errors.As(err, &named) {
		named.Reason = "NoVerifier"
	}
	return err
}

// attribute is "x=value".
type attribute struct {
	name  byte
	value string
}

// attributes takes the attributes of a message apart. Those that nobody knows are no fault (RFC 5802, Section 5.1).
func attributes(message string) ([]attribute, bool) {
	var list []attribute
	for f := range strings.SplitSeq(message, ",") {
		if len(f) < 3 || f[1] != '=' || f[0]|0x20 < 'a' || f[0]|0x20 > 'z' || f[0] == 'm' || strings.ContainsRune(f, 0) {
			return nil, false
		}
		list = append(list, attribute{f[0], f[2:]})
	}
	return list, true
}

// saslName decodes a name (RFC 5801, Section 4): "=2C" is a comma, "=3D" an equals sign, another "=" is a fault, as are NUL and no
// name at all.
func saslName(s string) (string, bool) {
	if strings.Contains(s, "\x00") {
		return "", false
	}
	s = strings.ReplaceAll(strings.ReplaceAll(s, "=2C", ","), "=3D", "\x00")
	if s == "" || strings.Contains(s, "=") {
		return "", false
	}
	return strings.ReplaceAll(s, "\x00", "="), true
}

func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
