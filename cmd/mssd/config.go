package main

import (
	"fmt"
	"strings"
	"time"
)

// Config is the whole configuration, one TOML file. Every key is Optional where it says so; the value in force
// when it is left out stands in defaultConfig. Names of files are taken relative to the folder of the
// configuration file. Secrets stand in files named here, never in this file.
type Config struct {
	// Hostname is the name this operator answers by (greeting, EHLO, Received). It should be the name in the
	// certificates and in the MX records. A full domain name. Required.
	Hostname string `toml:"hostname"`

	// DataDir is the folder of the store, of the last good white list and of the directory's image. Only the
	// daemon touches it, only one daemon may. Required.
	DataDir string `toml:"data_dir"`

	Store     StoreConfig     `toml:"store"`
	BAL       BALConfig       `toml:"bal"`
	Log       LogConfig       `toml:"log"`
	SMTP      SMTPConfig      `toml:"smtp"`
	IMAP      IMAPConfig      `toml:"imap"`
	Trust     TrustConfig     `toml:"trust"`
	WhiteList WhiteListConfig `toml:"whitelist"`
	Directory DirectoryConfig `toml:"directory"`
	Login     LoginConfig     `toml:"login"`
	Admin     AdminConfig     `toml:"admin"`
	Metrics   MetricsConfig   `toml:"metrics"`
	Shutdown  ShutdownConfig  `toml:"shutdown"`
	// Submission is the front by which members send mail. Optional: none.
	Submission *SubmissionConfig `toml:"submission"`

	file string           // where it was read, "" when built in memory
	at   map[string]place // of the keys in that file; nil when built in memory
}

// StoreConfig says how the store is opened.
type StoreConfig struct {
	// MasterKey is the file of the key that opens all others: whoever has it and the data reads the mail, and without
	// it nobody ever does. It should lie on another medium than data_dir, and a copy elsewhere. Optional: master.key
	// in data_dir, which protects nothing when the disk is taken.
	MasterKey string `toml:"master_key"`
	// CommitTimeout is how long a write waits for a slow disk before peers are told to come back (451) and clients to
	// try later. Optional.
	CommitTimeout Duration `toml:"commit_timeout"`
	// KeepExpunged is how long mail that was expunged can be brought back (mssd bal undelete), outside of the quota; then
	// it is let go for good. "0": not at all. Optional.
	KeepExpunged Duration `toml:"keep_expunged"`
	// BackupMaxAge is how old the moment of the latest whole backup may be before the daemon says that it is degraded.
	// "0": it never does. Optional.
	BackupMaxAge Duration `toml:"backup_max_age"`
	// Retention is after how long in a mailbox mail is expunged.
	Retention RetentionConfig `toml:"retention"`
}

// RetentionConfig holds, for mailboxes of a special use, after how many whole days ("30d") in the mailbox mail is
// expunged, whatever its flags are; "0": never. mssd bal retention sets it for a single mailbox.
type RetentionConfig struct {
	// Trash and Junk are these special uses. Optional: never.
	Trash Duration `toml:"trash"`
	Junk  Duration `toml:"junk"`
}

// days is the retention by special use, as the store wants it.
func (r RetentionConfig) days() map[string]uint32 {
	const day = 24 * time.Hour
	return map[string]uint32{`\Trash`: uint32(time.Duration(r.Trash) / day), `\Junk`: uint32(time.Duration(r.Junk) / day)}
}

// BALConfig is about all BALs.
type BALConfig struct {
	// InactivityNoticeDays is after how many days without a login a BAL is told of it by a mail into its INBOX, once until it is
	// used again. 0: never. Optional.
	InactivityNoticeDays int `toml:"inactivity_notice_days"`
	// InactivityNoticeFile is the text of that mail: a line "Objet: …", an empty line and the text, UTF-8; {bal}, {jours} and
	// {depuis} stand for the address, the days and the date of the last use. Optional: a French text of ours.
	InactivityNoticeFile string `toml:"inactivity_notice_file"`
}

// LogConfig says how the daemon speaks on standard error.
type LogConfig struct {
	// Level is the least level written: "debug" (a line per command), "info" (a line per transaction), "warn"
	// or "error". Optional.
	Level string `toml:"level"`
	// Format is "text" (key=value) or "json". Optional.
	Format string `toml:"format"`
}

