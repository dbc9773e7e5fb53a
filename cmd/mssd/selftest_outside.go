package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"mssd/cmd/mssd/audit"
	"mssd/tlsconf"
)

// outside are the options of a self test against a front elsewhere.
type outside struct {
	to, name, cert, key, from, rcpt string
	anchors                         []string
	send                            bool
}

func (o *outside) flags(f *pflag.FlagSet) {
	f.StringVar(&o.to, "to", "", "play from outside against the front at this host:port, with a certificate of the real trust space")
	f.StringVar(&o.cert, "cert", "", "PEM certificate with its chain, shown to that front")
	f.StringVar(&o.key, "key", "", "PEM key of the certificate")
	f.StringVar(&o.from, "from", "", "sender, of a domain that the white list binds to the certificate")
	f.StringVar(&o.rcpt, "rcpt", "", "recipient there (default: its postmaster)")
	f.StringSliceVar(&o.anchors, "anchors", nil, "PEM files of the authorities of that front's certificate; without it is not verified")
	f.StringVar(&o.name, "name", "", "name in that front's certificate (default: the host of --to)")
	f.BoolVar(&o.send, "send", false, "send one message to --rcpt; without, no message is sent to anybody")
}

// check reports what is missing or does not fit together.
func (o *outside) check() error {
	if o.to == "" {
		if o.cert != "" || o.key != "" || o.from != "" || o.rcpt != "" || o.name != "" || len(o.anchors) > 0 || o.send {
			return usageError{errors.New("--cert, --key, --from, --rcpt, --anchors, --name and --send go with --to HOST:PORT")}
		}
		return nil
	}
	host, _, err := net.SplitHostPort(o.to)
	switch {
	case err != nil || host == "":
		return usageError{fmt.Errorf("--to %s; expected host:port", o.to)}
	case o.cert == "" || o.key == "":
		return usageError{errors.New("--to needs --cert and --key: a certificate of the trust space")}
	case !isAddress(o.from):
		return usageError{fmt.Errorf("--from %q; expected an address of a domain that the white list binds to the certificate", o.from)}
	case o.rcpt != "" && !isAddress(o.rcpt):
		return usageError{fmt.Errorf("--rcpt %q; expected an address", o.rcpt)}
	case o.send && (o.rcpt == "" || len(o.anchors) == 0):
		return usageError{errors.New("--send needs --rcpt and --anchors: a message goes to whom it was meant for, and to nobody who has not proven to be that front")}
	}
	if o.name == "" {
		o.name = host
	}
	return nil
}

// isAddress takes what can stand between the angle brackets of MAIL and RCPT.
func isAddress(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	return ok && local != "" && domain != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '<' || r == '>' })
}

// playOutside plays against the front at o.to.
func (s *selftest) playOutside(ctx context.Context) error {
	o := &s.outside
	began := time.Now()
	cert, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		return fmt.Errorf("--cert %s, --key %s: %w", o.cert, o.key, err)
	}
	report := newReport(began)
	report.Tested = fmt.Sprintf("the front at %s, from outside, as %s", o.to, o.from)
	dn, _ := tlsconf.DNFromRaw(cert.Leaf.RawSubject)
	report.Notes = []string{fmt.Sprintf("certificate shown: %s, serial %X, until %s", dn, cert.Leaf.SerialNumber.Bytes(), cert.Leaf.NotAfter.UTC().Format(time.RFC3339)),
		"from outside only replies are seen: what was stored and the trace are not"}
	play := audit.Outside{Addr: o.to, Name: o.name, Cert: cert, From: o.from, Rcpt: o.rcpt, Send: o.send}
	if len(o.anchors) > 0 {
		a, err := tlsconf.LoadAnchors(o.anchors)
		if err != nil {
			return fmt.Errorf("--anchors: %w", err)
		}
		play.Roots, _ = a.Pools()
	} else {
		report.Notes = append(report.Notes, "the certificate of the front was not verified (--anchors)")
	}
	if !o.send {
		report.Notes = append(report.Notes, "no message was sent (--send)")
	}
	bounded, cancel := context.WithTimeout(ctx, selftestTime)
	defer cancel()
	report.Add(audit.PlayOutside(bounded, play))
	if ctx.Err() != nil {
		return errInterrupted
	}
	report.Seconds = time.Since(began).Seconds()
	return printReport(s.out, report, s.json)
}
