package main

import (
	"io"
	"testing"
)

// A script tells its own slip (2) from a failure of the daemon (1) and from a fault in the configuration (78).
func TestExitStatus(t *testing.T) {
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"version"}, 0},
		{[]string{"frobnicate"}, exitUsage},
		{[]string{"bal", "frobnicate"}, exitUsage},
		{[]string{"bal", "add"}, exitUsage},
		{[]string{"serve", "--colour"}, exitUsage},
		{[]string{"health", "--wait", "soon"}, exitUsage},
		{[]string{"whitelist", "verify", "list.xml"}, exitUsage},
		{[]string{"health", "--socket", "nowhere.sock"}, exitFailed},
		{[]string{"check", "--config", "nowhere.toml"}, exitConfig},
	} {
		root := newRoot()
		root.SetArgs(c.args)
		root.SetOut(io.Discard)
		got := 0
		if err := root.ExecuteContext(t.Context()); err != nil {
			got = exitStatus(err)
		}
		if got != c.want {
			t.Errorf("mssd %v: exit status %d, want %d", c.args, got, c.want)
		}
	}
}
