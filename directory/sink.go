package directory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

const (
	maxJournal  = 16 << 20         // octets of changes; then they are folded
	recordEvery = 10 * time.Minute // a word that nothing changed is written down as often
	lossWindow  = 24 * time.Hour   // what a fall of the number of rows is measured over
	maxAhead    = 26 * time.Hour   // that the date of a source may lie in the future: a wrong zone, and some
)

// newBuilder makes one that writes the rows to a file under the state directory as well.
func (d *Directory) newBuilder(f *feed, rows int) *builder {
	b := newBuilder(rows)
	b.draft = newDraft(d.cfg.StateDir, f.name)
	return b
}

// open loads the image of a feed, with its changes, or the previous one if it is damaged; and what was refused.
func (d *Directory) open(f *feed) {
	dir := d.cfg.StateDir
	if dir == "" {
		return
	}
	img, _, err := loadImage(imagePath(dir, f.name))
	if err != nil {
		missing := errors.Is(err, fs.ErrNotExist)
		former, _, ferr := loadImage(previousPath(dir, f.name))
		switch {
		case ferr == nil && missing:
			// Killed between two renames: nothing was lost.
			img, err = former, nil
		case ferr == nil:
			img, err = former, fmt.Errorf("%w; the previous image, of %s, is in force until the next reading", err, former.generated.UTC().Format(time.RFC3339))
		case missing && errors.Is(ferr, fs.ErrNotExist):
			err = nil
		default:
			err = fmt.Errorf("%w; nothing is in force until the next reading", errors.Join(err, ferr))
		}
		f.damaged = err != nil
	}
	if img != nil {
		var jerr error
		if img, f.journal, jerr = openJournal(changesPath(dir, f.name), img); jerr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w; the changes since the image are read again", changesPath(dir, f.name), jerr))
		}
		f.recorded = img.generated
		d.publish(f, img)
	}
	if err != nil {
		d.cfg.Log.Warn("directory image not loaded as it should be", "feed", f.name, "err", err)
		f.lastErr = err
	}
	if t, err := loadTrailer(refusedPath(dir, f.name)); err == nil && t.Refused != "" {
		f.refusal = t.refusal()
		f.refusedStamp = t.Stamp
		d.generation.Store(max(d.generation.Load(), t.Generation))
	}
	if t, err := loadTrailer(previousPath(dir, f.name)); err == nil {
		d.generation.Store(max(d.generation.Load(), t.Generation)) // a number is never used twice
	}
}

func (t trailer) refusal() *Refusal {
	return &Refusal{At: t.RefusedAt, Why: t.Refused, Rows: t.Rows, Generated: t.Generated, Changes: t.RefusedChanges}
}

func (d *Directory) publish(f *feed, img *image) {
	d.generation.Store(max(d.generation.Load(), img.generation))
	f.image.Store(img)
	if d.live != nil {
		d.live.forget()
	}
}

// adopt puts a whole reading in force, unless a gate refuses it: then it is kept beside, for Accept.
func (d *Directory) adopt(f *feed, img *image) error {
	f.sink.Lock()
	defer f.sink.Unlock()
	defer img.saved.drop() // nothing to drop once it is renamed
	img.source, img.generation, img.changed = f.name, d.generation.Add(1), d.cfg.Now()
	if img.rows() == 0 && img.doubt != nil {
		return img.doubt
	} else if img.rows() == 0 {
		return ErrEmpty
	}
	held := f.image.Load()
	img.reference = nextReference(held, img.rows(), d.cfg.Now())
	if err := d.gates(held, img); err != nil {
		d.refuse(f, img, err, false)
		return err
	}
	d.install(f, img)
	d.forgetRefused(f)
	return nil
}

