package store_test

import (
	"strings"
	"testing"

	"mssd/store/crashtest"
)

// TestPowerCutFinds takes one guard after the other out of what the store did: TestPowerCut must find that mail is lost,
// or it would find nothing at all.
func TestPowerCutFinds(t *testing.T) {
	forget := func(which func(call, path string) bool) spoiler {
		return func(d *crashtest.Disk, calls []*crashtest.Call) []*crashtest.Call {
			d.Forget = which
			return calls
		}
	}
	cases := []struct {
		name, scenario string
		spoil          spoiler
	}{
		{"bodies not synced", "deliver", forget(func(_, path string) bool { return strings.Count(path, "/") == 3 })},
		{"no sync at all", "deliver", forget(func(string, string) bool { return true })},
		{"bodies not synced by their session", "deliver, each synced by its session", forget(func(_, path string) bool { return strings.HasPrefix(path, "s/spool/") })},
		{"directories of bodies not synced", "deliver", forget(func(_, path string) bool { return strings.Count(path, "/") == 2 && strings.HasPrefix(path, "s/blobs/") })},
		{"index not synced", "messages", forget(func(_, path string) bool { return path == "s/index.db" })},
		{"file system not synced", "deliver in groups", forget(func(call, _ string) bool { return call == "syncfs" })},
		{"keys not synced", "BALs", forget(func(_, path string) bool { return path == "s/keys" })},
		{"names of a new store not synced", "create", forget(func(_, path string) bool { return path == "s" })},
		{"the store's own name not synced", "create", forget(func(_, path string) bool { return path == "" })},
		{"new keys not synced", "change of the master key", forget(func(_, path string) bool { return path == "s/keys.new" })},
		{"a backup not synced", "backup, prune", forget(func(call, path string) bool { return call == "fsync" && strings.HasPrefix(path, "b/generations/") })},
		{"bodies of a backup not synced", "backup, prune", forget(func(_, path string) bool { return path == "b" || strings.HasPrefix(path, "b/incoming/") })},
		{"what was restored not synced", "restore", forget(func(call, _ string) bool { return call == "syncfs" })},
		{"the name of the rebuilt index not synced", "fsck --rebuild", forget(func(_, path string) bool { return path == "s" })},
		{"the repaired index not synced", "fsck --repair", forget(func(_, path string) bool { return path == "s/repair.db" })},
		{"keys with a recovery key not synced", "keys recovery-set", forget(func(_, path string) bool { return path == "s/keys.new" })},
		{"index committed before the bodies are synced", "deliver", lateSync},
		{"acknowledged before the commit", "deliver", earlyAnswer},
	}
	for _, c := range cases[:few(len(cases))] {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			x := newExplorer(t, c.scenario)
			x.share, x.spoilt = 1, true
			x.explore(c.spoil)
			if x.failed == 0 {
				t.Errorf("nothing was found in %v states", x.tried)
			}
			t.Logf("found: %.300s", x.failure)
		})
	}
}

type spoiler func(d *crashtest.Disk, calls []*crashtest.Call) []*crashtest.Call

// lateSync moves each fsync (of bodies, directories, keys; the index has fdatasync) behind the next answer.
func lateSync(_ *crashtest.Disk, calls []*crashtest.Call) []*crashtest.Call {
	for i, c := range calls {
		if c.Name != "fsync" {
			continue
		}
		for _, next := range calls[i:] {
			if next.Writes(1, "D ") {
				c.Start, c.End = next.End, next.End
				break
			}
		}
	}
	return calls
}

// earlyAnswer moves each answer before the last sync that it waited for.
func earlyAnswer(_ *crashtest.Disk, calls []*crashtest.Call) []*crashtest.Call {
	for i, c := range calls {
		if !c.Writes(1, "D ") {
			continue
		}
		for j := i - 1; j >= 0; j-- {
			if calls[j].Name == "fdatasync" {
				c.Start, c.End = calls[j].Start, calls[j].Start
				calls[j].Start++ // behind it
				calls[j].End = max(calls[j].Start, calls[j].End)
				break
			}
		}
	}
	return calls
}
