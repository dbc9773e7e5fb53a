package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mssd/admin"
	"mssd/mailfile"
)

// stageMail is what the progress of an export and of an import calls its one stage.
const stageMail = "messages"

// exported is what mssd bal export tells at its end.
type exported struct {
	Address   string `json:"address"`
	File      string `json:"file"`
	Mailboxes int64  `json:"mailboxes"`
	Messages  int64  `json:"messages"`
	Octets    int64  `json:"octets"`
	Damaged   int64  `json:"damaged"`
}

func newBALExport() *cobra.Command {
	var ask asking
	var format string
	var quiet bool
	c := &cobra.Command{
		Use:   "export ADDRESS DEST [--format maildir|zip]",
		Short: "Write the mail of a BAL to a Maildir or a ZIP",
		Long: "Write the mail of a BAL to a Maildir, which Dovecot, mbsync and mutt read, or to a ZIP with a folder for each mailbox and\n" +
			"an .eml file for each message. Flags, keywords and dates are kept, and stand in a manifest beside the mail. DEST comes\n" +
			"into being when all is written; until then there is DEST.part. The files hold health data in clear: guard them.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			begin, err := exportFormat(format)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			p := newProgress(cmd.ErrOrStderr(), quiet || ask.json)
			done, err := exportBAL(ctx, ask.client(), args[0], args[1], begin, p, cmd.ErrOrStderr())
			p.end()
			if err != nil {
				return err
			}
			err = ask.print(cmd.OutOrStdout(), done, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s (%s) in %s written to %s\n", done.Address, messages(done.Messages), octets(done.Octets), counted(done.Mailboxes, "mailbox", "mailboxes"), done.File)
			})
			if err == nil && done.Damaged > 0 {
				err = fmt.Errorf("%s damaged in the store and missing here: the manifest says which, mssd fsck --bodies says more", messages(done.Damaged))
			}
			return err
		},
	}
	c.Flags().StringVar(&format, "format", "maildir", "maildir or zip")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print no progress")
	return ask.flags(c)
}

func exportFormat(name string) (func(string) (mailfile.Writer, error), error) {
	switch name {
	case "maildir":
		return mailfile.NewMaildir, nil
	case "zip":
		return mailfile.NewZip, nil
	}
	return nil, usageError{fmt.Errorf("--format %s is not known; expected maildir or zip", name)}
}

func exportBAL(ctx context.Context, client *admin.Client, address, dest string, begin func(string) (mailfile.Writer, error), p *progress, warn io.Writer) (exported, error) {
	done := exported{Address: address, File: dest}
	if err := mailfile.Ready(dest); err != nil { // before the daemon begins, and the trace says that it did
		return done, err
	}
	var w mailfile.Writer
	defer func() {
		if w != nil {
			w.Abort()
		}
	}()
	var total, seen int64
	validity := map[string]uint32{}
	end, err := client.ExportBAL(ctx, address, admin.Export{
		Head: func(h admin.TransferHead) (err error) { // where the daemon refuses, nothing is left behind
			if w, err = begin(dest); err != nil {
				return err
			}
			done.Address, total = h.Address, h.Messages
			p.tell(stageMail, 0, total)
			return w.Head(mailfile.Head{Address: h.Address, Exported: time.Now().UTC().Truncate(time.Second), Messages: h.Messages})
		},
		Mailbox: func(m admin.TransferMailbox) error {
			done.Mailboxes++
			validity[m.Name] = m.UIDValidity
			return w.Mailbox(mailfile.Mailbox(m))
		},
		Message: func(m admin.TransferMessage, body io.Reader, hash func() string) error {
			sum, err := w.Message(mailfile.Message{Mailbox: m.Mailbox, UID: m.UID, UIDValidity: validity[m.Mailbox], Flags: m.Flags,
				Keywords: m.Keywords, Date: m.Date, SaveDate: m.SaveDate, Size: m.Size, ID: m.ID, MessageID: m.MessageID}, body)
			seen++
			switch {
			case errors.Is(err, admin.ErrDamaged):
				fmt.Fprintf(warn, "mssd: message %s: %v\n", m.ID, err)
			case err != nil:
				return err
			case sum != hash():
				return fmt.Errorf("message %s: the octets that were written are not those of the store; is the memory of this machine sound?", m.ID)
			default:
				done.Octets += m.Size
			}
			p.tell(stageMail, seen, max(total, seen))
			return nil
		},
	})
	if err == nil && w == nil {
		err = errors.New("the daemon sent nothing; compare mssd version with mssd health")
	}
	if err != nil {
		return done, err
	}
	done.Messages, done.Damaged = end.Messages, end.Damaged
	p.tell("making it durable", 0, 0)
	return done, w.Close()
}
