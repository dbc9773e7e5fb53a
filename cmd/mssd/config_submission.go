package main

import (
	"slices"
	"time"

	"mssd/auth"
	"mssd/delivery"
	"mssd/smtpd"
	"mssd/tlsconf"
)

// SubmissionConfig is the submission front: members send mail by it, after a login as on the IMAP front.
type SubmissionConfig struct {
	// Listen holds the addresses with STARTTLS (587), host:port; ListenTLS those that speak TLS from the first octet (465).
	// At least one of the two lists must hold an address.
	Listen    []string `toml:"listen"`
	ListenTLS []string `toml:"listen_tls"`
	// Cert and Key are the PEM files of the front's certificate, chain included, and of its key. Optional: those of [imap],
	// with its further certificates.
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	// Mechanisms are as in [imap]. Optional: those of [imap].
	Mechanisms []string `toml:"mechanisms"`
	// App is the front of applications, which log in with a certificate. Optional: none.
	App *SubmissionAppConfig `toml:"app"`
	// MaxMessageOctets is the largest message taken, as sent (base64 included), octets; announced as SIZE. Optional.
	MaxMessageOctets int64 `toml:"max_message_octets"`
	// MaxRecipients is the most recipients of one message. Optional.
	MaxRecipients int `toml:"max_recipients"`
	// MaxConnections is the most connections at a time, in all and for one client address. Optional.
	MaxConnections           int `toml:"max_connections"`
	MaxConnectionsPerAddress int `toml:"max_connections_per_address"`
	// IdleTimeout is how long a client may stay silent. Optional.
	IdleTimeout Duration `toml:"idle_timeout"`
	// ProxyFrom is as in [smtp]. Optional: none.
	ProxyFrom []string `toml:"proxy_from"`
	// Limits are the recipients of an hour. Optional.
	Limits SubmissionLimits `toml:"limits"`
}

// SubmissionLimits are the most recipients that may be written to within an hour; more are refused for now (450). Counts are
// kept in memory.
type SubmissionLimits struct {
	// PersonRecipients are those of one person, whichever BALs they write from; BALRecipients those of one BAL. Optional.
	PersonRecipients int `toml:"person_recipients"`
	BALRecipients    int `toml:"bal_recipients"`
	// ApplicationRecipients are those of one APP BAL, to which the others do not apply. Optional.
	ApplicationRecipients int `toml:"application_recipients"`
}

// SubmissionAppConfig is the front of applications that send, beside that of [imap.app], which must be there: which BALs
// certificates open is said once. Without addresses of its own it stands on those of [submission], for clients that name Hostname
// in their TLS handshake (SNI).
type SubmissionAppConfig struct {
	// Listen and ListenTLS are as in [submission], for this front alone. Optional: none.
	Listen    []string `toml:"listen"`
	ListenTLS []string `toml:"listen_tls"`
	// Hostname is the name of this front. Optional: that of [imap.app].
	Hostname string `toml:"hostname"`
	// Cert and Key are the PEM files of its certificate, chain included, and of its key. Optional: those of [imap.app].
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	// Mechanisms are as in [imap.app]. Optional: those of [imap.app].
	Mechanisms []string `toml:"mechanisms"`
}

// Defaults of the submission front, which is there only when its table is.
const (
	defaultSubmissionOctets = 40 << 20
	defaultSubmissionRcpts  = 100
	defaultSubmissionConns  = 1000
	defaultSubmissionAddr   = 200
	defaultSubmissionIdle   = Duration(5 * time.Minute)
)

func (c *Config) checkSubmission(k *checker) {
	s := c.Submission
	if s == nil {
		return
	}
	setDefault(&s.MaxMessageOctets, defaultSubmissionOctets)
	setDefault(&s.MaxRecipients, defaultSubmissionRcpts)
	setDefault(&s.MaxConnections, defaultSubmissionConns)
	setDefault(&s.MaxConnectionsPerAddress, min(defaultSubmissionAddr, s.MaxConnections))
	setDefault(&s.IdleTimeout, defaultSubmissionIdle)
	k.listen("submission.listen", s.Listen, len(s.ListenTLS) == 0)
	k.listen("submission.listen_tls", s.ListenTLS, false)
	k.pair("submission", s.Cert, s.Key)
	c.checkMechanisms(k, "submission.mechanisms", s.Mechanisms)
	k.between("submission.max_message_octets", s.MaxMessageOctets, 64<<10, 1<<30)
	k.between("submission.max_recipients", int64(s.MaxRecipients), 100, 10_000)
	k.between("submission.max_connections", int64(s.MaxConnections), 1, 100_000)
	k.between("submission.max_connections_per_address", int64(s.MaxConnectionsPerAddress), 1, int64(max(1, s.MaxConnections)))
	k.duration("submission.idle_timeout", s.IdleTimeout, time.Second, time.Hour)
	k.networks("submission.proxy_from", s.ProxyFrom)
	s.Limits.check(k)
	if a := s.App; a != nil {
		a.check(k, c.IMAP.App)
	}
}

