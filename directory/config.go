package directory

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"mssd/tlsconf/fetch"
)

// Config says what is mirrored and how its answers are used. Zero values take the default named.
type Config struct {
	LDAP       *LDAPConfig       // Optional.
	Extraction *ExtractionConfig // Optional.
	StateDir   string            // where images are kept across restarts; "" nowhere
	Policy     Policy            // zero cells are those of DefaultPolicy

	StaleAfter      time.Duration // 48 h
	CannotTellAfter time.Duration // 15 days
	LiveDeadline    time.Duration // 300 ms
	LiveLimit       int           // live questions at a time; 16
	NegativeFor     time.Duration // a live "not there" is remembered so long; 1 min
	// MaxLoss is the share of its addresses that a feed may lose at one reading, and of its rows within a day; 0.1.
	// 1 allows everything.
	MaxLoss    float64
	RetryAfter time.Duration // first wait after a failed reading, doubled up to Every; 1 min

	Log *slog.Logger     // nil: none
	Now func() time.Time // nil: time.Now
}

// LDAPConfig is a server of the directory.
type LDAPConfig struct {
	URL          string // "ldap://host:port" or "ldaps://host:port"
	StartTLS     bool
	BaseDN       string // "dc=mssante,dc=fr"
	Filter       string // of the rows; "(mail=*)" with the name of Attributes.Mail
	BindDN       string // "" anonymous
	PasswordFile string // holds the password of BindDN; a line end is cut off
	AnchorFiles  []string
	// CertFile and KeyFile hold a client certificate (PEM). With External it is also the login (SASL EXTERNAL,
	// RFC 4513, Section 5.2.3).
	CertFile, KeyFile string
	External          bool
	Attributes        Attributes
	PageSize          uint32        // 1,000
	Every             time.Duration // between two full readings; 1 h
	ConnectTimeout    time.Duration // dialling, TLS and bind; 10 s
	ProgressTimeout   time.Duration // silence that ends a reading; 30 s
	MaxRows           int           // 5,000,000
	// NoSync reads pages even where the server offers content synchronisation (RFC 4533).
	NoSync bool

	fullEvery time.Duration // between two contents from nothing; 24 h
}

// Attributes names the LDAP attributes. An empty name takes the default; "-" is not asked for.
type Attributes struct {
	Mail, Kind, StructureType, StructureID, PersonType, PersonID, Profession string
	// These are not needed for the check: Find looks in them.
	Name, GivenName, StructureName, Service, Postcode, Town string
}

// DefaultAttributes are the names seen in use; no postcode was.
func DefaultAttributes() Attributes {
	return Attributes{Mail: "mail", Kind: "TypeBAL", StructureType: "TypeIdentifiantPM", StructureID: "IdentifiantPM",
		PersonType: "TypeIdentifiantPP", PersonID: "IdentifiantPP", Profession: "profession",
		Name: "sn", GivenName: "givenName", StructureName: "o", Service: "description", Postcode: "-", Town: "l"}
}

// ExtractionConfig is the public extraction: from the first of URLs that answers, then from File.
type ExtractionConfig struct {
	File      string        // the text, or the ZIP archive that holds it; "" none
	URLs      []string      // of the same, https only
	Every     time.Duration // between two looks; 15 min, with URLs 1 h
	MaxFaults int           // lines that may be faulty (they are left out and counted); 20, negative none
	MaxRows   int           // 5,000,000
	// AnchorFiles hold authorities (PEM) of the web servers, besides those of the system.
	AnchorFiles []string
}

// What can go wrong. Errors carry the feed and the cause; test with errors.Is.
var (
	ErrConfig      = errors.New("directory: bad configuration")
	ErrUnavailable = errors.New("directory: not usable now")
	ErrPartial     = errors.New("directory: the answer is not whole")
	ErrEmpty       = errors.New("directory: the feed holds no row")
	ErrLoss        = errors.New("directory: the feed lost too many addresses")
	ErrOlder       = errors.New("directory: older than the image in force")
	ErrDate        = errors.New("directory: bad date")
	ErrTooLarge    = errors.New("directory: too large")
	ErrFormat      = errors.New("directory: not in the expected form")
	ErrImage       = errors.New("directory: damaged image")
)

