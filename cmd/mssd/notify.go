package main

import (
	"context"
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// What systemd is told (sd_notify(3)). Without systemd these do nothing; a failure to tell changes nothing for mail.

func notifyReady()    { _, _ = systemd.SdNotify(false, systemd.SdNotifyReady) }
func notifyStopping() { _, _ = systemd.SdNotify(false, systemd.SdNotifyStopping) }

// notifyReloading begins a reload; Type=notify-reload needs the time of it, on the monotonic clock.
func notifyReloading() {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return
	}
	_, _ = systemd.SdNotify(false, fmt.Sprintf("%s\nMONOTONIC_USEC=%d", systemd.SdNotifyReloading, ts.Nano()/1000))
}

// watch feeds systemd's watchdog while the store answers: a store that hangs leaves it unfed, and systemd starts mssd
// again.
func (d *daemon) watch(ctx context.Context) {
	every, err := systemd.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return
	}
	tick := time.NewTicker(every / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.store.BALs() // takes the lock that every session needs
			if d.store.Err() == nil {
				_, _ = systemd.SdNotify(false, systemd.SdNotifyWatchdog)
			}
		}
	}
}
