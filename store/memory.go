package store

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// memory is what is answered without a look at the disk. Store.mu guards it; only the committer writes it, after
// its commit, so the committer may read it without the lock.
type memory struct {
	keys    *keyring
	sys     sysRec
	bals    map[BALID]*balState
	byAddr  map[Address]BALID
	domains map[string]int
	held    map[string][]BALID // by id of the member in lower case: the BALs that have such a member
	boxes   map[MailboxID]*boxState
	words   map[KeywordSet][]string
	sets    map[string]KeywordSet // by encoded keywords
	// wordOctets counts those of sets. Sets stay for good, so there is a bound (Store.keywordRoom): a client
	// could make them without end.
	wordOctets int
	rights     map[BALID]map[*Watcher]struct{}
	news       map[BALID]map[*News]struct{}
	damage     []Problem // records that cannot be used and belong to no BAL of ours
	unnamed    int       // BALs whose address cannot be read
}

// balState is a BAL with what hangs on it. A published one is never changed, only replaced.
type balState struct {
	BAL
	names   map[string]MailboxID
	members map[string]Member
	subs    map[string]struct{}
	fault   error // ErrUnavailable with the reason; such a BAL has neither names nor members nor mailboxes
}

// boxState is a mailbox, with what sessions share of it.
type boxState struct {
	rec      boxRec
	recent   UID // like rec.RecentFrom, but ahead of the disk
	view     *view
	ring     *ring
	watchers map[*Watcher]struct{}
}

func newMemory(keys *keyring) *memory {
	return &memory{keys: keys, bals: map[BALID]*balState{}, byAddr: map[Address]BALID{}, domains: map[string]int{}, held: map[string][]BALID{},
		boxes: map[MailboxID]*boxState{}, words: map[KeywordSet][]string{}, sets: map[string]KeywordSet{},
		rights: map[BALID]map[*Watcher]struct{}{}, news: map[BALID]map[*News]struct{}{}}
}

// loadMemory reads everything but rows from the index. What is damaged of one BAL makes this BAL unavailable and
// nothing else.
func loadMemory(tx *bolt.Tx, keys *keyring) (*memory, error) {
	m := newMemory(keys)
	var err error
	if m.sys, err = decodeSys(tx.Bucket(bucketNames[bktSys]).Get(sysKey)); err != nil {
		return nil, err
	}
	steps := []struct {
		bucket int
		load   func(k, v []byte) error
	}{{bktBAL, m.loadBAL}, {bktMember, m.loadMember}, {bktMailbox, m.loadBox}, {bktSub, m.loadSub}, {bktKeywords, m.loadKeywords}}
	for _, st := range steps {
		err := tx.Bucket(bucketNames[st.bucket]).ForEach(func(k, v []byte) error {
			if m.ofDestroyed(st.bucket, k) {
				return nil
			}
			if err := st.load(k, v); err != nil {
				m.damaged(st.bucket, k, err)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("bucket %s: %w", bucketNames[st.bucket], err)
		}
	}
	m.setAside()
	for id, b := range m.bals {
		m.holders(id, nil, b.members)
	}
	return m, nil
}

// ofDestroyed reports a record of a BAL that was destroyed: it goes, and cannot be opened.
func (m *memory) ofDestroyed(bucket int, k []byte) bool {
	if bucket == bktBAL || bucket == bktKeywords || len(k) < 4 {
		return false
	}
	b := m.bals[balOfKey(k)]
	return b != nil && b.State == Destroyed
}

func (m *memory) loadBAL(k, v []byte) error {
	b, err := decodeBAL(k, v)
	if err != nil {
		return err
	}
	m.setBAL(newBALState(b))
	return nil
}

func newBALState(b BAL) *balState {
	return &balState{BAL: b, names: map[string]MailboxID{}, members: map[string]Member{}, subs: map[string]struct{}{}}
}

func (m *memory) setBAL(b *balState) {
	old := m.bals[b.ID]
	if old == nil && b.Address != "" {
		m.byAddr[b.Address] = b.ID
		m.domains[b.Address.Domain()]++
	}
	if old == nil {
		m.holders(b.ID, nil, b.members)
	} else {
		m.holders(b.ID, old.members, b.members)
	}
	m.bals[b.ID] = b
}

func (m *memory) loadMember(k, v []byte) error {
	if len(k) < 5 {
		return corrupt("key of a member")
	}
	v, err := m.keys.open(balOfKey(k), bktMember, k, v)
	if err != nil {
		return err
	}
	id, mem, err := decodeMember(k, v)
	if err != nil {
		return err
	}
	b, err := m.balOf(id)
	if err == nil {
		b.members[mem.ID] = mem
	}
	return err
}

func (m *memory) loadBox(k, v []byte) error {
	r, err := decodeBox(k, v)
	if err == nil {
		err = m.keys.openBox(&r)
	}
	if err != nil {
		return err
	}
	b, err := m.balOf(r.BAL)
	if err == nil {
		b.names[r.Name] = r.Mailbox
		m.boxes[r.Mailbox] = &boxState{rec: r, recent: r.RecentFrom}
	}
	return err
}

func (m *memory) loadSub(k, v []byte) error {
	if !keyIs(k, 20) {
		return corrupt("key of a subscription")
	}
	name, err := m.keys.open(balOfKey(k), bktSub, k, v)
	if err != nil {
		return err
	}
	b, err := m.balOf(balOfKey(k))
	if err == nil {
		b.subs[string(name)] = struct{}{}
	}
	return err
}

func (m *memory) loadKeywords(k, v []byte) error {
	if !keyIs(k, 4) {
		return corrupt("key of keywords")
	}
	v, err := openValue(nil, m.keys.values, string(bucketNames[bktKeywords]), k, v)
	if err != nil {
		return err
	}
	words, err := decodeKeywords(v)
	if err == nil {
		m.words[setOfKey(k)] = words
		m.sets[string(v)] = setOfKey(k)
		m.wordOctets += len(v)
	}
	return err
}

// BAL is the BAL of that address, ErrNoBAL where there is none. ErrUnavailable comes with what is known of a BAL that
// is damaged, and for any other address while there is a BAL whose own cannot be read: it may be this one.
func (s *Store) BAL(a Address) (BAL, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mem.balAt(a)
}

// BALByID is the BAL of that number, ErrNoBAL where there is none, ErrUnavailable with what is known of one that is
// damaged.
func (s *Store) BALByID(id BALID) (BAL, error) {
	b, err := s.bal(id)
	if b == nil {
		return BAL{}, err
	}
	return b.BAL, err
}

// bal is the state of a BAL. ErrUnavailable comes with it.
func (s *Store) bal(id BALID) (*balState, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if b := s.mem.bals[id]; b != nil {
		return b, b.fault
	}
	return nil, ErrNoBAL
}

// BALs are all BALs that have an address, by address; those that are unavailable too.
func (s *Store) BALs() []BAL {
	s.mu.RLock()
	all := make([]BAL, 0, len(s.mem.bals))
	for _, b := range s.mem.bals {
		if b.Address != "" {
			all = append(all, b.BAL)
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b BAL) int { return cmp.Compare(a.Address, b.Address) })
	return all
}

// Domains are the domains that have a BAL, sorted.
func (s *Store) Domains() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.mem.domains))
}

