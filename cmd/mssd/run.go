package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"mssd/admin"
	"mssd/auth"
	"mssd/delivery"
	"mssd/directory"
	"mssd/directory/whitelist"
	"mssd/imapd"
	"mssd/smtpd"
	"mssd/store"
	"mssd/tlsconf"
	"mssd/tlsconf/guard"
	"mssd/trace"
)

// runOptions are what one start brings besides the configuration. The zero value is sensible.
type runOptions struct {
	Create    bool                    // make the store where its folder is empty or missing
	NoListYet bool                    // start although no white list has ever been accepted
	Log       *slog.Logger            // nil: as the configuration says, on standard error
	Reload    <-chan os.Signal        // each value asks for a reload; nil: never
	Ready     func(map[string]string) // told once, when every front serves: name → addresses; may be nil
	Observe   func(trace.Event)       // told of each event of the trace once it is durable; must not wait; may be nil
}

// errStoreFailed ends the daemon: after a failed sync nobody knows what is on the disk, the next start finds out.
var errStoreFailed = errors.New("the store failed; see the log. The next start recovers what was acknowledged")

// server is what the fronts have in common.
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

// front is a server with the listeners it is given.
type front struct {
	name      string
	server    server
	addrs     []string
	behind    []netip.Prefix // balancers that name the peer
	listeners []net.Listener
}

// daemon holds the rooms of a running mssd.
type daemon struct {
	cfg *Config
	opt runOptions
	log *slog.Logger

	store      *store.Store
	judge      *tlsconf.Judge
	list       *whitelist.Keeper
	partners   *whitelist.Partners
	dir        *directory.Directory
	auth       *auth.Authenticator
	psc        *auth.PSC        // nil: no tokens are taken
	tls        []*tlsconf.Front // one for each front that speaks TLS
	smtp       *smtpd.Server
	imap       []*imapd.Server
	submission []*smtpd.Server
	admin      *admin.Server
	fronts     []*front
	metrics    *metrics
	conns      connections
	dated      struct { // for metrics
		mu    sync.Mutex
		at    time.Time
		dates []tlsconf.Date
	}
	noFiles   string     // what is to be said of the limit of open files, "" nothing
	trusted   []*watched // guarded by reloading
	reloading sync.Mutex // one reload at a time
}

// run is the whole daemon: it returns when ctx is done and everything was put away, or when something fails.
//
// Order at start: the configuration is checked already; store, trust, listeners, serve. Order at the end: see stop.
func run(ctx context.Context, cfg *Config, opt runOptions) (err error) {
	d := &daemon{cfg: cfg, opt: opt, log: opt.Log}
	if d.log == nil {
		d.log = newLog(cfg.Log, os.Stderr)
	}
	d.metrics = newMetrics()
	if d.conns, d.noFiles, err = cfg.connectionsNow(); err != nil {
		return err
	}
	if err := d.openStore(); err != nil {
		return err
	}
	defer func() {
		// Last of all: nobody uses it any more.
		if cerr := d.store.Close(); cerr != nil && err == nil {
			err = fmt.Errorf("closing the store: %w", cerr)
		}
	}()
	if err := d.loadTrust(); err != nil {
		return err
	}
	defer d.dir.Close()
	if err := d.openPSC(); err != nil {
		return err
	}
	if d.psc != nil {
		defer d.psc.Close()
	}
	d.makeFronts()
	if err := d.bind(); err != nil {
		d.closeListeners()
		return err
	}
	return d.serve(ctx)
}

func (d *daemon) openStore() error {
	keep := time.Duration(d.cfg.Store.KeepExpunged)
	if keep == 0 {
		keep = -1 // the store's word for not at all
	}
	st, err := store.Open(store.Options{Dir: d.cfg.DataDir, MasterKey: d.cfg.Store.MasterKey, Create: d.opt.Create, Log: d.log, Observe: d.observe,
		CommitWait: time.Duration(d.cfg.Store.CommitTimeout), RetainExpunged: keep, Aging: true, Retention: d.cfg.Store.Retention.days()})
	switch {
	case errors.Is(err, store.ErrNoStore):
		return fmt.Errorf("%s: no store here; if this is the first start, say --create; if not, data_dir names the wrong folder or a disk is not mounted", d.cfg.DataDir)
	case errors.Is(err, store.ErrLocked):
		return fmt.Errorf("%s: another mssd has this store open; stop it first", d.cfg.DataDir)
	case errors.Is(err, store.ErrMasterKey):
		return fmt.Errorf("%s: the store cannot be opened without its key: %w; store.master_key names the file, mssd keys list says which key is wanted", d.cfg.DataDir, err)
	case err != nil:
		return openError(d.cfg.DataDir, err)
	}
	d.store = st
	if d.opt.Create {
		d.log.Warn("keep a copy of the master key elsewhere: without it the mail of this store can never be read", "file", masterKeyFile(d.cfg))
	}
	return nil
}