const maxRowsDefault = 5_000_000

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (c Config) withDefaults() (Config, error) {
	c.StaleAfter = or(c.StaleAfter, 48*time.Hour)
	c.CannotTellAfter = or(c.CannotTellAfter, 15*24*time.Hour)
	c.LiveDeadline = or(c.LiveDeadline, 300*time.Millisecond)
	c.LiveLimit = or(c.LiveLimit, 16)
	c.NegativeFor = or(c.NegativeFor, time.Minute)
	c.MaxLoss = or(c.MaxLoss, 0.1)
	c.RetryAfter = or(c.RetryAfter, time.Minute)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	var errs []error
	if c.LDAP != nil {
		l, err := c.LDAP.withDefaults()
		c.LDAP, errs = &l, append(errs, err)
	}
	if c.Extraction != nil {
		x := *c.Extraction
		if x.File == "" && len(x.URLs) == 0 {
			errs = append(errs, fmt.Errorf("%w: extraction: neither a file nor a URL given", ErrConfig))
		}
		for _, u := range x.URLs {
			if err := fetch.Check(u, false); err != nil {
				errs = append(errs, fmt.Errorf("%w: extraction: %w", ErrConfig, err))
			}
		}
		if len(x.URLs) > 0 {
			x.Every = or(x.Every, time.Hour)
		}
		x.Every = or(x.Every, 15*time.Minute)
		x.MaxFaults = max(or(x.MaxFaults, 20), 0)
		x.MaxRows = or(x.MaxRows, maxRowsDefault)
		c.Extraction = &x
	}
	return c, errors.Join(errs...)
}

func (l LDAPConfig) withDefaults() (LDAPConfig, error) {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: ldap: "+format, append([]any{ErrConfig}, args...)...))
	}
	u, err := url.Parse(l.URL)
	if err != nil || u.Host == "" || u.Scheme != "ldap" && u.Scheme != "ldaps" || u.User != nil {
		bad("url: expected ldap://host:port or ldaps://host:port")
	} else {
		if u.Scheme == "ldaps" && l.StartTLS {
			bad("starttls goes with ldap://, not with ldaps://")
		}
		if (u.Scheme == "ldaps" || l.StartTLS) && len(l.AnchorFiles) == 0 {
			bad("TLS needs the authorities of the server (anchors)")
		}
		if l.External && u.Scheme != "ldaps" && !l.StartTLS {
			bad("EXTERNAL needs TLS")
		}
	}
	if (l.BindDN == "") != (l.PasswordFile == "") {
		bad("bind DN and password file go together")
	}
	if l.External && (l.CertFile == "" || l.BindDN != "") {
		bad("EXTERNAL needs a client certificate and no bind DN")
	}
	if (l.CertFile == "") != (l.KeyFile == "") {
		bad("certificate and key go together")
	}
	l.BaseDN = or(l.BaseDN, "dc=mssante,dc=fr")
	l.PageSize = or(l.PageSize, 1000)
	l.Every = or(l.Every, time.Hour)
	l.ConnectTimeout = or(l.ConnectTimeout, 10*time.Second)
	l.ProgressTimeout = or(l.ProgressTimeout, 30*time.Second)
	l.MaxRows = or(l.MaxRows, maxRowsDefault)
	l.fullEvery = or(l.fullEvery, fullEvery)
	a, d := &l.Attributes, DefaultAttributes()
	a.Mail, a.Kind = or(a.Mail, d.Mail), or(a.Kind, d.Kind)
	a.StructureType, a.StructureID = or(a.StructureType, d.StructureType), or(a.StructureID, d.StructureID)
	a.PersonType, a.PersonID = or(a.PersonType, d.PersonType), or(a.PersonID, d.PersonID)
	a.Profession = or(a.Profession, d.Profession)
	a.Name, a.GivenName, a.StructureName = or(a.Name, d.Name), or(a.GivenName, d.GivenName), or(a.StructureName, d.StructureName)
	a.Service, a.Postcode, a.Town = or(a.Service, d.Service), or(a.Postcode, d.Postcode), or(a.Town, d.Town)
	if a.Mail == "-" || a.Kind == "-" {
		bad("the attributes of address and type are needed")
	}
	l.Filter = or(l.Filter, "("+a.Mail+"=*)")
	return l, errors.Join(errs...)
}
