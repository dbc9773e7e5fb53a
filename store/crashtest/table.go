package crashtest

import (
	"fmt"
	"strings"
)

// Table counts the states that were tried, as docs/durability.md has it.
type Table struct{ rows []string }

// Add adds the row of a scenario.
func (t *Table) Add(name string, tried map[Class]int, lost int) {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |", name)
	sum := 0
	for _, c := range Classes {
		fmt.Fprintf(&b, " %d |", tried[c])
		sum += tried[c]
	}
	fmt.Fprintf(&b, " %d | %d |", sum, lost)
	t.rows = append(t.rows, b.String())
}

// String is the table in Markdown.
func (t Table) String() string {
	var b strings.Builder
	b.WriteString("| scenario |")
	for _, c := range Classes {
		fmt.Fprintf(&b, " %s |", c)
	}
	b.WriteString(" all | lost |\n|---|" + strings.Repeat("---|", len(Classes)+2) + "\n")
	return b.String() + strings.Join(t.rows, "\n") + "\n"
}
