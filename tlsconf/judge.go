package tlsconf

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxPeerCerts = 10          // shown by a peer; a chain of the trust space has three
	verdictAge   = time.Minute // a verdict is given again without looking for so long
	maxVerdicts  = 4096        // remembered
)

// JudgeConfig says by what a peer's certificate is judged.
type JudgeConfig struct {
	AnchorFiles       []string         // authorities, PEM or DER
	CRLFiles          []string         // DER or PEM
	CRLURLs           []string         // places to fetch lists from (http or https); with neither, revocation is not looked at
	CRLDir            string           // folder of the copies of what was fetched; required with CRLURLs
	CRLEvery          time.Duration    // between two questions to a URL; zero is 1 h
	OCSP              OCSPMode         // whether the authorities' responder is asked, see PeerNow
	OCSPURL           string           // of the responder, http or https; required unless OCSP is off
	RequireClientAuth bool             // else serverAuth is accepted too: the official template could not be read
	CRLGrace          time.Duration    // after nextUpdate; zero is 24 h
	Log               *slog.Logger     // Optional.
	Now               func() time.Time // Optional; a test's clock.
}

// Judge gives the verdict on a peer's certificate. It is safe for concurrent use.
type Judge struct {
	cfg   JudgeConfig
	trust atomic.Pointer[trust]
	urls  []*crlURL
	ocsp  *ocspClient // nil: off

	reloading sync.Mutex // one reload at a time

	mu       sync.Mutex // guards verdicts
	verdicts map[[32]byte]remembered
}

// trust is what one load of the files gave; never changed.
type trust struct {
	generation uint64
	anchors    *Anchors
	crls       crlSet
	fault      error   // why it is not whole, nil if it is
	notes      []error // what someone should look at
}

type remembered struct {
	verdict Verdict
	at      time.Time
}

