package main

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"mssd/directory"
	"mssd/directory/whitelist"
	"mssd/tlsconf"
	"mssd/tlsconf/fetch"
)

// The settings of the rooms, made of the configuration.

// policyWords are the values of a cell of the policy table.
var policyWords = []string{"accept", "note", "alert", "refuse", "defer", "defer450"}

// action reads a cell; the words were checked with the configuration, "" leaves the default.
func action(word string) directory.Action {
	a, err := directory.ParseAction(word)
	if err != nil {
		panic("policy word " + word + " passed the check of the configuration")
	}
	return a
}

func policyRow(r PolicyRow) directory.Row {
	return directory.Row{Known: action(r.Known), KnownOther: action(r.KnownOther), Unknown: action(r.Unknown), CannotTell: action(r.CannotTell)}
}

func policyRows(published, unlisted PolicyRow) directory.Rows {
	return directory.Rows{Published: policyRow(published), Unlisted: policyRow(unlisted)}
}

func directoryConfig(c *Config, log *slog.Logger) directory.Config {
	d := &c.Directory
	dc := directory.Config{
		StateDir: filepath.Join(c.DataDir, "state", "directory"),
		Policy: directory.Policy{Rows: policyRows(d.Policy.Published, d.Policy.Unlisted),
			Operator: policyRows(d.Policy.Operator.Published, d.Policy.Operator.Unlisted),
			Patient:  policyRows(d.Policy.Patient.Published, d.Policy.Patient.Unlisted),
			Member:   policyRows(d.Policy.Member.Published, d.Policy.Member.Unlisted)},

		StaleAfter: time.Duration(d.StaleAfter), CannotTellAfter: time.Duration(d.CannotTellAfter),
		LiveDeadline: time.Duration(d.LiveDeadline), MaxLoss: float64(d.MaxLossPercent) / 100, Log: log,
	}
	if l := d.LDAP; l != nil {
		dc.LDAP = &directory.LDAPConfig{URL: l.URL, StartTLS: l.StartTLS, BaseDN: l.BaseDN, Filter: l.Filter, BindDN: l.BindDN,
			PasswordFile: l.PasswordFile, AnchorFiles: l.Anchors, CertFile: l.Cert, KeyFile: l.Key, External: l.External,
			Attributes: directory.Attributes{Mail: l.Attributes.Mail, Kind: l.Attributes.Kind,
				StructureType: l.Attributes.StructureType, StructureID: l.Attributes.StructureID,
				PersonType: l.Attributes.PersonType, PersonID: l.Attributes.PersonID, Profession: l.Attributes.Profession,
				Name: l.Attributes.Name, GivenName: l.Attributes.GivenName, StructureName: l.Attributes.StructureName,
				Service: l.Attributes.Service, Postcode: l.Attributes.Postcode, Town: l.Attributes.Town},
			PageSize: uint32(l.PageSize), Every: time.Duration(l.Every), NoSync: l.Sync == "off"}
	}
	if x := d.Extraction; x != nil {
		dc.Extraction = &directory.ExtractionConfig{File: x.File, URLs: x.URLs, AnchorFiles: x.Anchors, Every: time.Duration(x.Every)}
	}
	return dc
}

// directoryFaults says which feed is missing, old or failing.
func directoryFaults(d *directory.Directory) []string {
	var out []string
	for _, f := range d.Status().Feeds {
		switch {
		case !f.HasImage && f.LastError != "":
			out = append(out, fmt.Sprintf("directory feed %s: nothing read yet: %s", f.Name, f.LastError))
		case !f.HasImage:
			out = append(out, fmt.Sprintf("directory feed %s: nothing read yet", f.Name))
		case f.TooOld:
			out = append(out, fmt.Sprintf("directory feed %s: too old (%v): %s", f.Name, time.Duration(f.AgeSeconds)*time.Second, f.LastError))
		case f.Refused != nil:
			out = append(out, fmt.Sprintf("directory feed %s: a reading was refused, the former image stays: %s; mssd directory accept %s takes it", f.Name, f.Refused.Why, f.Name))
		case f.LastError != "":
			out = append(out, fmt.Sprintf("directory feed %s: the last reading failed, the former image stays: %s", f.Name, f.LastError))
		}
		if f.NotSaved != "" {
			out = append(out, fmt.Sprintf("directory feed %s: the image is not on disk, a restart would not find it: %s", f.Name, f.NotSaved))
		}
	}
	return out
}

// directoryAge is the age of the youngest image in seconds, -1 without one.
func directoryAge(d *directory.Directory) float64 {
	age := -1.0
	for _, f := range d.Status().Feeds {
		if f.HasImage && (age < 0 || float64(f.AgeSeconds) < age) {
			age = float64(f.AgeSeconds)
		}
	}
	return age
}

// lastAnchors reads anchors anew each time; files that cannot be read leave the former ones in force.
func lastAnchors(files []string, log *slog.Logger) func() *tlsconf.Anchors {
	var mu sync.Mutex
	var held *tlsconf.Anchors
	return func() *tlsconf.Anchors {
		mu.Lock()
		defer mu.Unlock()
		a, err := tlsconf.LoadAnchors(files)
		if err != nil {
			// Without anchors no list can be accepted; the one accepted before stays
			log.Error("anchors of the white list cannot be read", "err", err)
			return held
		}
		held = a
		return held
	}
}

func keeperConfig(c *WhiteListConfig, anchors []string, judge *tlsconf.Judge, dir string, noListYet bool, log *slog.Logger) whitelist.KeeperConfig {
	now := lastAnchors(anchors, log)
	return whitelist.KeeperConfig{
		File: c.File, Source: listSource(c.URL, now), Poll: time.Duration(c.Every), StateDir: dir,
		Load: whitelist.Options{AnchorsNow: now, SignerNames: c.SignerNames, Judge: judge},
		Warn: time.Duration(c.WarnAfter), Defer: time.Duration(c.DeferAfter),
		MaxLoss: float64(c.MaxLossPercent) / 100, NoListYet: noListYet, Log: log,
	}
}

// ocspModes are the words of trust.ocsp.
var ocspModes = map[string]tlsconf.OCSPMode{"off": tlsconf.OCSPOff, "prefer": tlsconf.OCSPPrefer, "require": tlsconf.OCSPRequire}

// listSource is where the white list is fetched from, under the authorities that its signer has; nil: it is a file.
func listSource(url string, anchors func() *tlsconf.Anchors) *fetch.Source {
	if url == "" {
		return nil
	}
	return &fetch.Source{URL: url, MaxSize: whitelist.MaxSize, Agent: "mssd", Roots: func() *x509.CertPool {
		roots, _ := anchors().Pools()
		return roots
	}}
}

// readSecret reads a secret from its file: one line.
func readSecret(file string) (string, error) {
	b, err := readLimited(file, 4096)
	if err != nil {
		return "", err
	}
	s := strings.TrimRight(string(b), "\r\n")
	if s == "" || strings.ContainsAny(s, "\r\n") {
		return "", fmt.Errorf("%s: expected one line", file)
	}
	return s, nil
}
