package main

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func manPage(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/man/" + name)
	must(t, err)
	return string(b)
}

// Every key of the configuration has its paragraph in mssd.toml(5), and the page names no key that is not there.
func TestManPageNamesEveryKey(t *testing.T) {
	page := manPage(t, "mssd.toml.5")
	keys := configKeys(reflect.TypeFor[Config](), "")
	if len(keys) < 50 {
		t.Fatalf("only %d keys found: %v", len(keys), keys)
	}
	known := make(map[string]bool)
	for _, k := range keys {
		known[k] = true
		if n := strings.Count(page, ".It Va "+k+"\n"); n != 1 {
			t.Errorf("mssd.toml(5) explains %s %d times, want once", k, n)
		}
	}
	for line := range strings.Lines(page) {
		if k, ok := strings.CutPrefix(line, ".It Va "); ok && !known[strings.TrimSpace(k)] {
			t.Errorf("mssd.toml(5) explains %s, which does not exist", strings.TrimSpace(k))
		}
	}
}

// The example says that every key is in it, those that are commented out too. Of the policy for each class of senders it shows one.
func TestExampleNamesEveryKey(t *testing.T) {
	b, err := os.ReadFile("../../deploy/mssd.toml")
	if err != nil {
		t.Fatal(err)
	}
	class := regexp.MustCompile(`^directory\.policy\.(operator|patient|member)\.`)
	commented := regexp.MustCompile(`(?m)^# (\[|[a-z_0-9]+ = )`)
	at := findPlaces(commented.ReplaceAll(b, []byte("$1")))
	for _, k := range configKeys(reflect.TypeFor[Config](), "") {
		if at[k].line == 0 && !class.MatchString(k) {
			t.Errorf("deploy/mssd.toml does not name %s", k)
		}
	}
}

// configKeys are the keys below a table, with its name before them.
func configKeys(table reflect.Type, prefix string) []string {
	var keys []string
	for i := range table.NumField() {
		f := table.Field(i)
		key := f.Tag.Get("toml")
		kind := f.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		switch {
		case key == "":
		case kind.Kind() == reflect.Struct:
			keys = append(keys, configKeys(kind, prefix+key+".")...)
		default:
			keys = append(keys, prefix+key)
		}
	}
	return keys
}

// Each list of a page ends, and ends in its own section: else all that follows is printed as part of it.
func TestManPageListsEnd(t *testing.T) {
	for _, name := range []string{"mssd.8", "mssd.toml.5"} {
		open, command := 0, ""
		for line := range strings.Lines(manPage(t, name)) {
			switch {
			case strings.HasPrefix(line, ".Bl "):
				open++
			case strings.HasPrefix(line, ".El"):
				open--
			case strings.HasPrefix(line, ".It Cm ") && open != 1, strings.HasPrefix(line, ".Sh ") && open != 0:
				t.Fatalf("%s: %q stands within %d lists; the list of %q does not end", name, line, open, command)
			}
			if strings.HasPrefix(line, ".It Cm ") {
				command = strings.TrimSpace(strings.TrimPrefix(line, ".It Cm "))
			}
		}
		if open != 0 {
			t.Errorf("%s: %d lists do not end", name, open)
		}
	}
}

// Every command that people use and each of its flags stands in mssd(8), under that command or among those in common.
func TestManPageNamesEveryCommand(t *testing.T) {
	page := manPage(t, "mssd.8")
	common, list, found := strings.Cut(page, ".Sh COMMANDS\n")
	if !found {
		t.Fatal("mssd(8) has no section COMMANDS")
	}
	list, _, _ = strings.Cut(list, ".Sh SIGNALS\n")
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			return
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c.HasSubCommands() {
			return
		}
		name := strings.TrimPrefix(c.CommandPath(), "mssd ")
		_, text, found := strings.Cut(list, ".It Cm "+name)
		if !found {
			t.Errorf("mssd(8) does not know mssd %s", name)
			return
		}
		text, _, _ = strings.Cut(text, "\n.It Cm ")
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !strings.Contains(text, "Fl -"+f.Name+"\n") && !strings.Contains(text, "Fl -"+f.Name+" ") && !strings.Contains(common, ".It Fl -"+f.Name) {
				t.Errorf("mssd(8) does not explain --%s of mssd %s", f.Name, name)
			}
		})
	}
	walk(newRoot())
}
