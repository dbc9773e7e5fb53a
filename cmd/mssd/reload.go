package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"mssd/store"
	"mssd/trace"
)

// signalled is a reload asked for by SIGHUP.
func (d *daemon) signalled(ctx context.Context) {
	notifyReloading()
	defer notifyReady()
	d.Reload(ctx)
}

// Reload reads certificates, anchors, revocation lists and the white list again. Sessions are not touched. What cannot
// be read is logged, returned, and stays as it was.
func (d *daemon) Reload(ctx context.Context) []error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	var faults []error
	remember(d.trusted)
	for _, g := range d.trusted {
		if err := d.read(ctx, g); err != nil {
			faults = append(faults, err)
		}
	}
	d.log.Info("reloaded", "refused", len(faults))
	d.record("reload", trace.Attr{Key: trace.KeyCount, Value: strconv.Itoa(len(faults))})
	return faults
}

// Addresses names each front and where it listens.
func (d *daemon) Addresses() map[string]string {
	m := map[string]string{}
	for _, f := range d.fronts {
		var addrs []string
		for _, l := range f.listeners {
			addrs = append(addrs, l.Addr().String())
		}
		m[f.name] = strings.Join(addrs, " ")
	}
	return m
}

// Degraded says what is not as it should be.
func (d *daemon) Degraded() []string {
	var out []string
	add := func(what string, err error) {
		if err != nil {
			out = append(out, what+": "+err.Error())
		}
	}
	for i, t := range d.tls {
		add("certificate of "+d.tlsNames()[i], t.Warning())
	}
	add("trust (peers get 451)", d.judge.Usable())
	add("trust", d.judge.Warning())
	add("white list (peers get 451)", d.list.Usable())
	if d.list.Usable() == nil {
		add("white list", d.list.Warning())
	}
	if d.psc != nil {
		add("issuer of access tokens (logins with new ones get UNAVAILABLE)", d.psc.Warning())
	}
	out = append(out, refusedReloads(d.trusted)...)
	out = append(out, directoryFaults(d.dir)...)
	if free, err := d.store.FreeSpace(); err != nil {
		add("disk of the store", err)
	} else if floor := d.store.SpaceFloor(); free < floor {
		out = append(out, fmt.Sprintf("disk of the store: %s free, mail is refused (452) under %s", octets(free), octets(floor)))
	}
	add("disk of the store (peers get 451)", d.store.Slow())
	add("disk of the store (peers get 451)", d.store.WriteFault())
	add("store", d.store.Err())
	add("sweep", d.store.SweepFault())
	add("backup", backupFault(d.store, time.Duration(d.cfg.Store.BackupMaxAge)))
	return append(out, damageOf(d.store)...)
}

// damageOf says what the store cannot use, a few of each kind.
func damageOf(st *store.Store) (out []string) {
	const most = 10
	faults, records := st.Unavailable(), st.Damage()
	for _, f := range faults[:min(len(faults), most)] {
		out = append(out, f.String())
	}
	if n := len(faults) - most; n > 0 {
		out = append(out, fmt.Sprintf("%d more BALs are unavailable", n))
	}
	if n := len(records); n > 0 {
		out = append(out, fmt.Sprintf("%d records of the index cannot be used: mssd fsck lists them", n))
	}
	return out
}