// SMTPConfig is the operator front: mail in from the other operators and the patient platform, mutual TLS.
type SMTPConfig struct {
	// Listen holds the addresses of the front, host:port. Required; the trust space uses port 25.
	Listen []string `toml:"listen"`
	// Cert and Key are the PEM files of our server certificate, chain included, and of its key. Required.
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	// Certificates are further ones, for peers that ask for another name (SNI) or cannot use the first. Optional.
	Certificates []CertConfig `toml:"certificates"`
	// CipherSuites are those of TLS 1.2, as RFC 5289 names them; those of TLS 1.3 cannot be chosen. Optional: all with
	// forward secrecy and authenticated encryption.
	CipherSuites []string `toml:"cipher_suites"`
	// MaxMessageOctets is the largest message taken, as sent (base64 included), octets; announced as SIZE.
	// Optional.
	MaxMessageOctets int64 `toml:"max_message_octets"`
	// MaxRecipients is the most recipients of one transaction; RFC 5321, Section 4.5.3.1.8 wants 100 at least.
	// Optional.
	MaxRecipients int `toml:"max_recipients"`
	// MaxConnections is the most connections at a time, in all and for one peer address. Optional.
	MaxConnections           int `toml:"max_connections"`
	MaxConnectionsPerAddress int `toml:"max_connections_per_address"`
	// MaxConnectionsPerOperator is the most connections at a time of one operator, known by its certificate. Optional.
	MaxConnectionsPerOperator int `toml:"max_connections_per_operator"`
	// EvictIdle is how long an operator must have been idle between two messages to make room for another when
	// MaxConnections is reached; who has shown no valid certificate makes room before. Optional.
	EvictIdle Duration `toml:"evict_idle"`
	// HandshakeTimeout bounds the time from the connection to the end of the TLS handshake. Optional.
	HandshakeTimeout Duration `toml:"handshake_timeout"`
	// MinRate is the least octets per second of a message, measured over RateWindow; who is slower is cut off. Optional.
	MinRate    int      `toml:"min_rate"`
	RateWindow Duration `toml:"rate_window"`
	// MaxErrors is the most refusals in a row on one connection. Optional.
	MaxErrors int `toml:"max_errors"`
	// HeaderFrom says what is done when the white list does not bind the domain of a message's From field to the
	// peer's certificate: "note" (in Authentication-Results and the trace), "refuse" (550) or "off". The official text
	// on this could not be read: a refusal might lose mail that operators forward, so that it is noted. Optional.
	HeaderFrom string `toml:"header_from"`
	// DKIM verifies the signatures of a message (RFC 6376), which needs the DNS, and notes the result in
	// Authentication-Results and the trace; nothing is refused for it. Optional.
	DKIM bool `toml:"dkim"`
	// ProxyFrom holds the addresses (or networks, CIDR) of our own balancers, whose connections begin with a header of
	// the PROXY protocol that names the peer. From anybody else such a header is refused. Optional: none.
	ProxyFrom []string `toml:"proxy_from"`
	// Partners are operators with limits of their own, such as the patient platform. Optional.
	Partners []PartnerConfig `toml:"partners"`
	// Postmaster is the BAL that receives what is sent to postmaster at any of our domains. Optional: the first
	// active ORG BAL of that domain.
	Postmaster string `toml:"postmaster"`
	// IdleTimeout is how long a peer may stay silent; RFC 5321, Section 4.5.3.2.7 wants 5 minutes. Optional.
	IdleTimeout Duration `toml:"idle_timeout"`
}

// CertConfig is a further certificate of a front: PEM files. Both are Required.
type CertConfig struct {
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
}

// PartnerConfig is an operator that is expected to send much. At least one of Addresses and DN must be given.
type PartnerConfig struct {
	// Addresses it connects from (or networks, CIDR): not counted by max_connections_per_address, and never sent
	// away to make room for another.
	Addresses []string `toml:"addresses"`
	// DN is the name in its certificate, as the white list writes it: MaxConnections holds in place of
	// max_connections_per_operator.
	DN string `toml:"dn"`
	// MaxConnections is the most at a time. Optional: as many as there is room for.
	MaxConnections int `toml:"max_connections"`
}

