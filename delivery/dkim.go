package delivery

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-msgauth/dkim"
)

// Bounds of the verification of DKIM signatures: header lines are joined by the library in quadratic time, and each
// signature costs a question to the DNS.
const (
	maxSignatures = 3        // the others are not looked at
	maxDKIMHeader = 32 << 10 // octets of the top header; a longer one is not verified ("policy")
	dkimWait      = 3 * time.Second
	dkimPause     = time.Minute // without questions, after dkimFailures of them were not answered in time
	dkimFailures  = 3
)

// DKIM verifies the signatures (RFC 6376) of messages while they stream past. What it finds is noted, never a
// reason to refuse: between operators the certificate says who sends. It is safe for concurrent use.
type DKIM struct {
	lookup func(ctx context.Context, name string) ([]string, error)
	now    func() time.Time

	mu     sync.Mutex
	failed int       // questions in a row that were not answered
	until  time.Time // no questions before
}

// NewDKIM asks lookup for TXT records; nil: the resolver of the system.
func NewDKIM(lookup func(ctx context.Context, name string) ([]string, error)) *DKIM {
	if lookup == nil {
		lookup = net.DefaultResolver.LookupTXT
	}
	return &DKIM{lookup: lookup, now: time.Now}
}

// Signature is what was found out about one.
type Signature struct {
	Result string // a word of RFC 8601, Section 2.7.1: pass, fail, policy, permerror, temperror
	Domain string // d=, "" where it is none
}

var errNoDNS = errors.New("delivery: the DNS does not answer")

// ask is one question to the DNS. Where the DNS is away, a few messages wait for it, the others do not.
func (d *DKIM) ask(ctx context.Context, name string) ([]string, error) {
	d.mu.Lock()
	pausing := d.now().Before(d.until)
	d.mu.Unlock()
	if pausing {
		return nil, &net.DNSError{Err: errNoDNS.Error(), IsTemporary: true}
	}
	txt, err := d.lookup(ctx, name)
	var dns *net.DNSError
	away := err != nil && !(errors.As(err, &dns) && dns.IsNotFound)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed++; !away {
		d.failed = 0
	} else if d.failed >= dkimFailures {
		d.failed, d.until = 0, d.now().Add(dkimPause)
	}
	if away {
		return nil, &net.DNSError{Err: errNoDNS.Error(), IsTemporary: true}
	}
	return txt, err
}

// dkimTap sees the octets of one message. The zero d means that nobody verifies.
type dkimTap struct {
	d       *DKIM
	header  []byte // until it is complete
	over    bool   // the header was seen, or given up
	policy  bool   // it was too long
	pipes   []*io.PipeWriter
	results []chan Signature
}

func (t *dkimTap) write(p []byte) {
	if t.d == nil {
		return
	}
	if !t.over {
		if p = t.top(p); !t.over {
			return
		}
	}
	if len(p) == 0 {
		return
	}
	for _, w := range t.pipes {
		_, _ = w.Write(p) // the reader drains: it never fails
	}
}

// top collects the header; what it returns belongs to the body.
func (t *dkimTap) top(p []byte) []byte {
	had := len(t.header)
	t.header = append(t.header, p[:min(len(p), maxDKIMHeader-had)]...)
	from := max(had-3, 0)
	i := bytes.Index(t.header[from:], []byte("\r\n\r\n"))
	if i < 0 {
		if len(t.header) == maxDKIMHeader {
			t.over, t.policy = true, len(signatureFields(splitFields(t.header))) > 0
			t.header = nil
		}
		return nil
	}
	end := from + i + 4
	t.start(t.header[:end])
	t.over, t.header = true, nil
	return p[end-had:]
}

// splitFields cuts a header into its fields, each with its continuation lines and line end.
func splitFields(h []byte) [][]byte {
	var fields [][]byte
	for begin, at := 0, 0; at < len(h); {
		if n := bytes.IndexByte(h[at:], '\n'); n >= 0 {
			at += n + 1
		} else {
			at = len(h)
		}
		if at == len(h) || h[at] != ' ' && h[at] != '\t' {
			fields = append(fields, h[begin:at])
			begin = at
		}
	}
	return fields
}

// signatureFields are the places of the DKIM-Signature fields.
func signatureFields(fields [][]byte) []int {
	var at []int
	for i, f := range fields {
		name, _, ok := bytes.Cut(f, []byte(":"))
		if ok && strings.EqualFold(strings.TrimRight(string(name), " \t"), "DKIM-Signature") {
			at = append(at, i)
		}
	}
	return at
}

// start begins to verify, each signature by itself on a goroutine of ours: the library would start its own for
// several, and a fault there would end the process. It is given the header without the other signatures, which hardly
// anybody signs.
func (t *dkimTap) start(header []byte) {
	fields := splitFields(header)
	at := signatureFields(fields)
	for _, mine := range at[:min(len(at), maxSignatures)] {
		var own []byte
		for i, f := range fields {
			if i == mine || !slices.Contains(at, i) {
				own = append(own, f...)
			}
		}
		r, w := io.Pipe()
		result := make(chan Signature, 1)
		t.pipes, t.results = append(t.pipes, w), append(t.results, result)
		go t.d.verify(io.MultiReader(bytes.NewReader(own), r), result)
	}
}

func (d *DKIM) verify(r io.Reader, result chan<- Signature) {
	s := Signature{Result: "permerror"}
	defer func() {
		_ = recover() // whatever the library made of it: no signature that counts
		_, _ = io.Copy(io.Discard, r)
		result <- s
	}()
	ctx, cancel := context.WithTimeout(context.Background(), dkimWait)
	defer cancel()
	found, err := dkim.VerifyWithOptions(r, &dkim.VerifyOptions{MaxVerifications: 1,
		LookupTXT: func(name string) ([]string, error) { return d.ask(ctx, name) }})
	if err != nil || len(found) != 1 {
		return
	}
	v := found[0]
	if isDomain(v.Domain) {
		s.Domain = strings.ToLower(v.Domain)
	}
	switch {
	case v.Err == nil && s.Domain != "":
		s.Result = "pass"
	case dkim.IsTempFail(v.Err):
		s.Result = "temperror"
	case v.Err != nil && !dkim.IsPermFail(v.Err):
		s.Result = "fail"
	}
}

// finish waits for the results; abort does not.
func (t *dkimTap) finish() []Signature {
	t.abort()
	if t.policy {
		return []Signature{{Result: "policy"}}
	}
	var out []Signature
	for _, r := range t.results {
		out = append(out, <-r)
	}
	return out
}

func (t *dkimTap) abort() {
	for _, w := range t.pipes {
		_ = w.Close() // the end, not an error: the library would leave goroutines behind
	}
	t.over = true
}
