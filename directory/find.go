package directory

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	findDefault = 50
	findMost    = 1000
	maxSearch   = 200 // octets of one field of a search
)

// ErrSearch says that a search cannot be answered as it was asked.
var ErrSearch = errors.New("directory: bad search")

// Search asks for entries. All fields that are set must fit. Letters count without case and accents, and a word of Name or
// Town fits the beginning of one in the directory.
type Search struct {
	Name       string // words in the name of the person, the structure or the service
	Town       string // words in the town, or the beginning of the postcode
	Structure  string // FINESS, SIRET …, whole, bare or as "FINESS:…"
	Person     string // RPPS, ADELI, whole
	Profession string // code, or words of what Profession says of it
	Kind       string // type of BAL
	Domain     string // of the address, whole
	Limit      int    // 50; 1,000 at most
}

// Found is what a search found: at most Limit entries, by address.
type Found struct {
	Entries []FoundEntry `json:"entries"`
	More    bool         `json:"more"` // there are others: the search was stopped
}

// FoundEntry is one row of the directory with what is kept on disk only.
type FoundEntry struct {
	Address       string   `json:"address"`
	Kind          string   `json:"kind"`
	Name          string   `json:"name,omitempty"`
	GivenName     string   `json:"given_name,omitempty"`
	StructureName string   `json:"structure_name,omitempty"`
	TradeName     string   `json:"trade_name,omitempty"`
	Service       string   `json:"service,omitempty"`
	Postcode      string   `json:"postcode,omitempty"`
	Town          string   `json:"town,omitempty"`
	StructureType string   `json:"structure_type,omitempty"`
	StructureID   string   `json:"structure,omitempty"`
	PersonID      string   `json:"person,omitempty"`
	Profession    string   `json:"profession,omitempty"`       // code
	ProfessionIs  string   `json:"profession_label,omitempty"` // "" unknown
	Feeds         []string `json:"feeds"`                      // that have it
}

// professions are the codes seen in use.
var professions = map[string]string{
	"10": "médecin", "21": "pharmacien", "26": "audioprothésiste", "28": "opticien-lunetier", "40": "chirurgien-dentiste",
	"50": "sage-femme", "60": "infirmier", "69": "infirmier psychiatrique", "70": "masseur-kinésithérapeute",
	"80": "pédicure-podologue", "86": "technicien de laboratoire", "91": "orthophoniste", "92": "orthoptiste",
	"94": "ergothérapeute", "95": "diététicien", "96": "psychomotricien", "98": "manipulateur",
}

