package main

import (
	"errors"
	"fmt"
	"time"

	"mssd/store"
)

// backupAge is how old the moment of the latest whole backup is, in seconds; -1 without one.
func backupAge(st *store.Store) float64 {
	last, err := st.LastBackup()
	if err != nil || last.IsZero() {
		return -1
	}
	return st.Now().Sub(last).Seconds()
}

// backupFault says that the latest whole backup is older than it may be; limit 0: nothing is said.
func backupFault(st *store.Store, limit time.Duration) error {
	if limit == 0 {
		return nil
	}
	last, err := st.LastBackup()
	if err != nil {
		return err
	}
	if last.IsZero() {
		return errors.New("the store knows of no whole one (store.backup_max_age); make one: mssd backup")
	}
	if age := st.Now().Sub(last); age > limit {
		return fmt.Errorf("the latest whole one holds the moment %s, %s ago, more than store.backup_max_age (%s): see why none was made since (mssd backup list, the timer)",
			last.UTC().Format(time.RFC3339), age.Round(time.Minute), limit)
	}
	return nil
}
