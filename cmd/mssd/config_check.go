package main

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"mssd/tlsconf"
	"mssd/tlsconf/fetch"
)

// checker collects faults; a key that the decoder already complained of is not judged again.
type checker struct {
	known  []fault
	faults []fault
}

func (k *checker) bad(key, format string, args ...any) {
	if !slices.ContainsFunc(k.known, func(f fault) bool { return f.Key == key }) {
		k.faults = append(k.faults, fault{Key: key, Text: fmt.Sprintf(format, args...)})
	}
}

// check judges every value; known holds what the decoder found.
func (c *Config) check(known []fault) []fault {
	k := &checker{known: known}
	k.domain("hostname", c.Hostname)
	k.path("data_dir", c.DataDir, "the folder of the store")
	// A peer waits 10 minutes for the answer to its message (RFC 5321, Section 4.5.3.2.6).
	k.duration("store.commit_timeout", c.Store.CommitTimeout, time.Second, 5*time.Minute)
	k.duration("store.keep_expunged", c.Store.KeepExpunged, 0, 36500*24*time.Hour)
	k.duration("store.backup_max_age", c.Store.BackupMaxAge, 0, 3650*24*time.Hour)
	k.days("store.retention.trash", c.Store.Retention.Trash)
	k.days("store.retention.junk", c.Store.Retention.Junk)
	k.between("bal.inactivity_notice_days", int64(c.BAL.InactivityNoticeDays), 0, 36_500)
	k.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	k.oneOf("log.format", c.Log.Format, "text", "json")
	c.checkSMTP(k)
	c.checkIMAP(k)
	c.checkTrust(k)
	c.checkDirectory(k)
	c.checkLogin(k)
	k.path("admin.socket", c.Admin.Socket, "the unix socket of the command line")
	if n := len(c.Admin.Socket); n > 107 {
		k.bad("admin.socket", "%d octets long; a unix socket's name has at most 107", n)
	}
	if c.Metrics.Listen != "" {
		k.loopback("metrics.listen", c.Metrics.Listen)
	}
	k.duration("shutdown.grace", c.Shutdown.Grace, time.Second, 10*time.Minute)
	k.clash(c)
	return k.faults
}

func (c *Config) checkSMTP(k *checker) {
	k.listen("smtp.listen", c.SMTP.Listen, true)
	k.path("smtp.cert", c.SMTP.Cert, "a PEM certificate with its chain")
	k.path("smtp.key", c.SMTP.Key, "a PEM private key")
	k.tls("smtp", c.SMTP.Certificates, c.SMTP.CipherSuites)
	// RFC 5321, Section 4.5.3.1.7: 64 KiB must be taken at the least.
	k.between("smtp.max_message_octets", c.SMTP.MaxMessageOctets, 64<<10, 1<<30)
	k.between("smtp.max_recipients", int64(c.SMTP.MaxRecipients), 100, 10_000)
	k.between("smtp.max_connections", int64(c.SMTP.MaxConnections), 1, 100_000)
	k.between("smtp.max_connections_per_address", int64(c.SMTP.MaxConnectionsPerAddress), 1, int64(max(1, c.SMTP.MaxConnections)))
	if p := c.SMTP.Postmaster; p != "" && (strings.Count(p, "@") != 1 || strings.HasPrefix(p, "@") || strings.HasSuffix(p, "@")) {
		k.bad("smtp.postmaster", "%q; expected the address of a BAL of ours", p)
	}
	k.duration("smtp.idle_timeout", c.SMTP.IdleTimeout, time.Second, time.Hour)
	k.between("smtp.max_connections_per_operator", int64(c.SMTP.MaxConnectionsPerOperator), 1, 100_000)
	k.duration("smtp.evict_idle", c.SMTP.EvictIdle, time.Second, time.Hour)
	k.duration("smtp.handshake_timeout", c.SMTP.HandshakeTimeout, time.Second, 10*time.Minute)
	k.between("smtp.min_rate", int64(c.SMTP.MinRate), 1, 1<<20)
	k.duration("smtp.rate_window", c.SMTP.RateWindow, time.Second, time.Hour)
	k.between("smtp.max_errors", int64(c.SMTP.MaxErrors), 1, 10_000)
	k.oneOf("smtp.header_from", c.SMTP.HeaderFrom, "note", "refuse", "off")
	k.networks("smtp.proxy_from", c.SMTP.ProxyFrom)
	for i, p := range c.SMTP.Partners {
		key := fmt.Sprintf("smtp.partners[%d]", i+1)
		if len(p.Addresses) == 0 && p.DN == "" {
			k.bad(key, "has neither addresses nor dn; expected one of them at least")
		}
		k.networks(key+".addresses", p.Addresses)
		if _, err := tlsconf.ParseDN(p.DN); p.DN != "" && err != nil {
			k.bad(key+".dn", "%q: %v; expected a name as the white list writes it", p.DN, err)
		}
		if p.MaxConnections < 0 || p.MaxConnections > 100_000 {
			k.bad(key+".max_connections", "%d; expected 0 to 100000", p.MaxConnections)
		}
	}
}