// Find searches the tables on disk, those of all feeds. It reads them from end to end, one search at a time: RCPT has
// nothing to do with it. Where no state is kept the names are missing.
func (d *Directory) Find(ctx context.Context, s Search) (Found, error) {
	m, err := newMatcher(s)
	if err != nil {
		return Found{}, err
	}
	select {
	case d.finding <- struct{}{}:
		defer func() { <-d.finding }()
	case <-ctx.Done():
		return Found{}, ctx.Err()
	}
	found := Found{Entries: []FoundEntry{}}
	at := map[string]int{} // of what was found, by address and numbers
	for _, f := range d.feeds {
		n := 0
		err := d.rows(f, func(r row, text []byte) error {
			if n++; n%4096 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			fields := record{}
			if !m.split(&fields, r, text) {
				return nil
			}
			e := foundEntry(&fields)
			id := e.Address + "\x00" + e.StructureID + "\x00" + e.PersonID
			if i, ok := at[id]; ok {
				if have := &found.Entries[i]; !slices.Contains(have.Feeds, f.name) {
					have.Feeds = append(have.Feeds, f.name)
				}
				return nil
			}
			if len(found.Entries) >= m.limit {
				found.More = true
				return errEnough
			}
			e.Feeds = []string{f.name}
			at[id] = len(found.Entries)
			found.Entries = append(found.Entries, e)
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return Found{}, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	slices.SortFunc(found.Entries, func(a, b FoundEntry) int {
		return cmp.Or(strings.Compare(a.Address, b.Address), strings.Compare(a.StructureID, b.StructureID))
	})
	return found, nil
}

var errEnough = errors.New("directory: enough found")

// rows calls fn with each row of a feed and the fields that only its file has; these are empty where there is no file.
func (d *Directory) rows(f *feed, fn func(r row, text []byte) error) error {
	for again := 0; ; again++ {
		img := f.image.Load()
		if img == nil {
			return nil
		}
		began := false
		keep := func(core, text []byte) error {
			began = true
			if img.delta != nil && img.delta.has(row{core}.key()) {
				return nil
			}
			return fn(row{core}, text)
		}
		err := error(nil)
		if img.sum != [32]byte{} {
			if err = keptRows(imagePath(d.cfg.StateDir, f.name), img.sum, keep); err != nil && !began {
				err = keptRows(previousPath(d.cfg.StateDir, f.name), img.sum, keep)
			}
			if err != nil && !began && again < 3 && f.image.Load() != img {
				continue // a new image took its place between two looks
			}
		}
		if img.sum == [32]byte{} || err != nil && !began {
			err = img.inMemory(keep)
		}
		if err != nil || img.delta == nil {
			return err
		}
		for _, rows := range img.delta.keys {
			for _, r := range rows {
				if err := fn(row{r.core}, r.text); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

var noText = appendText(nil, &record{})

// inMemory calls fn with each row of the base, without the fields that only its file has.
func (img *image) inMemory(fn func(core, text []byte) error) error {
	for at := 0; at < len(img.arena); {
		_, _, next, _ := img.skip(at)
		if err := fn(img.arena[at:next], noText); err != nil {
			return err
		}
		at = next
	}
	return nil
}

// matcher is a search made ready for many rows.
type matcher struct {
	name, town                      [][]byte // words, each behind a space
	structure, person, kind, domain string
	profession                      []string // codes; nil: any
	limit                           int
	folded                          []byte
}

func newMatcher(s Search) (*matcher, error) {
	for _, v := range []string{s.Name, s.Town, s.Structure, s.Person, s.Profession, s.Kind, s.Domain} {
		if len(v) > maxSearch {
			return nil, fmt.Errorf("%w: a field of more than %d octets", ErrSearch, maxSearch)
		}
	}
	if s.Limit < 0 || s.Limit > findMost {
		return nil, fmt.Errorf("%w: %d entries asked for, expected 1 to %d", ErrSearch, s.Limit, findMost)
	}
	m := &matcher{name: words(s.Name), town: words(s.Town), person: strings.TrimSpace(s.Person), kind: strings.TrimSpace(s.Kind),
		domain: strings.ToLower(strings.TrimSpace(s.Domain)), limit: or(s.Limit, findDefault)}
	m.structure = strings.TrimSpace(s.Structure)
	if s.Profession != "" {
		if m.profession = professionCodes(s.Profession); m.profession == nil {
			return nil, fmt.Errorf("%w: %q is no profession that is known by name; its code can be given", ErrSearch, s.Profession)
		}
	}
	if len(m.name)+len(m.town) == 0 && m.structure == "" && m.person == "" && m.profession == nil && m.domain == "" {
		return nil, fmt.Errorf("%w: nothing to look for; expected a name, a town, a structure, a person, a profession or a domain", ErrSearch)
	}
	return m, nil
}

// professionCodes are the codes that a word stands for, or the code itself.
func professionCodes(s string) []string {
	s = strings.TrimSpace(s)
	if s != "" && strings.Trim(s, "0123456789") == "" {
		return []string{s}
	}
	var codes []string
	asked := words(s)
	for code, label := range professions {
		if len(asked) > 0 && allIn(appendFolded(nil, []byte(label)), asked) {
			codes = append(codes, code)
		}
	}
	return codes
}

// words gives the words of a text, folded, each behind a space.
func words(s string) [][]byte {
	var out [][]byte
	for _, w := range bytes.Fields(appendFolded(nil, []byte(s))) {
		out = append(out, append([]byte{' '}, w...))
	}
	return out
}

func allIn(folded []byte, words [][]byte) bool {
	for _, w := range words {
		if !bytes.Contains(folded, w) {
			return false
		}
	}
	return true
}

// appendFolded writes a text behind a space, in lower case and without accents; what is no letter or digit is a space.
func appendFolded(dst, s []byte) []byte {
	dst = append(dst, ' ')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			dst = append(dst, c)
		case 'A' <= c && c <= 'Z':
			dst = append(dst, c|0x20)
		case c < utf8.RuneSelf:
			dst = append(dst, ' ')
		default:
			r, n := utf8.DecodeRune(s[i:])
			dst = foldRune(dst, r)
			i += n
			continue
		}
		i++
	}
	return dst
}

func foldRune(dst []byte, r rune) []byte {
	wrote := false
	for _, c := range norm.NFKD.String(string(r)) {
		if !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			continue
		}
		wrote = true
		switch c = unicode.ToLower(c); c {
		case 'œ':
			dst = append(dst, "oe"...)
		case 'æ':
			dst = append(dst, "ae"...)
		case 'ß':
			dst = append(dst, "ss"...)
		default:
			dst = utf8.AppendRune(dst, c)
		}
	}
	if !wrote && !unicode.Is(unicode.Mn, r) {
		dst = append(dst, ' ')
	}
	return dst
}

// split reports whether a row fits, and then gives its fields.
func (m *matcher) split(f *record, r row, text []byte) bool {
	core := r.fields()
	copy(f[:], core[:])
	c := cursor{b: text}
	for i := entryFields; i < recordFields; i++ {
		f[i] = c.field()
	}
	return (m.kind == "" || equalFold(m.kind, f[fieldKind])) &&
		(m.person == "" || equalFold(m.person, f[fieldPersonID])) &&
		(m.structure == "" || len(f[fieldStructureID]) > 0 && sameStructure(m.structure, f[fieldStructureType], f[fieldStructureID])) &&
		(m.profession == nil || slices.Contains(m.profession, string(f[fieldProfession]))) &&
		(m.domain == "" || string(f[fieldAddress][bytes.LastIndexByte(f[fieldAddress], '@')+1:]) == m.domain) &&
		m.fits(m.name, f[fieldName], f[fieldGivenName], f[fieldStructureName], f[fieldTradeName], f[fieldService]) &&
		m.fits(m.town, f[fieldTown], f[fieldPostcode])
}

// fits reports whether each word begins a word of one of the texts.
func (m *matcher) fits(words [][]byte, texts ...[]byte) bool {
	if len(words) == 0 {
		return true
	}
	m.folded = m.folded[:0]
	for _, t := range texts {
		m.folded = appendFolded(m.folded, t)
	}
	return allIn(m.folded, words)
}

func foundEntry(f *record) FoundEntry {
	return FoundEntry{Address: clean(f[fieldAddress]), Kind: clean(f[fieldKind]), Name: clean(f[fieldName]), GivenName: clean(f[fieldGivenName]),
		StructureName: clean(f[fieldStructureName]), TradeName: clean(f[fieldTradeName]), Service: clean(f[fieldService]), Postcode: clean(f[fieldPostcode]), Town: clean(f[fieldTown]),
		StructureType: clean(f[fieldStructureType]), StructureID: clean(f[fieldStructureID]), PersonID: clean(f[fieldPersonID]),
		Profession: clean(f[fieldProfession]), ProfessionIs: professions[string(f[fieldProfession])]}
}

// clean makes what a feed sent fit to be printed: letters that are whole, nothing that moves a cursor.
func clean(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError {
			return '?'
		}
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, string(b))
}