func (d *daemon) observe(e trace.Event) {
	d.metrics.observe(e)
	if d.opt.Observe != nil {
		d.opt.Observe(e)
	}
}

// loadTrust loads certificates, anchors, revocation lists, white list and the directory's image. Only what is ours must
// be there: our certificates. The rest degrades (design.md §5).
func (d *daemon) loadTrust() error {
	d.trusted = d.trustFiles()
	remember(d.trusted)
	for _, f := range frontConfigs(d.cfg, d.log) {
		t, err := tlsconf.NewFront(f)
		if err != nil {
			return &configError{d.cfg.name(), []fault{{Key: f.Name + ".cert", Text: err.Error()}}}
		}
		d.tls = append(d.tls, t)
	}
	var err error
	if d.judge, err = tlsconf.NewJudge(tlsconf.JudgeConfig{
		AnchorFiles: d.cfg.Trust.Anchors, CRLFiles: d.cfg.Trust.CRLs, RequireClientAuth: d.cfg.Trust.RequireClientAuth,
		CRLGrace: time.Duration(d.cfg.Trust.CRLGrace), CRLURLs: d.cfg.Trust.CRLURLs, CRLEvery: time.Duration(d.cfg.Trust.CRLEvery),
		CRLDir: filepath.Join(d.cfg.DataDir, "state", "crl"), Log: d.log,
		OCSP: ocspModes[d.cfg.Trust.OCSP], OCSPURL: d.cfg.Trust.OCSPURL,
	}); err != nil {
		return err
	}
	if err := d.loadList(); err != nil {
		return err
	}
	d.dir, err = directory.Open(directoryConfig(d.cfg, d.log))
	if err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	return nil
}

func (d *daemon) loadList() error {
	c := &d.cfg.WhiteList
	dir := filepath.Join(d.cfg.DataDir, "state", "list")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	d.list, err = whitelist.NewKeeper(keeperConfig(c, d.cfg.listAnchors(), d.judge, dir, d.opt.NoListYet, d.log))
	if errors.Is(err, whitelist.ErrNoListYet) {
		return fmt.Errorf("whitelist: %s: %w; a first start without any list needs --no-list-yet (mail is then answered 451 until one is there)", cmp.Or(c.File, c.URL), err)
	}
	return err
}

