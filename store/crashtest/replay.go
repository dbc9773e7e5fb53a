package crashtest

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Disk is a file system below one directory, with what is durable and what a program sees.
type Disk struct {
	root string // cleaned; its own name is durable
	top  *node
	seq  int
	// Forget, where it is set, says of which paths (relative to the root, "" the root itself or the file system) a sync does
	// nothing: what a program would leave that never asked for it. For tests of the tests.
	Forget func(call, path string) bool

	fds   map[int64]*handle
	begun map[*Call]*begun
}

// handle is what a descriptor stands for.
type handle struct {
	n      *node // nil: not below the root
	off    int64
	append bool
	port   int // of the peer, of a socket
}

// begun is what a call that has not ended will settle.
type begun struct {
	ops  []*op
	sync map[*op]bool
}

// NewDisk is an empty, durable directory root.
func NewDisk(root string) *Disk {
	return &Disk{root: filepath.Clean(root), top: newDir()}
}

// Output is what a process wrote to a descriptor that is no file of the disk, when it began to.
type Output struct {
	FD   int64
	Port int // of the peer, where it is a connection over TCP
	Data []byte
}

// Replay does the calls of one process. At each boundary of a call that changed something moment is called, and told what
// the call writes elsewhere; a crash comes before the next call. Both may be nil.
func (d *Disk) Replay(trace []*Call, output func(Output), moment func() error) error {
	d.fds, d.begun = map[int64]*handle{}, map[*Call]*begun{}
	type boundary struct {
		line int
		end  bool
		c    *Call
	}
	var all []boundary
	for _, c := range trace {
		if c.OK {
			all = append(all, boundary{c.Start, false, c}, boundary{c.End, true, c})
		}
	}
	slices.SortStableFunc(all, func(a, b boundary) int { return cmp.Compare(a.line, b.line) })
	for _, b := range all {
		var changed bool
		var err error
		if b.end {
			changed, err = d.end(b.c)
		} else {
			changed, err = d.begin(b.c, output)
		}
		if err != nil {
			return fmt.Errorf("line %d of the trace, %s: %w", b.line+1, b.c.Name, err)
		}
		if changed && moment != nil {
			if err := moment(); err != nil {
				return fmt.Errorf("after line %d of the trace, %s: %w", b.line+1, b.c.Name, err)
			}
		}
	}
	return nil
}

// below is the path relative to the root, ok false where it is elsewhere.
func (d *Disk) below(path string) (rel string, ok bool) {
	path = filepath.Clean(path)
	if path == d.root {
		return "", true
	}
	return strings.CutPrefix(path, d.root+"/")
}

// at resolves arguments of the form (dirfd, path).
func (d *Disk) at(c *Call, dirfd, path int) (rel string, ok bool) {
	p := c.text(path)
	if !filepath.IsAbs(p) {
		h := d.fds[c.number(dirfd)]
		if h == nil || h.n == nil {
			return "", false
		}
		rel, ok = d.nameOf(h.n)
		return filepath.Join(rel, p), ok
	}
	return d.below(p)
}

// nameOf is the path by which a running program finds the node.
func (d *Disk) nameOf(want *node) (rel string, ok bool) {
	var walk func(n *node, at string) bool
	walk = func(n *node, at string) bool {
		if n == want {
			rel = at
			return true
		}
		for name, c := range n.shown {
			if walk(c, filepath.Join(at, name)) {
				return true
			}
		}
		return false
	}
	return rel, walk(d.top, "")
}

func (d *Disk) nameOfFD(c *Call) string {
	if h := d.fds[c.number(0)]; h != nil && h.n != nil {
		rel, _ := d.nameOf(h.n)
		return rel
	}
	return ""
}

// find walks down a relative path: its directory, its last name, and the node, nil where there is none.
func (d *Disk) find(rel string) (dir *node, name string, n *node, err error) {
	if rel == "" || rel == "." {
		return nil, "", d.top, nil
	}
	dir = d.top
	above, name := filepath.Split(rel)
	for _, part := range strings.FieldsFunc(above, func(r rune) bool { return r == '/' }) {
		if dir = dir.shown[part]; dir == nil || !dir.dir {
			return nil, "", nil, fmt.Errorf("the model has no directory %s", above)
		}
	}
	return dir, name, dir.shown[name], nil
}

func (d *Disk) newOp(b *begun) *op {
	d.seq++
	o := &op{seq: d.seq}
	if b == nil {
		o.done = true
	} else {
		b.ops = append(b.ops, o)
	}
	return o
}

func (d *Disk) setName(b *begun, dir *node, name string, child *node) *op {
	o := d.newOp(b)
	o.name, o.child = name, child
	dir.add(o)
	return o
}