func (c *Config) checkIMAP(k *checker) {
	k.listen("imap.listen", c.IMAP.Listen, len(c.IMAP.ListenTLS) == 0)
	k.listen("imap.listen_tls", c.IMAP.ListenTLS, false)
	k.path("imap.cert", c.IMAP.Cert, "a PEM certificate with its chain")
	k.path("imap.key", c.IMAP.Key, "a PEM private key")
	k.tls("imap", c.IMAP.Certificates, c.IMAP.CipherSuites)
	k.between("imap.max_append_octets", c.IMAP.MaxAppendOctets, 64<<10, 1<<30)
	k.between("imap.max_connections", int64(c.IMAP.MaxConnections), 1, 1_000_000)
	k.between("imap.max_connections_per_address", int64(c.IMAP.MaxConnectionsPerAddress), 1, int64(max(1, c.IMAP.MaxConnections)))
	// RFC 9051, Section 5.4: the autologout timer is 30 minutes at least.
	k.networks("imap.proxy_from", c.IMAP.ProxyFrom)
	k.duration("imap.idle_timeout", c.IMAP.IdleTimeout, 30*time.Minute, 24*time.Hour)
}

func (c *Config) checkTrust(k *checker) {
	if len(c.Trust.Anchors) == 0 {
		k.bad("trust.anchors", "is missing; expected at least one PEM file of a trusted authority")
	}
	k.duration("trust.crl_grace", c.Trust.CRLGrace, 0, 30*24*time.Hour)
	k.duration("trust.crl_every", c.Trust.CRLEvery, time.Minute, 7*24*time.Hour)
	for _, u := range c.Trust.CRLURLs {
		if err := fetch.Check(u, true); err != nil {
			k.bad("trust.crl_urls", "%q; expected http://host/path or https://host/path", u)
		}
	}
	if _, ok := ocspModes[c.Trust.OCSP]; !ok {
		k.bad("trust.ocsp", "%q; expected off, prefer or require", c.Trust.OCSP)
	} else if c.Trust.OCSP != "off" && fetch.Check(c.Trust.OCSPURL, true) != nil {
		k.bad("trust.ocsp_url", "%q; expected http://host/path or https://host/path, with ocsp = %q", c.Trust.OCSPURL, c.Trust.OCSP)
	}
	k.duration("whitelist.every", c.WhiteList.Every, time.Minute, 7*24*time.Hour)
	switch u := c.WhiteList.URL; {
	case u == "":
		k.path("whitelist.file", c.WhiteList.File, "the signed list of domains (XML), or a url")
	case c.WhiteList.File != "":
		k.bad("whitelist.url", "given beside file; expected one of them: two lists could contradict each other")
	case fetch.Check(u, false) != nil:
		k.bad("whitelist.url", "%q; expected https://host/path", u)
	}
	if len(c.WhiteList.SignerNames) == 0 {
		k.bad("whitelist.signer_names", "is empty; expected a name in the signer's certificate: any other certificate of the anchors could sign a list")
	}
	k.duration("whitelist.warn_after", c.WhiteList.WarnAfter, time.Minute, 365*24*time.Hour)
	k.duration("whitelist.defer_after", c.WhiteList.DeferAfter, time.Minute, 365*24*time.Hour)
	if c.WhiteList.DeferAfter < c.WhiteList.WarnAfter {
		k.bad("whitelist.defer_after", "%v is less than whitelist.warn_after (%v); expected the same or more",
			c.WhiteList.DeferAfter, c.WhiteList.WarnAfter)
	}
	k.between("whitelist.max_loss_percent", int64(c.WhiteList.MaxLossPercent), 1, 100)
}

