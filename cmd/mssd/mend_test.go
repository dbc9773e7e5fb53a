package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// addMember adds a member to a BAL and returns the user name and the password.
func (h *house) addMember(address, member string) (user, password string) {
	h.t.Helper()
	out, err := h.run("member", "add", address, member, "--role", "owner", "--json")
	var made struct{ User, Password string }
	if err != nil || json.Unmarshal([]byte(out), &made) != nil || made.Password == "" {
		h.t.Fatalf("member add: %v\n%s", err, out)
	}
	return made.User, made.Password
}

// TestRebuild loses index.db and meta.db after deliveries to several BALs: fsck --rebuild makes INBOX again from bodies
// and keys, and when the operator has added members, IMAP serves every letter, octet for octet.
func TestRebuild(t *testing.T) {
	h := newHouse(t, "")
	h.start("--create")
	var addrs []string
	for i := range 3 {
		a := fmt.Sprintf("pharmacie%d@test-officines.mssante.fr", i)
		h.addBAL(a, "ORG")
		addrs = append(addrs, a)
	}
	const empty = "sans-courrier@test-officines.mssante.fr"
	h.addBAL(empty, "ORG")
	c, err := h.dial()
	must(t, err)
	want := map[string]map[[32]byte]int{addrs[0]: {}, addrs[1]: {}, addrs[2]: {}}
	for i, size := range []int{500, 70_000, 300, 200_000, 5000, 800} {
		to := [][]string{{addrs[0]}, addrs, {addrs[1], addrs[2]}}[i%3]
		msg := letter(i, size, to[0])
		_, err := c.send("274990000000145@"+patientDomain, to, msg)
		must(t, err)
		for _, a := range to {
			want[a][sha256.Sum256(msg)]++
		}
	}
	c.quit()
	if out, err := h.run("fsck", "--rebuild", "--config", h.config); err == nil || !strings.Contains(out, "stop the daemon first") {
		t.Errorf("rebuild beside the daemon: %v\n%s", err, out)
	}
	must(t, h.stop())
	if out, err := h.run("fsck", "--rebuild", "--config", h.config); err == nil || !strings.Contains(out, "can be read") {
		t.Errorf("rebuild of a sound store: %v\n%s", err, out)
	}
	must(t, os.Remove(h.path("data/index.db")))
	must(t, os.Remove(h.path("data/meta.db")))
	out, err := h.run("fsck", "--rebuild", "--config", h.config)
	if err != nil || !strings.Contains(out, "4 BALs, 12 messages") || !strings.Contains(out, "suspended (450)") || !strings.Contains(out, "  "+empty+"\n") || !strings.Contains(out, "6 bodies") || !strings.Contains(out, "member add") {
		t.Fatalf("rebuild: %v\n%s", err, out)
	}
	if out, err := h.run("fsck", "--config", h.config); err != nil || !strings.Contains(out, "no problem found") {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	h.start()
	for _, a := range addrs {
		user, password := h.addMember(a, "local:neuf")
		got := fetchHashes(t, h, user, password)
		for sum, n := range want[a] {
			if got[sum] != n {
				t.Errorf("%s: a letter is there %d times, want %d", a, got[sum], n)
			}
		}
		if len(got) != len(want[a]) {
			t.Errorf("%s: %d letters, want %d", a, len(got), len(want[a]))
		}
	}
	c, err = h.dial()
	must(t, err)
	_, err = c.send("274990000000145@"+patientDomain, addrs, letter(99, 2000, addrs[0]))
	must(t, err)
	must(t, h.stop())
	nothingInClear(t, h.path("data"))
	if left, _ := filepath.Glob(h.path("data/rebuild.db")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestRepair spoils pages of index.db and a body of a stopped store: fsck --repair mends it, dry first, and IMAP serves
// every letter whose body is there.
func TestRepair(t *testing.T) {
	h := newHouse(t, "")
	h.start("--create")
	const bal = "pharmacie@test-officines.mssante.fr"
	user, password := h.addBAL(bal, "ORG")
	c, err := h.dial()
	must(t, err)
	want := map[[32]byte]int{}
	for i := range 150 {
		msg := letter(i, 600, bal)
		_, err := c.send("274990000000145@"+patientDomain, []string{bal}, msg)
		must(t, err)
		want[sha256.Sum256(msg)]++
	}
	c.quit()
	if out, err := h.run("fsck", "--repair", "--config", h.config); err == nil || !strings.Contains(out, "stop the daemon first") {
		t.Errorf("repair beside the daemon: %v\n%s", err, out)
	}
	must(t, h.stop())
	if out, err := h.run("fsck", "--repair", "--config", h.config); err != nil || !strings.Contains(out, "nothing to mend") {
		t.Errorf("repair of a sound store: %v\n%s", err, out)
	}
	body := bodyOf(t, h)
	content, err := os.ReadFile(body)
	must(t, err)
	must(t, os.Remove(body))
	if out, err := h.run("fsck", "--repair", "--config", h.config); err == nil || !strings.Contains(out, "stays without a body") {
		t.Errorf("repair cannot bring a body back, but says it is well: %v\n%s", err, out)
	}
	rotten := bytes.Clone(content)
	rotten[3] ^= 1 // in its first frame: header and table are sound
	must(t, os.WriteFile(body, rotten, 0o600))
	if out, err := h.run("fsck", "--repair", "--bodies", "--config", h.config); err == nil || !strings.Contains(out, filepath.Base(body)) || !strings.Contains(out, "stays without a body") {
		t.Errorf("repair with --bodies calls a store with a rotten body well: %v\n%s", err, out)
	}
	must(t, os.WriteFile(body, content, 0o600))
	index := h.path("data/index.db")
	whole, err := os.ReadFile(index)
	must(t, err)
	spoiled := spoilRows(t, whole)
	must(t, os.WriteFile(index, spoiled, 0o600))
	serve := exec.Command("mssd", "serve", "--config", h.config)
	if out, err := serve.CombinedOutput(); err == nil || !strings.Contains(string(out), "--repair") {
		t.Errorf("start with bad pages: %v\n%s", err, out)
	}
	out, err := h.run("fsck", "--repair", "--dry-run", "--config", h.config)
	if err == nil || !strings.Contains(out, "nothing was changed") {
		t.Errorf("dry run: %v\n%s", err, out)
	}
	if now, _ := os.ReadFile(index); !bytes.Equal(now, spoiled) {
		t.Error("the dry run wrote to index.db")
	}
	out, err = h.run("fsck", "--repair", "--config", h.config)
	if err != nil || !strings.Contains(out, "in INBOX again") || !strings.Contains(out, "index.db.damaged-") {
		t.Errorf("repair: %v\n%s", err, out)
	}
	if out, err := h.run("fsck", "--config", h.config); err != nil || !strings.Contains(out, "no problem found") {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	h.start()
	got := fetchHashes(t, h, user, password)
	for sum, n := range want {
		if got[sum] != n {
			t.Fatalf("a letter is there %d times, want %d; %d of %d letters", got[sum], n, len(got), len(want))
		}
	}
	c, err = h.dial()
	must(t, err)
	_, err = c.send("274990000000145@"+patientDomain, []string{bal}, letter(999, 2000, bal))
	must(t, err)
	must(t, h.stop())
}

// spoilRows fills a leaf page of an index that holds rows with ones: a page of records of 12 octets with values of 46.
func spoilRows(t *testing.T, whole []byte) []byte {
	t.Helper()
	const page = 4096
	b := append([]byte(nil), whole...)
	done := 0
	for at := 2 * page; at+page <= len(b); at += page {
		p := b[at : at+page]
		n := int(binary.LittleEndian.Uint16(p[10:]))
		if binary.LittleEndian.Uint16(p[8:]) != 2 || n < 10 || binary.LittleEndian.Uint32(p[16+8:]) != 12 || binary.LittleEndian.Uint32(p[16+12:]) != 46 {
			continue
		}
		for i := range p {
			p[i] = 0xff
		}
		done++
	}
	if done == 0 {
		t.Fatal("no page of rows")
	}
	return b
}

// bodyOf is the file of one body of a stopped store.
func bodyOf(t *testing.T, h *house) string {
	t.Helper()
	files, err := filepath.Glob(h.path("data/blobs/*/*"))
	if must(t, err); len(files) == 0 {
		t.Fatal("there are no bodies")
	}
	return files[0]
}
