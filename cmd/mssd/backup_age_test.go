package main

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
)

// TestBackupAge: only whole backups that are still there count, from the moment that they hold.
func TestBackupAge(t *testing.T) {
	begin := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	var at atomic.Int64
	s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true,
		Now: func() time.Time { return begin.Add(time.Duration(at.Load())) }})
	put := func(b store.Backup) store.Backup {
		t.Helper()
		b.ID, b.Label, b.HighestBAL = s.NewID(), "/mnt/backup", 1
		if _, err := s.Commit(t.Context(), &store.Batch{Ops: []store.Op{store.PutBackup{Backup: b}}}); err != nil {
			t.Fatal(err)
		}
		return b
	}
	const day = 24 * time.Hour
	says := func(what string, age float64, fault string) {
		t.Helper()
		if got := backupAge(s); math.Abs(got-age) > 1 {
			t.Errorf("%s: %v s old, want %v", what, got, age)
		}
		switch err := backupFault(s, 26*time.Hour); {
		case fault == "" && err != nil, fault != "" && (err == nil || !strings.Contains(err.Error(), fault)):
			t.Errorf("%s: %v, want %q", what, err, fault)
		}
		if err := backupFault(s, 0); err != nil {
			t.Errorf("%s: not asked for, but %v", what, err)
		}
	}
	says("none", -1, "no whole one")
	put(store.Backup{Began: begin, Commits: 5})
	says("broken off", -1, "no whole one")
	put(store.Backup{Began: begin, Done: begin.Add(time.Hour)})
	says("what nobody knows of", -1, "no whole one")
	first := put(store.Backup{Began: begin, Done: begin.Add(time.Hour), Commits: 5})
	at.Store(int64(25 * time.Hour))
	says("a day later", (25 * time.Hour).Seconds(), "")
	at.Store(int64(2 * day))
	says("two days later", (2 * day).Seconds(), "2026-11-23T03:00:00Z")
	second := put(store.Backup{Began: begin.Add(2 * day), Done: begin.Add(2 * day), Commits: 9})
	says("the next one", 0, "")
	for _, b := range []store.Backup{second, first} {
		if _, err := s.Commit(t.Context(), &store.Batch{Ops: []store.Op{store.ForgetBackup{ID: b.ID}}}); err != nil {
			t.Fatal(err)
		}
	}
	says("all destroyed", -1, "no whole one")
}

// TestBackupAgeHealth: the setting makes the daemon degraded until a backup is made, and the metric is there.
func TestBackupAgeHealth(t *testing.T) {
	h := newHouse(t, "")
	h.configure("store", "backup_max_age = \"26h\"\n")
	page := freeAddr(t)
	h.configure("metrics", fmt.Sprintf("listen = %q", page))
	h.start("--create")
	shown := func() string {
		t.Helper()
		resp, err := http.Get("http://" + page + "/metrics")
		must(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		must(t, err)
		return string(b)
	}
	if !strings.Contains(shown(), "\nmssd_backup_age_seconds -1\n") {
		t.Error("the metrics say nothing of a missing backup")
	}
	if out, err := h.run("health"); err == nil || !strings.Contains(out, "backup: the store knows of no whole one") {
		t.Errorf("health: %v\n%s", err, out)
	}
	if out, err := h.run("backup", h.path("backups"), "--create"); err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	if out, err := h.run("health"); strings.Contains(out, "backup:") {
		t.Errorf("health: %v\n%s", err, out)
	}
	if text := shown(); !strings.Contains(text, "\nmssd_backup_age_seconds ") || strings.Contains(text, "\nmssd_backup_age_seconds -1\n") {
		t.Error("the metrics say nothing of the backup")
	}
	must(t, h.stop())
}