func (c *Config) checkDirectory(k *checker) {
	d := &c.Directory
	k.duration("directory.stale_after", d.StaleAfter, time.Minute, 365*24*time.Hour)
	k.duration("directory.cannot_tell_after", d.CannotTellAfter, time.Minute, 365*24*time.Hour)
	k.duration("directory.live_deadline", d.LiveDeadline, time.Millisecond, 10*time.Second)
	k.between("directory.max_loss_percent", int64(d.MaxLossPercent), 1, 100)
	if l := d.LDAP; l != nil {
		c.checkLDAP(k, l)
	}
	if x := d.Extraction; x != nil {
		if len(x.URLs) > 0 {
			setDefault(&x.Every, defaultFetchEvery)
		} else {
			k.path("directory.extraction.file", x.File, "the extraction of 31 columns, text or ZIP, or urls")
		}
		setDefault(&x.Every, defaultExtractionEvery)
		for _, u := range x.URLs {
			if fetch.Check(u, false) != nil {
				k.bad("directory.extraction.urls", "%q; expected https://host/path, without a login", withoutLogin(u))
			}
		}
		if len(x.Anchors) > 0 && len(x.URLs) == 0 {
			k.bad("directory.extraction.anchors", "given without urls; expected none: a file needs no authority")
		}
		k.duration("directory.extraction.every", x.Every, time.Second, 30*24*time.Hour)
	}
	k.policyRow("directory.policy.published.", d.Policy.Published)
	k.policyRow("directory.policy.unlisted.", d.Policy.Unlisted)
	for name, class := range map[string]ClassPolicy{"operator": d.Policy.Operator, "patient": d.Policy.Patient, "member": d.Policy.Member} {
		k.policyRow("directory.policy."+name+".published.", class.Published)
		k.policyRow("directory.policy."+name+".unlisted.", class.Unlisted)
	}
	k.oneOf("directory.policy.patient_first", d.Policy.PatientFirst, "accept", "note", "alert", "refuse")
	for _, domain := range d.Policy.PatientDomains {
		if domain == "" || domain != strings.ToLower(domain) || strings.ContainsAny(domain, "@ ") {
			k.bad("directory.policy.patient_domains", "%q; expected a domain in lower case, as patient.mssante.fr", domain)
		}
	}
}

