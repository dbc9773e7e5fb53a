package store

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// What Repair says: changes by kind, and a file with every record and message that the new index does not have.

const (
	tellOfKind       = 20 // changes of one kind that are told one by one
	repairReportFile = "repair.report"
)

// note counts a change. Those of one format are one kind.
func (r *repair) note(format string, args ...any) { r.noteAs(format, format, args...) }

func (r *repair) noteAs(kind, format string, args ...any) {
	r.out.Count++
	m := r.kinds[kind]
	if m == nil {
		m = &Mended{}
		r.kinds[kind], r.out.Changes = m, append(r.out.Changes, m)
	}
	if m.Count++; len(m.First) < tellOfKind {
		m.First = append(m.First, fmt.Sprintf(format, args...))
	}
}

// setAside keeps a record that cannot be used in the report. What is in the index names no patient in clear.
func (r *repair) setAside(bucket int, k, v []byte, err error) {
	r.out.Aside++
	name := string(bucketNames[bucket])
	r.noteAs("set aside from "+name, "record of %s set aside: %v", name, err)
	r.line("record %s %x %s", name, k, hex.EncodeToString(v))
}

// reportFile collects the report beside, until it gets its name.
type reportFile struct {
	f   file
	w   *bufio.Writer
	err error
}

// line writes a line of the report; a fault of the disk is told when the report is ended.
func (r *repair) line(format string, args ...any) {
	if r.opt.DryRun {
		return
	}
	if r.lines == nil {
		r.lines = &reportFile{}
		if r.lines.f, r.lines.err = (osFiles{}).Create(filepath.Join(r.opt.Dir, repairReportFile)); r.lines.err == nil {
			r.lines.w = bufio.NewWriter(r.lines.f)
		}
	}
	if r.lines.err == nil {
		_, r.lines.err = fmt.Fprintf(r.lines.w, format+"\n", args...)
	}
}

// dropReport removes a report that was not ended.
func (r *repair) dropReport() {
	if r.lines != nil && r.lines.f != nil {
		r.lines.f.Close() // of a file that goes
		_ = os.Remove(filepath.Join(r.opt.Dir, repairReportFile))
	}
	r.lines = nil
}

// endReport makes the report durable, before anything is changed.
func (r *repair) endReport() error {
	l := r.lines
	if l == nil {
		return nil
	}
	if l.err == nil {
		l.err = cmp.Or(l.w.Flush(), l.f.Sync())
	}
	if l.err != nil {
		return noSpace(fmt.Errorf("store: the report of what is lost: %w", l.err))
	}
	if err := makeLost(r.opt.Dir); err != nil {
		return err
	}
	name := filepath.Join(lostDir, "report-"+r.now.Format("20060102T150405Z"))
	for n := 2; ; n++ {
		if _, err := os.Lstat(filepath.Join(r.opt.Dir, name)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		name = fmt.Sprintf("%s-%d", filepath.Join(lostDir, "report-"+r.now.Format("20060102T150405Z")), n)
	}
	err := osFiles{}.Rename(filepath.Join(r.opt.Dir, repairReportFile), filepath.Join(r.opt.Dir, name))
	if err = errors.Join(err, l.f.Close(), osFiles{}.SyncDir(filepath.Join(r.opt.Dir, lostDir))); err != nil {
		return err
	}
	r.lines, r.out.Report = nil, name
	return nil
}
