package delivery

import (
	"net/netip"
	"strings"
	"time"

	"mssd/trace"
)

// MaxPrefix bounds the prefix of one message in one BAL, octets.
const MaxPrefix = 4 << 10

// Bounds of the values that make a prefix, octets, chosen so that their sum stays under MaxPrefix.
const (
	maxHelo  = 255 // RFC 5321, Section 4.5.3.1.2
	maxDN    = 512
	maxORCPT = 500 // RFC 3461, Section 4.2
	maxEnvID = 100 // RFC 3461, Section 4.4
	maxWord  = 128 // cipher, list version
)

// prefix is the header fields that we put before the message for one recipient. Return-Path comes
// first (RFC 5321, Section 4.4: one, at the top), then the verdict, then the trace line.
func (d *Delivery) prefix(in *Incoming, signed []Signature, r Recipient, only bool, id trace.ID, now time.Time) []byte {
	f := folder{b: make([]byte, 0, 768)}

	f.field("Return-Path:")
	f.word("<" + string(in.ReversePath) + ">")

	d.authResults(&f, in, signed)
	d.received(&f, in, r, only, id, now)

	if r.ORCPT != "" {
		f.field("Original-Recipient:") // RFC 8098, Section 2.3
		f.word(printable(clip(r.ORCPT, maxORCPT)))
	}
	if in.EnvID != "" {
		f.field("Original-Envelope-Id:") // RFC 3464, Section 2.2.1
		f.word(printable(clip(in.EnvID, maxEnvID)))
	}
	if r.Notify != "" || in.Ret != "" {
		// What the sender asked for, kept for whoever makes the receipts.
		f.field("X-MSSD-Receipts:")
		if r.Notify != "" {
			f.word("NOTIFY=" + printable(clip(r.Notify, maxWord)))
		}
		if in.Ret != "" {
			f.word("RET=" + printable(clip(in.Ret, maxWord)))
		}
	}
	return f.end()
}

// authResults says, in the form of RFC 8601, what the front found out about the peer. The method is
// ours (x-): none is registered for the certificate of an SMTP client.
func (d *Delivery) authResults(f *folder, in *Incoming, signed []Signature) {
	f.field("Authentication-Results:")
	f.word(d.cfg.Hostname + ";")
	if m := in.Member; m != nil {
		f.word("auth=pass") // RFC 8601, Section 2.7.4
		f.word("smtp.auth=" + printable(string(m.BAL.Address)))
		return
	}
	if !in.Verdict.OK() {
		f.word("none")
		return
	}
	f.word("x-tls-client-cert=pass")
	f.word("policy.dn=" + quoted(clip(in.Verdict.DN.String(), maxDN)))
	if dom := in.ReversePath.Domain(); dom != "" {
		f.word("smtp.mailfrom=" + printable(dom))
	}
	if in.ListVersion != "" {
		f.word("policy.whitelist=" + quoted(clip(in.ListVersion, maxWord)))
	}
	if h := in.HeaderFrom; h.Result != "" {
		f.glue(";")
		f.word("x-mssante-from=" + atomic(h.Result))
		if h.Domain != "" {
			f.word("header.from=" + printable(clip(h.Domain, maxHelo)))
		}
	}
	for _, s := range signed {
		f.glue(";")
		f.word("dkim=" + s.Result)
		if s.Domain != "" {
			f.word("header.d=" + printable(clip(s.Domain, maxHelo)))
		}
	}
}

