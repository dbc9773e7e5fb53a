package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/backup"
	"mssd/store/storetest"
	"mssd/trace"
)

// eventually waits for something that another goroutine does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 seconds", what)
		}
	}
}

func status(err error) int {
	var p *Problem
	if errors.As(err, &p) {
		return p.Status
	}
	return 0
}

// One backup at a time; its session lives as long as the command, and no longer; what it yields is what Local yields.
func TestBackupSession(t *testing.T) {
	h := open(t)
	ctx := context.Background()
	bal := storetest.AddBAL(t, h.store, "pharmacie@test.mssante.fr", store.ORG)
	id, _ := storetest.Deliver(t, h.store, bal.ID, "Subject: secret\r\n\r\nx\r\n")
	first, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := h.Begin(first, "/mnt/one", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Begin(ctx, "/mnt/two", nil); status(err) != http.StatusConflict || !strings.Contains(err.Error(), "/mnt/one") {
		t.Errorf("a second backup: %v, want a conflict that names the first one", err)
	}
	list, err := h.Backups(ctx)
	if err != nil || len(list) != 1 || list[0].State != "under way" || list[0].ID != s.Moment().ID || list[0].Label != "/mnt/one" {
		t.Errorf("list: %+v %v", list, err)
	}
	began, _ := trace.ParseID(s.Moment().ID)
	if err := h.Forget(ctx, began); status(err) != http.StatusConflict {
		t.Errorf("forgetting a backup that is under way: %v", err)
	}
	if err := h.Forget(ctx, 77); status(err) != http.StatusNotFound {
		t.Errorf("forgetting an unknown backup: %v", err)
	}
	var index, keys bytes.Buffer
	if err := errors.Join(s.CopyIndex(ctx, &index), s.CopyKeys(ctx, &keys)); err != nil {
		t.Fatal(err)
	}
	if int64(index.Len()) != s.Moment().Index.Octets || int64(keys.Len()) != s.Moment().Keys.Octets || index.Len() == 0 {
		t.Errorf("index %d and keys %d octets, want %+v", index.Len(), keys.Len(), s.Moment())
	}
	for _, ask := range []backup.Ask{{IDs: []trace.ID{id, 5}}, {IDs: []trace.ID{id, 5}, SumsOnly: true}} {
		var got []backup.Body
		var octets int
		err := s.Bodies(ctx, ask, func(b backup.Body, r io.Reader) error {
			got = append(got, b)
			if r != nil {
				text, err := io.ReadAll(r)
				octets += len(text)
				if bytes.Contains(text, []byte("secret")) {
					t.Error("a body goes out in clear")
				}
				return err
			}
			return nil
		})
		if err != nil || len(got) != 2 || got[0].ID != id || got[0].Status != backup.Good || got[1].Status != backup.Missing ||
			!ask.SumsOnly && int64(octets) != got[0].Octets || ask.SumsOnly && octets != 0 {
			t.Errorf("bodies (%+v): %+v, %d octets, %v", ask, got, octets, err)
		}
	}
	if err := s.Bodies(ctx, backup.Ask{IDs: make([]trace.ID, backup.MaxAsk+1)}, nil); status(err) != http.StatusBadRequest {
		t.Errorf("too many bodies: %v", err)
	}
	text, err := s.Manifest(ctx, backup.Contents{Bodies: 1})
	if err != nil || !bytes.Contains(text, []byte("generation "+s.Moment().ID)) {
		t.Errorf("manifest: %v\n%s", err, text)
	}

	// The command is killed: the session ends with it, and the next one may begin.
	cancel()
	var again backup.Session
	eventually(t, "the next backup begins", func() bool {
		var err error
		again, err = h.Begin(ctx, "/mnt/two", nil)
		return err == nil
	})
	if err := s.CopyKeys(ctx, io.Discard); status(err) != http.StatusNotFound {
		t.Errorf("a session that ended is used: %v", err)
	}
	if err := again.Done(ctx); err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Forget(ctx, began); err != nil {
		t.Errorf("forget: %v", err)
	}
	eventually(t, "the list says so", func() bool {
		list, err = h.Backups(ctx)
		return err == nil && len(list) == 2 && list[0].State == "destroyed" && list[1].State == "whole"
	})
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(h.Socket), "data", "spool", "*")); len(left) > 0 {
		t.Errorf("left in the spool: %v", left)
	}
}

// A daemon that stops does not wait for a command that makes a backup.
func TestShutdownEndsBackup(t *testing.T) {
	h := open(t)
	s, err := h.Begin(context.Background(), "/mnt/one", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := h.server.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if err := s.CopyKeys(context.Background(), io.Discard); err == nil {
		t.Error("the session outlived the daemon")
	}
}
