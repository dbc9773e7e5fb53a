package imapd

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// mirror is what a client can know by counting alone: the UIDs behind its numbers, filled in by UID FETCH.
type mirror struct {
	*session
	uids  []string // "" when not asked for yet
	flags map[string]string
}

var (
	reExists  = regexp.MustCompile(`^\* (\d+) EXISTS$`)
	reExpunge = regexp.MustCompile(`^\* (\d+) EXPUNGE$`)
	reFetch   = regexp.MustCompile(`^\* (\d+) FETCH \((?:UID (\d+) ?)?(?:FLAGS \(([^)]*)\) ?)?(?:MODSEQ \(\d+\))?\)$`)
)

// play runs a command and follows its responses strictly: a number that the mirror does not know is a fault.
func (m *mirror) play(t *rapid.T, cmd string) {
	numbersStay := regexp.MustCompile(`^(FETCH|STORE|SEARCH)`).MatchString(cmd)
	un, tagged := m.cmd(cmd)
	if tagged == "" || strings.HasPrefix(tagged, "BAD") {
		t.Fatalf("%s: %q\n%s", cmd, tagged, m.all.String())
	}
	for _, l := range un {
		m.follow(t, l, cmd, numbersStay)
	}
}

func (m *mirror) follow(t *rapid.T, l, cmd string, numbersStay bool) {
	if g := reExists.FindStringSubmatch(l); g != nil {
		n, _ := strconv.Atoi(g[1])
		if n < len(m.uids) {
			t.Fatalf("%s: %q but %d are known: only EXPUNGE takes away\n%s", cmd, l, len(m.uids), m.all.String())
		}
		for len(m.uids) < n {
			m.uids = append(m.uids, "")
		}
		return
	}
	if g := reExpunge.FindStringSubmatch(l); g != nil {
		n, _ := strconv.Atoi(g[1])
		if numbersStay || n < 1 || n > len(m.uids) {
			t.Fatalf("%s: %q with %d messages\n%s", cmd, l, len(m.uids), m.all.String())
		}
		m.uids = append(m.uids[:n-1:n-1], m.uids[n:]...)
		return
	}
	if g := reVanished.FindStringSubmatch(l); g != nil {
		if numbersStay || g[1] != "" {
			t.Fatalf("%s: %q\n%s", cmd, l, m.all.String())
		}
		for _, u := range numbersOf(g[2]) {
			m.vanish(t, strconv.Itoa(u))
		}
		return
	}
	if g := reFetch.FindStringSubmatch(l); g != nil {
		n, _ := strconv.Atoi(g[1])
		if n < 1 || n > len(m.uids) {
			t.Fatalf("%s: %q with %d messages\n%s", cmd, l, len(m.uids), m.all.String())
		}
		if g[2] != "" && m.uids[n-1] != "" && m.uids[n-1] != g[2] {
			t.Fatalf("%s: number %d was UID %s, now %s\n%s", cmd, n, m.uids[n-1], g[2], m.all.String())
		}
		if g[2] != "" {
			m.uids[n-1] = g[2]
		}
		if strings.Contains(l, "FLAGS (") && m.uids[n-1] != "" {
			m.flags[m.uids[n-1]] = strings.TrimSpace(strings.ReplaceAll(g[3], `\Recent`, ""))
		}
	}
}

// vanish takes out a message by its UID. When it is one whose number was not asked for yet, no number is sure any more.
func (m *mirror) vanish(t *rapid.T, uid string) {
	i := slices.Index(m.uids, uid)
	if i < 0 {
		if i = slices.Index(m.uids, ""); i < 0 {
			t.Fatalf("UID %s vanished, which is not in the view\n%s", uid, m.all.String())
		}
		for k := range m.uids {
			m.uids[k] = ""
		}
	}
	m.uids = slices.Delete(slices.Clone(m.uids), i, i+1)
}

// manyCopies bounds a mailbox that is copied into itself.
const manyCopies = 300