// makeFronts wires the rooms into servers; nothing listens yet.
func (d *daemon) makeFronts() {
	c := d.cfg
	argon := auth.Params{Time: c.Login.Argon2Time, MemoryKiB: c.Login.Argon2MemoryKiB, Threads: c.Login.Argon2Threads}
	logins := auth.Config{Store: d.store, Argon: argon, Cache: time.Duration(c.Login.CacheFor), PSC: d.psc}
	if c.Login.PSC != nil {
		logins.MaxSession = time.Duration(c.Login.PSC.MaxSession)
		logins.Advise = func(person string, bal store.Address, what auth.Activity) {
			d.store.Record(trace.Event{Kind: trace.Advised, Person: person, BAL: string(bal), Attrs: []trace.Attr{{Key: trace.KeyNote, Value: "activity " + string(what)}}})
		}
	}
	if c.IMAP.App != nil {
		logins.CertKinds = c.IMAP.App.kinds()
		logins.JudgeCert = func(ctx context.Context, shown []*x509.Certificate) tlsconf.Verdict {
			return d.judge.PeerNow(ctx, tls.ConnectionState{PeerCertificates: shown})
		}
	}
	d.auth = auth.New(logins)
	d.partners = whitelist.OpenPartners(filepath.Join(c.DataDir, "state"), nil, d.log)
	d.smtp = &smtpd.Server{
		Stored:   d.partners.Stored,
		Seen:     d.partners.Seen,
		Hostname: c.Hostname, TLS: d.tlsOf("smtp"), Judge: d.judge, List: d.list, Directory: d.dir, Store: d.store,
		Delivery:   delivery.New(delivery.Config{Store: d.store, Hostname: c.Hostname}),
		Postmaster: store.Address(strings.ToLower(c.SMTP.Postmaster)),
		MaxMessage: c.SMTP.MaxMessageOctets, MaxRecipients: c.SMTP.MaxRecipients,
		MaxConns: d.conns.smtp, MaxConnsPerAddr: c.SMTP.MaxConnectionsPerAddress,
		MaxConnsPerPeer: c.SMTP.MaxConnectionsPerOperator, Partners: partners(c.SMTP.Partners), EvictIdle: time.Duration(c.SMTP.EvictIdle),
		PatientDomains: c.Directory.Policy.PatientDomains, PatientFirst: action(c.Directory.Policy.PatientFirst),
		HeaderFrom: headerFrom[c.SMTP.HeaderFrom], MaxErrors: c.SMTP.MaxErrors, HandshakeTimeout: time.Duration(c.SMTP.HandshakeTimeout),
		MinRate: c.SMTP.MinRate, RateWindow: time.Duration(c.SMTP.RateWindow),
		ReadTimeout: time.Duration(c.SMTP.IdleTimeout), Log: d.log.With("front", "smtp"),
	}
	if c.SMTP.DKIM {
		d.smtp.DKIM = delivery.NewDKIM(nil)
	}
	d.fronts = append(d.fronts, &front{name: "smtp", server: d.smtp, addrs: c.SMTP.Listen, behind: parseNetworks(c.SMTP.ProxyFrom)})
	for _, f := range c.imapFronts() {
		s := &imapd.Server{
			Hostname: c.Hostname, TLS: d.tlsOf("imap"), Implicit: f.implicit, Store: d.store, Auth: d.auth, Mechanisms: c.mechanisms(),
			MaxMessage: c.IMAP.MaxAppendOctets, MaxConns: d.conns.imap,
			MaxConnsPerAddr: c.IMAP.MaxConnectionsPerAddress, IdleTime: time.Duration(c.IMAP.IdleTimeout),
			Log: d.log.With("front", f.name),
		}
		if a := c.IMAP.App; a != nil && f.apps == a.alone() {
			s.App = &tlsconf.AppFront{Hostname: a.Hostname, Alone: f.apps, TLS: d.tlsOf("imap.app"), Mechanisms: a.Mechanisms}
		}
		if f.apps {
			s.Hostname = c.IMAP.App.Hostname
		}
		d.imap = append(d.imap, s)
		d.fronts = append(d.fronts, &front{name: f.name, server: s, addrs: f.addrs, behind: parseNetworks(c.IMAP.ProxyFrom)})
	}
	d.makeSubmission()
	d.admin = &admin.Server{
		Store: d.store, Directory: d.dir, List: d.list, Partners: d.partners, Judge: d.judge, Fronts: d, Auth: d.auth, Argon: argon, SCRAM: c.keepsSCRAM(),
		AllowUIDs: c.Admin.AllowUIDs, CertKinds: logins.CertKinds, Version: versionText(), Log: d.log.With("front", "admin"),
		Notices: &delivery.InactivityNotices{Store: d.store, Hostname: c.Hostname, File: c.BAL.InactivityNoticeFile},
		Dates:   func() []tlsconf.Date { return d.dates(time.Now()) },
		Warnings: func() []string {
			return append(nonEmpty(keyWarning(c), settleWarning(d.store)), nonEmpty(d.noFiles)...)
		},
		// Whatever a front has taken can come back, with what stands before it.
		MaxImport: max(c.SMTP.MaxMessageOctets, c.IMAP.MaxAppendOctets, c.maxSubmitted()) + store.MaxPrefix,
	}
	d.fronts = append(d.fronts, &front{name: "admin", server: d.admin})
	if c.Metrics.Listen != "" {
		d.metrics.gauges(d)
		d.fronts = append(d.fronts, &front{name: "metrics", server: newPage(d), addrs: []string{c.Metrics.Listen}})
	}
}

var headerFrom = map[string]smtpd.HeaderFrom{"note": smtpd.NoteFrom, "refuse": smtpd.RefuseFrom, "off": smtpd.IgnoreFrom}

// partners are those of the configuration, which was checked.
func partners(list []PartnerConfig) []smtpd.Partner {
	var out []smtpd.Partner
	for _, p := range list {
		dn, _ := tlsconf.ParseDN(p.DN) // zero: none
		out = append(out, smtpd.Partner{Addresses: parseNetworks(p.Addresses), DN: dn, MaxConns: p.MaxConnections})
	}
	return out
}

// bind opens every listener before any front serves: a taken port is found before the first letter is taken.
func (d *daemon) bind() error {
	for _, f := range d.fronts {
		for _, a := range f.addrs {
			l, err := net.Listen("tcp", a)
			if err != nil {
				return fmt.Errorf("front %s: cannot listen on %s: %w (is another mail server running? ss -ltnp shows who has the port)", f.name, a, cause(err))
			}
			f.listeners = append(f.listeners, guard.Behind(l, f.behind, d.log.With("front", f.name)))
		}
		if f.name == "admin" {
			l, err := admin.Listen(d.cfg.Admin.Socket, len(d.cfg.Admin.AllowUIDs) > 0)
			if err != nil {
				return fmt.Errorf("admin.socket: %w", err)
			}
			f.listeners = append(f.listeners, l)
		}
	}
	return nil
}