// received is the time stamp line of RFC 5321, Section 4.4. "for" stands only where there is one
// recipient, so that nobody reads of another.
func (d *Delivery) received(f *folder, in *Incoming, r Recipient, only bool, id trace.ID, now time.Time) {
	f.field("Received:")
	f.word("from")
	for _, w := range fromDomain(in.Helo, in.Remote) {
		f.word(w)
	}
	f.word("by")
	f.word(d.cfg.Hostname)
	f.word("(mssd)")
	if in.Protocol != "" {
		f.word("with")
		f.word(in.Protocol)
	}
	if in.Cipher != "" {
		// RFC 8314, Section 4.3: the tls clause names the suite.
		f.word("tls")
		f.word(atomic(in.Cipher))
		f.word("(" + atomic(in.TLSVersion) + ")")
	}
	f.word("id")
	f.word(id.String())
	if only {
		f.word("for")
		f.word("<" + string(r.Address) + ">")
	}
	f.glue(";")
	f.word(now.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
}

// fromDomain is Extended-Domain: what the peer called itself when that is a domain or an address
// literal, its real address otherwise, and the address in any case.
func fromDomain(helo string, remote netip.Addr) []string {
	info := "([" + literal(remote) + "])"
	switch {
	case len(helo) <= maxHelo && isDomain(helo):
		return []string{helo, info}
	case isLiteral(helo):
		return []string{helo, info}
	}
	return []string{"[" + literal(remote) + "]", "(invalid-name)"}
}

// literal is the inside of an address literal (RFC 5321, Section 4.1.3).
func literal(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	switch {
	case !a.IsValid():
		return "0.0.0.0" // no network address: a pipe
	case a.Is6():
		return "IPv6:" + a.String()
	}
	return a.String()
}

func isLiteral(s string) bool {
	inner, ok := strings.CutPrefix(s, "[")
	if !ok || !strings.HasSuffix(inner, "]") {
		return false
	}
	inner = strings.TrimSuffix(inner, "]")
	if v6, ok := strings.CutPrefix(inner, "IPv6:"); ok {
		a, err := netip.ParseAddr(v6)
		return err == nil && a.Is6() && a.Zone() == ""
	}
	a, err := netip.ParseAddr(inner)
	return err == nil && a.Is4()
}

// isDomain is the Domain of RFC 5321, Section 4.1.2, with the underscore that real hosts use.
func isDomain(s string) bool {
	if s == "" {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// printable replaces whatever is not printable ASCII, so that no value can end a line or hide octets.
func printable(s string) string { return replace(s, func(c byte) bool { return c > ' ' && c < 0x7f }) }

// atomic keeps what may stand in an RFC 5322 atom.
func atomic(s string) string {
	return replace(s, func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.", c) >= 0
	})
}

// quoted is a quoted-string (RFC 5322, Section 3.2.4).
func quoted(s string) string {
	s = replace(s, func(c byte) bool { return c >= ' ' && c < 0x7f })
	s = strings.ReplaceAll(s, `\`, `\\`)
	return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`
}

func replace(s string, keep func(byte) bool) string {
	b := []byte(s)
	for i, c := range b {
		if !keep(c) {
			b[i] = '?'
		}
	}
	return string(b)
}

// folder writes header fields, breaking lines between words so that they stay within 78 characters
// where they can (RFC 5322, Section 2.1.1).
type folder struct {
	b   []byte
	col int
}

const foldAt = 78

func (f *folder) field(name string) {
	if len(f.b) > 0 {
		f.b = append(f.b, "\r\n"...)
	}
	f.b = append(f.b, name...)
	f.col = len(name)
}

// word adds a word after a space or a fold. A quoted word with spaces in it is broken at them: within
// a quoted-string a fold is the space it stands at (RFC 5322, Section 3.2.4).
func (f *folder) word(w string) {
	for i, part := range strings.Split(w, " ") {
		if part == "" && i > 0 {
			f.b = append(f.b, ' ') // runs of spaces stay, and never begin a line of their own
			f.col++
			continue
		}
		if f.col+1+len(part) > foldAt && f.col > 1 {
			f.b = append(f.b, "\r\n"...)
			f.col = 0
		}
		f.b = append(f.b, ' ')
		f.b = append(f.b, part...)
		f.col += 1 + len(part)
	}
}

// glue adds s without a space.
func (f *folder) glue(s string) {
	f.b = append(f.b, s...)
	f.col += len(s)
}

func (f *folder) end() []byte { return append(f.b, "\r\n"...) }
