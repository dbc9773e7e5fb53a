package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"mssd/delivery"
	"mssd/directory/whitelist"
	"mssd/store"
	"mssd/tlsconf"
)

func newCheck() *cobra.Command {
	var file string
	var all bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and the files it names",
		Long: "Check every key of the configuration and every certificate, key and list that it names and that is there. Files that are\n" +
			"not there yet are listed; with --files they are faults. Nothing is opened for writing. Exit status 78 on a fault.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			faults, absent := checkFiles(cfg)
			if all {
				faults, absent = append(faults, absent...), nil
			}
			_, noFiles, err := cfg.connectionsNow()
			var tooMany *configError
			switch {
			case errors.As(err, &tooMany):
				faults = append(faults, tooMany.Faults...)
			case err != nil:
				return err
			}
			if len(faults) > 0 {
				return &configError{file, locate(cfg.at, faults)}
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "%s: accepted\n", file)
			for _, w := range append(certWarnings(cfg), nonEmpty(keyWarning(cfg), noFiles)...) {
				fmt.Fprintln(out, "warning: "+w)
			}
			if list, err := store.Keys(cfg.DataDir, cfg.Store.MasterKey); err == nil && list.Recovery == "" {
				fmt.Fprintln(out, "advice: no recovery key is set. "+noRecovery)
			}
			if len(absent) > 0 {
				fmt.Fprintf(out, "%s there yet (check --files makes each a fault):\n", counted(len(absent), "file that it names is not", "files that it names are not"))
				for _, f := range locate(cfg.at, absent) {
					fmt.Fprintln(out, "  "+f.String())
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&file, "config", defaultConfigFile, "configuration file")
	c.Flags().BoolVar(&all, "files", false, "a file that is not there is a fault")
	return c
}

// certWarnings say which fronts have a certificate that has ended or ends soon, or is not for the name that others know them by:
// who compares it goes away. Those that cannot be read are faults, or not there yet.
func certWarnings(c *Config) (list []string) {
	for _, cfg := range frontConfigs(c, nil) {
		f, err := tlsconf.NewFront(cfg)
		if err != nil {
			continue
		}
		if err := f.Warning(); err != nil {
			list = append(list, err.Error())
		}
		host, key := c.Hostname, "hostname"
		switch cfg.Name {
		case "imap.app":
			host, key = c.IMAP.App.Hostname, "imap.app.hostname"
		case "submission.app":
			host, key = c.Submission.App.Hostname, "submission.app.hostname"
		}
		if err := f.Bears(host); err != nil {
			list = append(list, fmt.Sprintf("%v (%s): clients that compare the name go away", err, key))
		}
	}
	return list
}

// checkFiles looks at every file that the configuration names: faults are files that are wrong, absent those that are
// not there.
func checkFiles(c *Config) (faults, absent []fault) {
	look := func(key string, names []string, missing string, load func() error) {
		for _, n := range names {
			if _, err := os.Stat(n); errors.Is(err, fs.ErrNotExist) {
				absent = append(absent, fault{Key: key, Text: n + " is not there; " + missing})
				return
			}
		}
		if err := load(); err != nil {
			faults = append(faults, fault{Key: key, Text: err.Error()})
		}
	}
	for _, f := range frontConfigs(c, nil) {
		look(f.Name+".cert", certFiles(f), "serve does not start without it", func() error {
			_, err := tlsconf.NewFront(f)
			return err
		})
	}
	look("trust.anchors", c.Trust.Anchors, "peers are answered 451 until it is", func() error {
		_, err := tlsconf.LoadAnchors(c.Trust.Anchors)
		return err
	})
	look("trust.crls", c.Trust.CRLs, "peers are answered 451 until it is", func() error { return checkCRLs(c) })
	look("whitelist.file", append(nonEmpty(c.WhiteList.File), c.listAnchors()...), "a first start needs it, or --no-list-yet", func() error {
		return checkList(c, c.listAnchors())
	})
	if l := c.Directory.LDAP; l != nil && l.PasswordFile != "" {
		look("directory.ldap.password_file", []string{l.PasswordFile}, "the directory cannot be read without it", func() error {
			_, err := readSecret(l.PasswordFile)
			return err
		})
	}
	if l := c.Directory.LDAP; l != nil && l.Cert != "" {
		look("directory.ldap.cert", []string{l.Cert, l.Key}, "the directory cannot be read without it", func() error {
			_, err := tls.LoadX509KeyPair(l.Cert, l.Key)
			return err
		})
	}
	if l := c.Directory.LDAP; l != nil && len(l.Anchors) > 0 {
		look("directory.ldap.anchors", l.Anchors, "the directory cannot be read without it", func() error {
			_, err := tlsconf.LoadAnchors(l.Anchors)
			return err
		})
	}
	if p := c.Login.PSC; p != nil {
		p.files(look)
	}
	if x := c.Directory.Extraction; x != nil && len(x.Anchors) > 0 {
		look("directory.extraction.anchors", x.Anchors, "its urls are not asked until it is", func() error {
			_, err := tlsconf.LoadAnchors(x.Anchors)
			return err
		})
	}
	if x := c.Directory.Extraction; x != nil && x.File != "" {
		look("directory.extraction.file", []string{x.File}, "this feed says nothing until it is", func() error { return readable(x.File) })
	}
	if c.Store.MasterKey != "" {
		look("store.master_key", []string{c.Store.MasterKey}, "serve --create makes it, or mssd keys make", func() error {
			_, err := store.CheckMasterKey(c.Store.MasterKey)
			return err
		})
	}
	if f := c.BAL.InactivityNoticeFile; f != "" {
		look("bal.inactivity_notice_file", []string{f}, "no notices of inactivity are sent until it is", func() error {
			_, err := delivery.NoticeFile(f)
			return err
		})
	}
	look("data_dir", []string{c.DataDir}, "serve --create makes it", func() error { return isFolder(c.DataDir) })
	run := filepath.Dir(c.Admin.Socket)
	look("admin.socket", []string{run}, "make this folder, owned by the daemon's user", func() error { return isFolder(run) })
	return faults, absent
}

func checkCRLs(c *Config) error {
	if len(c.Trust.CRLs) == 0 {
		return nil
	}
	for _, a := range c.Trust.Anchors {
		if _, err := os.Stat(a); err != nil {
			return nil // said under trust.anchors
		}
	}
	j, err := tlsconf.NewJudge(tlsconf.JudgeConfig{AnchorFiles: c.Trust.Anchors, CRLFiles: c.Trust.CRLs, CRLGrace: time.Duration(c.Trust.CRLGrace)})
	if err != nil {
		return err
	}
	return j.Usable()
}

func checkList(c *Config, anchors []string) error {
	a, err := tlsconf.LoadAnchors(anchors)
	if err != nil || c.WhiteList.File == "" { // what stands at a URL is asked for by serve
		return err
	}
	b, err := readLimited(c.WhiteList.File, maxListOctets)
	if err != nil {
		return err
	}
	if _, err := whitelist.Load(b, whitelist.Options{Anchors: a, SignerNames: c.WhiteList.SignerNames}); err != nil {
		return fmt.Errorf("%s: %w", c.WhiteList.File, err)
	}
	return nil
}

func readable(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	return f.Close()
}

func isFolder(dir string) error {
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%s is not a folder", dir)
	}
	return err
}
