package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func newKeys(t *testing.T) (dir string, k *keyring) {
	t.Helper()
	dir = t.TempDir()
	return dir, reopenKeys(t, dir, true)
}

// testKeyOf is a BAL that a key can be made for.
func testKeyOf(id BALID) *BAL {
	return &BAL{ID: id, Kind: ORG, Address: Address(fmt.Sprintf("b%d@bal.example", id)), Created: testAt}
}

func reopenKeys(t *testing.T, dir string, create bool) *keyring {
	t.Helper()
	k, err := openKeys(&osFiles{}, filepath.Join(dir, "keys"), filepath.Join(dir, "master.key"), create)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.close() })
	return k
}

func TestKeyring(t *testing.T) {
	dir, k := newKeys(t)
	for _, id := range []BALID{1, 2, 7} {
		if err := k.newBAL(testKeyOf(id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.sync(); err != nil {
		t.Fatal(err)
	}
	undone := k.bals[7].key
	if err := k.newBAL(testKeyOf(7)); err != nil || k.bals[7].key == undone {
		t.Errorf("a BAL made anew has the key of the one that was undone: %v", err)
	}
	k2 := reopenKeys(t, dir, false)
	for _, id := range []BALID{1, 2, 7} {
		if got, err := k2.bal(id); err != nil || got.key != k.bals[id].key {
			t.Errorf("BAL %d: %v", id, err)
		}
	}
	if k.bals[1].key == k.bals[2].key || k2.pseudonym != k.pseudonym {
		t.Error("keys are not those that were made")
	}
	if _, err := k2.bal(3); !errors.Is(err, ErrCorrupt) {
		t.Errorf("BAL without a key: %v", err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range k.bals {
		if bytes.Contains(raw, b.key[:8]) {
			t.Error("a key stands in clear")
		}
	}
	for _, f := range []string{"keys", "master.key"} {
		if st, err := os.Stat(filepath.Join(dir, f)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", f, st.Mode(), err)
		}
	}
}

// TestAlteredKeys damages the file of keys: only keys of the slots that were damaged are missing.
func TestAlteredKeys(t *testing.T) {
	at := func(slot, off int) int { return keysHead + slot*slotLen + off }
	swap := func(b []byte) {
		one, two := bytes.Clone(b[at(1, 0):at(2, 0)]), bytes.Clone(b[at(2, 0):at(3, 0)])
		copy(b[at(1, 0):], two)
		copy(b[at(2, 0):], one)
	}
	swapKeys := func(b []byte) {
		one, two := bytes.Clone(b[at(1, 16):at(1, slotAddress)]), bytes.Clone(b[at(2, 16):at(2, slotAddress)])
		copy(b[at(1, 16):], two)
		copy(b[at(2, 16):], one)
	}
	cases := []struct {
		name string
		do   func(b []byte)
		open error
		bad  []BALID
	}{
		{"nothing", func([]byte) {}, nil, nil},
		{"key of a BAL", func(b []byte) { b[at(1, 40)] ^= 1 }, nil, []BALID{1}},
		{"date of a slot", func(b []byte) { b[at(2, 15)] ^= 1 }, nil, []BALID{2}},
		{"state of a slot", func(b []byte) { b[at(1, 0)] = 77 }, nil, []BALID{1}},
		{"slot called destroyed", func(b []byte) { b[at(1, 0)] = slotGone }, nil, []BALID{1}},
		{"slot called free", func(b []byte) { b[at(1, 0)] = slotFree }, nil, []BALID{1}},
		{"kind of a slot", func(b []byte) { b[at(1, 1)] = byte(PER) }, nil, []BALID{1}},
		{"address of a slot", func(b []byte) { b[at(3, slotAddress)] = 'c' }, nil, []BALID{3}},
		{"address of a slot cut", func(b []byte) { b[at(3, 2)]-- }, nil, []BALID{3}},
		{"address longer than any", func(b []byte) { b[at(3, 2)] = 255 }, nil, []BALID{3}},
		{"no address", func(b []byte) { b[at(3, 2)] = 0 }, nil, []BALID{3}},
		{"slots swapped", swap, nil, []BALID{1, 2}},
		{"wrapped keys swapped", swapKeys, nil, []BALID{1, 2}},
		{"slot of the store", func(b []byte) { b[at(0, 40)] ^= 1 }, ErrCorrupt, nil},
		{"name of the master key", func(b []byte) { b[16] ^= 1 }, ErrMasterKey, nil},
		{"version 0", func(b []byte) { b[10] = '0' }, ErrVersion, nil},
		{"version 1", func(b []byte) { b[10] = '1' }, ErrVersion, nil},
		{"version 9", func(b []byte) { b[10] = '9' }, ErrVersion, nil},
		{"another file", func(b []byte) { b[0] = 'x' }, ErrCorrupt, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir, k := newKeys(t)
			for id := range BALID(3) {
				if err := k.newBAL(testKeyOf(id + 1)); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, "keys")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c.do(b)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			k2, err := openKeys(&osFiles{}, path, filepath.Join(dir, "master.key"), false)
			if !errors.Is(err, c.open) {
				t.Fatalf("%v, want %v", err, c.open)
			}
			if err != nil {
				return
			}
			defer k2.close()
			for id := range BALID(3) {
				want := true
				for _, bad := range c.bad {
					want = want && bad != id+1
				}
				if _, err := k2.bal(id + 1); (err == nil) != want {
					t.Errorf("BAL %d: %v", id+1, err)
				}
			}
		})
	}
}

func TestMasterKeyFiles(t *testing.T) {
	dir, k := newKeys(t)
	keys, master := filepath.Join(dir, "keys"), filepath.Join(dir, "master.key")
	good, err := os.ReadFile(master)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.key")
	if err := MakeMasterKey(other); err != nil {
		t.Fatal(err)
	}
	if err := MakeMasterKey(other); err == nil {
		t.Error("a master key was overwritten")
	}
	if _, err := openKeys(&osFiles{}, keys, other, false); !errors.Is(err, ErrMasterKey) || !strings.Contains(err.Error(), "this store wants "+k.master.name.String()) {
		t.Errorf("another master key: %v", err)
	}
	if _, err := openKeys(&osFiles{}, keys, filepath.Join(dir, "none"), false); !errors.Is(err, ErrMasterKey) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no master key: %v", err)
	}
	for name, text := range map[string]string{"empty": "", "short": string(good[:40]), "long": string(good[:len(good)-1]) + "00\n",
		"other word": strings.Replace(string(good), "1", "2", 1), "binary": "\x00\xff"} {
		if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := openKeys(&osFiles{}, keys, other, false)
		if !errors.Is(err, ErrMasterKey) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(fmt.Sprint(err), string(good[20:40])) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
	bal := newBALKey(k.master.key)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		for _, v := range []any{k.master.key, &k.master.key, k.master, bal} {
			got := fmt.Sprintf(format, v)
			for _, show := range []string{fmt.Sprintf("%d %d", k.master.key[0], k.master.key[1]), fmt.Sprintf("%#x, %#x", k.master.key[0], k.master.key[1]), fmt.Sprintf("%x", k.master.key[:4])} {
				if strings.Contains(got, show) {
					t.Errorf("%s of a %T shows the key", format, v)
				}
			}
		}
	}
}

func TestSealedValues(t *testing.T) {
	_, k := newKeys(t)
	for id := range BALID(2) {
		if err := k.newBAL(testKeyOf(id + 1)); err != nil {
			t.Fatal(err)
		}
	}
	key := keyPrefix(1, 99)
	v, err := k.seal(1, bktPrefix, key, []byte("secret text"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.open(1, bktPrefix, key, v); err != nil || string(got) != "secret text" {
		t.Errorf("%q, %v", got, err)
	}
	again, _ := k.seal(1, bktPrefix, key, []byte("secret text"))
	if bytes.Equal(v, again) || bytes.Contains(v, []byte("text")) {
		t.Error("the same value is sealed the same way twice, or not at all")
	}
	refused := func(name string, bal BALID, bucket int, key, v []byte) {
		t.Helper()
		if got, err := k.open(bal, bucket, key, v); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	refused("another message", 1, bktPrefix, keyPrefix(1, 98), v)
	refused("another bucket", 1, bktMember, key, v)
	refused("another BAL", 2, bktPrefix, key, v)
	refused("cut off", 1, bktPrefix, key, v[:len(v)-1])
	refused("too short", 1, bktPrefix, key, v[:5])
	refused("no BAL", 9, bktPrefix, key, v)
	for i := range v {
		v[i] ^= 4
		refused("altered", 1, bktPrefix, key, v)
		v[i] ^= 4
	}
	d := derived{id: 5, bal: 1, meta: []byte{3, 'm'}}
	b, _ := k.bal(1)
	m := sealDerived(b, "meta", &d, d.meta)
	if got, err := k.openDerived(5, "meta", m, false); err != nil || !bytes.Equal(got, d.meta) || m[0] != 3 {
		t.Errorf("%q, %v", got, err)
	}
	for name, f := range map[string]func(v []byte) (trace []byte, id MessageID, bucket string){
		"another message": func(v []byte) ([]byte, MessageID, string) { return v, 6, "meta" },
		"another bucket":  func(v []byte) ([]byte, MessageID, string) { return v, 5, "text" },
		"another version": func(v []byte) ([]byte, MessageID, string) { v[0]++; return v, 5, "meta" },
		"another BAL":     func(v []byte) ([]byte, MessageID, string) { v[4]++; return v, 5, "meta" },
		"cut off":         func(v []byte) ([]byte, MessageID, string) { return v[:3], 5, "meta" },
	} {
		v, id, bucket := f(bytes.Clone(m))
		if got, err := k.openDerived(id, bucket, v, false); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestKeyVectors opens the keys, and a value under one of them, that stand in testdata; MSSD_WRITE_VECTORS=1 writes
// them, once for a version.
func TestKeyVectors(t *testing.T) {
	dir := filepath.Join("testdata", "v1")
	bal, id := BALID(2), MessageID(0x123456789abcdef)
	if os.Getenv("MSSD_WRITE_VECTORS") != "" {
		writeKeyVectors(t, dir, bal, id)
	}
	here := t.TempDir()
	if err := os.CopyFS(here, os.DirFS(dir)); err != nil { // openKeys opens for writing
		t.Fatal(err)
	}
	keys := filepath.Join(here, "keys")
	k, err := openKeys(&osFiles{}, keys, filepath.Join(here, "master.key"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	v, err := os.ReadFile(filepath.Join(here, "prefix.value"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := decodePrefix(v)
	if err != nil {
		t.Fatal(err)
	}
	key, prefix, err := k.openPrefix(bal, id, p)
	if err != nil || string(key[:]) != "0123456789abcdefghijklmnopqrstuv" || string(prefix) != "Return-Path: <>\r\n" || p.Refs != 1 {
		t.Errorf("%q %q, %v", key[:], prefix, err)
	}
	if got := fmt.Sprintf("%x", k.mac("purpose", "value")); got != "3cf711a857905880390093460c750d94" {
		t.Errorf("pseudonym %s", got)
	}

	// The recovery key opens each slot, to the same keys.
	rk, err := readKeyFile(filepath.Join(here, "recovery.private"), recoveryPrivateWord)
	if err != nil {
		t.Fatal(err)
	}
	private, err := newRecoveryPrivate(&rk)
	if err != nil || k.recovery == nil || k.recovery.name != private.public.name {
		t.Fatalf("recovery key %v: %v", k.recovery, err)
	}
	b, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	slots := 0
	eachSlot(b, func(s *slot, err error) {
		slots++
		if err != nil {
			t.Errorf("slot %d: %v", s.number, err)
			return
		}
		got, err := private.open(s.aad(), s.recovery)
		want, err2 := s.open(k.wrap)
		if err != nil || err2 != nil || got != want {
			t.Errorf("slot %d by the recovery key: %v, %v", s.number, err, err2)
		}
		if s.number > 0 && (s.address != testKeyOf(BALID(s.number)).Address || s.kind != ORG || !s.created.Equal(testAt)) {
			t.Errorf("slot %d: %q %v %v", s.number, s.address, s.kind, s.created)
		}
	})
	if slots != 3 {
		t.Errorf("%d slots", slots)
	}
}

func writeKeyVectors(t *testing.T, dir string, bal BALID, id MessageID) {
	file := func(name string) string { return filepath.Join(dir, name) }
	for _, n := range []string{"keys", "master.key", "recovery.private", "recovery.public"} {
		os.Remove(file(n))
	}
	if _, err := MakeRecoveryKey(file("recovery.private"), file("recovery.public")); err != nil {
		t.Fatal(err)
	}
	k, err := openKeys(&osFiles{}, file("keys"), file("master.key"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	public, err := readKeyFile(file("recovery.public"), recoveryPublicWord)
	if err != nil {
		t.Fatal(err)
	}
	if k.recovery, err = newRecovery(public[:]); err != nil {
		t.Fatal(err)
	}
	for id := range bal {
		if err := k.newBAL(testKeyOf(id + 1)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file("keys"))
	if err != nil {
		t.Fatal(err)
	}
	copy(b, encodeHead(k.master, k.recovery))
	err = eachKey(b, k.master, func(s *slot, key *secret) (err error) {
		s.recovery, err = k.recovery.seal(s.aad(), key)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file("keys"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	key := secret([]byte("0123456789abcdefghijklmnopqrstuv"))
	p, err := k.sealPrefix(bal, id, &key, []byte("Return-Path: <>\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file("prefix.value"), encodePrefix(p), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Log("pseudonym", fmt.Sprintf("%x", k.mac("purpose", "value")))
}