// IMAPConfig is the front of pharmacy and practice software.
type IMAPConfig struct {
	// Listen holds the addresses with STARTTLS, host:port; ListenTLS those that speak TLS from the first octet.
	// At least one of the two lists must hold an address.
	Listen    []string `toml:"listen"`
	ListenTLS []string `toml:"listen_tls"`
	// Cert and Key are the PEM files of the front's certificate, chain included, and of its key. The software
	// in the field needs an RSA certificate. Required.
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	// Certificates and CipherSuites are as in [smtp]. Optional.
	Certificates []CertConfig `toml:"certificates"`
	CipherSuites []string     `toml:"cipher_suites"`
	// Mechanisms are the SASL mechanisms offered, in this order: "XOAUTH2" and "OAUTHBEARER", which need login.psc, and
	// "PLAIN" and "LOGIN", with which the command LOGIN is taken too. "SCRAM-SHA-256-PLUS" and "SCRAM-SHA-256" open with passwords that
	// were set while a front offered one of them: a verifier is kept of these that is cheaper to guess than argon2id
	// (docs/login.md). Optional: XOAUTH2 and OAUTHBEARER where they can work, and PLAIN.
	Mechanisms []string `toml:"mechanisms"`
	// App is the front of applications, which log in with a certificate. Optional: none.
	App *AppConfig `toml:"app"`
	// MaxAppendOctets is the largest message that a client may store, octets. Optional.
	MaxAppendOctets int64 `toml:"max_append_octets"`
	// MaxConnections is the most connections at a time, in all and for one client address. Optional.
	MaxConnections           int `toml:"max_connections"`
	MaxConnectionsPerAddress int `toml:"max_connections_per_address"`
	// ProxyFrom is as in [smtp]. Optional: none.
	ProxyFrom []string `toml:"proxy_from"`
	// IdleTimeout is how long a logged-in client may stay silent; RFC 9051, Section 5.4 wants 30 minutes at
	// least. Optional.
	IdleTimeout Duration `toml:"idle_timeout"`
}

// AppConfig is the front of applications: its clients are asked for a certificate of the authorities of [trust], which is their
// login. Without addresses of its own it stands on those of [imap], for clients that name Hostname in their TLS handshake (SNI).
type AppConfig struct {
	// Listen and ListenTLS are as in [imap], for this front alone; no name of a handshake is looked at then. Optional: none.
	Listen    []string `toml:"listen"`
	ListenTLS []string `toml:"listen_tls"`
	// Hostname is the name of this front, another than that of [imap]. Required.
	Hostname string `toml:"hostname"`
	// Cert and Key are the PEM files of its certificate, chain included, and of its key. Required.
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	// Mechanisms are the SASL mechanisms offered: "EXTERNAL"; "PLAIN" and "LOGIN", with which old clients name the BAL;
	// their password is not looked at. Optional: all three.
	Mechanisms []string `toml:"mechanisms"`
	// Kinds are the kinds of BALs that certificates open: "APP", "ORG". Optional: APP.
	Kinds []string `toml:"kinds"`
}

// TrustConfig says which authorities are trusted for the certificates of other operators.
type TrustConfig struct {
	// Anchors holds the PEM files of the trusted authorities (IGC-Santé), intermediates included. Required;
	// while one is missing or faulty and no earlier one was read, the operator front answers 451.
	Anchors []string `toml:"anchors"`
	// CRLs holds the revocation lists of these authorities, full or delta, PEM or DER files; CRLURLs the places that
	// lists are fetched from, http or https: they are signed. Without any nothing is known of revocation. Optional.
	CRLs    []string `toml:"crls"`
	CRLURLs []string `toml:"crl_urls"`
	// CRLEvery is the time between two questions to a place; each list is also asked for before its nextUpdate. Optional.
	CRLEvery Duration `toml:"crl_every"`
	// CRLGrace is how long past its nextUpdate a revocation list is still believed; after it peers of that
	// authority get 451. Optional.
	CRLGrace Duration `toml:"crl_grace"`
	// OCSP says whether the responder at OCSPURL (http or https) is asked about a peer's certificate at MAIL: "off";
	// "prefer", where the revocation lists decide when it gives no answer; "require", where mail is then answered 451.
	// A responder that a certificate names is never asked. Optional.
	OCSP    string `toml:"ocsp"`
	OCSPURL string `toml:"ocsp_url"`
	// RequireClientAuth refuses peers whose certificate carries serverAuth only. Optional.
	RequireClientAuth bool `toml:"require_client_auth"`
}

