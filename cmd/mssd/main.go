// Command mssd is a mail operator of the French health trust space (opérateur MSSanté).
//
// mssd serve reads one configuration file, opens the store, loads what it trusts, binds its fronts and serves until it
// is told to stop. The other sub-commands either ask a running daemon over its unix socket (bal, member, trace,
// directory, health, fsck) or work alone (check, demo, selftest, whitelist, fsck on a stopped store, version).
//
// Data passes through here only at start and end: this package wires the rooms of the house together (docs/architecture.md)
// and owns the order in which they come up, reload and go down.
//
// Exit status: 0 done; 1 failed; 2 wrong use of the command line; 78 a fault in the configuration (EX_CONFIG of
// sysexits.h, so that systemd need not try again).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = ""

func main() {
	os.Exit(command(context.Background(), os.Args[1:]))
}

// command runs one command line and returns the exit status.
func command(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var silent silentError
	if !errors.As(err, &silent) {
		fmt.Fprintf(root.ErrOrStderr(), "mssd: %v\n", err)
	}
	return exitStatus(err)
}
