package main

import (
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func newServe() *cobra.Command {
	var file string
	var opt runOptions
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: "Run the daemon in the foreground. SIGTERM and SIGINT end it after running transfers; SIGHUP reads certificates,\n" +
			"anchors, revocation lists and the white list again: a bad file is logged and the former one stays.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, syscall.SIGHUP)
			defer signal.Stop(reload)
			opt.Reload = reload
			opt.Log = newLog(cfg.Log, cmd.ErrOrStderr())
			return run(ctx, cfg, opt)
		},
	}
	f := c.Flags()
	f.StringVar(&file, "config", defaultConfigFile, "configuration file")
	f.BoolVar(&opt.Create, "create", false, "make the store when data_dir is empty or missing (first start only)")
	f.BoolVar(&opt.NoListYet, "no-list-yet", false, "start although no white list has ever been accepted; mail is answered 451")
	return c
}

// newLog makes the logger that the configuration asks for.
func newLog(c LogConfig, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(strings.ToUpper(c.Level))) // checked with the configuration
	opt := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}
