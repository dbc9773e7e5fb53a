package directory

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// How our BALs come into the Annuaire Santé. What differs between our BALs and what the directory was told of them is a row of
// Changes; a Publisher passes them on. The transport of the official service is not public, so the only Publisher is
// ManualExport: a file that people bring there. When it was taken, the same file says what was told (ReadExport).

// Change is an entry that the directory is to take, or to let go.
type Change struct {
	Remove        bool   `json:"remove,omitempty"`
	Kind          string `json:"kind"` // PER, ORG, CAB, APP
	Address       string `json:"address"`
	PersonType    string `json:"person_type,omitempty"` // 8 RPPS, 0 ADELI (TRE_G08); "" none
	PersonID      string `json:"person_id,omitempty"`
	StructureType string `json:"structure_type,omitempty"` // digit of TRE_G07: 1 FINESS, 2 SIREN, 3 SIRET …; "" not known
	StructureID   string `json:"structure_id,omitempty"`
}

// Publisher passes changes on. Of a BAL that changed, what is to go comes before what is to come. Nothing counts as told before
// Done, and then only when whoever took it says so.
type Publisher interface {
	Publish(ctx context.Context, c Change) error
	Done() error
}

// NewChange is the entry of a BAL of ours: person is a member id (rpps:…, adeli:…) or "", structure as bal add takes it.
func NewChange(kind, address, person, structure string) Change {
	c := Change{Kind: kind, Address: address}
	switch family, id, _ := strings.Cut(person, ":"); family {
	case "rpps":
		c.PersonType, c.PersonID = "8", id
	case "adeli":
		c.PersonType, c.PersonID = "0", strings.ToUpper(id)
	}
	structure = strings.Map(func(r rune) rune {
		if r == '|' {
			return ' ' // it would be a column
		}
		return r
	}, strings.TrimSpace(structure))
	word, id, named := strings.Cut(structure, ":")
	switch {
	case named:
		c.StructureID = strings.TrimSpace(id)
		for digit, name := range structureTypes {
			if strings.EqualFold(strings.TrimSpace(word), name) {
				c.StructureType = digit
			}
		}
		if c.StructureType == "" {
			c.StructureID = structure // whatever it is
		}
	case len(structure) == 14:
		c.StructureType, c.StructureID = "3", structure
	case structure != "":
		c.StructureType, c.StructureID = "1", structure
	}
	return c
}

// Entry is what an entry says of its BAL, in one line; two entries of a BAL are the same when it is.
func (c Change) Entry() string {
	return strings.Join([]string{c.PersonType, c.PersonID, c.StructureType, c.StructureID}, "|")
}

// WithEntry is a change of the same BAL that says what Entry said.
func (c Change) WithEntry(entry string) Change {
	f := append(strings.SplitN(entry, "|", 4), "", "", "", "")
	c.PersonType, c.PersonID, c.StructureType, c.StructureID = f[0], f[1], f[2], f[3]
	return c
}

// exportColumns are those of the public extraction, in its order, and two of ours.
var exportColumns = []string{"Type de BAL", "Adresse BAL", "Type Identifiant PP", "Identifiant PP", "Identification nationale PP",
	"Type identifiant structure", "Identification Structure", "Service de rattachement", "Civilité d'exercice", "Nom d'exercice", "Prénom d'exercice",
	"Catégorie profession", "Libellé de catégorie profession", "Code Profession", "Libellé Profession", "Code savoir-faire", "Libellé savoir-faire",
	"Dématérialisation", "Raison Sociale structure BAL", "Enseigne commerciale structure BAL", "L2COMPLEMENTLOCALISATION structure BAL",
	"L3COMPLEMENTDISTRIBUTION structure BAL", "L4NUMEROVOIE structure BAL", "L4COMPLEMENTNUMEROVOIE structure BAL", "NL4TYPEVOIE structure BAL",
	"L4LIBELLEVOIE structure BAL", "L5LIEUDITMENTION structure BAL", "L6LIGNEACHEMINEMENT structure BAL", "Code postal structure BAL",
	"Département structure BAL", "Pays structure BAL", exportAct, exportAt}

const (
	exportAct = "Opération"   // ajout, suppression
	exportAt  = "Date export" // RFC 3339
	added     = "ajout"
	removed   = "suppression"
)

// ManualExport writes changes as the public extraction is written (UTF-8, columns separated by |, no quotes), with two more columns:
// what is to be done, and when the export was made.
type ManualExport struct {
	at    string
	w     *bufio.Writer
	begun bool
}

// NewManualExport writes an export of a moment.
func NewManualExport(w io.Writer, at time.Time) *ManualExport {
	return &ManualExport{at: at.UTC().Format(time.RFC3339), w: bufio.NewWriter(w)}
}

// Publish writes one line.
func (m *ManualExport) Publish(_ context.Context, c Change) error {
	m.head()
	f := make([]string, len(exportColumns))
	f[0], f[1], f[2], f[3], f[5], f[6] = c.Kind, c.Address, c.PersonType, c.PersonID, c.StructureType, c.StructureID
	if c.PersonID != "" {
		f[4] = c.PersonType + c.PersonID
	}
	f[allColumns], f[allColumns+1] = added, m.at
	if c.Remove {
		f[allColumns] = removed
	}
	_, err := m.w.WriteString(strings.Join(f, "|") + "\n")
	return err
}

func (m *ManualExport) head() {
	if !m.begun {
		m.begun = true
		_, _ = m.w.WriteString(strings.Join(exportColumns, "|") + "\n") // a fault is kept and told by Flush
	}
}

// Done ends the file.
func (m *ManualExport) Done() error {
	m.head()
	return m.w.Flush()
}

// ReadExport reads a file that ManualExport wrote, from which lines may have been taken away, a line at a time.
func ReadExport(r io.Reader, row func(line int, at time.Time, c Change) error) error {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, 4096), maxLine)
	line := 0
	for in.Scan() {
		line++
		f := strings.Split(strings.TrimSuffix(in.Text(), "\r"), "|")
		if line == 1 {
			f[0] = strings.TrimPrefix(f[0], "\ufeff")
			if !slices.Equal(f, exportColumns) {
				return errors.New("line 1: these are not the columns of an export; expected a file that mssd directory publish wrote")
			}
			continue
		}
		if len(f) == 1 && strings.TrimSpace(f[0]) == "" {
			continue
		}
		c, at, err := exportRow(f)
		if err == nil {
			err = row(line, at, c)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("after line %d: %w", line, err)
	}
	if line == 0 {
		return errors.New("is empty; expected a file that mssd directory publish wrote")
	}
	return nil
}

func exportRow(f []string) (c Change, at time.Time, err error) {
	if len(f) != len(exportColumns) {
		return c, at, fmt.Errorf("%d columns; expected %d", len(f), len(exportColumns))
	}
	c = Change{Kind: f[0], Address: f[1], PersonType: f[2], PersonID: f[3], StructureType: f[5], StructureID: f[6], Remove: f[allColumns] == removed}
	if act := f[allColumns]; act != added && act != removed {
		return c, at, fmt.Errorf("column %q: %q; expected %s or %s", exportAct, act, added, removed)
	}
	if at, err = time.Parse(time.RFC3339, f[allColumns+1]); err != nil {
		return c, at, fmt.Errorf("column %q; expected a moment as 2026-11-23T14:05:00Z", exportAt)
	}
	return c, at, nil
}
