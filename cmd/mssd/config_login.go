package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"mssd/auth"
	"mssd/store"
	"mssd/tlsconf"
	"mssd/tlsconf/fetch"
)

// PSCConfig says whose access tokens open BALs: Pro Santé Connect, or another OpenID provider with the same claims.
type PSCConfig struct {
	// Issuer is the name of the issuer, as its tokens carry it (iss), https. Required.
	Issuer string `toml:"issuer"`
	// DiscoveryURL is the document that names its endpoints. Optional: .well-known/openid-configuration under the issuer;
	// it is not asked where JWKSURL and IntrospectionURL are given.
	DiscoveryURL string `toml:"discovery_url"`
	// JWKSURL and IntrospectionURL are its endpoints. Optional: as the discovery document says.
	JWKSURL          string `toml:"jwks_url"`
	IntrospectionURL string `toml:"introspection_url"`
	// Userinfo asks, after a login and without anybody waiting, what structures the person works in, at UserinfoURL. Optional:
	// false; as the discovery document says.
	Userinfo    bool   `toml:"userinfo"`
	UserinfoURL string `toml:"userinfo_url"`
	// Introspection says whether the issuer is asked about each token (RFC 7662): "required", or "off", where a token that
	// was taken back stays good until its end. Optional.
	Introspection string `toml:"introspection"`
	// ClientID is the operator's name with the issuer. ClientSecretFile is the file of its secret, one line; Cert and
	// Key the PEM files of its certificate, for an issuer that wants mutual TLS. Introspection needs one of the two.
	ClientID         string `toml:"client_id"`
	ClientSecretFile string `toml:"client_secret_file"`
	Cert             string `toml:"cert"`
	Key              string `toml:"key"`
	// Anchors holds the PEM files of the authorities of the issuer's server. Optional: those of the system.
	Anchors []string `toml:"anchors"`
	// AuthorizedParties are the client ids (azp, client_id) of the software whose tokens are taken. Optional: all.
	AuthorizedParties []string `toml:"authorized_parties"`
	// Audiences are names of which a token must carry one (aud). Optional: not looked at.
	Audiences []string `toml:"audiences"`
	// ClockSkew is by how much the issuer's clock may differ from ours. Optional.
	ClockSkew Duration `toml:"clock_skew"`
	// CacheFor is how long an answer about a token is remembered; so long does a token that was taken back stay good.
	// Optional.
	CacheFor Duration `toml:"cache_for"`
	// MaxSession is after how long a session that began with a token ends; the token itself may be over long before.
	// Optional.
	MaxSession Duration `toml:"max_session"`
	// BoundCertificates says what is made of the certificate that a token is bound to (RFC 8705): "ignore"; "match", where
	// a token that names one is good only over TLS with that one; "require", where every token must. Optional.
	BoundCertificates string `toml:"bound_certificates"`
}

// Defaults of the issuer, which is there only when its table is.
const (
	defaultClockSkew  = Duration(30 * time.Second)
	defaultTokenCache = Duration(time.Minute)
	defaultMaxSession = Duration(4 * time.Hour)
)

var boundModes = map[string]auth.BoundMode{"ignore": auth.BoundIgnored, "match": auth.BoundMatched, "require": auth.BoundRequired}

// mechanisms is what the IMAP front offers.
func (c *Config) mechanisms() []string {
	switch {
	case len(c.IMAP.Mechanisms) > 0:
		return c.IMAP.Mechanisms
	case c.Login.PSC != nil:
		return []string{auth.XOAuth2, auth.OAuthBearer, auth.Plain}
	}
	return []string{auth.Plain}
}

// keepsSCRAM says whether new passwords get a verifier for SCRAM: where a front offers it.
func (c *Config) keepsSCRAM() bool {
	offered := c.mechanisms()
	if c.Submission != nil {
		offered = slices.Concat(offered, c.submissionMechanisms())
	}
	return slices.ContainsFunc(offered, func(m string) bool { return m == auth.ScramSHA256 || m == auth.ScramSHA256Plus })
}

// asksIMAPClients says whether a client of the IMAP front is asked for a certificate.
func (c *Config) asksIMAPClients() bool {
	return c.Login.PSC != nil && c.Login.PSC.BoundCertificates != "ignore"
}

