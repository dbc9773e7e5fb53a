package store

import (
	"bytes"

	bolt "go.etcd.io/bbolt"

	"mssd/message"
)

// A mark in meta.db says, at a clean end, that nothing is missing in it: with the number of the last commit of the
// index and the version of the scanner. Where it is right at the next start, the bodies need not be compared with it
// one by one.
var wholeKey = []byte("whole")

// wholeForm grows when something more is derived; marks of before sieves have none.
const wholeForm = 1

func (m *metaDB) wholeMark() []byte {
	return append(be64([]byte{message.MetaVersion}, m.s.Commits()), wholeForm)
}

// wasWhole tells whether nothing is missing since a clean end.
func (m *metaDB) wasWhole() (whole bool) {
	err := m.view(func(tx *bolt.Tx) error {
		whole = bytes.Equal(tx.Bucket(bktMetaSys).Get(wholeKey), m.wholeMark())
		return nil
	})
	return whole && err == nil
}

// markWhole is called when all is written and no commit will come.
func (m *metaDB) markWhole() {
	if !m.whole.Load() || m.leftOut.Load() || m.s.Err() != nil {
		return
	}
	err := m.update(func(tx *bolt.Tx) error { return tx.Bucket(bktMetaSys).Put(wholeKey, m.wholeMark()) })
	if err != nil {
		m.s.log.Warn("meta.db not marked as whole: looked through at the next start", "err", err)
	}
}
