package admin

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/backup"
	"mssd/store/storetest"
	"mssd/trace"
)

// beginStopped begins a backup as a command that is stopped right after: nothing more is heard of it, its connection
// stays open.
func beginStopped(t *testing.T, h *house) (moment backup.Moment) {
	t.Helper()
	resp, done, err := h.open(context.Background(), "POST", "/v1/backups", NewBackup{"/mnt/stopped"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	for dec := json.NewDecoder(resp.Body); ; {
		var l backupLine
		if err := dec.Decode(&l); err != nil {
			t.Fatal(err)
		}
		if l.Moment != nil {
			return *l.Moment
		}
	}
}

// TestBackupStopped: a command that was stopped, idle or in the middle of a body, does not keep bodies for ever.
func TestBackupStopped(t *testing.T) {
	for _, reading := range []bool{false, true} {
		t.Run(map[bool]string{false: "idle", true: "reading"}[reading], func(t *testing.T) {
			h := open(t, func(s *Server) { s.stall = 300 * time.Millisecond })
			bal := storetest.AddBAL(t, h.store, "pharmacie@test.mssante.fr", store.ORG)
			noise := make([]byte, 4<<20) // more than a socket holds
			for i := range noise {
				noise[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[rand.IntN(36)]
			}
			id, _ := storetest.Deliver(t, h.store, bal.ID, "Subject: x\r\n\r\n"+string(noise))
			m := beginStopped(t, h)
			if reading {
				resp, done, err := h.open(context.Background(), "POST", "/v1/backups/"+m.ID+"/bodies", backup.Ask{IDs: []trace.ID{id}})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(done)
				if _, err := resp.Body.Read(make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
			}
			var next backup.Session
			eventually(t, "another backup can begin", func() bool {
				var err error
				next, err = h.Begin(context.Background(), "/mnt/next", nil)
				if err != nil && status(err) != http.StatusConflict {
					t.Fatal(err)
				}
				return err == nil
			})
			next.Close()
			if _, err := h.store.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.CreateMailbox{BAL: bal.ID, Name: "Ensuite"}}}); err != nil {
				t.Error(err)
			}
			eventually(t, "nothing is kept", func() bool { return h.store.Pins() == 0 })
		})
	}
}

// TestBackupAlive: each word of the command counts.
func TestBackupAlive(t *testing.T) {
	h := open(t, func(s *Server) { s.stall = time.Hour })
	m := beginStopped(t, h)
	b := &h.server.backups
	heard := func() int64 {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.pulse.at.Load()
	}
	before := heard()
	if _, err := call[struct{}](context.Background(), h.Client, "POST", "/v1/backups/"+m.ID+"/alive", struct{}{}); err != nil || heard() <= before {
		t.Errorf("alive: %v", err)
	}
	before = heard()
	if err := (&backupSession{h.Client, m, func() {}}).CopyKeys(context.Background(), new(strings.Builder)); err != nil || heard() <= before {
		t.Errorf("a request: %v", err)
	}
	if _, err := call[struct{}](context.Background(), h.Client, "POST", "/v1/backups/77/alive", struct{}{}); status(err) != http.StatusNotFound {
		t.Errorf("alive of another one: %v", err)
	}
	c, cancel := context.WithCancel(context.Background())
	defer cancel()
	before = heard()
	go (&backupSession{h.Client, m, func() {}}).tellAlive(c, time.Millisecond)
	eventually(t, "the command says that it is alive", func() bool { return heard() > before })
}