func (c *Config) checkLogin(k *checker) {
	k.between("login.argon2_time", int64(c.Login.Argon2Time), 1, 100)
	k.between("login.argon2_memory_kib", int64(c.Login.Argon2MemoryKiB), 8, 4<<20)
	k.between("login.argon2_threads", int64(c.Login.Argon2Threads), 1, 64)
	k.duration("login.cache_for", c.Login.CacheFor, 0, time.Hour)
	c.checkMechanisms(k, "imap.mechanisms", c.IMAP.Mechanisms)
	if p := c.Login.PSC; p != nil {
		p.check(k)
	}
	if a := c.IMAP.App; a != nil {
		a.check(k)
	}
	c.checkSubmission(k)
}

// checkMechanisms looks at what a front of persons offers.
func (c *Config) checkMechanisms(k *checker, key string, mechanisms []string) {
	for _, m := range mechanisms {
		k.oneOf(key, m, auth.XOAuth2, auth.OAuthBearer, auth.ScramSHA256Plus, auth.ScramSHA256, auth.Plain, auth.Login)
		if c.Login.PSC == nil && slices.Contains([]string{auth.XOAuth2, auth.OAuthBearer}, m) {
			k.bad(key, "%s needs an issuer of tokens; expected a table login.psc", m)
		}
	}
}

func (a *AppConfig) check(k *checker) {
	if len(a.Mechanisms) == 0 {
		a.Mechanisms = []string{auth.External, auth.Plain, auth.Login}
	}
	if len(a.Kinds) == 0 {
		a.Kinds = []string{store.APP.String()}
	}
	k.listen("imap.app.listen", a.Listen, false)
	k.listen("imap.app.listen_tls", a.ListenTLS, false)
	k.domain("imap.app.hostname", a.Hostname)
	k.path("imap.app.cert", a.Cert, "a PEM certificate with its chain")
	k.path("imap.app.key", a.Key, "a PEM private key")
	for _, m := range a.Mechanisms {
		k.oneOf("imap.app.mechanisms", m, auth.External, auth.Plain, auth.Login)
	}
	for _, kind := range a.Kinds {
		k.oneOf("imap.app.kinds", kind, store.APP.String(), store.ORG.String())
	}
}

// alone says whether the front of applications has addresses of its own.
func (a *AppConfig) alone() bool { return a != nil && len(a.Listen)+len(a.ListenTLS) > 0 }

// mailFront is one server of IMAP or of submission.
type mailFront struct {
	name, key string // for people; of its addresses
	addrs     []string
	implicit  bool // TLS from the first octet
	apps      bool // for applications alone
}

// imapFronts are the servers of IMAP that have an address.
func (c *Config) imapFronts() []mailFront {
	list := mailFronts("imap", c.IMAP.Listen, c.IMAP.ListenTLS)
	if a := c.IMAP.App; a != nil {
		list = append(list, appFronts("imap", a.Listen, a.ListenTLS)...)
	}
	return list
}

// mailFronts are the servers of a table, those that have an address.
func mailFronts(table string, listen, listenTLS []string) []mailFront {
	return slices.DeleteFunc([]mailFront{
		{name: table, key: table + ".listen", addrs: listen},
		{name: table + "s", key: table + ".listen_tls", addrs: listenTLS, implicit: true},
	}, func(f mailFront) bool { return len(f.addrs) == 0 })
}

// appFronts are those of its table of applications.
func appFronts(table string, listen, listenTLS []string) []mailFront {
	list := mailFronts(table, listen, listenTLS)
	for i := range list {
		f := &list[i]
		f.name, f.apps = f.name+".app", true
		f.key = table + ".app" + strings.TrimPrefix(f.key, table)
	}
	return list
}

// kinds are the kinds of BALs that certificates open; the words were checked.
func (a *AppConfig) kinds() []store.Kind {
	var out []store.Kind
	for _, word := range a.Kinds {
		if kind, err := store.ParseKind(word); err == nil {
			out = append(out, kind)
		}
	}
	return out
}

// tlsNames names the fronts that have a certificate, in their order.
func (d *daemon) tlsNames() (names []string) {
	for _, f := range frontConfigs(d.cfg, nil) {
		names = append(names, f.Name)
	}
	return names
}

// tlsOf is the TLS side of a front, by its name.
func (d *daemon) tlsOf(name string) *tlsconf.Front { return d.tls[slices.Index(d.tlsNames(), name)] }

