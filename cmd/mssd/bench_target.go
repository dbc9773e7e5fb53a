package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"mssd/auth"
	"mssd/cmd/mssd/story"
	"mssd/store"
)

// A load harness knows a target by one JSON file and a few scripts beside it.
const (
	benchBALs     = 100
	benchDomain   = "mss.test"
	benchSenders  = "patients.test" // bound to the platform's certificate
	benchPassword = "secret"        // the harness measures mail, not hashing
)

func newBenchTarget() *cobra.Command {
	return &cobra.Command{
		Use:    "bench-target DIR",
		Short:  "Prepare a daemon for a load harness: DIR/target.json, DIR/hooks/start, DIR/hooks/kill9",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			d := demo{dir: args[0], bals: benchBALs, out: cmd.OutOrStdout()}
			if err := d.makeDir(); err != nil {
				return err
			}
			return benchTarget(cmd.Context(), d.dir)
		},
	}
}

func benchTarget(ctx context.Context, dir string) error {
	t, err := story.NewTrust(filepath.Join(dir, "trust"), "localhost", benchSenders)
	if err != nil {
		return err
	}
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	c := benchConfig(dir, t, ports)
	if faults := c.check(nil); len(faults) > 0 {
		return &configError{"configuration of the bench", faults}
	}
	if err := writeExtraction(c.Directory.Extraction.File); err != nil {
		return err
	}
	if err := fillStore(ctx, c); err != nil {
		return err
	}
	text, err := toml.Marshal(c)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "mssd.toml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	if err := writeTarget(dir, c, t); err != nil {
		return err
	}
	return writeHooks(dir, file, c.Admin.Socket)
}

func benchConfig(dir string, t *story.Trust, ports []string) *Config {
	c := defaultConfig()
	c.Hostname, c.DataDir = "localhost", filepath.Join(dir, "data")
	c.Log.Level = "warn"
	c.SMTP.Listen, c.SMTP.Cert, c.SMTP.Key = ports[:1], t.ServerCert, t.ServerKey
	c.SMTP.MaxConnections, c.SMTP.MaxConnectionsPerAddress = 20_000, 20_000
	c.IMAP.Listen, c.IMAP.ListenTLS, c.IMAP.Cert, c.IMAP.Key = ports[1:2], ports[2:3], t.ServerCert, t.ServerKey
	c.IMAP.MaxConnections, c.IMAP.MaxConnectionsPerAddress = 20_000, 20_000
	c.Trust.Anchors = []string{t.Anchors}
	c.WhiteList.File, c.WhiteList.SignerNames = t.ListFile, []string{story.ListSigner}
	c.Directory.Extraction = &ExtractionFeed{File: filepath.Join(dir, "extraction.txt")}
	c.Login.Argon2Time, c.Login.Argon2MemoryKiB = 1, 64
	c.Admin.Socket = filepath.Join(dir, "admin.sock")
	c.Shutdown.Grace = Duration(10 * time.Second)
	return c
}

