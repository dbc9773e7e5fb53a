package store

import (
	"strings"
	"sync"
)

// Matters is a set of what a News tells.
type Matters uint8

const (
	MatterMessages      Matters = 1 << iota // messages came or went, or the mailbox is another one of this name
	MatterFlags                             // flags of messages changed
	MatterNames                             // the mailbox, or one directly below it, was created, deleted or renamed
	MatterSubscriptions                     // its name was subscribed or unsubscribed
	MatterAnnotations                       // its annotations changed; of the name "": those of the BAL
)

// Interest says what matters of the mailbox with a name, which need not exist. It is called with the store locked: it
// must be quick, depend on its arguments alone, and call nothing of the store.
type Interest func(name string, subscribed bool) Matters

// maxNews bounds the mailboxes that wait to be taken.
const maxNews = 2048

// Tidings is what happened since the last Take.
type Tidings struct {
	// Boxes are the mailboxes of which something happened that mattered, as they were at the last Take; Created is false
	// of those that did not exist.
	Boxes map[Ref]Mailbox
	// Subscriptions are the names whose subscription changed, with whether they were subscribed at the last Take.
	Subscriptions map[BoxName]bool
	Annotations   map[AnnotationName]struct{} // that changed, of all persons
	Rights        bool                        // who may open one of the BALs, or its state, changed
	Over          bool                        // more happened than is kept: what is not told here is lost
}

// AnnotationName names an annotation.
type AnnotationName struct {
	Ref           Ref // Mailbox 0: of the BAL
	Person, Entry string
}

// BoxName is the name of a mailbox in a BAL.
type BoxName struct {
	BAL  BALID
	Name string
}

// Empty reports that nothing happened.
func (t *Tidings) Empty() bool {
	return len(t.Boxes) == 0 && len(t.Subscriptions) == 0 && len(t.Annotations) == 0 && !t.Rights && !t.Over
}

// Of reports that something may have happened in a BAL.
func (t *Tidings) Of(id BALID) bool {
	if t.Rights {
		return true
	}
	for r := range t.Boxes {
		if r.BAL == id {
			return true
		}
	}
	for n := range t.Subscriptions {
		if n.BAL == id {
			return true
		}
	}
	for a := range t.Annotations {
		if a.Ref.BAL == id {
			return true
		}
	}
	return false
}

// News watches many mailboxes of some BALs at once. It holds nothing for a mailbox of which nothing happens.
type News struct {
	C <-chan struct{} // one entry: there is something to take

	c    chan struct{}
	s    *Store
	want map[BALID]Interest
	mu   sync.Mutex // after Store.mu
	got  Tidings    // guarded by mu
}

// WatchNews begins to watch the BALs of want; those that do not exist have no news.
func (s *Store) WatchNews(want map[BALID]Interest) *News {
	n := &News{c: make(chan struct{}, 1), s: s, want: want}
	n.C = n.c
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range want {
		if s.mem.news[id] == nil {
			s.mem.news[id] = map[*News]struct{}{}
		}
		s.mem.news[id][n] = struct{}{}
	}
	return n
}

// Close ends the watching. C stays open.
func (n *News) Close() {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	m := n.s.mem
	for id := range n.want {
		delete(m.news[id], n)
		if len(m.news[id]) == 0 {
			delete(m.news, id)
		}
	}
}

// Take is what happened since it was called before.
func (n *News) Take() Tidings {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.got
	n.got = Tidings{}
	return t
}

// add changes what waits, and wakes the watcher.
func (n *News) add(f func(*Tidings)) {
	n.mu.Lock()
	f(&n.got)
	if max(len(n.got.Boxes), len(n.got.Subscriptions), len(n.got.Annotations)) > maxNews {
		n.got = Tidings{Over: true}
	}
	n.mu.Unlock()
	select {
	case n.c <- struct{}{}:
	default:
	}
}

// boxNews tells of a mailbox that is about to be published; old is nil for a new one. Under Store.mu.
func (m *memory) boxNews(old *boxState, w *boxWork) {
	watchers := m.news[w.BAL]
	if len(watchers) == 0 {
		return
	}
	was, now := Mailbox{Ref: w.Ref}, w.mailbox()
	if old != nil {
		was = old.rec.mailbox()
	}
	now.Created = !w.gone
	what := differs(was, now)
	for n := range watchers {
		if m.mattered(n.want[w.BAL], was, now, what)&what == 0 {
			continue
		}
		n.add(func(t *Tidings) {
			if t.Boxes == nil {
				t.Boxes = map[Ref]Mailbox{}
			}
			if _, ok := t.Boxes[w.Ref]; !ok && !t.Over {
				t.Boxes[w.Ref] = was
			}
		})
	}
}

