package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"time"
)

const herBAL Address = "dr.martin@officine.test"

const plainFrom = "From: dr.martin@officine.test\r\n"

func origin(raw string) Origin {
	s := NewScanner()
	_, _ = io.WriteString(s, raw)
	s.Finish()
	return s.Origin()
}

// TestOriginOf: a message whose From and Sender are the BAL passes in each form that mail software writes; in every other form,
// however it is spelt, it does not, and the error says why.
func TestOriginOf(t *testing.T) {
	for name, tc := range map[string]struct {
		header string
		field  string // "" with ErrHeader
		want   error  // nil: it is hers
	}{
		"bare":               {plainFrom, "", nil},
		"case":               {"FROM:Dr.Martin@Officine.TEST\r\n", "", nil},
		"space before colon": {"From : dr.martin@officine.test\r\n", "", nil},
		"angle":              {"From: <dr.martin@officine.test>\r\n", "", nil},
		"name":               {"From: Dr. Anne Martin <dr.martin@officine.test>\r\n", "", nil},
		"name without space": {"From: Anne<dr.martin@officine.test>\r\n", "", nil},
		"quoted name":        {"From: \"MARTIN, Anne (Dr)\" <dr.martin@officine.test>\r\n", "", nil},
		"quoted quote":       {"From: \"Anne \\\"Nana\\\" Martin\" <dr.martin@officine.test>\r\n", "", nil},
		"encoded name":       {"From: =?utf-8?q?Anne_MARTIN=2C_m=C3=A9decin?= <dr.martin@officine.test>\r\n", "", nil},
		"encoded latin":      {"From: =?iso-8859-15?b?Suly9G1l?= <dr.martin@officine.test>\r\n", "", nil},
		"raw UTF-8 name":     {"From: Jérôme <dr.martin@officine.test>\r\n", "", nil},
		"address as name":    {"From: \"Dr.Martin@officine.test\" <dr.martin@officine.test>\r\n", "", nil},
		"unquoted the same":  {"From: dr.martin@officine.test <dr.martin@officine.test>\r\n", "", nil},
		"address in name":    {"From: \"Anne (dr.martin@officine.test)\" <dr.martin@officine.test>\r\n", "", nil},
		"an at sign in it":   {"From: Pharm@cie du Dr. Martin @ Lyon <dr.martin@officine.test>\r\n", "", nil},
		"comment":            {"From: dr.martin@officine.test (Anne \\(Dr\\) Martin)\r\n", "", nil},
		"folded at once":     {"From: \r\n\t=?UTF-8?Q?=C3=89lodie?= <dr.martin@officine.test>\r\n", "", nil}, // JavaMail
		"empty line within":  {"From: \r\n \t\r\n dr.martin@officine.test\r\n", "From", ErrNoMailbox},
		"folded":             {"From: =?utf-8?q?Anne?=\r\n =?utf-8?q?_Martin?=\r\n\t<dr.martin@officine.test>\r\n", "", nil},
		"folded, no space":   {"From:\r\n Anne <dr.martin@officine.test>\r\n", "", nil},
		"folded after space": {"From: \r\n dr.martin@officine.test\r\n", "", nil},
		"sender":             {plainFrom + "Sender: Officine <DR.martin@officine.test>\r\n", "", nil},
		"others":             {"Received: from a by b;\r\n Mon, 23 Nov 2026 10:00:00 +0100\r\nReply-To: x@y.test, g: a@b.test;\r\n" + plainFrom + "To: x\r\n", "", nil},

		"none":                 {"To: dr.martin@officine.test\r\n", "From", ErrNoField},
		"empty":                {"From:\r\n", "From", ErrNoMailbox},
		"space":                {"From: \t \r\n", "From", ErrNoMailbox},
		"empty angle":          {"From: <>\r\n", "From", ErrNoMailbox},
		"name alone":           {"From: Anne\r\n", "From", ErrNoMailbox},
		"local part alone":     {"From: <dr.martin>\r\n", "From", ErrNoMailbox},
		"another":              {"From: chef@officine.test\r\n", "From", ErrOtherWrote},
		"another domain":       {"From: dr.martin@officine.test.evil.test\r\n", "From", ErrOtherWrote},
		"longer local part":    {"From: xdr.martin@officine.test\r\n", "From", ErrOtherWrote},
		"her address as name":  {"From: \"dr.martin@officine.test\" <chef@officine.test>\r\n", "From", ErrDisguise},
		"quoted local part":    {"From: <\"dr.martin\"@officine.test>\r\n", "From", ErrOtherWrote},
		"two fields":           {plainFrom + "From: chef@officine.test\r\n", "From", ErrRepeated},
		"two, hers last":       {"From: chef@officine.test\r\n" + plainFrom, "From", ErrRepeated},
		"twice the same":       {plainFrom + plainFrom, "From", ErrRepeated},
		"second with a space":  {plainFrom + "from\t: chef@officine.test\r\n", "From", ErrRepeated},
		"second is empty":      {plainFrom + "From:\r\n", "From", ErrRepeated},
		"two addresses":        {"From: dr.martin@officine.test, chef@officine.test\r\n", "From", ErrNotOne},
		"two angles":           {"From: A <chef@officine.test>, B <dr.martin@officine.test>\r\n", "From", ErrNotOne},
		"no comma":             {"From: <chef@officine.test> <dr.martin@officine.test>\r\n", "From", ErrNoMailbox},
		"one behind the angle": {"From: <dr.martin@officine.test> chef@officine.test\r\n", "From", ErrNoMailbox},
		"empty list member":    {"From: ,dr.martin@officine.test\r\n", "From", ErrNotOne},
		"trailing comma":       {"From: dr.martin@officine.test,\r\n", "From", ErrNotOne},
		"group":                {"From: Officine: dr.martin@officine.test;\r\n", "From", ErrNotOne},
		"empty group":          {"From: Officine:; \r\n", "From", ErrNotOne},
		"group behind":         {"From: <dr.martin@officine.test>, g: chef@officine.test;\r\n", "From", ErrNotOne},
		"semicolon":            {"From: dr.martin@officine.test; chef@officine.test\r\n", "From", ErrNotOne},
		"route":                {"From: <@evil.test:dr.martin@officine.test>\r\n", "From", ErrNoMailbox},
		"route of two":         {"From: <@evil.test,@b.test:dr.martin@officine.test>\r\n", "From", ErrNoMailbox},
		"comment inside":       {"From: dr.martin(x)@officine.test\r\n", "From", ErrNoMailbox},
		"comment in angle":     {"From: <dr.martin@officine.test(x)>\r\n", "From", ErrNoMailbox},
		"space inside":         {"From: dr.martin @ officine.test\r\n", "From", ErrNoMailbox},
		"space in angle":       {"From: < dr.martin@officine.test >\r\n", "From", ErrNoMailbox},
		"unclosed comment":     {"From: dr.martin@officine.test (chef@officine.test\r\n", "From", ErrNoMailbox},
		"unclosed quote":       {"From: \"Anne <dr.martin@officine.test>\r\n", "From", ErrNoMailbox},
		"unclosed angle":       {"From: <dr.martin@officine.test\r\n", "From", ErrNoMailbox},
		"stray angle":          {"From: dr.martin@officine.test>\r\n", "From", ErrNoMailbox},
		"stray parenthesis":    {"From: dr.martin@officine.test)\r\n", "From", ErrNoMailbox},
		"two at signs":         {"From: chef@evil.test@officine.test\r\n", "From", ErrNoMailbox},
		"not ASCII":            {"From: <dr.martin@offıcine.test>\r\n", "From", ErrNoMailbox},
		"full width at":        {"From: dr.martin＠officine.test\r\n", "From", ErrNoMailbox},
		"encoded address":      {"From: =?utf-8?q?dr.martin=40officine.test?=\r\n", "From", ErrNoMailbox},
		"encoded in angle":     {"From: <=?utf-8?q?chef=40evil.test?=@officine.test>\r\n", "From", ErrOtherWrote},
		"too long":             {"From: " + strings.Repeat("a", 300) + "@officine.test\r\n", "From", ErrNoMailbox},
		"control in value":     {"From: Anne\x08 <dr.martin@officine.test>\r\n", "From", ErrNoMailbox},
		"empty at once":        {"From:\r\n \r\n dr.martin@officine.test\r\n", "From", ErrNoMailbox},
		"line that looks last": {"From: dr.martin@officine.test\r\n \r\n", "From", ErrNoMailbox},

		"name shows another":     {"From: \"chef@evil.test\" <dr.martin@officine.test>\r\n", "From", ErrDisguise},
		"name ends with hers":    {"From: xdr.martin@officine.test <dr.martin@officine.test>\r\n", "From", ErrDisguise},
		"name goes on":           {"From: \"dr.martin@officine.test.evil.test\" <dr.martin@officine.test>\r\n", "From", ErrDisguise},
		"encoded name shows one": {"From: =?utf-8?q?chef=40evil.test?= <dr.martin@officine.test>\r\n", "From", ErrDisguise},
		"base64 too":             {"From: =?utf-8?b?Y2hlZkBldmlsLnRlc3Q=?= <dr.martin@officine.test>\r\n", "From", ErrDisguise},
		"in two words":           {"From: =?utf-8?q?chef=40?= =?utf-8?q?evil.test?= <dr.martin@officine.test>\r\n", "From", ErrDisguise},
		"encoded angle":          {"From: =?utf-8?q?chef_=3C?= <dr.martin@officine.test>\r\n", "From", ErrDisguise},
		"encoded line end":       {"From: =?utf-8?q?a=0D=0AFrom=3A_chef?= <dr.martin@officine.test>\r\n", "From", ErrDisguise},
		"encoded twice":          {"From: =?utf-8?q?=3D=3Futf-8=3Fq=3Fchef=3D40x=3F=3D?= <dr.martin@officine.test>\r\n", "From", ErrDisguise},
		"UTF-7":                  {"From: =?utf-7?q?chef+AEA-evil.test?= <dr.martin@officine.test>\r\n", "From", ErrDisguise},
		"word without end":       {"From: =?utf-8?b?" + strings.Repeat("QUFB", 600) + "?= <dr.martin@officine.test>\r\n", "From", ErrDisguise},
		"wide at in name":        {"From: chef＠evil.test <dr.martin@officine.test>\r\n", "From", ErrDisguise},
		"wide dot in name":       {"From: chef@evil．test <dr.martin@officine.test>\r\n", "From", ErrDisguise},
		"domain in name":         {"From: chef @evil.test <dr.martin@officine.test>\r\n", "From", ErrDisguise},
		"writing turned":         {"From: \"Anne \u202etset\" <dr.martin@officine.test>\r\n", "From", ErrDisguise},
		"comment shows one":      {"From: (chef@evil.test) dr.martin@officine.test\r\n", "From", ErrDisguise},
		"comment behind angle":   {"From: <dr.martin@officine.test> (chef@evil.test)\r\n", "From", ErrDisguise},
		"comment in a comment":   {"From: dr.martin@officine.test (a (chef@evil.test))\r\n", "From", ErrDisguise},

		"sender of another":     {plainFrom + "Sender: chef@officine.test\r\n", "Sender", ErrOtherWrote},
		"two senders":           {plainFrom + "Sender: dr.martin@officine.test\r\nSENDER: dr.martin@officine.test\r\n", "Sender", ErrRepeated},
		"sender is a list":      {plainFrom + "Sender: dr.martin@officine.test, chef@officine.test\r\n", "Sender", ErrNotOne},
		"sender is empty":       {plainFrom + "Sender:\r\n", "Sender", ErrNoMailbox},
		"sender disguised":      {plainFrom + "Sender: \"chef@evil.test\" <dr.martin@officine.test>\r\n", "Sender", ErrDisguise},
		"sender without a from": {"Sender: dr.martin@officine.test\r\n", "From", ErrNoField},

		"NUL in the name":       {plainFrom + "From\x00: chef@officine.test\r\n", "", ErrHeader},
		"NUL elsewhere":         {"Subject: a\x00b\r\n" + plainFrom, "", ErrHeader},
		"bare CR":               {"Subject: a\rFrom: chef@officine.test\r\n" + plainFrom, "", ErrHeader},
		"bare LF":               {"Subject: a\nX: y\r\n" + plainFrom, "", ErrHeader},
		"CR CR LF":              {"Subject: a\r\r\n" + plainFrom, "", ErrHeader},
		"line that is no field": {plainFrom + "chef@officine.test\r\n", "", ErrHeader},
		"name not ASCII":        {"Ｆrom: chef@officine.test\r\n" + plainFrom, "", ErrHeader},
		"no-break space":        {"From\xa0: chef@officine.test\r\n" + plainFrom, "", ErrHeader},
		"control in the name":   {"\x01From: chef@officine.test\r\n" + plainFrom, "", ErrHeader},
		"folded first line":     {" From: chef@officine.test\r\n" + plainFrom, "", ErrHeader},
		"mbox line":             {"From chef@officine.test Mon Nov 23 10:00:00 2026\r\n" + plainFrom, "", ErrHeader},
		"more than is read":     {plainFrom + strings.Repeat("X-Filler: "+strings.Repeat("y", 900)+"\r\n", 150) + "From: chef@officine.test\r\n", "", ErrHeader},
	} {
		t.Run(name, func(t *testing.T) {
			o := origin(tc.header + "\r\nFrom: chef@officine.test\r\nbody\r\n")
			err := o.By("Dr.Martin@Officine.test")
			if tc.want == nil {
				if err != nil || o.From != herBAL || o.Sender != "" && o.Sender != herBAL {
					t.Errorf("%q: %v, %v", tc.header, o, err)
				}
				return
			}
			var oe *OriginError
			if !errors.Is(err, tc.want) || !errors.As(err, &oe) || oe.Field != tc.field {
				t.Errorf("%q: %v, want %v (%s)", tc.header, err, tc.want, tc.field)
			}
			if err != nil && strings.Contains(err.Error(), "test") {
				t.Errorf("the error repeats the message: %v", err)
			}
		})
	}
}

