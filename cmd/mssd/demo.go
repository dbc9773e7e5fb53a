package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"mssd/admin"
	"mssd/cmd/mssd/story"
)

// cheapFrom is the number of BALs from which the demo hashes passwords cheaply: it is the demo that is waited for.
const cheapFrom = 20

func newDemo() *cobra.Command {
	var d demo
	c := &cobra.Command{
		Use:   "demo",
		Short: "Play the whole story on this machine: no setting, no root, no network",
		Long: "Make a test authority, certificates, a signed white list and a small directory; start the real daemon on loopback ports;\n" +
			"send a patient's prescription as the patient platform would, read it as a pharmacy's software would, show what is\n" +
			"refused, print the trace. Exit status 0 when everything happened as it should, 1 when anything differed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.bals < 1 || d.bals > 100_000 {
				return usageError{fmt.Errorf("--bals %d; expected 1 to 100000", d.bals)}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			d.out = cmd.OutOrStdout()
			return d.play(ctx)
		},
	}
	f := c.Flags()
	f.BoolVar(&d.keep, "keep", false, "leave the daemon running and say how to connect a mail client")
	f.StringVar(&d.dir, "dir", "", "folder of the demo, new or empty; it stays (default: a temporary one)")
	f.IntVar(&d.bals, "bals", 1, "number of pharmacies (ORG BALs)")
	return c
}

// demo is one play.
type demo struct {
	keep bool
	dir  string
	bals int
	out  io.Writer

	began    time.Time
	trust    *story.Trust
	annuaire *story.Annuaire
	cfg      *Config
	addrs    map[string]string
	client   *admin.Client
	boxes    []demoBAL
}

// demoFile is what demo.json holds.
type demoFile struct {
	PID          int               `json:"pid"`
	Fronts       map[string]string `json:"fronts"`
	ServerName   string            `json:"server_name"` // in the certificates of the fronts
	Authority    string            `json:"authority"`
	PlatformCert string            `json:"platform_cert"`
	PlatformKey  string            `json:"platform_key"`
	Sender       string            `json:"sender_domain"` // bound to that certificate
	AdminSocket  string            `json:"admin_socket"`
	Config       string            `json:"config"`
	LDAP         string            `json:"ldap"`
	BALs         []demoBAL         `json:"bals"`
}

type demoBAL struct {
	Address  string `json:"address"`
	User     string `json:"user"`
	Password string `json:"password"`
}

func (d *demo) play(ctx context.Context) error {
	d.began = time.Now()
	temporary := d.dir == ""
	if err := d.makeDir(); err != nil {
		return err
	}
	if temporary {
		defer os.RemoveAll(d.dir)
	}
	if err := d.prepare(); err != nil {
		return err
	}
	defer d.annuaire.Stop()

	inst, err := startInstance(ctx, d.cfg, filepath.Join(d.dir, "mssd.log"), nil)
	if err != nil {
		return err
	}
	defer inst.stop()
	d.addrs = inst.addrs
	err = d.tell(ctx)
	if err == nil && d.keep {
		d.sayHowToConnect()
		select {
		case <-ctx.Done():
		case <-inst.ended:
		}
	}
	if derr := inst.stop(); err == nil {
		err = derr
	}
	if err != nil {
		fmt.Fprintf(d.out, "\nCE QUI DIFFÈRE DE L'ATTENDU : %v\n", err)
		return silentError{}
	}
	if !d.keep {
		d.say("Le service s'est arrêté proprement. Tout s'est passé comme prévu.")
	}
	return nil
}

// makeDir makes the folder of the play; one with something in it is never taken.
func (d *demo) makeDir() error {
	if d.dir == "" {
		dir, err := os.MkdirTemp("", "mssd-demo-")
		d.dir = dir
		return err
	}
	abs, err := filepath.Abs(d.dir)
	if err != nil {
		return err
	}
	d.dir = abs
	entries, err := os.ReadDir(abs)
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: is not empty; give a new folder", abs)
	}
	return os.MkdirAll(abs, 0o700)
}

const demoHost = "mss.demo.test"

// prepare makes authority, list, directory and configuration.
func (d *demo) prepare() error {
	d.say("mssd, démonstration : une ordonnance, du patient à la pharmacie (personnes et numéros inventés)")
	var err error
	if d.trust, err = story.NewTrust(filepath.Join(d.dir, "confiance"), demoHost); err != nil {
		return err
	}
	d.say("Autorité de certification d'essai, certificats et liste blanche signée : faits.")
	entries, err := story.Entries()
	if err != nil {
		return err
	}
	for i := 1; i < d.bals; i++ {
		entries = append(entries, story.PharmacyEntry(d.address(i), fmt.Sprintf("99%07d", i), fmt.Sprintf("PHARMACIE %05d", i)))
	}
	if d.annuaire, err = story.StartAnnuaire(entries); err != nil {
		return err
	}
	d.say("Petit Annuaire Santé (LDAP) : %d boîtes publiées.", len(entries))
	d.cfg = d.config()
	if faults := d.cfg.check(nil); len(faults) > 0 {
		d.annuaire.Stop()
		return &configError{"configuration of the demo", faults}
	}
	text, err := toml.Marshal(d.cfg)
	if err == nil {
		err = os.WriteFile(filepath.Join(d.dir, "mssd.toml"), text, 0o600)
	}
	if err != nil {
		d.annuaire.Stop()
	}
	return err
}