// freePorts finds loopback ports that are free now; the target's files name them for good.
func freePorts(n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

func benchAddress(i int) string { return fmt.Sprintf("u%05d@%s", i, benchDomain) }

// extractionHead are the first columns of the public extraction; the others are filled with names of their own place.
var extractionHead = []string{"Type de BAL", "Adresse BAL", "Type Identifiant PP", "Identifiant PP", "Identification nationale PP",
	"Type identifiant structure", "Identification Structure", "Service de rattachement", "Civilité d'exercice", "Nom d'exercice",
	"Prénom d'exercice", "Catégorie profession", "Libellé de catégorie profession", "Code Profession", "Libellé Profession",
	"Code savoir-faire", "Libellé savoir-faire", "Dématérialisation", "Raison Sociale structure BAL",
	"Enseigne commerciale structure BAL", "L2COMPLEMENTLOCALISATION structure BAL", "L3COMPLEMENTDISTRIBUTION structure BAL",
	"L4NUMEROVOIE structure BAL", "L4COMPLEMENTNUMEROVOIE structure BAL", "NL4TYPEVOIE structure BAL", "L4LIBELLEVOIE structure BAL",
	"L5LIEUDITMENTION structure BAL", "L6LIGNEACHEMINEMENT structure BAL", "Code postal structure BAL", "Département structure BAL",
	"Pays structure BAL"}

// writeExtraction writes the BALs of the target in the form of the public extraction.
func writeExtraction(file string) error {
	var b strings.Builder
	b.WriteString(strings.Join(extractionHead, "|") + "\n")
	for i := 1; i <= benchBALs; i++ {
		row := make([]string, len(extractionHead))
		row[0], row[1], row[5], row[6], row[17], row[18] = "ORG", benchAddress(i), "1", fmt.Sprintf("99%07d", i), "O", fmt.Sprintf("PHARMACIE %05d", i)
		b.WriteString(strings.Join(row, "|") + "\n")
	}
	return os.WriteFile(file, []byte(b.String()), 0o600)
}

// fillStore makes the store with its BALs.
func fillStore(ctx context.Context, c *Config) (err error) {
	st, err := store.Open(store.Options{Dir: c.DataDir, MasterKey: c.Store.MasterKey, Create: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	hash, err := auth.HashPassword(auth.Params{Time: c.Login.Argon2Time, MemoryKiB: c.Login.Argon2MemoryKiB, Threads: c.Login.Argon2Threads}, benchPassword)
	if err != nil {
		return err
	}
	var batch store.Batch
	for i := 1; i <= benchBALs; i++ {
		a := store.Address(benchAddress(i))
		batch.Ops = append(batch.Ops,
			store.PutBAL{Create: true, BAL: store.BAL{Address: a, Kind: store.ORG, State: store.Active, Listing: store.Published, Structure: fmt.Sprintf("99%07d", i)}},
			store.PutMember{Address: a, Member: store.Member{ID: "local:bench", Role: store.Owner, PasswordHash: hash}})
	}
	_, err = st.Commit(ctx, &batch)
	return err
}

func writeTarget(dir string, c *Config, t *story.Trust) error {
	rel := func(file string) string {
		r, err := filepath.Rel(dir, file)
		if err != nil {
			return file
		}
		return r
	}
	doc := map[string]any{
		"target": "mssd", "smtp": c.SMTP.Listen[0], "smtp-tls": "starttls", "imap": c.IMAP.ListenTLS[0], "imap-tls": "implicit",
		"ca": rel(t.Anchors), "cert": rel(t.PlatformCert), "key": rel(t.PlatformKey), "servername": "localhost",
		"user-fmt": "u%05d@" + benchDomain, "rcpt-fmt": "u%05d@" + benchDomain, "from-fmt": "patient%04d@" + benchSenders,
		"password": benchPassword, "first": 1, "mailboxes": benchBALs, "pidfiles": "daemon.pid",
	}
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "target.json"), append(b, '\n'), 0o644)
}

// The scripts of a target. A dead process that nobody has reaped yet counts as dead.
const (
	hookHead = `#!/bin/sh
set -eu
cd "$(dirname "$0")/.."
# Its first thread may be a zombie while others still hold its sockets.
dead() { [ ! -e "/proc/$1/status" ] || { grep -q '^State:[[:space:]]*Z' "/proc/$1/status" && [ "$(ls "/proc/$1/task" 2>/dev/null | wc -l)" -le 1 ]; }; }
pid=$(cat daemon.pid 2>/dev/null || true)
`
	hookStart = hookHead + `if [ -n "$pid" ] && ! dead "$pid"; then echo "running already: $pid" >&2; exit 0; fi
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)" || true
setsid '%[1]s' serve --config '%[2]s' </dev/null >>daemon.log 2>&1 &
echo $! >daemon.pid
'%[1]s' health --socket '%[3]s' --wait 30s >/dev/null || { tail -n 20 daemon.log >&2; exit 1; }
`
	hookKill9 = hookHead + `[ -n "$pid" ] || exit 0
kill -9 "$pid" 2>/dev/null || true
until dead "$pid"; do sleep 0.01; done
`
	hookStop = hookHead + `[ -n "$pid" ] || exit 0
kill -TERM "$pid" 2>/dev/null || true
until dead "$pid"; do sleep 0.05; done
`
)

func writeHooks(dir, file, socket string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	hooks := filepath.Join(dir, "hooks")
	if err := os.MkdirAll(hooks, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{"start": fmt.Sprintf(hookStart, self, file, socket), "kill9": hookKill9, "stop": hookStop} {
		if err := os.WriteFile(filepath.Join(hooks, name), []byte(text), 0o755); err != nil {
			return err
		}
	}
	return nil
}