// TestReceipt: only a receipt of a reader is one, and one inside another message is none.
func TestReceipt(t *testing.T) {
	const mdn = "Content-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n"
	for header, want := range map[string]bool{
		"":  false,
		mdn: true,
		"Content-Type: Multipart/REPORT;\r\n boundary=b;\r\n Report-Type=\"Disposition-Notification\"\r\n":    true,
		"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n":                         false,
		"Content-Type: multipart/report; boundary=b\r\n":                                                      false,
		"Content-Type: multipart/mixed; report-type=disposition-notification; boundary=b\r\n":                 false,
		"Content-Type: text/report; report-type=disposition-notification\r\n":                                 false,
		"Content-Type: text/plain\r\n" + mdn:                                                                  false,
		"Content-Type: multipart/report; report-type=x; report-type=disposition-notification; boundary=b\r\n": false,
		"Content-Type: message/rfc822\r\n":                                                                    false,
	} {
		o := origin(header + plainFrom + "\r\n" + mdn + plainFrom + "\r\n--b\r\n" + mdn + "\r\nx\r\n--b--\r\n")
		if o.Receipt != want || o.By(herBAL) != nil {
			t.Errorf("%q: %+v", header, o)
		}
	}
}

// TestOriginInPieces: the answer does not depend on how the octets came, nor on a message inside the message.
func TestOriginInPieces(t *testing.T) {
	raw := "From: Anne\r\n <dr.martin@officine.test>\r\nDate: x\r\nContent-Type: message/rfc822\r\n\r\nFrom: chef@officine.test\r\nFrom: x\r\nbad\r\n\r\nx"
	s := NewScanner()
	for i := range len(raw) {
		_, _ = s.Write([]byte{raw[i]})
	}
	s.Finish()
	if o := s.Origin(); o != origin(raw) || o.By(herBAL) != nil {
		t.Errorf("%+v, whole %+v", o, origin(raw))
	}
}