// HasDomain reports whether a BAL of that domain exists, or may exist; the domain is in lower case.
func (s *Store) HasDomain(domain string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mem.domains[domain] > 0 || s.mem.unnamed > 0
}

// Members are the members of a BAL, ended ones included, by id.
func (s *Store) Members(id BALID) []Member {
	b, err := s.bal(id)
	if err != nil {
		return nil
	}
	return slices.SortedFunc(maps.Values(b.members), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
}

// Member is the member of a BAL with this very id, ended or not.
func (s *Store) Member(id BALID, member string) (Member, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := s.mem.bals[id]
	if b == nil || b.fault != nil {
		return Member{}, false
	}
	m, ok := b.members[member]
	return m, ok
}

// Mailboxes are the mailboxes of a BAL by name, with the missing parents (Created false).
func (s *Store) Mailboxes(id BALID) ([]Mailbox, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := s.mem.bals[id]
	if b == nil {
		return nil, ErrNoBAL
	}
	if b.fault != nil {
		return nil, b.fault
	}
	all := make([]Mailbox, 0, len(b.names))
	seen := map[string]bool{}
	for name, mb := range b.names {
		all = append(all, s.mem.boxes[mb].rec.mailbox())
		for p := parent(name); p != "" && !seen[p]; p = parent(p) {
			seen[p] = true
			if _, ok := b.names[p]; !ok {
				all = append(all, Mailbox{Ref: Ref{BAL: id}, Name: p})
			}
		}
	}
	slices.SortFunc(all, func(a, b Mailbox) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// Mailbox is the mailbox of that name, ErrNoMailbox where there is none.
func (s *Store) Mailbox(id BALID, name string) (Mailbox, error) {
	name = canonicalName(name)
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := s.mem.bals[id]
	if b == nil {
		return Mailbox{}, ErrNoBAL
	}
	if b.fault != nil {
		return Mailbox{}, b.fault
	}
	mb, ok := b.names[name]
	if !ok {
		return Mailbox{}, ErrNoMailbox
	}
	return s.mem.boxes[mb].rec.mailbox(), nil
}

// MailboxByRef is the mailbox as it is now, ErrNoMailbox where it is gone.
func (s *Store) MailboxByRef(r Ref) (Mailbox, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if b := s.box(r); b != nil {
		return b.rec.mailbox(), nil
	}
	return Mailbox{}, ErrNoMailbox
}

// box is the state of a mailbox, nil where it is gone; under mu.
func (s *Store) box(r Ref) *boxState {
	if b := s.mem.boxes[r.Mailbox]; b != nil && b.rec.BAL == r.BAL {
		return b
	}
	return nil
}

// Subscriptions are the subscribed names, sorted; they need not exist.
func (s *Store) Subscriptions(id BALID) ([]string, error) {
	b, err := s.bal(id)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(b.subs)), nil
}

// Keywords are the keywords of a set, sorted; never change them.
func (s *Store) Keywords(k KeywordSet) []string {
	if k == 0 {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mem.words[k]
}

// MailboxKeywords are the keywords ever used in a mailbox.
func (s *Store) MailboxKeywords(r Ref) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if b := s.box(r); b != nil {
		return s.mem.words[b.rec.Keywords]
	}
	return nil
}

// canonicalName writes INBOX in capitals, also as the top of a longer name: its case does not matter
// (RFC 9051, Section 5.1).
func canonicalName(name string) string {
	if len(name) >= 5 && strings.EqualFold(name[:5], "INBOX") && (len(name) == 5 || name[5] == '/') {
		return "INBOX" + name[5:]
	}
	return name
}

func parent(name string) string {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)]
}
