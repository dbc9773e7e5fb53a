package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// lookEvery is the time between two looks at the files of the trust (design.md §5: reload on SIGHUP and on change).
const lookEvery = 30 * time.Second

// watched is a group of files that is read again as one, like a certificate and its key.
type watched struct {
	what   string
	files  []string
	reload func(context.Context) error
	tells  bool                  // its room says in health what is wrong with it
	seen   string                // what the files looked like when they were last read
	fault  atomic.Pointer[error] // why the last reading was refused; nil: it was not
}

// stamp says what files look like: a file that was replaced, written to or removed changes it. An atomic rename keeps
// neither inode nor time, so that a file of the same age and length is noticed as well.
func stamp(files []string) string {
	var b strings.Builder
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			fmt.Fprintf(&b, "%s\n", plainCause(err))
			continue
		}
		fmt.Fprintf(&b, "%d %d %d\n", st.ModTime().UnixNano(), st.Size(), inode(st))
	}
	return b.String()
}

// trustFiles are the groups that Reload reads, each with the way to read it alone.
func (d *daemon) trustFiles() []*watched {
	c := d.cfg
	var files []*watched
	for i, f := range frontConfigs(c, nil) {
		files = append(files, &watched{what: "certificate of " + f.Name, files: certFiles(f), reload: func(context.Context) error { return d.tls[i].Reload() }})
	}
	files = append(files, []*watched{
		{what: "anchors and revocation lists", files: append(append([]string{}, c.Trust.Anchors...), c.Trust.CRLs...),
			reload: func(context.Context) error { return d.judge.Reload() }},
		{what: "white list", tells: true, files: append(nonEmpty(c.WhiteList.File), c.listAnchors()...), reload: func(ctx context.Context) error { return d.list.Reload(ctx) }},
	}...)
	return files
}

// remember takes what the files look like now as read. It is called before they are read, so that a change in
// between is seen at the next look.
func remember(groups []*watched) {
	for _, g := range groups {
		g.seen = stamp(g.files)
	}
}

// look reads again what changed since the last look. A file caught half written is a fault; when the rest of it is
// there it has changed once more and is read again.
func (d *daemon) look(ctx context.Context) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	for _, g := range d.trusted {
		now := stamp(g.files)
		if now == g.seen {
			continue
		}
		g.seen = now
		if d.read(ctx, g) == nil {
			d.log.Info("reloaded, its files changed", "cmd", g.what)
		}
	}
}

// read reads a group again; a fault is logged, and stays in health until a later reading is well.
func (d *daemon) read(ctx context.Context, g *watched) error {
	err := g.reload(ctx)
	if err == nil {
		g.fault.Store(nil)
		return nil
	}
	err = fmt.Errorf("%s: the former one stays in force: %w", g.what, err)
	if !g.tells {
		g.fault.Store(&err)
	}
	d.log.Error("reload refused", "err", err)
	return err
}

// refusedReloads are the faults of the groups whose last reading was refused.
func refusedReloads(groups []*watched) (out []string) {
	for _, g := range groups {
		if err := g.fault.Load(); err != nil {
			out = append(out, "reload refused: "+(*err).Error())
		}
	}
	return out
}

// lookNowAndThen looks until ctx ends.
func (d *daemon) lookNowAndThen(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.look(ctx)
		}
	}
}

// inode is the number of a file in its file system, 0 where there is none.
func inode(st os.FileInfo) uint64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}