// WhiteListConfig says where the signed list of domains (liste blanche) is and when it is too old.
type WhiteListConfig struct {
	// File is the signed XML list, URL the place it is fetched from (https, under the authorities of its signer). One of
	// them is required; a first start without a list needs --no-list-yet.
	File string `toml:"file"`
	URL  string `toml:"url"`
	// Every is the time between two looks at the file or questions to the URL. Optional.
	Every Duration `toml:"every"`
	// Anchors are the authorities of its signer. Optional: those of [trust].
	Anchors []string `toml:"anchors"`
	// SignerNames holds the names of which the signer's certificate must carry one (common name or mail
	// address). Optional: the signer of the national list. It changes every three years: name old and new for a while.
	SignerNames []string `toml:"signer_names"`
	// WarnAfter and DeferAfter are ages of the list: past the first health says degraded, past the second the
	// operator front answers 451. Optional.
	WarnAfter  Duration `toml:"warn_after"`
	DeferAfter Duration `toml:"defer_after"`
	// MaxLossPercent is the share of domains that a new list may lose against the one in force; a list that
	// loses more is refused and the old one stays. Optional.
	MaxLossPercent int `toml:"max_loss_percent"`
}

// DirectoryConfig says how the Annuaire Santé is mirrored and what its answers mean for a recipient.
type DirectoryConfig struct {
	// StaleAfter is the age at which an image that no LDAP server can confirm no longer says "unknown".
	// CannotTellAfter is the age at which no image says anything. Optional.
	StaleAfter      Duration `toml:"stale_after"`
	CannotTellAfter Duration `toml:"cannot_tell_after"`
	// LiveDeadline bounds the live question asked inside RCPT where the image alone would refuse. Optional.
	LiveDeadline Duration `toml:"live_deadline"`
	// MaxLossPercent is the share of its addresses that a feed may lose at one reading, and of its rows within a day;
	// what loses more is refused and waits for mssd directory accept. Optional.
	MaxLossPercent int `toml:"max_loss_percent"`

	// LDAP is the directory server, Extraction the public file of 31 columns. Each Optional; with neither,
	// every answer is "cannot tell".
	LDAP       *LDAPFeed       `toml:"ldap"`
	Extraction *ExtractionFeed `toml:"extraction"`

	// Policy overrides cells of the table of docs/trust.md: what is done with a recipient, by listing of the
	// BAL and answer of the directory. Each value one of "accept", "note", "alert", "refuse" (550), "defer"
	// (451), "defer450". Optional.
	Policy PolicyConfig `toml:"policy"`
}

// LDAPFeed is a server of the Annuaire Santé.
type LDAPFeed struct {
	// URL is ldap://host:port or ldaps://host:port. Required.
	URL string `toml:"url"`
	// BaseDN is where the search starts. Optional.
	BaseDN string `toml:"base_dn"`
	// Filter selects the entries, LDAP syntax. Optional: every entry with a mail address.
	Filter string `toml:"filter"`
	// BindDN and PasswordFile name an account. Optional: anonymous.
	BindDN       string `toml:"bind_dn"`
	PasswordFile string `toml:"password_file"`
	// StartTLS asks for TLS on ldap://. Anchors holds the PEM files of the server's authorities, which TLS needs.
	// Optional.
	StartTLS bool     `toml:"starttls"`
	Anchors  []string `toml:"anchors"`
	// Cert and Key are the PEM files of a client certificate, shown when the server asks. External makes it the login
	// too (SASL EXTERNAL, RFC 4513, Section 5.2.3). Optional.
	Cert     string `toml:"cert"`
	Key      string `toml:"key"`
	External bool   `toml:"external"`
	// Attributes names the attributes of an entry; "-" leaves one out. Optional: the names of the national directory.
	Attributes LDAPAttributes `toml:"attributes"`
	// PageSize is the number of entries of one page. Optional.
	PageSize int `toml:"page_size"`
	// Every is the time between two full readings of a server that cannot be followed. Optional.
	Every Duration `toml:"every"`
	// Sync is "auto" (follow the changes of a server that offers RFC 4533, read others in pages) or "off" (always pages).
	// Optional.
	Sync string `toml:"sync"`
}

