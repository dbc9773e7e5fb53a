package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mssd/admin"
	"mssd/cmd/mssd/audit"
	"mssd/trace"
)

// selftestTime bounds a play; what was not played by then has failed.
const selftestTime = 3 * time.Minute

// errInterrupted: half a play is no report.
var errInterrupted = errors.New("interrupted; nothing is reported of half a play")

func newSelftest() *cobra.Command {
	var s selftest
	c := &cobra.Command{
		Use:   "selftest",
		Short: "Play every audit case against an instance of its own and report: no setting, no root, no network",
		Long: "Make a private test authority, certificates, revocation lists and a signed white list; start the real daemon on loopback\n" +
			"ports; send mail as good and bad peers would, over the wire; compare each reply, what was stored and the trace with\n" +
			"what is expected; print a numbered report. Nothing is left behind. Exit status 0 when no case failed, else 1.\n\n" +
			"With --to it starts nothing: it plays what needs no test authority against a front elsewhere, as an operator of the\n" +
			"trust space, and sends no message unless --send asks for one.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			s.out = cmd.OutOrStdout()
			if err := s.outside.check(); err != nil {
				return err
			}
			if s.outside.to != "" {
				return s.playOutside(ctx)
			}
			return s.play(ctx)
		},
	}
	c.Flags().BoolVar(&s.json, "json", false, "print the report as JSON")
	s.outside.flags(c.Flags())
	return c
}

// selftest is one play.
type selftest struct {
	json    bool
	out     io.Writer
	outside outside

	change func(*Config) // of each start; a test's way to break the instance
	dir    string
	trust  *audit.Trust
}

func (s *selftest) play(ctx context.Context) (err error) {
	began := time.Now()
	if s.dir, err = os.MkdirTemp("", "mssd-selftest-"); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	if s.trust, err = audit.New(s.dir); err != nil {
		return fmt.Errorf("test authority: %w", err)
	}
	report := newReport(began)
	report.Tested = "an instance of its own on loopback ports, with the settings of a new installation"
	report.Authorities = s.trust.Authorities()
	report.Notes = []string{"the authorities and all certificates were made for this run; nothing is said of the operator's own certificates"}
	bounded, cancel := context.WithTimeout(ctx, selftestTime)
	defer cancel()
	nowhere, err := closedPort()
	if err != nil {
		return err
	}
	for i, stage := range s.trust.Stages("http://" + nowhere + "/liste.crl") {
		results, err := s.stage(bounded, i, stage)
		if ctx.Err() != nil {
			return errInterrupted
		}
		if err != nil {
			return fmt.Errorf("instance %d (%s): %w", i+1, stage.Name, err)
		}
		report.Add(results)
	}
	report.Seconds = time.Since(began).Seconds()
	return printReport(s.out, report, s.json)
}

func newReport(began time.Time) *audit.Report {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &audit.Report{Program: "mssd selftest", Version: versionText(), Date: began.UTC().Truncate(time.Second), Host: host,
		System: fmt.Sprintf("%s/%s, %s, %d processors", runtime.GOOS, runtime.GOARCH, runtime.Version(), runtime.NumCPU())}
}

// printReport ends with status 1 when a case failed.
func printReport(w io.Writer, r *audit.Report, asJSON bool) error {
	var err error
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		err = enc.Encode(r)
	} else {
		err = r.Text(w)
	}
	if err == nil && !r.OK {
		err = silentError{}
	}
	return err
}

// closedPort is a loopback address where nobody listens.
func closedPort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// stage starts an instance, plays and ends it.
func (s *selftest) stage(ctx context.Context, n int, stage audit.Stage) ([]audit.Result, error) {
	dir := filepath.Join(s.dir, fmt.Sprint(n))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	cfg := s.config(dir, stage)
	if faults := cfg.check(nil); len(faults) > 0 {
		return nil, &configError{"configuration of the self test", faults}
	}
	w := &witness{client: &admin.Client{Socket: cfg.Admin.Socket}}
	inst, err := startInstance(ctx, cfg, filepath.Join(dir, "mssd.log"), w.observe)
	if err != nil {
		return nil, err
	}
	defer inst.stop()
	for _, b := range []admin.NewBAL{
		{Address: audit.Active, Kind: "ORG"}, {Address: audit.Full, Kind: "ORG", QuotaOctets: 1},
		{Address: audit.Suspended, Kind: "ORG", State: "suspended"}, {Address: audit.Closed, Kind: "ORG", State: "closed"},
		{Address: audit.Declared, Kind: "ORG", State: "declared"},
	} {
		if _, err := w.client.AddBAL(ctx, b); err != nil {
			return nil, fmt.Errorf("%s: %w", b.Address, err)
		}
	}
	results := s.trust.Play(ctx, stage, inst.addrs["smtp"], w)
	return results, inst.stop()
}

func (s *selftest) config(dir string, stage audit.Stage) *Config {
	c := defaultConfig()
	c.Hostname, c.DataDir = audit.Hostname, filepath.Join(dir, "donnees")
	const any = "127.0.0.1:0"
	c.SMTP.Listen, c.SMTP.Cert, c.SMTP.Key = []string{any}, s.trust.Cert, s.trust.Key
	c.IMAP.Listen, c.IMAP.Cert, c.IMAP.Key = []string{any}, s.trust.Cert, s.trust.Key
	c.Trust.Anchors, c.Trust.CRLs, c.Trust.CRLURLs = stage.Anchors, stage.CRLs, stage.CRLURLs
	if stage.OCSPURL != "" {
		c.Trust.OCSP, c.Trust.OCSPURL = "require", stage.OCSPURL
	}
	c.WhiteList.File, c.WhiteList.Anchors, c.WhiteList.SignerNames = s.trust.List, []string{s.trust.Anchors}, []string{audit.ListSigner}
	c.Admin.Socket = filepath.Join(dir, "admin.sock")
	c.Shutdown.Grace = Duration(5 * time.Second)
	if s.change != nil {
		s.change(c)
	}
	return c
}

// witness asks the instance through the operator's door, and hears its trace.
type witness struct {
	client *admin.Client

	mu     sync.Mutex
	events []trace.Event
}

func (w *witness) observe(e trace.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// Events implements audit.Witness.
func (w *witness) Events() []trace.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.events)
}

// Messages implements audit.Witness.
func (w *witness) Messages(ctx context.Context) (n int64, err error) {
	list, err := w.client.BALs(ctx)
	for _, b := range list {
		n += b.Messages
	}
	return n, err
}

// Reload implements audit.Witness.
func (w *witness) Reload(ctx context.Context) ([]string, error) {
	doc, err := w.client.Reload(ctx)
	return doc.Kept, err
}