// begin is what a call may have done from now on.
func (d *Disk) begin(c *Call, output func(Output)) (changed bool, err error) {
	b := &begun{}
	d.begun[c] = b
	switch c.Name {
	case "close":
		// The number may be given anew before strace prints that this has ended.
		delete(d.fds, c.number(0))
		return false, nil
	case "write", "pwrite64", "writev", "pwritev", "pwritev2":
		return d.write(b, c, output)
	case "copy_file_range":
		return d.copyRange(b, c)
	case "sendfile", "splice", "io_uring_setup":
		if h := d.fds[c.number(0)]; c.Name == "io_uring_setup" || h != nil && h.n != nil {
			return false, fmt.Errorf("the model does not know this call")
		}
	case "ftruncate":
		if h := d.fds[c.number(0)]; h != nil && h.n != nil {
			d.truncate(b, h.n, c.number(1))
		}
	case "fallocate":
		if h := d.fds[c.number(0)]; h != nil && h.n != nil {
			if c.arg(1) != "0" {
				return false, fmt.Errorf("the model does not know fallocate with %s", c.arg(1))
			}
			d.truncate(b, h.n, max(h.n.cur.size, c.number(2)+c.number(3)))
		}
	case "truncate":
		if rel, ok := d.below(c.text(0)); ok {
			_, _, n, err := d.find(rel)
			if err != nil || n == nil {
				return false, fmt.Errorf("the model has no %s", rel)
			}
			d.truncate(b, n, c.number(1))
		}
	case "rename", "renameat", "renameat2", "link", "linkat":
		err = d.twoNames(b, c)
	case "unlink", "rmdir", "mkdir", "unlinkat", "mkdirat":
		err = d.oneName(b, c)
	case "symlink", "symlinkat":
		if _, ok := d.below(c.text(len(c.Args) - 1)); ok {
			return false, fmt.Errorf("the model has no symbolic links")
		}
	case "fsync", "fdatasync":
		if h := d.fds[c.number(0)]; h != nil && h.n != nil {
			b.sync = finished(h.n, map[*op]bool{})
		}
		return false, nil
	case "syncfs", "sync":
		if h := d.fds[c.number(0)]; c.Name == "sync" || h != nil && h.n != nil {
			b.sync = map[*op]bool{}
			d.each(func(n *node) { finished(n, b.sync) })
		}
		return false, nil
	}
	return len(b.ops) > 0, err
}

// finished puts into the set what a sync of the node covers that begins now.
func finished(n *node, set map[*op]bool) map[*op]bool {
	for _, o := range n.pend {
		if o.done {
			set[o] = true
		}
	}
	return set
}

// each visits every node that has a name, durable or not.
func (d *Disk) each(fn func(*node)) {
	seen := map[*node]bool{}
	var walk func(n *node)
	walk = func(n *node) {
		if n == nil || seen[n] {
			return
		}
		seen[n] = true
		fn(n)
		for _, c := range n.names {
			walk(c)
		}
		for _, o := range n.pend {
			walk(o.child)
		}
	}
	walk(d.top)
	for _, h := range d.fds {
		walk(h.n)
	}
}

// end is what is certain when a call has ended.
func (d *Disk) end(c *Call) (changed bool, err error) {
	b := d.begun[c]
	delete(d.begun, c)
	for _, o := range b.ops {
		o.done = true
	}
	switch c.Name {
	case "open":
		return d.open(c, c.arg(1), func() (string, bool) { return d.below(c.text(0)) })
	case "creat":
		return d.open(c, "O_WRONLY|O_CREAT|O_TRUNC", func() (string, bool) { return d.below(c.text(0)) })
	case "openat":
		return d.open(c, c.arg(2), func() (string, bool) { return d.at(c, 0, 1) })
	case "openat2":
		return d.open(c, c.arg(2), func() (string, bool) { return d.at(c, 0, 1) })
	case "dup", "dup2", "dup3":
		d.fds[c.Ret] = d.fds[c.number(0)]
	case "fcntl":
		if strings.HasPrefix(c.arg(1), "F_DUPFD") {
			d.fds[c.Ret] = d.fds[c.number(0)]
		}
	case "lseek":
		if h := d.fds[c.number(0)]; h != nil {
			h.off = c.Ret
		}
	case "accept4":
		d.fds[c.Ret] = &handle{port: portOf(c.arg(1))}
	case "fsync", "fdatasync", "syncfs", "sync":
		if len(b.sync) == 0 || d.Forget != nil && d.Forget(c.Name, d.nameOfFD(c)) {
			return false, nil
		}
		d.each(func(n *node) { n.settle(b.sync) })
		return true, nil
	}
	return false, nil
}