func (p *PSCConfig) check(k *checker) {
	setDefault(&p.Introspection, "required")
	setDefault(&p.ClockSkew, defaultClockSkew)
	setDefault(&p.CacheFor, defaultTokenCache)
	setDefault(&p.MaxSession, defaultMaxSession)
	setDefault(&p.BoundCertificates, "ignore")
	for _, u := range []struct{ key, url string }{{"issuer", p.Issuer}, {"discovery_url", p.DiscoveryURL}, {"jwks_url", p.JWKSURL}, {"introspection_url", p.IntrospectionURL}, {"userinfo_url", p.UserinfoURL}} {
		if (u.url != "" || u.key == "issuer") && fetch.Check(u.url, false) != nil {
			k.bad("login.psc."+u.key, "%q; expected https://host/path", u.url)
		}
	}
	k.oneOf("login.psc.introspection", p.Introspection, "required", "off")
	if (p.Cert == "") != (p.Key == "") {
		k.bad("login.psc.key", "cert and key go together: give both or none")
	}
	if p.Introspection == "required" && p.ClientID == "" {
		k.bad("login.psc.client_id", "is missing; expected the operator's name with the issuer, which introspection needs")
	}
	if p.Introspection == "required" && p.ClientSecretFile == "" && p.Cert == "" {
		k.bad("login.psc.client_secret_file", "is missing; expected it, or cert and key: introspection needs one of them")
	}
	for _, u := range append(slices.Clone(p.AuthorizedParties), p.Audiences...) {
		if strings.TrimSpace(u) != u || u == "" {
			k.bad("login.psc.authorized_parties", "%q; expected names without spaces around them", u)
		}
	}
	k.duration("login.psc.clock_skew", p.ClockSkew, time.Second, 5*time.Minute)
	k.duration("login.psc.cache_for", p.CacheFor, time.Second, 10*time.Minute)
	k.duration("login.psc.max_session", p.MaxSession, time.Minute, 24*time.Hour)
	if _, ok := boundModes[p.BoundCertificates]; !ok {
		k.bad("login.psc.bound_certificates", "%q; expected ignore, match or require", p.BoundCertificates)
	}
}

// files looks at the files of the issuer's table.
func (p *PSCConfig) files(look func(key string, names []string, missing string, load func() error)) {
	const missing = "serve does not start without it"
	if p.ClientSecretFile != "" {
		look("login.psc.client_secret_file", []string{p.ClientSecretFile}, missing, func() error {
			_, err := readSecret(p.ClientSecretFile)
			return err
		})
	}
	if p.Cert != "" {
		look("login.psc.cert", []string{p.Cert, p.Key}, missing, func() error {
			_, err := tls.LoadX509KeyPair(p.Cert, p.Key)
			return err
		})
	}
	if len(p.Anchors) > 0 {
		look("login.psc.anchors", p.Anchors, missing, func() error {
			_, err := tlsconf.LoadAnchors(p.Anchors)
			return err
		})
	}
}

// openPSC makes the verifier of access tokens; nil where none is configured. Its files must be there.
func (d *daemon) openPSC() error {
	p := d.cfg.Login.PSC
	if p == nil {
		return nil
	}
	var faults []fault
	p.files(func(key string, _ []string, _ string, load func() error) {
		if err := load(); err != nil {
			faults = append(faults, fault{Key: key, Text: err.Error()})
		}
	})
	if len(faults) > 0 {
		return &configError{d.cfg.name(), faults}
	}
	c := auth.PSCConfig{Issuer: p.Issuer, DiscoveryURL: p.DiscoveryURL, JWKSURL: p.JWKSURL, IntrospectionURL: p.IntrospectionURL,
		Userinfo: p.Userinfo, UserinfoURL: p.UserinfoURL,
		Introspect: p.Introspection == "required", ClientID: p.ClientID, Parties: p.AuthorizedParties, Audiences: p.Audiences,
		Skew: time.Duration(p.ClockSkew), CacheFor: time.Duration(p.CacheFor), Bound: boundModes[p.BoundCertificates], Log: d.log}
	if p.ClientSecretFile != "" {
		c.ClientSecret, _ = readSecret(p.ClientSecretFile) // it was read a moment ago
	}
	if p.Cert != "" {
		c.ClientCert = func() (*tls.Certificate, error) { // read anew at each handshake, which are few
			cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
			return &cert, err
		}
	}
	if len(p.Anchors) > 0 {
		now := lastAnchors(p.Anchors, d.log)
		c.Roots = func() *x509.CertPool {
			roots, _ := now().Pools()
			return roots
		}
	}
	var err error
	if d.psc, err = auth.NewPSC(c); err != nil {
		return fmt.Errorf("login.psc: %w", err)
	}
	return nil
}