// TestOriginHostile: what takes long to read is read in linear time.
func TestOriginHostile(t *testing.T) {
	n := MaxHeader - 100
	for _, v := range []string{strings.Repeat("(", n), strings.Repeat("()", n/2), strings.Repeat("=?", n/2), strings.Repeat("=?a?q??=", n/8), strings.Repeat("<", n),
		strings.Repeat("a ", n/2) + "<" + string(herBAL) + ">", strings.Repeat("(a)", n/3) + string(herBAL), "\"" + strings.Repeat("\\", n)} {
		began := time.Now()
		origin("From: " + v + "\r\n\r\n")
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("%.10q…: %v", v, d)
		}
	}
}

// FuzzOrigin: where we say that a message is hers, a reader that knows nothing of ours, net/mail, sees her or cannot read it,
// and so does our own lenient one.
func FuzzOrigin(f *testing.F) {
	for _, s := range []string{string(herBAL), "<" + string(herBAL) + ">", "\"a\" <" + string(herBAL) + ">", "(x) " + string(herBAL),
		"=?utf-8?q?a?= <" + string(herBAL) + ">", string(herBAL) + "\r\nSender: " + string(herBAL), "g:" + string(herBAL) + ";",
		string(herBAL) + "\r\n\r\nx@y.test", "<@a:" + string(herBAL) + ">"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if len(v) > 4096 {
			return
		}
		raw := "From: " + v + "\r\n\r\nbody\r\n"
		s := NewScanner()
		_, _ = io.WriteString(s, raw)
		s.Finish()
		o := s.Origin()
		if (o.Err == nil) != (o.From != "") {
			t.Fatalf("%+v", o)
		}
		if o.By(herBAL) != nil {
			return
		}
		if d := s.FromDomains(); !slices.Equal(d, []string{herBAL.Domain()}) {
			t.Fatalf("%q: domains %q", v, d)
		}
		m, err := mail.ReadMessage(bytes.NewReader([]byte(raw)))
		if err != nil {
			return
		}
		for _, name := range []string{"From", "Sender"} {
			if len(m.Header[name]) > 1 {
				t.Fatalf("%q: %d times %s", v, len(m.Header[name]), name)
			}
			list, err := m.Header.AddressList(name)
			if err != nil {
				continue
			}
			if len(list) != 1 || !strings.EqualFold(list[0].Address, string(herBAL)) {
				t.Fatalf("%q: a reader sees %v", v, fmt.Sprint(list))
			}
		}
	})
}
