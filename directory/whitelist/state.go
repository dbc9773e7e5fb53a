package whitelist

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"mssd/tlsconf"
	"mssd/tlsconf/fetch"
)

// recordFile names the list in force; a list file that it does not name is left over from a crash.
const recordFile = "accepted.json"

func listFile(sha256 string) string { return "list-" + sha256[:min(16, len(sha256))] + ".xml" }

// record stands beside the copy of the list and says that it was accepted: its signer's chain is not asked for again,
// so that a restart never loses a list to a missing anchor.
type record struct {
	SHA256    string    `json:"sha256"`
	Generated time.Time `json:"generated"`
	Proven    time.Time `json:"proven"` // last proven to be the newest
	NoChain   bool      `json:"noChain,omitempty"`
	Tag       fetch.Tag `json:"tag,omitzero"` // of the version at the URL; zero: it did not come from there
}

// takeUp loads the copy of an earlier run. Known says that there was one, even if it is damaged now.
func (k *Keeper) takeUp() (known bool, err error) {
	dir := filepath.Join(k.cfg.StateDir, stateFolder)
	for _, name := range []string{recordFile, listFile("*")} {
		if err := tlsconf.CleanUp(filepath.Join(dir, name)); err != nil {
			return false, err
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	list, rec, err := loadCopy(dir, b, k.cfg.Load)
	if err == nil && rec.NoChain && !k.cfg.Load.NoChain {
		err = errors.New("it was accepted without a check of its signer, which is required now")
	}
	if err != nil {
		k.lastErr = fmt.Errorf("kept copy of the white list: %w", err)
		k.cfg.Log.Error("kept copy of the white list not usable", "err", err)
		return true, nil
	}
	// A clock that was wrong must not make the list young for ever.
	if now := k.cfg.Now(); rec.Proven.After(now) {
		rec.Proven = now
	}
	k.held.list, k.held.proven, k.held.tag = list, rec.Proven, rec.Tag
	return true, nil
}

func loadCopy(dir string, rec []byte, opt Options) (*List, record, error) {
	var r record
	if err := json.Unmarshal(rec, &r); err != nil {
		return nil, r, fmt.Errorf("%s: %w", recordFile, err)
	}
	name := listFile(r.SHA256)
	b, _, err := readFile(filepath.Join(dir, filepath.Base(name)))
	if err != nil {
		return nil, r, err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != r.SHA256 {
		return nil, r, fmt.Errorf("%s is not the list that was accepted", name)
	}
	opt.NoChain = true
	opt.Now = func() time.Time { return r.Generated } // judged when it was accepted
	l, err := Load(b, opt)
	if err == nil {
		l.chained = !r.NoChain
	}
	return l, r, err
}

// read takes a list from a file: proves the one held when it is the same, else judges it and puts it in force.
func (k *Keeper) read(name string, override bool) error {
	k.reading.Lock()
	defer k.reading.Unlock()
	now := k.cfg.Now() // before the look, so that nothing is proven for longer than it was seen
	b, id, err := readFile(name)
	if err != nil {
		return err
	}
	if h := k.snapshot(); h.list != nil && sha256.Sum256(b) == h.list.SHA256 {
		return k.prove(h.list, id, now)
	}
	if err := k.take(b, held{proven: now, file: id}, override); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// download asks the URL: proves the list held when there is no other, else judges the new one and puts it in force.
func (k *Keeper) download(ctx context.Context) error {
	k.reading.Lock()
	defer k.reading.Unlock()
	now, h := k.cfg.Now(), k.snapshot()
	if h.list == nil {
		h.tag = fetch.Tag{} // there is nothing that could be unchanged
	}
	b, tag, err := k.cfg.Source.Get(ctx, h.tag)
	if err == nil && (b == nil || h.list != nil && sha256.Sum256(b) == h.list.SHA256) {
		k.mu.Lock()
		k.held.proven, k.held.tag = now, tag
		k.mu.Unlock()
		err = k.writeRecord(h.list, now, tag)
	} else if err == nil {
		err = k.take(b, held{proven: now, tag: tag}, false)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", k.cfg.Source.URL, err)
	}
	return nil
}

// take judges a list and puts it in force; from says where it came from, and when.
func (k *Keeper) take(b []byte, from held, override bool) error {
	list, err := Load(b, k.cfg.Load)
	if err != nil {
		return err
	}
	if h := k.snapshot(); h.list != nil && !override {
		if err := k.compare(h.list, list); err != nil {
			return err
		}
	}
	// Kept first: a list in force is one that survives a restart.
	if err := k.keep(b, list, from.proven, from.tag); err != nil {
		return err
	}
	from.list, from.file = list, k.ownFile(from.file)
	k.mu.Lock()
	defer k.mu.Unlock()
	from.generation = k.held.generation + 1
	k.held = from
	k.proofErr = nil
	k.log(list, override)
	return nil
}

// ownFile keeps the identity of the configured file only: any other proves nothing later.
func (k *Keeper) ownFile(id fileID) fileID {
	if id == (fileID{}) || k.cfg.File == "" {
		return fileID{}
	}
	if own, err := identify(k.cfg.File); err != nil || own != id {
		return fileID{}
	}
	return id
}

func (k *Keeper) log(l *List, override bool) {
	k.cfg.Log.Info("white list in force", "version", l.Version(), "rows", l.Rows(), "domains", l.Domains(),
		"signer", l.Signer().Subject.String(), "override", override)
	if !l.ChainChecked() {
		k.cfg.Log.Warn("WHITE LIST IN FORCE WITHOUT A CHECK OF ITS SIGNER: anybody may have made it")
	}
	for _, f := range l.Faults() {
		k.cfg.Log.Warn("row of the white list cannot be read", "err", f)
	}
}

// compare says whether a list may follow the one held.
func (k *Keeper) compare(old, list *List) error {
	if list.Generated().Before(old.Generated()) {
		return fmt.Errorf("%w: made on %s, held is one of %s", ErrOlder,
			list.Generated().Format(time.RFC3339), old.Generated().Format(time.RFC3339))
	}
	gone := 0
	for name := range old.domains {
		if !list.Listed(name) {
			gone++
		}
	}
	if float64(gone) > k.cfg.MaxLoss*float64(len(old.domains)) {
		return fmt.Errorf("%w: %d of %d, allowed are %.0f %%; an operator can accept it", ErrLoss, gone, len(old.domains), 100*k.cfg.MaxLoss)
	}
	return nil
}

// Outlook says what becomes of the list in force when it was accepted by hand in the place of another (nil: there was
// none): the source is asked all the same, and only what stands there is proven to be the newest. "" when it stands there.
func (k *Keeper) Outlook(replaced *List) string {
	h, source := k.snapshot(), k.cfg.File
	switch {
	case h.list == nil || source == "" && k.cfg.Source == nil:
		return ""
	case source == "":
		source = k.cfg.Source.URL
	default:
		if b, _, err := readFile(source); err == nil && sha256.Sum256(b) == h.list.SHA256 {
			return ""
		}
	}
	text := fmt.Sprintf("within %v the list of %s is looked at, and replaces this one if it is newer", k.cfg.Poll, source)
	if replaced != nil && h.list.Generated().Before(replaced.Generated()) {
		text += " (the one that was in force until now is)"
	}
	return text + fmt.Sprintf(": put this list there too; else mail is answered 451 from %s on", h.proven.Add(k.cfg.Defer).UTC().Format("2006-01-02 15:04"))
}

// prove notes that the list held was found to be the newest.
func (k *Keeper) prove(l *List, id fileID, at time.Time) error {
	if k.ownFile(id) == (fileID{}) {
		return nil
	}
	k.mu.Lock()
	k.held.proven, k.held.file, k.proofErr = at, id, nil
	k.mu.Unlock()
	return k.writeRecord(l, at, fetch.Tag{})
}

// proveFile proves the list current by looking at the file that it was read from: as long as that can be opened and is
// the same, the list is current by definition. It costs microseconds and changes nothing else.
func (k *Keeper) proveFile() {
	h := k.snapshot()
	if h.list == nil || h.file == (fileID{}) {
		return
	}
	now := k.cfg.Now()
	id, err := identify(k.cfg.File)
	if err == nil && id != h.file {
		err = fmt.Errorf("%s was changed and is not read yet, or was refused", k.cfg.File)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held.list != h.list || k.held.file != h.file {
		return
	}
	if k.proofErr = err; err == nil && now.After(k.held.proven) {
		k.held.proven = now
	}
}

func identify(name string) (fileID, error) {
	f, err := os.Open(name) // readable, not only there
	if err != nil {
		return fileID{}, err
	}
	defer f.Close()
	return identityOf(f)
}

func identityOf(f *os.File) (fileID, error) {
	st, err := f.Stat()
	if err != nil {
		return fileID{}, err
	}
	id := fileID{size: st.Size(), modTime: st.ModTime().UnixNano()}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		id.inode = sys.Ino
	}
	return id, nil
}

// readFile reads a list, bounded. Its identity is taken before, so that a change meanwhile is seen next time.
func readFile(name string) ([]byte, fileID, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fileID{}, err
	}
	defer f.Close()
	id, err := identityOf(f)
	if err != nil {
		return nil, id, err
	}
	if id.size > MaxSize {
		return nil, id, fmt.Errorf("%s: %w", name, ErrTooLarge)
	}
	var b bytes.Buffer
	b.Grow(int(id.size) + bytes.MinRead)
	if _, err := b.ReadFrom(io.LimitReader(f, MaxSize+1)); err != nil {
		return nil, id, err
	}
	if b.Len() > MaxSize {
		return nil, id, fmt.Errorf("%s: %w", name, ErrTooLarge)
	}
	return b.Bytes(), id, nil
}

// keep writes the copy, then the record that names it, and then forgets the copies before.
func (k *Keeper) keep(b []byte, l *List, at time.Time, tag fetch.Tag) error {
	name := listFile(hex.EncodeToString(l.SHA256[:]))
	if err := k.writeState(name, b); err != nil {
		return err
	}
	if err := k.writeRecord(l, at, tag); err != nil {
		return err
	}
	dir := filepath.Join(k.cfg.StateDir, stateFolder)
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != name && e.Name() != recordFile {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

func (k *Keeper) writeRecord(l *List, at time.Time, tag fetch.Tag) error {
	b, err := json.MarshalIndent(record{
		SHA256: hex.EncodeToString(l.SHA256[:]), Generated: l.Generated(), Proven: at, NoChain: !l.ChainChecked(), Tag: tag,
	}, "", "  ")
	if err != nil {
		return err
	}
	return k.writeState(recordFile, append(b, '\n'))
}

// writeState replaces a file of the state folder: whole, or not at all, also in a power failure.
func (k *Keeper) writeState(name string, b []byte) error {
	return tlsconf.ReplaceFile(filepath.Join(k.cfg.StateDir, stateFolder, name), b)
}