// NewJudge reads anchors and CRLs. Files that are missing or bad are no error here: Usable says so, and peers get a
// temporary verdict. A setting that makes no sense is one.
func NewJudge(cfg JudgeConfig) (*Judge, error) {
	if cfg.CRLGrace < 0 {
		return nil, fmt.Errorf("CRL grace is %v, expected zero or more", cfg.CRLGrace)
	}
	if cfg.CRLGrace == 0 {
		cfg.CRLGrace = defaultCRLGrace
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	j := &Judge{cfg: cfg}
	if err := errors.Join(j.openURLs(), j.openOCSP()); err != nil {
		return nil, err
	}
	t := &trust{generation: 1}
	if t.anchors, t.fault = LoadAnchors(cfg.AnchorFiles); t.fault == nil && !t.anchors.Empty() {
		t.fault = j.loadLists(t)
	}
	j.trust.Store(t)
	return j, nil
}

// loadLists reads the revocation lists into t. Only files that were configured can be at fault; copies of what was
// fetched are left out when they cannot be read, and fetched again.
func (j *Judge) loadLists(t *trust) error {
	lists, err := loadCRLs(j.cfg.CRLFiles, t.anchors)
	for _, u := range j.urls {
		c, err := u.load(t.anchors)
		if err != nil {
			t.notes = append(t.notes, err)
		} else if c != nil {
			lists = append(lists, c)
		}
	}
	var notes []error
	t.crls, notes = combine(lists)
	t.notes = append(t.notes, notes...)
	return err
}

// Reload reads the files again. On an error, which names each bad file, what was read before stays.
func (j *Judge) Reload() error {
	j.reloading.Lock()
	defer j.reloading.Unlock()
	anchors, err := LoadAnchors(j.cfg.AnchorFiles)
	if err != nil {
		return err
	}
	if anchors.Empty() {
		return errNoAnchors
	}
	t := &trust{generation: j.Generation() + 1, anchors: anchors}
	if err := j.loadLists(t); err != nil {
		return err
	}
	j.trust.Store(t)
	j.mu.Lock()
	j.verdicts = nil
	j.mu.Unlock()
	return nil
}

var errNoAnchors = errors.New("no trust anchors are configured")

// Generation grows at each reload that succeeds.
func (j *Judge) Generation() uint64 { return j.trust.Load().generation }

// Anchors are those in force now; they may be empty.
func (j *Judge) Anchors() *Anchors { return j.trust.Load().anchors }

// Usable is nil when verdicts can be given now; else it says what is missing or stale.
func (j *Judge) Usable() error {
	t := j.trust.Load()
	if t.fault != nil {
		return t.fault
	}
	if t.anchors.Empty() {
		return errNoAnchors
	}
	var faults []error
	for _, c := range t.crls {
		if c.stale(j.cfg.Now(), j.cfg.CRLGrace) {
			faults = append(faults, fmt.Errorf("revocation list of %s was to be renewed on %s", subjectText(c.issuer), day(c.nextUpdate)))
		}
	}
	return errors.Join(faults...)
}

// Warning is not nil when someone should look, though verdicts can be given: lists that could not be fetched or used,
// and lists past their nextUpdate.
func (j *Judge) Warning() error {
	t, now := j.trust.Load(), j.cfg.Now()
	faults := append(slices.Clone(t.notes), t.endingSoon(now)...)
	for _, u := range j.urls {
		if err := u.lastError(); err != nil {
			faults = append(faults, err)
		}
	}
	if j.ocsp != nil {
		if err := j.ocsp.fault(); err != nil {
			faults = append(faults, err)
		}
	}
	for _, c := range t.crls {
		if now.After(c.nextUpdate) && !c.stale(now, j.cfg.CRLGrace) {
			faults = append(faults, fmt.Errorf("revocation list of %s was to be renewed on %s; peers get 451 from %s on", subjectText(c.issuer), day(c.nextUpdate), c.nextUpdate.Add(j.cfg.CRLGrace).UTC().Format(time.RFC3339)))
		}
	}
	return errors.Join(faults...)
}

// looksAtRevocation says whether lists are configured at all.
func (j *Judge) looksAtRevocation() bool { return len(j.cfg.CRLFiles)+len(j.urls) > 0 }

// Peer judges the certificates of a finished handshake, full or resumed: a resumed session has those of the full one.
func (j *Judge) Peer(cs tls.ConnectionState) Verdict { return j.Certificates(cs.PeerCertificates) }

// Certificates judges what a peer showed, its own certificate first.
func (j *Judge) Certificates(shown []*x509.Certificate) Verdict {
	t, now := j.trust.Load(), j.cfg.Now()
	if len(shown) == 0 {
		return Verdict{Reason: NoCertificate, Generation: t.generation}
	}
	if len(shown) > maxPeerCerts {
		v := t.verdictOn(shown[0])
		return v.because(ForeignChain, "too many certificates", time.Time{})
	}
	key := chainKey(shown)
	if v, ok := j.recall(key, t.generation, now); ok {
		return v
	}
	v := j.judge(t, shown, now)
	j.remember(key, v, now)
	return v
}

func chainKey(shown []*x509.Certificate) (key [32]byte) {
	h := sha256.New()
	for _, c := range shown {
		sum := sha256.Sum256(c.Raw)
		h.Write(sum[:])
	}
	h.Sum(key[:0])
	return key
}

// recall finds a verdict that is young enough; the clock may have been set back.
func (j *Judge) recall(key [32]byte, generation uint64, now time.Time) (Verdict, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r, ok := j.verdicts[key]
	age := now.Sub(r.at)
	if !ok || r.verdict.Generation != generation || age < 0 || age >= verdictAge {
		return Verdict{}, false
	}
	// An accepted certificate is not accepted one second longer than it lasts.
	if r.verdict.OK() && now.After(r.verdict.Leaf.NotAfter) {
		return Verdict{}, false
	}
	return r.verdict, true
}

func (j *Judge) remember(key [32]byte, v Verdict, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.verdicts == nil || len(j.verdicts) >= maxVerdicts {
		j.verdicts = make(map[[32]byte]remembered)
	}
	j.verdicts[key] = remembered{v, now}
}

// verdictOn begins a verdict with what the leaf says of itself.
func (t *trust) verdictOn(leaf *x509.Certificate) Verdict {
	v := Verdict{Leaf: leaf, Serial: serialText(leaf), Usage: usageText(leaf), Generation: t.generation}
	v.DN, _ = DNFromRaw(leaf.RawSubject) // the zero DN is bound to nothing
	return v
}

func (v Verdict) because(r Reason, detail string, at time.Time) Verdict {
	v.Reason, v.Detail, v.At = r, detail, at
	return v
}