// cause is the system's complaint without the words that net puts before it.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func (d *daemon) closeListeners() {
	for _, f := range d.fronts {
		for _, l := range f.listeners {
			l.Close()
		}
	}
}

// serve runs until ctx is done, a front dies or the store fails.
func (d *daemon) serve(ctx context.Context) error {
	background, stopBackground := context.WithCancel(context.Background())
	defer stopBackground()
	g, serving := errgroup.WithContext(ctx)
	for _, f := range d.fronts {
		for _, l := range f.listeners {
			g.Go(func() error {
				if err := f.server.Serve(l); !closed(err) {
					return fmt.Errorf("front %s: %w", f.name, err)
				}
				return nil
			})
		}
	}
	var feeds errgroup.Group
	feeds.Go(func() error { return d.list.Run(background) })
	feeds.Go(func() error { d.judge.Run(background); return nil })
	feeds.Go(func() error { d.partners.Run(background); return nil })
	for _, t := range d.tls {
		feeds.Go(func() error { t.KeepStapled(background, d.judge.Anchors); return nil })
	}
	feeds.Go(func() error { d.dir.Run(background); return nil })
	feeds.Go(func() error { d.watch(background); return nil })
	feeds.Go(func() error { d.lookNowAndThen(background); return nil })
	feeds.Go(func() error { d.notifyInactive(background); return nil })
	d.announce()

	var failure error
	for done := false; !done; {
		select {
		case <-d.opt.Reload:
			d.signalled(background)
		case <-serving.Done():
			done = true
		case <-d.store.Failed():
			failure, done = d.storeFailure(), true
		}
	}
	d.stop(failure != nil)
	stopBackground()
	err := g.Wait()
	_ = feeds.Wait() // they end because they were told to
	if failure != nil {
		return failure
	}
	return err
}

// storeFailure is what the daemon ends with. A damaged index is not mended by another start.
func (d *daemon) storeFailure() error {
	if err := d.store.Err(); errors.Is(err, store.ErrCorrupt) {
		return fmt.Errorf("%s: %w", d.cfg.DataDir, err)
	}
	return errStoreFailed
}

func closed(err error) bool {
	return err == nil || errors.Is(err, smtpd.ErrServerClosed) || errors.Is(err, imapd.ErrServerClosed) ||
		errors.Is(err, admin.ErrServerClosed) || errors.Is(err, net.ErrClosed)
}

func (d *daemon) announce() {
	addrs := d.Addresses()
	d.log.Info("serving", "pid", os.Getpid(), "fronts", addrs, "version", versionText())
	d.record("start")
	for _, reason := range d.Degraded() {
		d.log.Warn("degraded", "err", reason)
	}
	for _, w := range append(nonEmpty(keyWarning(d.cfg)), nonEmpty(d.noFiles)...) {
		d.log.Warn(w)
	}
	if len(d.cfg.Trust.CRLs)+len(d.cfg.Trust.CRLURLs) == 0 {
		d.log.Warn("no revocation list is configured (trust.crls, trust.crl_urls): revoked certificates are not noticed")
	}
	notifyReady()
	if d.opt.Ready != nil {
		d.opt.Ready(addrs)
	}
}

// stop puts the fronts away: listeners first, then sessions, each given what is left of the grace. The store is closed
// by run, after everybody has gone.
func (d *daemon) stop(failed bool) {
	notifyStopping()
	grace := time.Duration(d.cfg.Shutdown.Grace)
	if failed {
		grace = time.Second // nothing can be stored any more: only say so
	} else {
		d.record("stop")
	}
	d.log.Info("stopping", "dur", grace)
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	d.closeListeners()
	var wg sync.WaitGroup
	for _, f := range d.fronts {
		wg.Go(func() {
			if err := f.server.Shutdown(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
				d.log.Warn("sessions were cut off", "front", f.name, "err", err)
			}
		})
	}
	wg.Wait()
}

// record writes an act of the daemon itself into the trace.
func (d *daemon) record(act string, attrs ...trace.Attr) {
	d.store.Record(trace.Event{Kind: trace.System, Attrs: append([]trace.Attr{
		{Key: trace.KeyAct, Value: act}, {Key: trace.KeyVersion, Value: versionText()}}, attrs...)})
}

// name is what faults of the configuration are reported under.
func (c *Config) name() string {
	if c.file == "" {
		return "configuration"
	}
	return c.file
}
