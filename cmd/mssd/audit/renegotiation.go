package audit

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// A second handshake inside the first (TLS 1.2): a peer that may do so changes its certificate in mid-session. The TLS
// client of Go cannot begin one, so that one record is made by hand here, under the keys of a session of AES-128-GCM with
// SHA-256 (RFC 5246, Sections 6.2.3.3 and 6.3; RFC 5288): the same hello again, with what RFC 5746 wants in it, so that
// a server that allows renegotiation has no other reason to refuse.
func renegotiation(p *player) {
	p.begin("TLS renegotiation in mid-session", "")
	p.step("a new handshake after RCPT, TLS 1.2", want{at: "renegotiation", reply: alertPrefix, untraced: true}, func(f front) seen {
		m := p.from("partner", sender)
		c, err := f.dial(p.ctx)
		if err != nil {
			return seen{At: "connect", Reply: broken(err).Error()}
		}
		defer c.close()
		var r renegotiator
		m.version, m.noData, m.through = tls.VersionTLS12, true, &r
		if s := c.open(f, m); s.At != "" {
			return s
		}
		if s := c.deliver(m, ""); s.At != "RCPT" || !strings.HasPrefix(s.Reply, "250") {
			return s
		}
		alert, err := r.begin()
		if err != nil {
			return seen{At: "renegotiation", Reply: err.Error()}
		}
		return seen{At: "renegotiation", Reply: alertPrefix + alert}
	})
}

const (
	recordCCS       = 20
	recordAlert     = 21
	recordHandshake = 22
	recordHeader    = 5
	maxRecord       = 16<<10 + 2048 // octets (RFC 5246, Section 6.2.3)
	renegotiated    = "the front takes part in a renegotiation"
)

// renegotiator sits between the socket and TLS: it counts the records and holds what the keys are made of.
type renegotiator struct {
	net.Conn
	out, in half
	keyLog  bytes.Buffer // CLIENT_RANDOM lines
}

// half is one direction. Hello is the first message of the handshake, sealed the first record under keys (Finished).
type half struct {
	part          []byte // of a record that has not come whole
	hello, sealed []byte
	keyed         bool   // after ChangeCipherSpec
	n             uint64 // records since
}

func (h *half) see(b []byte) {
	h.part = append(h.part, b...)
	for len(h.part) >= recordHeader {
		n := recordHeader + int(binary.BigEndian.Uint16(h.part[3:]))
		if len(h.part) < n {
			return
		}
		rec := bytes.Clone(h.part[:n])
		h.part = h.part[n:]
		switch {
		case h.keyed:
			if h.n++; h.n == 1 {
				h.sealed = rec
			}
		case rec[0] == recordCCS:
			h.keyed = true
		case h.hello == nil:
			h.hello = rec[recordHeader:]
		}
	}
}

func (r *renegotiator) Write(b []byte) (int, error) {
	n, err := r.Conn.Write(b)
	r.out.see(b[:n])
	return n, err
}

func (r *renegotiator) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.in.see(b[:n])
	return n, err
}

// under makes r the way of a session whose keys it can learn.
func (r *renegotiator) under(c net.Conn, cfg *tls.Config) net.Conn {
	r.Conn = c
	cfg.KeyLogWriter = &r.keyLog
	cfg.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	return r
}

// begin asks for a new handshake and returns the alert that refuses it.
func (r *renegotiator) begin() (alert string, err error) {
	mine, theirs, err := r.keys()
	if err != nil {
		return "", err
	}
	finished, err := mine.open(r.out.sealed, 0)
	if err != nil || len(finished) != 16 {
		return "", fmt.Errorf("our own Finished cannot be read: %w", err)
	}
	hello, err := helloAgain(r.out.hello, finished[4:])
	if err != nil {
		return "", err
	}
	_ = r.Conn.SetDeadline(time.Now().Add(patience))
	if _, err := r.Conn.Write(mine.seal(recordHandshake, hello, r.out.n)); err != nil {
		return "", err
	}
	rec, err := readRecord(r.Conn)
	if err != nil {
		return "", broken(err)
	}
	plain, err := theirs.open(rec, r.in.n)
	switch {
	case err != nil:
		return "", fmt.Errorf("the answer cannot be read: %w", err)
	case rec[0] == recordHandshake:
		return "", errors.New(renegotiated)
	case rec[0] != recordAlert || len(plain) != 2:
		return "", fmt.Errorf("a record of type %d, expected an alert", rec[0])
	}
	return strings.TrimPrefix(tls.AlertError(plain[1]).Error(), "tls: "), nil
}

