package directory

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"mssd/tlsconf"
)

// The library's bound is 2 GiB for one packet, allocated before it is read; a server could make us take it all. It is a
// package variable of the library, so the only place without a race is before anything runs.
func init() { ber.MaxPacketLengthBytes = 16 << 20 }

const maxSecret = 4096 // octets of a password file

// dial connects, secures and binds, all within ctx and ConnectTimeout.
func (l *LDAPConfig) dial(ctx context.Context) (*ldap.Conn, error) {
	return reach(ctx, l, func(_ context.Context, nc net.Conn, conf *tls.Config, secret string) (*ldap.Conn, error) {
		conn := ldap.NewConn(nc, strings.HasPrefix(l.URL, "ldaps:"))
		conn.Start()
		if err := l.open(conn, conf, secret); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return conn, nil
	})
}

// reach connects within ctx and ConnectTimeout and has login make of the connection what is wanted, under TLS already where
// the URL asks for it.
func reach[T any](ctx context.Context, l *LDAPConfig, login func(context.Context, net.Conn, *tls.Config, string) (T, error)) (_ T, err error) {
	var none T
	ctx, cancel := context.WithTimeout(ctx, l.ConnectTimeout)
	defer cancel()
	defer func() { err = l.dialError(ctx, err) }()
	u, err := url.Parse(l.URL)
	if err != nil {
		return none, err
	}
	secret, err := l.secret()
	if err != nil {
		return none, err
	}
	conf, err := l.tls(u.Hostname())
	if err != nil {
		return none, err
	}
	nc, err := l.connect(ctx, u, conf)
	if err != nil {
		return none, err
	}
	// StartTLS and Bind wait without limit: closing the socket under them ends the wait.
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	v, err := login(ctx, nc, conf, secret)
	if err != nil {
		_ = nc.Close()
		return none, err
	}
	return v, nil
}

func (l *LDAPConfig) dialError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w (gave up: %w)", err, ctx.Err())
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, l.URL, err)
}

func (l *LDAPConfig) connect(ctx context.Context, u *url.URL, conf *tls.Config) (net.Conn, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"ldap": "389", "ldaps": "636"}[u.Scheme]
	}
	dialer := net.Dialer{KeepAlive: 30 * time.Second}
	nc, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil || u.Scheme != "ldaps" {
		return nc, err
	}
	tc := tls.Client(nc, conf)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return tc, nil
}

func (l *LDAPConfig) open(conn *ldap.Conn, conf *tls.Config, secret string) error {
	if l.StartTLS {
		if err := conn.StartTLS(conf); err != nil {
			return fmt.Errorf("StartTLS: %w", err)
		}
	}
	switch {
	case l.External:
		if err := conn.ExternalBind(); err != nil {
			return fmt.Errorf("bind with the client certificate: %w", err)
		}
	case l.BindDN != "":
		if err := conn.Bind(l.BindDN, secret); err != nil {
			return fmt.Errorf("bind as %s: %w", l.BindDN, err)
		}
	}
	return nil
}

