package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"mssd/trace"
)

// instance is a daemon inside this process, for the commands that need one of their own: demo and selftest. It is the
// same run as that of serve.
type instance struct {
	addrs map[string]string // front → address
	ended chan struct{}     // closed when the daemon has ended, by itself or not

	cancel context.CancelFunc
	err    error // set before ended is closed
	log    io.Closer
}

// startInstance makes the store and returns when every front serves. logFile is made anew; observe is told of each event
// of the trace, see runOptions.
func startInstance(ctx context.Context, cfg *Config, logFile string, observe func(trace.Event)) (*instance, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	i := &instance{ended: make(chan struct{}), log: log}
	ctx, i.cancel = context.WithCancel(ctx)
	ready := make(chan map[string]string, 1)
	go func() {
		defer close(i.ended)
		i.err = run(ctx, cfg, runOptions{Create: true, Observe: observe, Ready: func(a map[string]string) { ready <- a },
			Log: slog.New(slog.NewTextHandler(log, nil))})
	}()
	select {
	case i.addrs = <-ready:
		return i, nil
	case <-i.ended:
		if err := i.stop(); err != nil {
			return nil, err
		}
		return nil, errors.New("the daemon ended before it served")
	}
}

// stop ends the daemon in good order and returns what it ended with; it may be called again.
func (i *instance) stop() error {
	i.cancel()
	<-i.ended
	_ = i.log.Close()
	if errors.Is(i.err, context.Canceled) {
		return nil
	}
	return i.err
}
