package story

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"mssd/directory/whitelist"
	"mssd/tlsconf/testpki"
)

// Trust is the invented authority with everything it issued, and where the files are.
type Trust struct {
	PKI      *testpki.PKI
	Platform *testpki.Identity // of the patient platform
	Intruder *testpki.Identity // of an operator of the trust space that has no right to the patients' domain
	Stranger *testpki.Identity // of an authority that nobody trusts

	Anchors, ServerCert, ServerKey      string
	PlatformCert, PlatformKey, ListFile string
	Dir                                 string
}

// Bound says which domains the list binds to the platform besides PatientDomain.
func NewTrust(dir string, hostname string, bound ...string) (*Trust, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	t := &Trust{Dir: dir,
		Anchors: filepath.Join(dir, "autorite.pem"), ServerCert: filepath.Join(dir, "serveur.pem"), ServerKey: filepath.Join(dir, "serveur.key"),
		PlatformCert: filepath.Join(dir, "plateforme.pem"), PlatformKey: filepath.Join(dir, "plateforme.key"),
		ListFile: filepath.Join(dir, "listeblanche.xml")}
	var err error
	if t.PKI, err = testpki.New(); err != nil {
		return nil, err
	}
	if err := t.issue(); err != nil {
		return nil, err
	}
	server, err := t.PKI.Server(hostname, "localhost", "127.0.0.1")
	if err != nil {
		return nil, err
	}
	if err := t.PKI.WriteAnchors(t.Anchors); err != nil {
		return nil, err
	}
	if err := server.WriteFiles(t.ServerCert, t.ServerKey); err != nil {
		return nil, err
	}
	if err := t.Platform.WriteFiles(t.PlatformCert, t.PlatformKey); err != nil {
		return nil, err
	}
	return t, t.writeList(bound)
}

func (t *Trust) issue() error {
	var err error
	if t.Platform, err = t.PKI.Operator(testpki.Subject{C: "FR", ST: "Paris (75)", O: "PLATEFORME PATIENTS DEMO",
		OU: "300000000000011", CN: "smtp.plateforme-demo.test"}); err != nil {
		return err
	}
	if t.Intruder, err = t.PKI.Operator(testpki.Subject{C: "FR", ST: "Rhône (69)", O: "AUTRE OPERATEUR DEMO",
		OU: "300000000000012", CN: "smtp.autre-operateur.test"}); err != nil {
		return err
	}
	foreign, err := testpki.New()
	if err != nil {
		return err
	}
	t.Stranger, err = foreign.Operator(testpki.Subject{C: "FR", O: "INCONNU", OU: "300000000000013", CN: "smtp.inconnu.test"})
	return err
}

func (t *Trust) writeList(bound []string) error {
	signer, err := t.PKI.Signer(ListSigner, "liste@demo.test")
	if err != nil {
		return err
	}
	rows := []whitelist.Binding{
		{Domain: IntruderDomain, DN: t.Intruder.DN(), Description: "Autre operateur (demonstration)"},
		{Domain: PatientDomain, DN: t.Platform.DN(), Description: "Plateforme des patients (demonstration)"},
		{Domain: PharmacyDomain, DN: t.Platform.DN(), Description: "Officines (demonstration)"},
	}
	for _, d := range bound {
		rows = append(rows, whitelist.Binding{Domain: d, DN: t.Platform.DN(), Description: "banc d'essai"})
	}
	f, err := os.Create(t.ListFile)
	if err != nil {
		return err
	}
	err = whitelist.Make(f, rows, signer.Cert, signer.Key, time.Now())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("white list: %w", err)
	}
	return nil
}
