package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"mssd/admin"
	"mssd/mailfile"
)

// imported is what mssd bal import tells at its end.
type imported struct {
	Address string `json:"address"`
	Source  string `json:"source"`
	Stored  int64  `json:"stored"`
	Present int64  `json:"present"` // there already
	Refused int64  `json:"refused"`
	Mended  int64  `json:"line_ends_mended"` // a bare LF became CRLF
	Left    int64  `json:"left_alone"`       // entries of the source that are no mail
}

func newBALImport() *cobra.Command {
	var ask asking
	var head admin.TransferHead
	var quiet bool
	c := &cobra.Command{
		Use:   "import ADDRESS SOURCE [--into PREFIX]",
		Short: "Put mail from a Maildir, a ZIP or a folder of .eml files into a BAL",
		Long: "Put mail into a BAL: from what mssd bal export wrote, a Maildir of Dovecot or mbsync, a ZIP or a folder of .eml files.\n" +
			"Mailboxes that are missing are made; flags, keywords and dates are kept. A message that the mailbox holds already, with\n" +
			"the same date and the same octets, is not stored again: an import that broke off is run again and goes on.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			head.Into = strings.Trim(head.Into, "/")
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			src, err := mailfile.Open(args[1])
			if err != nil {
				return err
			}
			defer src.Close()
			i := &importing{src: src, warn: cmd.ErrOrStderr(), p: newProgress(cmd.ErrOrStderr(), quiet || ask.json),
				done: imported{Address: args[0], Source: src.What(), Left: src.Left()}}
			err = i.run(ctx, ask.client(), head)
			i.p.end()
			if err != nil {
				return fmt.Errorf("%w (stored %d, there already %d)", err, i.done.Stored, i.done.Present)
			}
			err = ask.print(cmd.OutOrStdout(), i.done, func(w io.Writer) { showImported(w, i.done) })
			if err == nil && i.done.Refused > 0 {
				err = fmt.Errorf("%s refused", counted(i.done.Refused, "message was", "messages were"))
			}
			return err
		},
	}
	c.Flags().StringVar(&head.Into, "into", "", "put all mailboxes below this one")
	c.Flags().BoolVar(&head.OverQuota, "over-quota", false, "go on when the quota is reached")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print no progress")
	return ask.flags(c)
}

func showImported(w io.Writer, d imported) {
	fmt.Fprintf(w, "%s: %s stored from %s, %d already there, %d refused\n", d.Address, messages(d.Stored), d.Source, d.Present, d.Refused)
	if d.Mended > 0 {
		fmt.Fprintf(w, "%s had line ends of LF alone, which are CRLF now\n", messages(d.Mended))
	}
	if d.Left > 0 {
		fmt.Fprintf(w, "%s left alone: no mail, or no plain files\n", counted(d.Left, "file", "files"))
	}
}

// importing is one import. One goroutine sends, another hears what became of each message.
type importing struct {
	src  mailfile.Source
	warn io.Writer

	mu    sync.Mutex // guards what follows
	p     *progress
	sent  []string // the files of messages that were sent and not answered: few, the daemon holds the sender up
	first int64    // number of the first of these
	done  imported
}

func (i *importing) run(ctx context.Context, client *admin.Client, head admin.TransferHead) error {
	head.Messages = i.src.Total()
	im, err := client.ImportBAL(ctx, i.done.Address, head, i.answered)
	if err != nil {
		return err
	}
	err = i.send(im)
	if err != nil {
		im.Abort(err)
		return err
	}
	_, err = im.End()
	return err
}

func (i *importing) send(im *admin.Import) error {
	for _, b := range i.src.Mailboxes() {
		if err := im.Mailbox(admin.TransferMailbox(b)); err != nil {
			return err
		}
	}
	return i.src.Each(func(m mailfile.Message, open func() (io.ReadCloser, error)) error {
		i.mu.Lock()
		i.sent = append(i.sent, m.File)
		i.mu.Unlock()
		doc := admin.TransferMessage{Mailbox: m.Mailbox, Flags: m.Flags, Keywords: m.Keywords, Date: m.Date}
		file, err := open()
		if m.Damaged && err == nil {
			file.Close()
			err = errors.New("the manifest says that it was damaged when it was exported")
		}
		if err != nil {
			return im.Message(doc, failing{err}, error.Error)
		}
		defer file.Close()
		if m.BareLF {
			return im.Message(doc, mailfile.Verified(file, m.SHA256), error.Error)
		}
		mend := &mailfile.CRLF{R: file}
		err = im.Message(doc, mailfile.Verified(mend, m.SHA256), error.Error)
		if mend.Mended {
			i.mu.Lock()
			i.done.Mended++
			i.mu.Unlock()
		}
		return err
	})
}

// failing is the body of a message that cannot be opened.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// answered hears what became of the n-th message.
func (i *importing) answered(n int64, a admin.TransferAnswer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	file := ""
	if at := n - i.first; at >= 0 && at < int64(len(i.sent)) {
		file = i.sent[at]
		i.sent, i.first = i.sent[at+1:], n+1
	}
	switch a.Outcome {
	case admin.TransferStored:
		i.done.Stored++
	case admin.TransferPresent:
		i.done.Present++
	default:
		i.done.Refused++
	}
	if a.Reason != "" {
		fmt.Fprintf(i.warn, "mssd: %q: %s: %s\n", file, a.Outcome, a.Reason)
	}
	i.p.tell(stageMail, n+1, i.src.Total())
}