var portForm = regexp.MustCompile(`sin6?_port=htons\((\d+)\)`)

func portOf(addr string) int {
	if m := portForm.FindStringSubmatch(addr); m != nil {
		p, _ := strconv.Atoi(m[1])
		return p
	}
	return 0
}

func (d *Disk) open(c *Call, flags string, where func() (string, bool)) (changed bool, err error) {
	h := &handle{append: strings.Contains(flags, "O_APPEND")}
	d.fds[c.Ret] = h
	rel, ok := where()
	if !ok {
		return false, nil
	}
	dir, name, n, err := d.find(rel)
	if err != nil {
		return false, err
	}
	if n == nil {
		if !strings.Contains(flags, "O_CREAT") {
			return false, fmt.Errorf("the model has no %s", rel)
		}
		n = &node{}
		d.setName(nil, dir, name, n)
		changed = true
	}
	if strings.Contains(flags, "O_TRUNC") && n.cur.size > 0 {
		d.truncate(nil, n, 0)
		changed = true
	}
	h.n = n
	return changed, nil
}

func (d *Disk) truncate(b *begun, n *node, size int64) {
	o := d.newOp(b)
	o.truncate, o.off = true, size
	n.add(o)
}

func (d *Disk) write(b *begun, c *Call, output func(Output)) (changed bool, err error) {
	data, err := octets(c.arg(1))
	if err != nil {
		return false, err
	}
	data = data[:min(int64(len(data)), c.Ret)]
	h := d.fds[c.number(0)]
	if h == nil || h.n == nil {
		if output == nil {
			return false, nil
		}
		o := Output{FD: c.number(0), Data: data}
		if h != nil {
			o.Port = h.port
		}
		output(o)
		return true, nil // what a client knows has changed
	}
	off := h.off
	switch {
	case strings.HasPrefix(c.Name, "p"):
		off = c.number(len(c.Args) - 1)
		if c.Name == "pwritev2" {
			off = c.number(3)
		}
		if c.Name == "pwrite64" {
			off = c.number(3)
		}
	case h.append:
		off = h.n.cur.size
	}
	if !strings.HasPrefix(c.Name, "p") {
		h.off = off + int64(len(data))
	}
	o := d.newOp(b)
	o.off, o.data = off, data
	h.n.add(o)
	return true, nil
}

func (d *Disk) copyRange(b *begun, c *Call) (bool, error) {
	from, to := d.fds[c.number(0)], d.fds[c.number(2)]
	if to == nil || to.n == nil || c.Ret == 0 {
		return false, nil
	}
	if from == nil || from.n == nil || c.arg(1) != "NULL" || c.arg(3) != "NULL" {
		return false, fmt.Errorf("the model does not know this copy_file_range")
	}
	o := d.newOp(b)
	o.off, o.data = to.off, from.n.cur.read(from.off, c.Ret)
	from.off, to.off = from.off+c.Ret, to.off+c.Ret
	to.n.add(o)
	return true, nil
}

func (d *Disk) twoNames(b *begun, c *Call) error {
	var from, to string
	var ok, ok2 bool
	if strings.Contains(c.Name, "at") {
		from, ok = d.at(c, 0, 1)
		to, ok2 = d.at(c, 2, 3)
	} else {
		from, ok = d.below(c.text(0))
		to, ok2 = d.below(c.text(1))
	}
	if !ok && !ok2 {
		return nil
	}
	if !ok || !ok2 || c.Name == "renameat2" && c.arg(4) != "0" && c.arg(4) != "RENAME_NOREPLACE" {
		return fmt.Errorf("the model does not know this form of it")
	}
	dirA, nameA, n, err := d.find(from)
	if err != nil {
		return err
	}
	dirB, nameB, _, err := d.find(to)
	if err != nil {
		return err
	}
	if n == nil {
		return fmt.Errorf("the model has no %s", from)
	}
	o := d.setName(b, dirB, nameB, n)
	if strings.HasPrefix(c.Name, "rename") {
		o.whole = d.setName(b, dirA, nameA, nil)
		o.whole.whole = o
	}
	return nil
}

func (d *Disk) oneName(b *begun, c *Call) error {
	var rel string
	var ok bool
	if strings.HasSuffix(c.Name, "at") {
		rel, ok = d.at(c, 0, 1)
	} else {
		rel, ok = d.below(c.text(0))
	}
	if !ok {
		return nil
	}
	dir, name, _, err := d.find(rel)
	if err != nil || dir == nil {
		return err
	}
	var child *node
	if strings.HasPrefix(c.Name, "mkdir") {
		child = newDir()
	}
	d.setName(b, dir, name, child)
	return nil
}