// secret reads the password; the file may be replaced while we run.
func (l *LDAPConfig) secret() (string, error) {
	if l.PasswordFile == "" {
		return "", nil
	}
	raw, err := os.ReadFile(l.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	s := strings.TrimRight(string(raw), "\r\n")
	if s == "" || len(s) > maxSecret {
		// RFC 4513, Section 5.1.2: a bind with an empty password succeeds as anonymous.
		return "", fmt.Errorf("password file %s: expected 1 to %d octets", l.PasswordFile, maxSecret)
	}
	return s, nil
}

func (l *LDAPConfig) tls(host string) (*tls.Config, error) {
	if !l.StartTLS && !strings.HasPrefix(l.URL, "ldaps:") {
		return nil, nil
	}
	anchors, err := tlsconf.LoadAnchors(l.AnchorFiles)
	if err != nil {
		return nil, err
	}
	if anchors.Empty() {
		return nil, fmt.Errorf("%s: no authority", strings.Join(l.AnchorFiles, ", "))
	}
	roots, _ := anchors.Pools()
	conf := &tls.Config{RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS12}
	if l.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(l.CertFile, l.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

// names lists the attributes asked for.
func (a Attributes) names() []string {
	var out []string
	for _, n := range a.fields() {
		if n != "-" {
			out = append(out, n)
		}
	}
	return out
}

// fields are the names in the order of Entry.
func (a Attributes) fields() [recordFields]string {
	return [recordFields]string{a.Mail, a.Kind, a.StructureType, a.StructureID, a.PersonType, a.PersonID, a.Profession,
		a.Name, a.GivenName, a.StructureName, a.Service, a.Postcode, a.Town, "-"}
}

// addEntry puts an LDAP entry into a builder.
func (a Attributes) addEntry(b *builder, e *ldap.Entry) error {
	row, mails := a.row(e)
	return addRows(b, nil, row, mails)
}

// addRows puts the rows of an entry into a builder, one for each address, under a key or nil.
func addRows(b *builder, key []byte, row record, mails [][]byte) error {
	if err := usableRow(&row, mails); err != nil {
		return err
	}
	for _, mail := range mails {
		row[fieldAddress] = mail
		if err := b.add(key, &row); err != nil {
			return err
		}
	}
	return nil
}

// row gives the fields of an entry, all but its addresses, and these.
func (a Attributes) row(e *ldap.Entry) (row record, mails [][]byte) {
	for i, name := range a.fields() {
		for _, attr := range e.Attributes {
			if name == "-" || !strings.EqualFold(attr.Name, name) || len(attr.ByteValues) == 0 {
				continue
			}
			if i == 0 {
				mails = attr.ByteValues
			}
			row[i] = attr.ByteValues[0]
		}
	}
	return row, mails
}

// usableRow puts words of the server into ours, and says why an entry cannot be used.
func usableRow(row *record, mails [][]byte) error {
	row[fieldKind] = bytes.ToUpper(row[fieldKind])
	if len(row[2]) > 0 {
		row[2] = []byte(structureType(string(row[2])))
	}
	if len(row[fieldKind]) == 0 || len(row[fieldKind]) > maxKind {
		return errors.New("no type of BAL")
	}
	for _, mail := range mails {
		if !validAddress(mail) {
			return errors.New("no address of the form local@domain")
		}
	}
	if len(mails) == 0 {
		return errors.New("no address")
	}
	return nil
}

// readPages reads all rows, page by page, on a connection of its own: a long search holds up every other request on its
// connection.
func (d *Directory) readPages(ctx context.Context) (*image, error) {
	l := d.cfg.LDAP
	began := d.cfg.Now()
	conn, err := l.dialStream(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	// The watchdog: a server that stops in mid-answer is not noticed otherwise.
	dog := time.AfterFunc(l.ProgressTimeout, func() {
		cancel(fmt.Errorf("%w: no progress for %v", ErrUnavailable, l.ProgressTimeout))
	})
	defer dog.Stop()
	r := reading{cfg: l, conn: conn, b: d.newBuilder(d.feed("ldap"), 0), alive: func() { dog.Reset(l.ProgressTimeout) }}
	if err := r.pages(); err != nil {
		r.b.abandon()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	img, err := r.b.image()
	if err != nil {
		return nil, err
	}
	img.generated, img.faults, img.firstFault, img.doubt = began, r.faults, r.firstFault, r.faultShare()
	return img, nil
}

// reading is one full read over LDAP.
type reading struct {
	cfg        *LDAPConfig
	conn       *stream
	b          *builder
	alive      func()
	seen       int
	faults     int
	firstFault string
}

// pages follows the cookie of RFC 2696 to the end. A server without paged results sends everything in one page.
func (r *reading) pages() error {
	paging := ldap.NewControlPaging(r.cfg.PageSize)
	for {
		before := r.seen
		cookie, err := r.page(paging)
		if err != nil || len(cookie) == 0 {
			return err
		}
		if r.seen == before {
			return fmt.Errorf("%w: an empty page that is not the last", ErrPartial)
		}
		paging.SetCookie(cookie)
	}
}

// page takes one page; it gives the server's cookie, nil after the last one.
func (r *reading) page(paging *ldap.ControlPaging) ([]byte, error) {
	if err := r.conn.search(r.cfg, paging); err != nil {
		return nil, err
	}
	names := r.cfg.Attributes.wire()
	for {
		var e syncEvent
		msg, err := r.conn.next()
		if err == nil {
			e, err = names.parseEvent(msg)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: after %d rows: %w", ErrPartial, r.seen, err)
		}
		r.alive()
		switch {
		case e.entry:
			if err := r.take(nil, e.row, e.mails); err != nil {
				return nil, err
			}
		case e.ended && e.err == nil:
			return bytes.Clone(e.page), nil
		case e.ended && (!answered(e.err) || ldap.IsErrorAnyOf(e.err, ldap.LDAPResultSizeLimitExceeded,
			ldap.LDAPResultTimeLimitExceeded, ldap.LDAPResultAdminLimitExceeded)):
			return nil, fmt.Errorf("%w: after %d rows: %w", ErrPartial, r.seen, e.err)
		case e.ended:
			return nil, fmt.Errorf("search below %q: %w", r.cfg.BaseDN, e.err)
		}
	}
}

func (r *reading) take(key []byte, row record, mails [][]byte) error {
	r.seen++
	if r.seen > r.cfg.MaxRows {
		return fmt.Errorf("%w: more than %d rows", ErrTooLarge, r.cfg.MaxRows)
	}
	if err := addRows(r.b, key, row, mails); err != nil {
		r.faults++
		if r.firstFault == "" {
			r.firstFault = fmt.Sprintf("entry %d: %v", r.seen, err)
		}
	}
	return nil
}

// faultShare refuses a reading of which more than a hundredth could not be used: an attribute is likely misnamed.
func (r *reading) faultShare() error {
	if r.faults > 20 && r.faults > r.seen/100 || r.faults > 0 && r.b.n == 0 {
		return fmt.Errorf("%w: %d of %d entries are faulty, the first: %s", ErrFormat, r.faults, r.seen, r.firstFault)
	}
	return nil
}
