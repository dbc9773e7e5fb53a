package main

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// quickEnd spares each command built with the race detector the second that it sleeps before it ends. Races are reported
// as before.
const quickEnd = "atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" "+quickEnd))
	testscript.Main(m, map[string]func(){
		"mssd": func() { os.Exit(command(context.Background(), os.Args[1:])) },
		"pki":  pkiTool,
	})
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("SHARED", sharedDir())
			env.Setenv("GORACE", os.Getenv("GORACE"))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "samples" {
				return haveSamples(t), nil
			}
			return false, nil
		},
		Cmds: scriptCommands(),
	})
}
