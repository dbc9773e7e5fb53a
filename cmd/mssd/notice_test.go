package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mssd/admin"
	"mssd/store"
)

// A BAL that nobody has used finds a notice of it in its INBOX soon after the daemon starts; one, however often it is killed and started.
func TestInactivityNotice(t *testing.T) {
	h := newHouse(t, "")
	config, err := os.ReadFile(h.config)
	must(t, err)
	must(t, os.WriteFile(h.config, append(config, "\n[bal]\ninactivity_notice_days = 30\ninactivity_notice_file = \"avis.txt\"\n"...), 0o600))
	must(t, os.WriteFile(h.path("avis.txt"), []byte("Objet: Votre BAL {bal}\n\nPersonne depuis {jours} jours.\n"), 0o600))
	const bal = "pharmacie@test-officines.mssante.fr"
	data := h.path("data")
	past := func() time.Time { return time.Now().AddDate(0, 0, -40) }
	st, err := store.Open(store.Options{Dir: data, Create: true, Now: past})
	must(t, err)
	_, err = st.Commit(t.Context(), &store.Batch{Ops: []store.Op{store.PutBAL{Create: true, BAL: store.BAL{Address: bal, Kind: store.ORG, State: store.Active, Listing: store.Published}}}})
	must(t, err)
	must(t, st.Close())

	for round := range 3 {
		h.start("--no-list-yet")
		var b admin.BAL
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			out, err := h.run("bal", "show", bal, "--json")
			must(t, err)
			must(t, json.Unmarshal([]byte(out), &b))
			if b.Messages > 0 || time.Now().After(end) {
				break
			}
		}
		if out, err := h.run("bal", "inactive", "--days", "30", "--notify"); err != nil || !strings.Contains(out, "0 BALs were told, 1 other was told already") {
			t.Errorf("start %d: %v\n%s", round, err, out)
		}
		if b.Messages != 1 {
			t.Errorf("start %d: %d mails in the BAL, want the one notice", round, b.Messages)
		}
		if out, err := h.run("bal", "history", bal); err != nil || strings.Count(out, "bal inactivity notice") != 1 || !strings.Contains(out, "system:inactive") {
			t.Errorf("start %d: %v\n%s", round, err, out)
		}
		h.kill()
	}
	out := h.path("out")
	h.start("--no-list-yet")
	if said, err := h.run("bal", "export", bal, out); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	files, err := filepath.Glob(filepath.Join(out, "*", "*"))
	must(t, err)
	text := ""
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil {
			text += string(raw)
		}
	}
	if !strings.Contains(text, "Subject: Votre BAL "+bal) || !strings.Contains(text, "Personne depuis 30 jours.") {
		t.Errorf("the notice is not in the operator's words:\n%s", text)
	}
	must(t, h.stop())
}
