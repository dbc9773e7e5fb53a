package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A file that changes is read again at the next look, one that does not is left alone; a fault is tried again only
// when the file changes once more.
func TestChangedFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	write := func(name, text string) {
		t.Helper()
		must(t, os.WriteFile(name+".new", []byte(text), 0o600))
		must(t, os.Chtimes(name+".new", time.Unix(1e9, 0), time.Unix(1e9, 0)))
		must(t, os.Rename(name+".new", name))
	}
	write(cert, "one")
	write(key, "one")
	reads, fault := 0, error(nil)
	log := &lockedBuffer{}
	d := &daemon{log: slog.New(slog.NewTextHandler(log, nil)), trusted: []*watched{{what: "certificate", files: []string{cert, key},
		reload: func(context.Context) error { reads++; return fault }}}}
	remember(d.trusted)
	look := func(what string, want int) {
		t.Helper()
		d.look(t.Context())
		d.look(t.Context())
		if reads != want {
			t.Fatalf("%s: read %d times, want %d", what, reads, want)
		}
	}
	look("nothing changed", 0)
	write(cert, "two") // same length, same time: another file all the same
	look("replaced", 1)
	fault = errors.New("key does not belong to it")
	must(t, os.Remove(key))
	look("removed", 2)
	if !strings.Contains(log.String(), "certificate: the former one stays in force: key does not belong to it") {
		t.Errorf("the fault is not in the log:\n%s", log)
	}
	if out := refusedReloads(d.trusted); len(out) != 1 || !strings.Contains(out[0], "key does not belong to it") {
		t.Errorf("health says %q of the fault", out)
	}
	fault = nil
	write(key, "two")
	look("brought back", 3)
	if out := refusedReloads(d.trusted); len(out) != 0 {
		t.Errorf("health says %q when all is well again", out)
	}
}

// Whatever SIGHUP reads is watched as well.
func TestEveryTrustFileIsWatched(t *testing.T) {
	c := defaultConfig()
	c.SMTP.Cert, c.SMTP.Key, c.IMAP.Cert, c.IMAP.Key = "a", "b", "c", "d"
	c.Trust.Anchors, c.Trust.CRLs, c.WhiteList.File = []string{"e", "f"}, []string{"g"}, "h"
	c.WhiteList.Anchors = []string{"i"}
	var got []string
	for _, g := range (&daemon{cfg: c}).trustFiles() {
		got = append(got, g.files...)
	}
	if s := strings.Join(got, ""); s != "abcdefghi" {
		t.Errorf("watched: %s, want every file of the trust", s)
	}
}