// TestNumbers plays random commands of three sessions in one mailbox. Whatever happens, each session's numbers mean
// what it was told, and when all are quiet all agree with the store.
func TestNumbers(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("Archive", mail)
	boxes := 0
	rapid.Check(t, func(t *rapid.T) {
		boxes++
		box := fmt.Sprintf("M%d", boxes)
		w.commit(createOp(w, box))
		var ms []*mirror
		for range rapid.IntRange(2, 3).Draw(t, "sessions") {
			m := &mirror{session: w.login(ownerName, ""), flags: map[string]string{}}
			m.ok("ENABLE " + rapid.SampledFrom([]string{"X", "X", "CONDSTORE", "QRESYNC", "IMAP4rev2", "UTF8=ACCEPT"}).Draw(t, "enable"))
			m.ok("SELECT " + box)
			defer m.nc.Close()
			ms = append(ms, m)
		}
		pick := func(t *rapid.T) *mirror { return rapid.SampledFrom(ms).Draw(t, "session") }
		number := func(t *rapid.T, m *mirror) string {
			if len(m.uids) == 0 {
				return ""
			}
			a, b := rapid.IntRange(1, len(m.uids)).Draw(t, "from"), rapid.IntRange(1, len(m.uids)).Draw(t, "to")
			return fmt.Sprintf("%d:%d", a, b)
		}
		flag := rapid.SampledFrom([]string{`\Seen`, `\Deleted`, `\Flagged`, "$Forwarded"})
		t.Repeat(map[string]func(*rapid.T){
			"deliver": func(t *rapid.T) { w.deliver(box, mail) },
			"append":  func(t *rapid.T) { pick(t).play(t, "APPEND "+box+" {5+}\r\nabcde") },
			"noop":    func(t *rapid.T) { pick(t).play(t, "NOOP") },
			"expunge": func(t *rapid.T) { pick(t).play(t, "EXPUNGE") },
			"learn":   func(t *rapid.T) { pick(t).play(t, "UID FETCH 1:* (FLAGS)") },
			"fetch": func(t *rapid.T) {
				if m := pick(t); len(m.uids) > 0 {
					m.play(t, "FETCH "+number(t, m)+" (UID FLAGS)")
				}
			},
			"store": func(t *rapid.T) {
				if m := pick(t); len(m.uids) > 0 {
					silent := rapid.SampledFrom([]string{"", ".SILENT"}).Draw(t, "silent")
					m.play(t, "STORE "+number(t, m)+" "+rapid.SampledFrom([]string{"+", "-", ""}).Draw(t, "mode")+"FLAGS"+silent+" ("+flag.Draw(t, "flag")+")")
					if silent != "" {
						clear(m.flags) // a silent change is not told: ask again
						m.play(t, "UID FETCH 1:* (FLAGS)")
					}
				}
			},
			"copy": func(t *rapid.T) {
				if m := pick(t); len(m.uids) > 0 && len(m.uids) < manyCopies {
					m.play(t, "COPY "+number(t, m)+" "+box)
				}
			},
			"move": func(t *rapid.T) {
				if m := pick(t); len(m.uids) > 0 {
					m.play(t, "MOVE "+number(t, m)+" "+rapid.SampledFrom([]string{"Trash", box}).Draw(t, "to"))
				}
			},
			"search": func(t *rapid.T) { pick(t).play(t, "SEARCH DELETED") },
		})
		agree(t, w, box, ms)
	})
}

// agree asks each session and the store, and finds the same.
func agree(t *rapid.T, w *world, box string, ms []*mirror) {
	for _, m := range ms {
		m.play(t, "NOOP")
		told := map[string]string{}
		for _, u := range m.uids {
			if f, known := m.flags[u]; u != "" && known {
				told[u] = f
			}
		}
		m.play(t, "UID FETCH 1:* (FLAGS)")
		for u, f := range told {
			if m.flags[u] != f {
				t.Fatalf("message %s: the session was told (%s), the store has (%s)\n%s", u, f, m.flags[u], m.all.String())
			}
		}
		if n := int(w.box(box).Messages); n != len(m.uids) {
			t.Fatalf("the session counts %d, the store %d\n%s", len(m.uids), n, m.all.String())
		}
		if got, want := strings.Join(m.uids, ","), strings.Join(ms[0].uids, ","); got != want {
			t.Fatalf("sessions disagree: %s and %s", got, want)
		}
	}
}