// gates says why an image should not be put in force without somebody having looked.
func (d *Directory) gates(held, img *image) error {
	if ahead := img.generated.Sub(d.cfg.Now()); ahead > maxAhead {
		return fmt.Errorf("%w: its date, %s, lies in the future: it would never grow old", ErrDate, img.generated.UTC().Format(time.RFC3339))
	}
	if img.doubt != nil {
		return img.doubt
	}
	if held == nil {
		return nil
	}
	if img.generated.Before(held.generated) {
		return fmt.Errorf("%w: it is of %s, the one held of %s", ErrOlder, img.generated.UTC().Format(time.RFC3339),
			held.generated.UTC().Format(time.RFC3339))
	}
	if err := checkLoss(held, img, d.cfg.MaxLoss); err != nil {
		return err
	}
	return checkFall(img.reference, held, img, d.cfg.MaxLoss)
}

// nextReference is what the next fall is measured against: a day begins with the rows that were held then.
func nextReference(held *image, rows int, now time.Time) reference {
	switch {
	case held == nil:
		return reference{rows, now}
	case held.reference.Rows == 0 || now.Sub(held.reference.At) >= lossWindow || now.Before(held.reference.At):
		return reference{held.rows(), now}
	}
	return held.reference
}

// refuse keeps a reading that was not taken, so that the operator can accept exactly what was reported.
func (d *Directory) refuse(f *feed, img *image, why error, changes bool) {
	t := img.trailer()
	t.Reference = reference{img.rows(), d.cfg.Now()} // for the day when it is accepted
	t.Refused, t.RefusedAt, t.RefusedChanges = clipText(why.Error(), 4096), d.cfg.Now().UTC(), changes
	r := t.refusal()
	if img.saved == nil {
		f.refused = img
	} else if err := d.keepRefused(f, img, t); err != nil {
		r.NotKept = err.Error()
		d.cfg.Log.Error("refused directory reading not kept, it cannot be accepted", "feed", f.name, "err", err)
	}
	f.refusedStamp = img.stamp
	f.mu.Lock()
	f.refusal = r
	f.mu.Unlock()
}

func (d *Directory) keepRefused(f *feed, img *image, t trailer) error {
	if _, err := img.saved.finish(t); err != nil {
		return err
	}
	if err := d.rename(img.saved, refusedPath(d.cfg.StateDir, f.name)); err != nil {
		return err
	}
	return syncDir(d.cfg.StateDir)
}

// rename gives a finished draft its name.
func (d *Directory) rename(saved *draft, path string) error {
	if err := os.Rename(saved.file.Name(), path); err != nil {
		return err
	}
	saved.file = nil
	return nil
}

// install saves an image and puts it in force; a file that cannot be written does not keep it from that.
func (d *Directory) install(f *feed, img *image) {
	f.journal.close()
	f.journal = nil
	if img.saved != nil {
		if err := d.save(f, img); err != nil {
			// The image is right and in force; only a restart would find the former one.
			d.cfg.Log.Error("directory image not saved", "feed", f.name, "err", err)
			f.unsaved(err)
			img.saved.drop()
		}
		img.saved = nil // and its buffers
	}
	d.publish(f, img)
}