// address is that of pharmacy number i; number 0 is the one of the story.
func (d *demo) address(i int) string {
	if i == 0 {
		return story.Pharmacy
	}
	return fmt.Sprintf("pharmacie%05d@%s", i, story.PharmacyDomain)
}

func (d *demo) config() *Config {
	c := defaultConfig()
	c.Hostname, c.DataDir = demoHost, filepath.Join(d.dir, "donnees")
	const any = "127.0.0.1:0"
	c.SMTP.Listen, c.SMTP.Cert, c.SMTP.Key = []string{any}, d.trust.ServerCert, d.trust.ServerKey
	c.IMAP.Listen, c.IMAP.ListenTLS, c.IMAP.Cert, c.IMAP.Key = []string{any}, []string{any}, d.trust.ServerCert, d.trust.ServerKey
	c.Submission = &SubmissionConfig{Listen: []string{any}, ListenTLS: []string{any}}
	c.Trust.Anchors = []string{d.trust.Anchors}
	c.WhiteList.File, c.WhiteList.SignerNames = d.trust.ListFile, []string{story.ListSigner}
	c.Directory.LDAP = &LDAPFeed{URL: "ldap://" + d.annuaire.Addr}
	c.Admin.Socket = filepath.Join(d.dir, "admin.sock")
	c.Metrics.Listen = any
	c.Shutdown.Grace = Duration(5 * time.Second)
	if d.bals >= cheapFrom {
		c.Login.Argon2Time, c.Login.Argon2MemoryKiB = 1, 64
		// A load harness is one address with many connections.
		c.SMTP.MaxConnections, c.SMTP.MaxConnectionsPerAddress = 10_000, 10_000
		c.IMAP.MaxConnections, c.IMAP.MaxConnectionsPerAddress = 20_000, 20_000
	}
	return c
}

// addBALs creates the pharmacies, and the one that the directory does not know.
func (d *demo) addBALs(ctx context.Context) error {
	d.boxes = make([]demoBAL, d.bals)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range d.bals {
		g.Go(func() error {
			req := admin.NewBAL{Address: d.address(i), Kind: "ORG", Member: &admin.NewMember{ID: "local:comptoir"}}
			if i == 0 {
				req.Structure = story.PharmacyFINESS
			}
			made, err := d.client.AddBAL(ctx, req)
			d.boxes[i] = demoBAL{made.BAL.Address, made.User, made.Password}
			return err
		})
	}
	g.Go(func() error {
		_, err := d.client.AddBAL(ctx, admin.NewBAL{Address: story.Unpublished, Kind: "ORG"})
		return err
	})
	return g.Wait()
}

// writeFile writes demo.json.
func (d *demo) writeFile() error {
	doc := demoFile{PID: os.Getpid(), Fronts: d.addrs, ServerName: demoHost, Authority: d.trust.Anchors,
		PlatformCert: d.trust.PlatformCert, PlatformKey: d.trust.PlatformKey, Sender: story.PatientDomain,
		AdminSocket: d.cfg.Admin.Socket, Config: filepath.Join(d.dir, "mssd.toml"), LDAP: d.annuaire.Addr, BALs: d.boxes}
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	name := filepath.Join(d.dir, "demo.json")
	if err := os.WriteFile(name+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name) // whoever waits for it finds it whole
}

func (d *demo) sayHowToConnect() {
	host := d.boxes[0]
	fmt.Fprintf(d.out, `
Le service reste en marche (processus %d). Pour l'ouvrir avec un logiciel de messagerie ordinaire :
  IMAP, TLS direct : %s        IMAP, STARTTLS : %s
  envoi, TLS       : %s        envoi, STARTTLS : %s
  utilisateur      : %s
  mot de passe     : %s
  autorité         : %s (à accepter, ou à ajouter aux autorités du logiciel)
Tout est aussi dans %s
Suivre un message  : go run ./cmd/mssd trace --socket %s IDENTIFIANT
Arrêter            : kill %d   (ou Ctrl-C ici)
`, os.Getpid(), d.addrs["imaps"], d.addrs["imap"], d.addrs["submissions"], d.addrs["submission"], host.User, host.Password, d.trust.Anchors,
		filepath.Join(d.dir, "demo.json"), d.cfg.Admin.Socket, os.Getpid())
}

// say prints one line with the time since the beginning.
func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "%7d ms  %s\n", time.Since(d.began).Milliseconds(), fmt.Sprintf(format, args...))
}

func (d *demo) detail(format string, args ...any) {
	fmt.Fprintf(d.out, "            %s\n", fmt.Sprintf(format, args...))
}