// differs says what happened to a mailbox.
func differs(was, now Mailbox) (what Matters) {
	switch {
	case !was.Created && !now.Created: // made and removed in one commit
		return 0
	case !was.Created:
		return MatterNames | MatterMessages | MatterFlags
	case !now.Created:
		return MatterNames
	}
	if was.Name != now.Name {
		what |= MatterNames
	}
	if was.UIDNext != now.UIDNext || was.Messages != now.Messages || was.UIDValidity != now.UIDValidity {
		return what | MatterMessages | MatterFlags
	}
	if was.HighestModSeq != now.HighestModSeq {
		what |= MatterFlags
	}
	return what
}

// mattered asks for the names that a mailbox had and has, and, where these differ, for those above.
func (m *memory) mattered(want Interest, was, now Mailbox, what Matters) (all Matters) {
	ask := func(name string) Matters {
		if b := m.bals[now.BAL]; b != nil && name != "" {
			_, subscribed := b.subs[name]
			return want(name, subscribed)
		}
		return 0
	}
	all = ask(now.Name)
	if what&MatterNames == 0 {
		return all
	}
	all |= ask(was.Name)
	return all | (ask(parent(was.Name))|ask(parent(now.Name)))&MatterNames
}

// subChange is a subscription that was made or ended.
type subChange struct {
	name BoxName
	was  bool
}

// subNews tells of subscriptions; under Store.mu, once they are published.
func (m *memory) subNews(changes []subChange) {
	for _, c := range changes {
		for n := range m.news[c.name.BAL] {
			if n.want[c.name.BAL](c.name.Name, true)&MatterSubscriptions == 0 {
				continue
			}
			n.add(func(t *Tidings) {
				if t.Subscriptions == nil {
					t.Subscriptions = map[BoxName]bool{}
				}
				if _, ok := t.Subscriptions[c.name]; !ok && !t.Over {
					t.Subscriptions[c.name] = c.was
				}
			})
		}
	}
}

// annotationNews tells of annotations; under Store.mu, once mailboxes are published.
func (m *memory) annotationNews(changes []AnnotationName) {
	for _, c := range changes {
		watchers := m.news[c.Ref.BAL]
		if len(watchers) == 0 {
			continue
		}
		name := "" // of the BAL
		if c.Ref.Mailbox != 0 {
			b := m.boxes[c.Ref.Mailbox]
			if b == nil {
				continue
			}
			name = b.rec.Name
		}
		_, subscribed := m.bals[c.Ref.BAL].subs[name]
		for n := range watchers {
			if n.want[c.Ref.BAL](name, subscribed)&MatterAnnotations == 0 {
				continue
			}
			n.add(func(t *Tidings) {
				if t.Annotations == nil {
					t.Annotations = map[AnnotationName]struct{}{}
				}
				if !t.Over {
					t.Annotations[c] = struct{}{}
				}
			})
		}
	}
}

// Subscribed reports whether a name of a BAL is subscribed.
func (s *Store) Subscribed(id BALID, name string) bool {
	b, err := s.bal(id)
	if err != nil {
		return false
	}
	_, ok := b.subs[name]
	return ok
}

// Listed is what LIST tells of a name.
type Listed struct {
	Mailbox         // Created is false where none has the name
	Children   bool // a mailbox is below
	Subscribed bool
}

// Listed tells of each of the names of a BAL what LIST tells, in one pass over its mailboxes.
func (s *Store) Listed(id BALID, names []string) ([]Listed, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := s.mem.bals[id]
	if b == nil {
		return nil, ErrNoBAL
	}
	if b.fault != nil {
		return nil, b.fault
	}
	above := make(map[string]bool, len(names))
	for _, name := range names {
		above[name] = false
	}
	for name := range b.names {
		for at := strings.LastIndexByte(name, '/'); at > 0; at = strings.LastIndexByte(name[:at], '/') {
			if _, asked := above[name[:at]]; asked {
				above[name[:at]] = true
			}
		}
	}
	out := make([]Listed, len(names))
	for i, name := range names {
		out[i] = Listed{Mailbox: Mailbox{Ref: Ref{BAL: id}, Name: name}, Children: above[name]}
		_, out[i].Subscribed = b.subs[name]
		if mb, ok := b.names[name]; ok {
			out[i].Mailbox = s.mem.boxes[mb].rec.mailbox()
		}
	}
	return out, nil
}
