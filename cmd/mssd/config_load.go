package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// fault is one thing wrong with the configuration.
type fault struct {
	Key    string // "smtp.listen"; "" when the file as a whole is meant
	Line   int    // 0 when it concerns no line
	Column int    // 0 when the whole line is meant
	Text   string // the value met and what was expected
}

func (f fault) String() string {
	var b strings.Builder
	switch {
	case f.Column > 0:
		fmt.Fprintf(&b, "line %d, column %d: ", f.Line, f.Column)
	case f.Line > 0:
		fmt.Fprintf(&b, "line %d: ", f.Line)
	}
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	return b.String() + f.Text
}

// configError holds every fault of a configuration file.
type configError struct {
	File   string
	Faults []fault
}

func (e *configError) Error() string {
	var b strings.Builder
	if len(e.Faults) == 1 {
		fmt.Fprintf(&b, "%s: 1 fault:", e.File)
	} else {
		fmt.Fprintf(&b, "%s: %d faults:", e.File, len(e.Faults))
	}
	for _, f := range e.Faults {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

const (
	maxConfigOctets = 1 << 20
	maxFaults       = 100 // shown at once; after so many the file is not what it was meant to be
)

// loadConfig reads and checks a configuration file. All faults come back in one *configError.
func loadConfig(file string) (*Config, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, &configError{file, []fault{{Text: "cannot be read: " + plainCause(err)}}}
	}
	if st.IsDir() || st.Size() > maxConfigOctets {
		return nil, &configError{file, []fault{{Text: "is not a configuration file (a folder, or more than 1 MiB)"}}}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, &configError{file, []fault{{Text: "cannot be read: " + plainCause(err)}}}
	}
	cfg, faults := parseConfig(b)
	cfg.file = file
	cfg.resolve(filepath.Dir(file))
	if !slices.ContainsFunc(faults, func(f fault) bool { return f.Key == "" }) { // broken syntax hides what follows it
		faults = append(faults, cfg.check(faults)...)
	}
	if len(faults) > 0 {
		return nil, &configError{file, locate(cfg.at, faults)}
	}
	return cfg, nil
}

// parseConfig decodes b over the defaults. The library stops at the first value of a wrong kind: that line is
// noted, blanked and the rest read again, so that one look shows everything.
func parseConfig(b []byte) (*Config, []fault) {
	lines := bytes.Split(b, []byte("\n"))
	at := findPlaces(b)
	faults := bareDurations(at)
	for _, f := range faults {
		lines[f.Line-1] = nil
	}
	for {
		cfg := defaultConfig()
		cfg.at = at
		dec := toml.NewDecoder(bytes.NewReader(bytes.Join(lines, []byte("\n"))))
		dec.DisallowUnknownFields()
		err := dec.Decode(cfg)
		var strict *toml.StrictMissingError
		var bad *toml.DecodeError
		switch {
		case err == nil:
			return cfg, sorted(faults)
		case errors.As(err, &strict):
			for _, e := range strict.Errors {
				row, col := e.Position()
				faults = append(faults, fault{strings.Join(e.Key(), "."), row, col, "unknown key" + suggest(e.Key())})
			}
			return cfg, sorted(faults)
		case errors.As(err, &bad):
			row, col := bad.Position()
			key := strings.Join(bad.Key(), ".")
			if len(faults) > 0 && key == "" {
				return cfg, sorted(faults) // our blanking may have made this one
			}
			faults = append(faults, fault{key, row, col, decodeText(bad)})
			if len(faults) == maxFaults || row < 1 || row > len(lines) || len(bytes.TrimSpace(lines[row-1])) == 0 || key == "" {
				return cfg, sorted(faults)
			}
			lines[row-1] = nil
		default:
			return cfg, append(sorted(faults), fault{Text: err.Error()})
		}
	}
}

// decodeText is the library's complaint in our words.
func decodeText(e *toml.DecodeError) string {
	text := strings.TrimPrefix(e.Error(), "toml: ")
	var kind, field, want string
	if _, err := fmt.Sscanf(text, "cannot decode TOML %s into struct field %s of type %s", &kind, &field, &want); err != nil {
		return text
	}
	names := map[string]string{"[]string": "a list of texts", "string": "a text in quotes", "bool": "true or false",
		"int": "a number", "int64": "a number", "uint32": "a number", "uint8": "a number", "[]uint32": "a list of numbers",
		"main.Duration": `a duration in quotes ("30s", "5m", "24h", "7d")`}
	if n, ok := names[want]; ok {
		want = n
	} else {
		want = "a table"
	}
	return "is a TOML " + kind + "; expected " + want
}

func sorted(faults []fault) []fault {
	slices.SortStableFunc(faults, func(a, b fault) int { return a.Line - b.Line })
	return faults
}

// resolve makes every file name absolute against the folder of the configuration file.
func (c *Config) resolve(dir string) {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	for _, p := range c.paths() {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

// listAnchors are the files of the authorities of the white list's signer.
func (c *Config) listAnchors() []string {
	if len(c.WhiteList.Anchors) > 0 {
		return c.WhiteList.Anchors
	}
	return c.Trust.Anchors
}

// paths are all file names of the configuration.
func (c *Config) paths() []*string {
	ps := []*string{&c.DataDir, &c.Store.MasterKey, &c.BAL.InactivityNoticeFile, &c.SMTP.Cert, &c.SMTP.Key, &c.IMAP.Cert, &c.IMAP.Key, &c.WhiteList.File, &c.Admin.Socket}
	lists := [][]string{c.Trust.Anchors, c.Trust.CRLs, c.WhiteList.Anchors}
	if l := c.Directory.LDAP; l != nil {
		ps = append(ps, &l.PasswordFile, &l.Cert, &l.Key)
		lists = append(lists, l.Anchors)
	}
	if s := c.Submission; s != nil {
		ps = append(ps, &s.Cert, &s.Key)
		if s.App != nil {
			ps = append(ps, &s.App.Cert, &s.App.Key)
		}
	}
	if a := c.IMAP.App; a != nil {
		ps = append(ps, &a.Cert, &a.Key)
	}
	if p := c.Login.PSC; p != nil {
		ps = append(ps, &p.ClientSecretFile, &p.Cert, &p.Key)
		lists = append(lists, p.Anchors)
	}
	if x := c.Directory.Extraction; x != nil {
		ps = append(ps, &x.File)
		lists = append(lists, x.Anchors)
	}
	for _, l := range [][]CertConfig{c.SMTP.Certificates, c.IMAP.Certificates} {
		for i := range l {
			ps = append(ps, &l[i].Cert, &l[i].Key)
		}
	}
	for _, l := range lists {
		for i := range l {
			ps = append(ps, &l[i])
		}
	}
	return ps
}

// plainCause is the cause of a file error without the name of the file, which the caller gives.
func plainCause(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
