// Package whitelist reads, checks, keeps and makes the signed list of domains (liste blanche).
package whitelist

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"time"

	"mssd/tlsconf"
)

type Options struct {
	Anchors     *tlsconf.Anchors
	SignerNames []string
	NoChain     bool
	Now         func() time.Time
}

type List struct{ SHA256 [32]byte }

func Load(xml []byte, opt Options) (*List, error) { return nil, errors.ErrUnsupported }

func (l *List) Generated() time.Time                    { return time.Time{} }
func (l *List) Rows() int                               { return 0 }
func (l *List) Domains() int                            { return 0 }
func (l *List) DNs() int                                { return 0 }
func (l *List) Signer() *x509.Certificate               { return nil }
func (l *List) Version() string                         { return "" }
func (l *List) Bound(domain string, dn tlsconf.DN) bool { return false }
func (l *List) Listed(domain string) bool               { return false }
func (l *List) KnowsDN(dn tlsconf.DN) bool              { return false }

type Binding struct{ Domain, DN, Description string }

func Make(w io.Writer, rows []Binding, signer *x509.Certificate, key crypto.Signer, generated time.Time) error {
	return errors.ErrUnsupported
}

// Answer of the list to a question about a peer.
type Answer uint8

const (
	CannotTell Answer = iota // no list, or none proven current: temporary
	Bound                    // the list binds this domain to this DN
	NotBound                 // a list proven current says no (KnowsDN: nobody has this DN)
	NotListed                // a list proven current does not have the domain
)

func (a Answer) String() string { return "" }

type KeeperConfig struct {
	File, StateDir string
	Load           Options
	Warn, Defer    time.Duration // zero: 24 h, 7 days
	MaxLoss        float64       // zero: 0.2
	NoListYet      bool
	Poll           time.Duration // zero: 1 h
	Log            *slog.Logger
	Now            func() time.Time
}

type Keeper struct{}

var (
	ErrNoListYet   = errors.New("whitelist: no list has ever been accepted")
	ErrUnavailable = errors.New("whitelist: not usable now")
)

func NewKeeper(cfg KeeperConfig) (*Keeper, error)           { return nil, errors.ErrUnsupported }
func (k *Keeper) Run(ctx context.Context) error             { return errors.ErrUnsupported }
func (k *Keeper) Current() *List                            { return nil }
func (k *Keeper) Reload(ctx context.Context) error          { return errors.ErrUnsupported }
func (k *Keeper) Refresh(ctx context.Context) (bool, error) { return false, errors.ErrUnsupported }
func (k *Keeper) Accept(ctx context.Context, file string) error {
	return errors.ErrUnsupported
}
func (k *Keeper) Age() time.Duration { return 0 }
func (k *Keeper) Usable() error      { return errors.ErrUnsupported }
func (k *Keeper) Generation() uint64 { return 0 }
func (k *Keeper) Judge(ctx context.Context, domain string, dn tlsconf.DN, since time.Time) Answer {
	return CannotTell
}
func (k *Keeper) KnowsDN(ctx context.Context, dn tlsconf.DN, since time.Time) Answer {
	return CannotTell
}