// LDAPAttributes are names of attributes; "" leaves the default.
type LDAPAttributes struct {
	Mail          string `toml:"mail"`
	Kind          string `toml:"kind"`
	StructureType string `toml:"structure_type"`
	StructureID   string `toml:"structure_id"`
	PersonType    string `toml:"person_type"`
	PersonID      string `toml:"person_id"`
	Profession    string `toml:"profession"`
	Name          string `toml:"name"`
	GivenName     string `toml:"given_name"`
	StructureName string `toml:"structure_name"`
	Service       string `toml:"service"`
	Postcode      string `toml:"postcode"`
	Town          string `toml:"town"`
}

// ExtractionFeed is the public extraction of the Annuaire Santé. The first of URLs that answers is taken, then File.
type ExtractionFeed struct {
	// File is the text of 31 columns, or the ZIP archive that holds it. Optional with URLs.
	File string `toml:"file"`
	// URLs are https places of the same. Optional.
	URLs []string `toml:"urls"`
	// Anchors holds PEM files of authorities of the web servers, besides those of the system. Optional.
	Anchors []string `toml:"anchors"`
	// Every is the time between two looks. Optional.
	Every Duration `toml:"every"`
}

// PolicyConfig is the policy table: one row for each listing of our BALs.
type PolicyConfig struct {
	// PatientFirst is what is done when a patient begins a conversation with a BAL that is not ORG: "accept", "note",
	// "alert" or "refuse" (550). The patient platform keeps to that rule itself; a message without In-Reply-To and
	// References may be the answer of a software that sets neither, so that it is noted. Optional.
	PatientFirst string `toml:"patient_first"`
	// PatientDomains are those of the patient platform. Optional.
	PatientDomains []string `toml:"patient_domains"`

	Published PolicyRow `toml:"published"`
	Unlisted  PolicyRow `toml:"unlisted"`

	// Operator, Patient and Member are for one class of senders: other operators, the patient platform, BALs of ours.
	// A cell that is set there comes before the one for everybody.
	Operator ClassPolicy `toml:"operator"`
	Patient  ClassPolicy `toml:"patient"`
	Member   ClassPolicy `toml:"member"`
}

// ClassPolicy is the table for one class of senders; "" leaves the cell for everybody.
type ClassPolicy struct {
	Published PolicyRow `toml:"published"`
	Unlisted  PolicyRow `toml:"unlisted"`
}

// PolicyRow holds what is done for each answer of the directory; "" leaves the default.
type PolicyRow struct {
	Known      string `toml:"known"`
	KnownOther string `toml:"known_other"`
	Unknown    string `toml:"unknown"`
	CannotTell string `toml:"cannot_tell"`
}

// LoginConfig says how passwords are hashed (argon2id, RFC 9106) and how long a verified one is remembered.
type LoginConfig struct {
	// Argon2Time (passes), Argon2MemoryKiB (KiB) and Argon2Threads are used for new passwords; a stored hash
	// keeps its own. Optional.
	Argon2Time      uint32 `toml:"argon2_time"`
	Argon2MemoryKiB uint32 `toml:"argon2_memory_kib"`
	Argon2Threads   uint8  `toml:"argon2_threads"`
	// CacheFor is how long a verified password is remembered in memory, as an HMAC. Optional.
	CacheFor Duration `toml:"cache_for"`
	// PSC is the issuer of access tokens. Optional: none are taken.
	PSC *PSCConfig `toml:"psc"`
}

// AdminConfig is the operator's door.
type AdminConfig struct {
	// Socket is the unix socket of the command line. Required.
	Socket string `toml:"socket"`
	// AllowUIDs holds user ids that may use it besides root and the daemon's own. Optional.
	AllowUIDs []uint32 `toml:"allow_uids"`
}