func readRecord(c net.Conn) ([]byte, error) {
	head := make([]byte, recordHeader)
	if _, err := io.ReadFull(c, head); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[3:]))
	if n > maxRecord {
		return nil, fmt.Errorf("a record of %d octets", n)
	}
	rec := append(head, make([]byte, n)...)
	_, err := io.ReadFull(c, rec[recordHeader:])
	return rec, err
}

// writeKey is the key of one direction.
type writeKey struct {
	aead cipher.AEAD
	iv   []byte
}

// keys are those of the session, this side's first.
func (r *renegotiator) keys() (mine, theirs writeKey, err error) {
	f := strings.Fields(r.keyLog.String())
	if len(f) != 3 || f[0] != "CLIENT_RANDOM" || len(r.in.hello) < 38 || len(r.out.part)+len(r.in.part) > 0 {
		return mine, theirs, errors.New("the session is not one of TLS 1.2 at rest")
	}
	client, err1 := hex.DecodeString(f[1])
	master, err2 := hex.DecodeString(f[2])
	if err := errors.Join(err1, err2); err != nil {
		return mine, theirs, err
	}
	server := r.in.hello[6:38] // type, length, version, random
	block := prf(master, "key expansion", append(bytes.Clone(server), client...), 40)
	if mine, err = newWriteKey(block[:16], block[32:36]); err != nil {
		return mine, theirs, err
	}
	theirs, err = newWriteKey(block[16:32], block[36:40])
	return mine, theirs, err
}

func newWriteKey(key, iv []byte) (writeKey, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return writeKey{}, err
	}
	aead, err := cipher.NewGCM(b)
	return writeKey{aead, iv}, err
}

// prf is that of TLS 1.2 with SHA-256 (RFC 5246, Section 5).
func prf(secret []byte, label string, seed []byte, n int) []byte {
	mac := func(parts ...[]byte) []byte {
		h := hmac.New(sha256.New, secret)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	seed = append([]byte(label), seed...)
	var out []byte
	for a := mac(seed); len(out) < n; a = mac(a) {
		out = append(out, mac(a, seed)...)
	}
	return out[:n]
}

// extra is the additional data of a record (RFC 5246, Section 6.2.3.3).
func extra(kind byte, n int, seq uint64) []byte {
	b := binary.BigEndian.AppendUint64(nil, seq)
	return binary.BigEndian.AppendUint16(append(b, kind, 3, 3), uint16(n))
}

func (k writeKey) seal(kind byte, plain []byte, seq uint64) []byte {
	explicit := binary.BigEndian.AppendUint64(nil, seq)
	rec := []byte{kind, 3, 3}
	rec = binary.BigEndian.AppendUint16(rec, uint16(8+len(plain)+k.aead.Overhead()))
	rec = append(rec, explicit...)
	return k.aead.Seal(rec, append(bytes.Clone(k.iv), explicit...), plain, extra(kind, len(plain), seq))
}

func (k writeKey) open(rec []byte, seq uint64) ([]byte, error) {
	if len(rec) < recordHeader+8+k.aead.Overhead() {
		return nil, errors.New("a record that is too short")
	}
	body := rec[recordHeader:]
	return k.aead.Open(nil, append(bytes.Clone(k.iv), body[:8]...), body[8:], extra(rec[0], len(body)-8-k.aead.Overhead(), seq))
}

// helloAgain is a ClientHello for a renegotiation: the extension renegotiation_info carries what the first handshake's
// Finished did (RFC 5746, Section 3.5).
func helloAgain(hello, verify []byte) ([]byte, error) {
	first := []byte{0xff, 0x01, 0x00, 0x01, 0x00}
	at := 38 // type, length, version, random
	skip := func(prefix int) {
		if at+prefix > len(hello) {
			at = len(hello) + 1
			return
		}
		n := 0
		for _, c := range hello[at : at+prefix] {
			n = n<<8 | int(c)
		}
		at += prefix + n
	}
	skip(1) // session id
	skip(2) // cipher suites
	skip(1) // compression
	i := bytes.LastIndex(hello, first)
	if at+2 > len(hello) || i < at+2 {
		return nil, errors.New("a hello without renegotiation_info")
	}
	out := append(bytes.Clone(hello[:i]), 0xff, 0x01, 0x00, byte(1+len(verify)), byte(len(verify)))
	out = append(append(out, verify...), hello[i+len(first):]...)
	binary.BigEndian.PutUint16(out[at:], uint16(len(out)-at-2))
	n := len(out) - 4
	out[1], out[2], out[3] = byte(n>>16), byte(n>>8), byte(n)
	return out, nil
}
