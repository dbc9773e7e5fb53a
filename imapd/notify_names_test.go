package imapd

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func show(lines []nameLine) string {
	var out []string
	for _, l := range lines {
		switch {
		case l.gone:
			out = append(out, "-"+l.name)
		case l.former != "":
			out = append(out, l.former+">"+l.name)
		default:
			out = append(out, l.name)
		}
	}
	return strings.Join(out, " ")
}

// RFC 5465, Section 5.4.
func TestNameLines(t *testing.T) {
	for _, c := range []struct {
		name    string
		changes []nameChange
		want    string
	}{
		{"created", []nameChange{{"", "a"}}, "a"},
		{"created below", []nameChange{{"", "a/b"}}, "a a/b"},
		{"deleted", []nameChange{{"a/b", ""}}, "-a/b a"},
		{"renamed", []nameChange{{"a", "b"}}, "a>b"},
		{"a tree renamed", []nameChange{{"a", "b"}, {"a/x", "b/x"}, {"a/x/y", "b/x/y"}}, "a>b"},
		{"one of the tree elsewhere", []nameChange{{"a", "b"}, {"a/x", "c"}}, "a/x>c a>b"},
		{"one behind the other", []nameChange{{"a", "b"}, {"b", "c"}}, "b>c a>b"},
		{"the name is taken again", []nameChange{{"a", "b"}, {"", "a"}}, "a>b a"},
		{"in place of a deleted one", []nameChange{{"a", ""}, {"b", "a"}}, "-a b>a"},
		{"deleted below a renamed one", []nameChange{{"a", "b"}, {"a/x", ""}}, "-a/x a>b a"},
		{"there again", []nameChange{{"a", "b"}, {"a/x", "a/x"}, {"", "a"}}, "-a b a"},
		{"exchanged", []nameChange{{"a", "b"}, {"b", "a"}}, "-b -a a b"},
		{"own", []nameChange{{"own", "own2"}, {"own/x", "own2/x"}, {"", "own3"}}, ""},
		{"not asked for", []nameChange{{"not", "not2"}, {"", "not3"}, {"not4", ""}}, ""},
		{"into what was asked for", []nameChange{{"not", "a"}}, "not>a"},
	} {
		wants := func(name string) bool { return !strings.HasPrefix(name, "not") }
		made := func(name string) bool { return strings.HasPrefix(name, "own") && !strings.Contains(name, "/") }
		if got := show(nameLines(c.changes, wants, made)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// nameSet is what a client knows that follows LIST responses.
type nameSet map[string]bool

func (s nameSet) follow(l nameLine) {
	switch {
	case l.gone:
		delete(s, l.name)
	case l.former != "":
		s.move(l.former, l.name)
	}
	if !l.gone {
		s[l.name] = true
	}
}

// move renames a name and those below.
func (s nameSet) move(from, to string) {
	var moved []string
	for n := range s {
		if n == from || strings.HasPrefix(n, from+"/") {
			moved = append(moved, n)
		}
	}
	for _, n := range moved {
		delete(s, n)
	}
	for _, n := range moved {
		s[to+n[len(from):]] = true
	}
}

// TestNameLinesModel: whatever happens to a tree between two looks, a client that follows the lines has its names.
func TestNameLinesModel(t *testing.T) {
	always, never := func(string) bool { return true }, func(string) bool { return false }
	rapid.Check(t, func(t *rapid.T) {
		names, next := map[int]string{}, 0
		seen := map[int]string{}
		client := nameSet{}
		name := rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3).Draw(t, "levels"), "/")
		})
		taken := func(n string) bool { return slices.Contains(slices.Collect(maps.Values(names)), n) }
		create := func(n string) {
			for i := range len(n) + 1 {
				if (i == len(n) || n[i] == '/') && !taken(n[:i]) {
					next++
					names[next] = n[:i]
				}
			}
		}
		var history []string
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) { n := name.Draw(t, "name"); create(n); history = append(history, "+"+n) },
			"delete": func(t *rapid.T) {
				n := name.Draw(t, "name")
				maps.DeleteFunc(names, func(_ int, have string) bool { return have == n })
				history = append(history, "-"+n)
			},
			"rename": func(t *rapid.T) {
				from, to := name.Draw(t, "from"), name.Draw(t, "to")
				if taken(to) || !taken(from) || strings.HasPrefix(to, from+"/") {
					return
				}
				moved := maps.Clone(names)
				for id, n := range names {
					if n == from || strings.HasPrefix(n, from+"/") {
						moved[id] = to + n[len(from):]
					}
				}
				if all := slices.Sorted(maps.Values(moved)); len(slices.Compact(slices.Clone(all))) != len(all) {
					return
				}
				names = moved
				create(to)
				history = append(history, from+">"+to)
			},
			"look": func(t *rapid.T) {
				var changes []nameChange
				for id := range next + 1 {
					changes = append(changes, nameChange{seen[id], names[id]})
				}
				lines := nameLines(changes, always, never)
				for _, l := range lines {
					client.follow(l)
					if !taken(l.name) && l.former == "" {
						delete(client, l.name) // LIST says \NonExistent: mailboxes are below it alone
					}
				}
				seen = maps.Clone(names)
				history = append(history, fmt.Sprint("look: ", show(lines)))
				for _, n := range names {
					if !client[n] {
						t.Fatalf("%s is not known: %v\n%s", n, client, strings.Join(history, "\n"))
					}
				}
				// A client is left with no name that is not there, but those above others.
				for n := range client {
					if !taken(n) && !slices.ContainsFunc(slices.Collect(maps.Values(names)), func(o string) bool { return strings.HasPrefix(o, n+"/") }) {
						delete(client, n)
						if !strings.Contains(show(lines), n) {
							t.Fatalf("%s is gone: %s", n, strings.Join(history, "\n"))
						}
					}
				}
			},
		})
	})
}
