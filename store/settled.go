package store

// An address is never given twice. A store that was restored does not know those that were given after the backup: until
// somebody says that they are here, or that there were none, it gives an address only where somebody vouches for it.

// AddressesSettled says that no address was given after the backup that the store was restored from but those that are here.
type AddressesSettled struct{}

func (AddressesSettled) isOp() {}

// Settling reports a restored store of which nobody has said so yet.
func (r Restored) Settling() bool { return !r.At.IsZero() && r.Settled.IsZero() }

func (a *apply) restored() (r Restored, err error) {
	if v := a.get(bktSys, restoredKey); v != nil {
		r, err = decodeRestored(v)
	}
	return r, err
}

// mayBeGiven refuses an address that may have been given after the backup.
func (a *apply) mayBeGiven(vouched bool) error {
	r, err := a.restored()
	if err == nil && r.Settling() && !vouched {
		return ErrRestored
	}
	return err
}

func (a *apply) addressesSettled() error {
	r, err := a.restored()
	if err != nil || !r.Settling() {
		return err
	}
	r.Settled = seconds(a.now)
	return a.put(bktSys, restoredKey, encodeRestored(r))
}