func (c *Config) checkLDAP(k *checker, l *LDAPFeed) {
	setDefault(&l.BaseDN, defaultBaseDN)
	setDefault(&l.PageSize, defaultPageSize)
	setDefault(&l.Every, defaultLDAPEvery)
	setDefault(&l.Sync, "auto")
	k.oneOf("directory.ldap.sync", l.Sync, "auto", "off")
	u, err := url.Parse(l.URL)
	if err != nil || (u.Scheme != "ldap" && u.Scheme != "ldaps") || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		k.bad("directory.ldap.url", "%q; expected ldap://host:port or ldaps://host:port", l.URL)
	}
	if err == nil && u.Scheme == "ldaps" && l.StartTLS {
		k.bad("directory.ldap.starttls", "true, but the url is ldaps://; expected false there")
	}
	if err == nil && (u.Scheme == "ldaps" || l.StartTLS) && len(l.Anchors) == 0 {
		k.bad("directory.ldap.anchors", "is missing; expected the PEM files of the server's authorities, which TLS needs")
	}
	if (l.BindDN == "") != (l.PasswordFile == "") {
		k.bad("directory.ldap.password_file", "bind_dn and password_file go together: give both or none")
	}
	if (l.Cert == "") != (l.Key == "") {
		k.bad("directory.ldap.key", "cert and key go together: give both or none")
	}
	if l.External && (l.Cert == "" || l.BindDN != "") {
		k.bad("directory.ldap.external", "true; expected a cert and key, and no bind_dn: the certificate is the login")
	}
	if err == nil && (l.External || l.Cert != "") && u.Scheme == "ldap" && !l.StartTLS {
		k.bad("directory.ldap.cert", "a certificate needs TLS; expected an ldaps:// url, or starttls = true")
	}
	k.attribute("mail", l.Attributes.Mail, true)
	k.attribute("kind", l.Attributes.Kind, false)
	k.attribute("structure_type", l.Attributes.StructureType, false)
	k.attribute("structure_id", l.Attributes.StructureID, false)
	k.attribute("person_type", l.Attributes.PersonType, false)
	k.attribute("person_id", l.Attributes.PersonID, false)
	k.attribute("profession", l.Attributes.Profession, false)
	k.attribute("name", l.Attributes.Name, false)
	k.attribute("given_name", l.Attributes.GivenName, false)
	k.attribute("structure_name", l.Attributes.StructureName, false)
	k.attribute("service", l.Attributes.Service, false)
	k.attribute("postcode", l.Attributes.Postcode, false)
	k.attribute("town", l.Attributes.Town, false)
	k.between("directory.ldap.page_size", int64(l.PageSize), 1, 100_000)
	k.duration("directory.ldap.every", l.Every, time.Second, 30*24*time.Hour)
}

// withoutLogin takes name and password out of a URL.
func withoutLogin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "a text that is no URL"
	}
	if u.User != nil {
		u.User = nil
	}
	return u.String()
}

// attribute judges the name of an LDAP attribute (RFC 4512, Section 1.4); "" leaves the default.
func (k *checker) attribute(name, v string, needed bool) {
	if v == "" || v == "-" && !needed {
		return
	}
	if strings.Trim(strings.ToLower(v), "abcdefghijklmnopqrstuvwxyz0123456789-.;") != "" || v[0] == '-' {
		k.bad("directory.ldap.attributes."+name, "%q; expected the name of an attribute", v)
	}
}

// policyRow judges the cells of a row; "" leaves the default.
func (k *checker) policyRow(table string, r PolicyRow) {
	for _, c := range [][2]string{{"known", r.Known}, {"known_other", r.KnownOther}, {"unknown", r.Unknown}, {"cannot_tell", r.CannotTell}} {
		if c[1] != "" {
			k.oneOf(table+c[0], c[1], policyWords...)
		}
	}
}

// networks judges addresses and networks.
func (k *checker) networks(key string, list []string) {
	for _, n := range list {
		if _, err := parseNetwork(n); err != nil {
			k.bad(key, "%q; expected an address (192.0.2.1) or a network (192.0.2.0/24, 2001:db8::/32)", n)
		}
	}
}

// parseNetwork reads an address, which is a network of one, or a network in CIDR form.
func parseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("not an address or a network: %q", s)
	}
	return p.Masked(), nil
}

