package imapd

import (
	"slices"
	"strings"

	"mssd/auth"
	"mssd/imapd/wire"
	"mssd/store"
	"mssd/trace"
)

// METADATA (RFC 5464). What stands under /private belongs to the person who logged in, on this BAL; what stands under /shared to all its
// members. The server, mailbox "", is the BAL of the session.

// specialUse is the entry that shows the special use of a mailbox (RFC 6154, Section 4); it is changed by CREATE alone.
const specialUse = "/specialuse"

var (
	errUseFixed  = no("CANNOT", "The special use of a mailbox is given by CREATE")
	errNoPrivate = no("METADATA NOPRIVATE", "This session has no private entries")
	errScope     = bad("", "This is no entry")
)

// annotated is what a command of METADATA speaks about.
type annotated struct {
	ref   store.Ref
	box   store.Mailbox // zero for the BAL
	grant auth.Grant
}

func (c *conn) annotated(name string) (annotated, error) {
	if name == "" {
		g := c.user.who.Grants[0]
		if err := c.mayOpen(g); err != nil {
			return annotated{}, err
		}
		return annotated{ref: store.Ref{BAL: g.BAL.ID}, grant: g}, nil
	}
	m, g, err := c.box(name)
	return annotated{m.Ref, m, g}, err
}

// nobody has no entries: control characters stand in no id.
const nobody = "\x00"

// scope splits the name of an entry into whose it is and its path; the path of a whole scope is "".
func (c *conn) scope(entry string) (person, path string) {
	low := strings.ToLower(entry)
	if path, ok := strings.CutPrefix(low, "/shared"); ok {
		return "", path
	}
	person = c.user.who.Person
	if person == "" {
		person = nobody
	}
	return person, strings.TrimPrefix(low, "/private")
}

// shownEntry is the name of an annotation.
func shownEntry(a store.Annotation) string {
	if a.Person == "" {
		return "/shared" + a.Entry
	}
	return "/private" + a.Entry
}

// annotations are all that this person may read, with the special use.
func (c *conn) annotations(at annotated) ([]store.Annotation, error) {
	list, err := c.srv.Store.Annotations(at.ref, c.user.who.Person)
	if err == nil && at.box.SpecialUse != "" && c.user.who.Person != "" {
		list = append(list, store.Annotation{Person: c.user.who.Person, Entry: specialUse, Value: at.box.SpecialUse})
	}
	slices.SortFunc(list, func(a, b store.Annotation) int { return strings.Compare(shownEntry(a), shownEntry(b)) })
	return list, err
}

// GETMETADATA: RFC 5464, Section 4.2.
func (c *conn) cmdGetMetadata(cmd *wire.Command) (response, error) {
	a, err := wire.ParseGetMetadata(cmd)
	if err != nil {
		return response{}, err
	}
	at, err := c.annotated(a.Mailbox)
	if err != nil {
		return response{}, err
	}
	long, err := c.metadataLine(a, at)
	if err != nil {
		return response{}, err
	}
	r := okay("GETMETADATA completed")
	if long > 0 {
		r.code = "METADATA LONGENTRIES " + itoa(int64(long))
	}
	return r, nil
}

// metadataLine tells what was asked for: an entry asked for by its name that is not there as NIL. long is the size of the longest
// value that is over the bound of the client (RFC 5464, Section 4.2.1), 0 for none.
func (c *conn) metadataLine(a wire.GetMetadata, at annotated) (long int, err error) {
	all, err := c.annotations(at)
	if err != nil {
		return 0, err
	}
	var values []wire.MetadataValue
	for _, asked := range a.Entries {
		person, path := c.scope(asked)
		found := false
		for _, e := range all {
			if e.Person != person || !covers(path, e.Entry, a.Depth) {
				continue
			}
			found = found || e.Entry == path
			if a.MaxSize >= 0 && int64(len(e.Value)) > a.MaxSize {
				long = max(long, len(e.Value))
				continue
			}
			name := shownEntry(e)
			if e.Entry == path {
				name = asked
			}
			values = append(values, wire.MetadataValue{Entry: name, Value: e.Value, Set: true})
		}
		if !found && a.Depth == 0 {
			values = append(values, wire.MetadataValue{Entry: asked})
		}
	}
	if len(values) > 0 {
		c.out.add(func(b []byte) []byte { return wire.AppendMetadata(b, a.Mailbox, c.inUTF8(), values) })
	}
	return long, nil
}

// covers says whether a question for path, so deep (RFC 5464, Section 4.2.2), is one for entry too.
func covers(path, entry string, depth int) bool {
	rest, ok := strings.CutPrefix(entry, path)
	switch {
	case !ok || rest != "" && rest[0] != '/':
		return false
	case rest == "" || depth < 0:
		return true
	}
	return depth > 0 && !strings.Contains(rest[1:], "/")
}

// SETMETADATA: RFC 5464, Section 4.3: all of it, or nothing.
func (c *conn) cmdSetMetadata(cmd *wire.Command) (response, error) {
	a, err := wire.ParseSetMetadata(cmd)
	if err != nil {
		return response{}, err
	}
	at, err := c.annotated(a.Mailbox)
	if err != nil {
		return response{}, err
	}
	b := &store.Batch{}
	for _, v := range a.Values {
		person, path := c.scope(v.Entry)
		if err := c.mayAnnotate(at, person, path); err != nil {
			return response{}, err
		}
		if person == "" && len(b.Events) == 0 {
			b.Events = append(b.Events, c.event(trace.Mailbox, store.Ref{BAL: at.ref.BAL}, "", trace.Attr{Key: trace.KeyAct, Value: "metadata"}))
		}
		b.Ops = append(b.Ops, store.PutAnnotation{Ref: at.ref, Remove: !v.Set, Annotation: store.Annotation{Person: person, Entry: path, Value: v.Value}})
	}
	if _, err := c.srv.Store.Commit(c.ctx, b); err != nil {
		return response{}, err
	}
	c.noted(b.Ops)
	return okay("SETMETADATA completed"), nil
}

// mayAnnotate judges by the rights of RFC 5464, Section 3.3: own entries are open to who may read, shared ones of a mailbox to who may
// write, those of the BAL to its owners.
func (c *conn) mayAnnotate(at annotated, person, path string) error {
	private := person != ""
	switch {
	case path == "":
		return errScope
	case person == nobody:
		return errNoPrivate
	case private && path == specialUse:
		return errUseFixed
	case private:
		return nil
	case !mayWrite(at.grant.Role), at.ref.Mailbox == 0 && at.grant.Role != store.Owner:
		return errNoRight
	}
	return nil
}