// MetricsConfig is the page for monitoring: /metrics and /health over plain HTTP.
type MetricsConfig struct {
	// Listen is a loopback address, host:port. Optional: no such page.
	Listen string `toml:"listen"`
}

// ShutdownConfig bounds the end.
type ShutdownConfig struct {
	// Grace is how long running transfers may take to finish after SIGTERM. Keep it under systemd's
	// TimeoutStopSec. Optional.
	Grace Duration `toml:"grace"`
}

// defaultConfig is what holds when a key is left out.
func defaultConfig() *Config {
	return &Config{
		Log: LogConfig{Level: "info", Format: "text"},
		SMTP: SMTPConfig{
			MaxMessageOctets:         40 << 20,
			MaxRecipients:            100,
			MaxConnections:           1000,
			MaxConnectionsPerAddress: 100,
			IdleTimeout:              Duration(5 * time.Minute),

			MaxConnectionsPerOperator: 100,
			EvictIdle:                 Duration(30 * time.Second),
			HandshakeTimeout:          Duration(time.Minute),
			MinRate:                   500,
			RateWindow:                Duration(time.Minute),
			MaxErrors:                 20,
			HeaderFrom:                "note",
			DKIM:                      true,
		},
		IMAP: IMAPConfig{
			MaxAppendOctets:          40 << 20,
			MaxConnections:           10_000,
			MaxConnectionsPerAddress: 200,
			IdleTimeout:              Duration(31 * time.Minute),
		},
		Trust:     TrustConfig{OCSP: "off", CRLGrace: Duration(24 * time.Hour), CRLEvery: Duration(time.Hour)},
		WhiteList: WhiteListConfig{Every: Duration(time.Hour), SignerNames: listSigners(), WarnAfter: Duration(24 * time.Hour), DeferAfter: Duration(7 * 24 * time.Hour), MaxLossPercent: 20},
		Directory: DirectoryConfig{
			Policy:          PolicyConfig{PatientFirst: "note", PatientDomains: []string{"patient.mssante.fr"}},
			StaleAfter:      Duration(48 * time.Hour),
			CannotTellAfter: Duration(15 * 24 * time.Hour),
			LiveDeadline:    Duration(300 * time.Millisecond),
			MaxLossPercent:  10,
		},
		Store:    StoreConfig{CommitTimeout: Duration(time.Minute), KeepExpunged: Duration(7 * 24 * time.Hour)},
		Login:    LoginConfig{Argon2Time: 2, Argon2MemoryKiB: 19456, Argon2Threads: 1, CacheFor: Duration(5 * time.Minute)},
		Shutdown: ShutdownConfig{Grace: Duration(20 * time.Second)},
	}
}

// listSigners are the names in the certificate that signs the national list (read off the list of 2025-02-28).
func listSigners() []string { return []string{"alb.mssante.fr", "alb@mssante.fr"} }

// Defaults of the feeds, which are present only when their table is.
const (
	defaultBaseDN          = "dc=mssante,dc=fr"
	defaultPageSize        = 1000
	defaultLDAPEvery       = Duration(time.Hour)
	defaultExtractionEvery = Duration(15 * time.Minute)
	defaultFetchEvery      = Duration(time.Hour)
)

// Duration is a time.Duration written as "30s", "5m", "24h"; days may be written "7d".
type Duration time.Duration

// UnmarshalText reads "30s", "1h30m" or "7d".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := parseDuration(string(b))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the form that UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// String is the form that people write: 7d, 90m, 30s.
func (d Duration) String() string {
	const day = 24 * time.Hour
	if t := time.Duration(d); t != 0 && t%day == 0 {
		return fmt.Sprintf("%dd", t/day)
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func parseDuration(s string) (time.Duration, error) {
	var days int
	if n, err := fmt.Sscanf(s, "%dd", &days); err == nil && n == 1 && s == fmt.Sprintf("%dd", days) && days <= 36500 {
		return time.Duration(days) * 24 * time.Hour, nil
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("not a duration (30s, 5m, 24h, 7d): %q", s)
	}
	return v, nil
}