// parseNetworks is for lists that were judged.
func parseNetworks(list []string) []netip.Prefix {
	var nets []netip.Prefix
	for _, n := range list {
		if p, err := parseNetwork(n); err == nil {
			nets = append(nets, p)
		}
	}
	return nets
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func (k *checker) path(key, v, what string) {
	if v == "" {
		k.bad(key, "is missing; expected %s", what)
	}
}

func (k *checker) oneOf(key, v string, words ...string) {
	if !slices.Contains(words, v) {
		k.bad(key, "%q; expected one of %s", v, strings.Join(words, ", "))
	}
}

func (k *checker) between(key string, v, lo, hi int64) {
	if v < lo || v > hi {
		k.bad(key, "%d; expected %d to %d", v, lo, hi)
	}
}

func (k *checker) duration(key string, v Duration, lo, hi time.Duration) {
	if d := time.Duration(v); d < lo || d > hi {
		k.bad(key, "%v; expected %v to %v", v, Duration(lo), Duration(hi))
	}
}

// days holds a duration to whole days.
func (k *checker) days(key string, v Duration) {
	if d := time.Duration(v); d < 0 || d > 36500*24*time.Hour || d%(24*time.Hour) != 0 {
		k.bad(key, "%v; expected whole days (\"30d\"), or \"0\" for never", v)
	}
}

func (k *checker) domain(key, v string) {
	if v == "" {
		k.bad(key, "is missing; expected a full domain name")
		return
	}
	if !fullDomain(v) && v != "localhost" {
		k.bad(key, "%q; expected a full domain name (letters, digits, hyphens, dots)", v)
	}
}

// fullDomain reports whether a name is a domain of two labels or more, in its ASCII form and without a last dot.
func fullDomain(v string) bool {
	labels := strings.Split(v, ".")
	ok := len(labels) > 1 && len(v) <= 253
	for _, l := range labels {
		ok = ok && l != "" && len(l) <= 63 && l[0] != '-' && l[len(l)-1] != '-' &&
			strings.Trim(strings.ToLower(l), "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
	}
	return ok
}

func (k *checker) listen(key string, addrs []string, required bool) {
	if len(addrs) == 0 && required {
		k.bad(key, `is missing; expected at least one address, as "192.0.2.1:25" or ":25"`)
	}
	for _, a := range addrs {
		if err := checkAddr(a); err != nil {
			k.bad(key, `%q; expected host:port, as "192.0.2.1:25" or ":25"`, a)
		}
	}
}

func checkAddr(a string) error {
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		return err
	}
	if host != "" && host != "localhost" && net.ParseIP(host) == nil {
		return fmt.Errorf("host %q is not an IP address", host)
	}
	_, err = net.LookupPort("tcp", port)
	return err
}

func (k *checker) loopback(key, a string) {
	host, _, _ := net.SplitHostPort(a)
	ip := net.ParseIP(host)
	if checkAddr(a) != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		k.bad(key, `%q; expected a loopback address, as "127.0.0.1:9180": the page has no login`, a)
	}
}

// clash finds one address given to two fronts; port 0 (any free one) never clashes.
func (k *checker) clash(c *Config) {
	seen := map[string]string{}
	type listed struct {
		key   string
		addrs []string
	}
	all := []listed{{"smtp.listen", c.SMTP.Listen}}
	for _, f := range append(c.imapFronts(), c.submissionFronts()...) {
		all = append(all, listed{f.key, f.addrs})
	}
	for _, l := range append(all, listed{"metrics.listen", []string{c.Metrics.Listen}}) {
		for _, a := range l.addrs {
			if a == "" || strings.HasSuffix(a, ":0") {
				continue
			}
			if other, taken := seen[a]; taken {
				k.bad(l.key, "%q is also given to %s; expected an address of its own", a, other)
			}
			seen[a] = l.key
		}
	}
}

// suggest names the key that an unknown one was probably meant to be: the nearest of the same table.
func suggest(key []string) string {
	t := reflect.TypeOf(Config{})
	for _, part := range key[:max(0, len(key)-1)] {
		f, ok := fieldByKey(t, part)
		if !ok {
			return ""
		}
		if t = f.Type; t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return ""
		}
	}
	if len(key) == 0 {
		return ""
	}
	best, bestDist := "", 3
	for i := range t.NumField() {
		tag := t.Field(i).Tag.Get("toml")
		if d := distance(tag, key[len(key)-1]); tag != "" && d < bestDist {
			best, bestDist = tag, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

func fieldByKey(t reflect.Type, key string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("toml") == key {
			return t.Field(i), true
		}
	}
	return reflect.StructField{}, false
}

// distance is the Levenshtein distance of two short words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost++
			}
			prev = row[j+1]
			row[j+1] = min(cost, row[j]+1, prev+1)
		}
	}
	return row[len(b)]
}