// save gives the file of an image its place. At each step a restart finds this image or the former one, whole.
func (d *Directory) save(f *feed, img *image) error {
	dir := d.cfg.StateDir
	sum, err := img.saved.finish(img.trailer())
	if err != nil {
		return err
	}
	if !f.damaged {
		// The former image keeps its changes until the new one stands in its place: they name it by its checksum.
		if err := os.Rename(imagePath(dir, f.name), previousPath(dir, f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := d.rename(img.saved, imagePath(dir, f.name)); err != nil {
		return err
	}
	img.sum, f.damaged = sum, false
	f.unsaved(nil)
	f.recorded = img.generated
	if err := syncDir(dir); err != nil {
		return err
	}
	if err := os.Remove(changesPath(dir, f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// unsaved notes why a restart would not find what is in force; nil: it would.
func (f *feed) unsaved(why error) {
	f.mu.Lock()
	f.saveErr = why
	f.mu.Unlock()
}

func (d *Directory) forgetRefused(f *feed) {
	f.mu.Lock()
	f.refusal = nil
	f.mu.Unlock()
	f.refused, f.refusedStamp = nil, ""
	if d.cfg.StateDir != "" {
		_ = os.Remove(refusedPath(d.cfg.StateDir, f.name)) // if it stays, the next start shows it again
	}
}

// change applies what a feed says about single keys; it is visible when change returns. An empty batch says that the image
// was in step at that time. ErrLoss: a gate refuses, nothing was changed, and the cookie must stay the former one.
func (d *Directory) change(f *feed, cs []change, cookie []byte, at time.Time) error {
	f.sink.Lock()
	defer f.sink.Unlock()
	held := f.image.Load()
	if held == nil {
		return fmt.Errorf("%w: changes without an image", ErrUnavailable)
	}
	for i := range cs {
		if !cs[i].valid() {
			return fmt.Errorf("%w: a change whose key or fields are too long", ErrTooLarge)
		}
		for _, r := range cs[i].rows {
			for j := entryFields; j < recordFields; j++ {
				r[j] = r[j][:min(len(r[j]), maxText)]
			}
		}
	}
	next := held
	if len(cs) > 0 {
		next = held.with(cs)
		next.changed = at
	} else {
		same := *held
		next = &same
	}
	next.generated, next.cookie = at, cookie
	next.reference = nextReference(held, held.rows(), d.cfg.Now())
	err := checkFall(next.reference, held, next, d.cfg.MaxLoss)
	if err != nil {
		if folded, ferr := d.fold(f, next); ferr == nil {
			d.refuse(f, folded, err, true)
			folded.saved.drop()
		}
		return err
	}
	written := d.note(f, next, cs, at)
	d.publish(f, next)
	if f.refusal != nil && f.refusal.Changes && len(cs) > 0 {
		d.forgetRefused(f) // the server has thought better of it
	}
	if written && (next.delta == nil || len(next.delta.keys) <= foldAt) {
		return nil
	}
	folded, err := d.fold(f, next)
	if err != nil {
		return err
	}
	d.install(f, folded)
	return nil
}

// note writes changes down; false: they must be folded instead.
func (d *Directory) note(f *feed, next *image, cs []change, at time.Time) bool {
	if d.cfg.StateDir == "" || next.sum == [32]byte{} {
		return true // nothing is kept
	}
	if len(cs) == 0 && at.Sub(f.recorded) < recordEvery && string(next.cookie) == string(f.image.Load().cookie) {
		return true
	}
	if f.journalBroken {
		return false
	}
	var err error
	if f.journal == nil {
		f.journal, err = newJournal(changesPath(d.cfg.StateDir, f.name), next.sum)
	}
	if err == nil {
		record := appendRecord(nil, at, next.cookie, cs)
		if len(record) > maxRecord || f.journal.size+int64(len(record)) > maxJournal {
			return false
		}
		err = f.journal.append(record)
	}
	if err != nil {
		// No record may stand behind one that is not whole: the next batch makes a new base.
		d.cfg.Log.Error("directory changes not saved", "feed", f.name, "err", err)
		f.unsaved(err)
		f.journal.close()
		f.journal, f.journalBroken = nil, true
		return true
	}
	f.recorded = at
	return true
}

// fold makes a new base of an image and its changes.
func (d *Directory) fold(f *feed, img *image) (*image, error) {
	b := d.newBuilder(f, img.rows())
	keep := func(core, text []byte) error {
		fields := row{core}.fields()
		key := row{core}.key()
		if img.delta != nil && img.delta.has(key) {
			return nil
		}
		b.raw(core, text, string(fields[fieldKind]), len(key) > 0)
		return nil
	}
	err := error(fs.ErrNotExist)
	if img.sum != [32]byte{} {
		path := imagePath(d.cfg.StateDir, f.name)
		if err = keptRows(path, img.sum, keep); err != nil {
			err = errors.Join(err, keptRows(previousPath(d.cfg.StateDir, f.name), img.sum, keep))
		}
	}
	if err != nil {
		// Names and towns are lost until the next whole reading; what RCPT needs is in memory.
		b.abandon()
		b = d.newBuilder(f, img.rows())
		_ = img.inMemory(keep) // keep does not fail
	}
	if img.delta != nil {
		for key, rows := range img.delta.keys {
			for _, r := range rows {
				b.raw(r.core, r.text, string(row{r.core}.fields()[fieldKind]), key != "")
			}
		}
	}
	if len(b.arena) > maxArena {
		b.abandon()
		return nil, fmt.Errorf("%w: rows of more than %d octets", ErrTooLarge, maxArena)
	}
	next, err := b.image()
	if err != nil {
		return nil, err
	}
	fresh := *img
	fresh.base, fresh.delta, fresh.saved = next.base, nil, next.saved
	fresh.generation = d.generation.Add(1)
	f.journalBroken = false
	return &fresh, nil
}

// raw takes a row that another image had.
func (b *builder) raw(core, text []byte, kind string, keyed bool) {
	b.arena = append(b.arena, core...)
	b.draft.raw(core, text)
	b.count(kind, keyed)
}

// ErrNothingRefused says that there is no reading to accept.
var ErrNothingRefused = errors.New("directory: this feed has no refused reading")

// ErrNoFeed says that no such feed is configured.
var ErrNoFeed = errors.New("directory: no such feed")

// Accept puts the refused reading of a feed in force, exactly the one that Status reports.
func (d *Directory) Accept(name string) (FeedStatus, error) {
	f := d.feed(name)
	if f == nil {
		return FeedStatus{}, ErrNoFeed
	}
	f.sink.Lock()
	defer f.sink.Unlock()
	img, err := d.loadRefused(f)
	if err != nil {
		return FeedStatus{}, err
	}
	img.source, img.generation, img.changed = f.name, d.generation.Add(1), d.cfg.Now()
	img.reference = reference{img.rows(), d.cfg.Now()}
	d.install(f, img)
	d.forgetRefused(f)
	f.mu.Lock()
	f.lastErr, f.failures = nil, 0
	f.mu.Unlock()
	d.cfg.Log.Warn("directory reading accepted by the operator", "feed", f.name, "rows", img.rows(), "generation", img.generation)
	return d.feedStatus(f, d.cfg.Now()), nil
}

// loadRefused gives what was refused, with a file of its own to be put in force.
func (d *Directory) loadRefused(f *feed) (*image, error) {
	if f.refused != nil {
		return f.refused, nil
	}
	if d.cfg.StateDir == "" {
		return nil, ErrNothingRefused
	}
	path := refusedPath(d.cfg.StateDir, f.name)
	img, t, err := loadImage(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && t.Refused == "":
		return nil, ErrNothingRefused
	case err != nil:
		return nil, err
	}
	img.saved = newDraft(d.cfg.StateDir, f.name)
	if err := keptRows(path, img.sum, func(core, text []byte) error {
		img.saved.raw(core, text)
		return nil
	}); err != nil {
		img.saved.drop()
		return nil, err
	}
	return img, nil
}

func (d *Directory) feed(name string) *feed {
	for _, f := range d.feeds {
		if f.name == name {
			return f
		}
	}
	return nil
}

// seen says what is known of a file by its stamp: errUnchanged, the refusal of that very file, or nil.
func (f *feed) seen(stamp string) error {
	f.sink.Lock()
	defer f.sink.Unlock()
	if held := f.image.Load(); held != nil && held.stamp == stamp {
		return errUnchanged
	}
	if f.refusal != nil && f.refusedStamp == stamp && stamp != "" {
		return fmt.Errorf("%w: %s", errStillRefused, f.refusal.Why)
	}
	return nil
}

func clipText(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
