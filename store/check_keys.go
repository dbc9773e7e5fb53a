package store

// slots compares the file of the keys with the BALs. A slot without a BAL is none of its problems: a kill while a BAL was
// created leaves one, and an index that is older than the keys many.
func (c *checker) slots() {
	k := c.s.keys
	b, err := readKeys(k.f, k.path)
	if err != nil {
		c.bad(15, "%v", err)
		return
	}
	if k.headErr != nil {
		c.bad(15, "%v", k.headErr)
	}
	eachSlot(b, func(s *slot, err error) {
		bal := c.disk.bals[BALID(s.number)]
		if bal == nil || bal.fault != nil || bal.State == Destroyed && !bal.Destroyed.KeyGone {
			return
		}
		if err == nil {
			_, err = s.open(k.wrap)
		}
		if err != nil || s.address != bal.Address || s.kind != bal.Kind || (s.state == slotGone) != (bal.State == Destroyed) {
			c.bad(15, "BAL %d: its slot does not open or names another BAL", bal.ID)
		}
	})
	c.wiped()
}

// wiped looks for records of BALs that have none any more.
func (c *checker) wiped() {
	for _, bal := range c.disk.bals {
		if !bal.Destroyed.Wiped {
			continue
		}
		for _, bucket := range wipedBuckets {
			if keys := keysOf(c.bucket(bucket), bal.ID, 1); len(keys) > 0 {
				c.bad(16, "BAL %d was destroyed, bucket %s has records of it", bal.ID, bucketNames[bucket])
			}
		}
	}
}
