package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"mssd/directory"
)

func newDirectoryFind() *cobra.Command {
	var ask asking
	var s directory.Search
	c := &cobra.Command{
		Use:   "find [WORD…]",
		Short: "Look entries up by name, town, structure, person or profession",
		Long: "Print the entries of the mirrored directory that have all WORDs in the name of the person, the structure or the service,\n" +
			"and fit the flags. A word fits the beginning of a word; case and accents do not count. Exit status 1 when there is none.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.Name = strings.Join(args, " ")
			found, err := ask.client().FindInDirectory(cmd.Context(), s)
			if err != nil {
				return err
			}
			if err := ask.print(cmd.OutOrStdout(), found, func(w io.Writer) { showFound(w, found) }); err != nil {
				return err
			}
			if len(found.Entries) == 0 {
				return fmt.Errorf("nothing in the directory fits")
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&s.Town, "town", "", "words of the town, or the beginning of the postcode")
	f.StringVar(&s.Structure, "structure", "", "FINESS, SIRET …, whole (FINESS:990000119 or the number alone)")
	f.StringVar(&s.Person, "person", "", "RPPS or ADELI, whole")
	f.StringVar(&s.Profession, "profession", "", "code (21) or word (pharmacien)")
	f.StringVar(&s.Kind, "kind", "", "PER, ORG, APP or CAB")
	f.StringVar(&s.Domain, "domain", "", "domain of the address, whole")
	f.IntVar(&s.Limit, "limit", 50, "most entries printed, at most 1000")
	return ask.flags(c)
}

func showFound(w io.Writer, found directory.Found) {
	if len(found.Entries) == 0 {
		return
	}
	row(w, "ADDRESS", "KIND", "NAME", "TOWN", "STRUCTURE", "PERSON", "PROFESSION", "FEED")
	for _, e := range found.Entries {
		name := strings.TrimSpace(e.GivenName + " " + e.Name)
		for _, part := range []string{e.TradeName, e.StructureName, e.Service} {
			if part != "" && !strings.Contains(name, part) {
				name = strings.TrimPrefix(name+", "+part, ", ")
			}
		}
		town := e.Town
		if !strings.HasPrefix(town, e.Postcode) {
			town = e.Postcode + " " + town
		}
		profession := e.ProfessionIs
		if profession == "" {
			profession = e.Profession
		}
		row(w, e.Address, e.Kind, dash(name), dash(strings.TrimSpace(town)), dash(strings.TrimPrefix(e.StructureType+":"+e.StructureID, ":")),
			dash(e.PersonID), dash(profession), strings.Join(e.Feeds, ","))
	}
	if found.More {
		fmt.Fprintln(w, "there are more: ask for less, or raise --limit")
	}
}

func newDirectoryAudit() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "audit",
		Short: "Compare our BALs with the directory: why a pharmacy is not found by its patients",
		Long: "List our BALs that are missing in the directory, stand there with another type or structure, stand there though they are\n" +
			"unlisted or take no mail, and the entries at our domains that we do not hold; then those that are unlisted on purpose.\n" +
			"Exit status 1 when somebody should act.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := ask.client().AuditDirectory(cmd.Context())
			if err != nil {
				return err
			}
			if err := ask.print(cmd.OutOrStdout(), a, func(w io.Writer) { showAudit(w, a) }); err != nil {
				return err
			}
			if a.Problems > 0 {
				return silentError{}
			}
			return nil
		},
	}
	return ask.flags(c)
}

// auditHeads say what a kind of finding means, and what to do.
var auditHeads = map[string]string{
	directory.AuditMissing:   "MISSING: published, and the directory does not have them. Nobody finds them, others may refuse to write: publish them",
	directory.AuditType:      "OTHER TYPE: the directory has them as another type of BAL: one of the two is wrong, and neither can be changed, only made anew",
	directory.AuditStructure: "OTHER STRUCTURE: the directory has them under another structure (FINESS, SIRET)",
	directory.AuditPublished: "PUBLISHED: unlisted here, and in the directory all the same: have them red-listed, or mssd bal listing ADDRESS published",
	directory.AuditNotOpen:   "NOT OPEN: in the directory, and they take no mail here: have them taken out",
	directory.AuditNotHeld:   "NOT HELD: the directory has them at our domains, and we do not hold them: mail to them is refused",
	directory.AuditUnlisted:  "unlisted (red list, APP), and not in the directory, as meant: nobody finds them",
	directory.AuditNotKnown:  "no feed can say",
}

func showAudit(w io.Writer, a directory.Audit) {
	fmt.Fprintf(w, "%d BALs compared, %d agree, %d problems\n", a.BALs, a.Agree, a.Problems)
	for _, f := range a.Status.Feeds {
		age := "nothing read yet"
		if f.HasImage {
			age = fmt.Sprintf("%d rows, generation %d, %s old%s", f.Rows, f.Generation, seconds(f.AgeSeconds), tooOld(f))
		}
		fmt.Fprintf(w, "feed %s: %s\n", f.Name, age)
	}
	last := ""
	for _, f := range a.Findings {
		if f.What != last {
			fmt.Fprintf(w, "\n%s\n", auditHeads[f.What])
			last = f.What
		}
		cells := []any{"  " + f.Address}
		if f.Kind != "" {
			cells = append(cells, "here "+strings.TrimSpace(f.Kind+" "+f.Structure))
		}
		if len(f.Directory) > 0 {
			cells = append(cells, "directory "+strings.Join(f.Directory, ", ")+" ("+strings.Join(f.Feeds, ", ")+")")
		}
		if f.Note != "" {
			cells = append(cells, f.Note)
		}
		row(w, cells...)
	}
	if a.Cut {
		fmt.Fprintln(w, "\nthere are more than are listed")
	}
}