func (l *SubmissionLimits) check(k *checker) {
	setDefault(&l.PersonRecipients, smtpd.DefaultPersonQuota)
	setDefault(&l.BALRecipients, smtpd.DefaultBALQuota)
	setDefault(&l.ApplicationRecipients, smtpd.DefaultApplicationQuota)
	k.between("submission.limits.person_recipients", int64(l.PersonRecipients), 1, 10_000_000)
	k.between("submission.limits.bal_recipients", int64(l.BALRecipients), 1, 10_000_000)
	k.between("submission.limits.application_recipients", int64(l.ApplicationRecipients), 1, 10_000_000)
}

// quota is the count of all submission fronts together.
func (l *SubmissionLimits) quota() *smtpd.Quota {
	return &smtpd.Quota{Person: l.PersonRecipients, BAL: l.BALRecipients, Application: l.ApplicationRecipients}
}

func (a *SubmissionAppConfig) check(k *checker, imap *AppConfig) {
	if imap == nil {
		k.bad("submission.app", "is there without imap.app; expected both: the kinds of BALs that certificates open stand there")
		return
	}
	k.pair("submission.app", a.Cert, a.Key)
	if a.Cert == "" {
		a.Cert, a.Key = imap.Cert, imap.Key
	}
	setDefault(&a.Hostname, imap.Hostname)
	if len(a.Mechanisms) == 0 {
		a.Mechanisms = slices.Clone(imap.Mechanisms)
	}
	k.listen("submission.app.listen", a.Listen, false)
	k.listen("submission.app.listen_tls", a.ListenTLS, false)
	k.domain("submission.app.hostname", a.Hostname)
	for _, m := range a.Mechanisms {
		k.oneOf("submission.app.mechanisms", m, auth.External, auth.Plain, auth.Login)
	}
}

// pair wants a certificate and its key together, or none of them.
func (k *checker) pair(front, cert, key string) {
	if (cert == "") != (key == "") {
		k.bad(front+".key", "cert and key go together: give both or none")
	}
}

// alone says whether the front of applications has addresses of its own.
func (a *SubmissionAppConfig) alone() bool { return a != nil && len(a.Listen)+len(a.ListenTLS) > 0 }

// submissionFronts are the servers of submission that have an address.
func (c *Config) submissionFronts() []mailFront {
	s := c.Submission
	if s == nil {
		return nil
	}
	list := mailFronts("submission", s.Listen, s.ListenTLS)
	if a := s.App; a != nil {
		list = append(list, appFronts("submission", a.Listen, a.ListenTLS)...)
	}
	return list
}

// submissionMechanisms is what the front offers.
func (c *Config) submissionMechanisms() []string {
	if len(c.Submission.Mechanisms) > 0 {
		return c.Submission.Mechanisms
	}
	return c.mechanisms()
}

// maxSubmitted is the largest message that can be submitted, octets.
func (c *Config) maxSubmitted() int64 {
	if c.Submission == nil {
		return 0
	}
	return c.Submission.MaxMessageOctets
}

// makeSubmission adds the submission fronts.
func (d *daemon) makeSubmission() {
	c, s := d.cfg, d.cfg.Submission
	if s == nil {
		return
	}
	quota := s.Limits.quota()
	d.metrics.quota(quota.Refused)
	for _, f := range c.submissionFronts() {
		srv := &smtpd.Server{
			Hostname: c.Hostname, TLS: d.tlsOf("submission"), List: d.list, Directory: d.dir, Store: d.store,
			Delivery:   delivery.New(delivery.Config{Store: d.store, Hostname: c.Hostname}),
			Postmaster: d.smtp.Postmaster, PatientDomains: d.smtp.PatientDomains,
			MaxMessage: s.MaxMessageOctets, MaxRecipients: s.MaxRecipients,
			MaxConns: d.conns.submission, MaxConnsPerAddr: s.MaxConnectionsPerAddress,
			MinRate: d.smtp.MinRate, RateWindow: d.smtp.RateWindow, MaxErrors: d.smtp.MaxErrors, HandshakeTimeout: d.smtp.HandshakeTimeout,
			ReadTimeout: time.Duration(s.IdleTimeout), Log: d.log.With("front", f.name),
			Submission: &smtpd.Submission{Auth: d.auth, Implicit: f.implicit, Mechanisms: c.submissionMechanisms(), Quota: quota},
		}
		if a := s.App; a != nil && f.apps == a.alone() {
			srv.Submission.App = &tlsconf.AppFront{Hostname: a.Hostname, Alone: f.apps, TLS: d.tlsOf("submission.app"), Mechanisms: a.Mechanisms}
		}
		if f.apps {
			srv.Hostname = s.App.Hostname
		}
		d.submission = append(d.submission, srv)
		d.fronts = append(d.fronts, &front{name: f.name, server: srv, addrs: f.addrs, behind: parseNetworks(s.ProxyFrom)})
	}
}
