package imapd

import (
	"bytes"
	"time"

	"mssd/imapd/wire"
)

// maxDone bounds the line that ends IDLE.
const maxDone = 64 // octets

// RFC 9051, Section 6.3.13. The session's goroutine waits for changes; another one waits for DONE.
func (c *conn) cmdIdle(cmd *wire.Command) (response, error) {
	if err := wire.ParseNone(cmd); err != nil {
		return response{}, err
	}
	c.out.str("+ idling\r\n") // what happened before now is told with it: nothing may wait for the next change
	done := make(chan ending, 1)
	c.in.giveBack()
	go func() {
		line, err := c.in.line(maxDone)
		done <- ending{bytes.EqualFold(line, []byte("DONE")), err}
	}()
	// While it waits, the session is idle: the end of the server may hang it up.
	c.guard.SetBusy(false)
	tick := time.NewTicker(c.srv.KeepAlive)
	defer tick.Stop()
	end, err := c.watch(done, tick.C, all)
	c.guard.SetBusy(true)
	switch {
	case err != nil:
		return response{}, c.endIdle(err)
	case c.bye || c.out.err != nil:
		return response{}, nil
	case end.err != nil:
		c.readFailed(cmd, end.err)
		c.bye = true
		return response{}, nil
	case !end.done:
		return response{}, bad("", "IDLE ends with DONE")
	}
	return okay("IDLE completed"), nil
}

// ending is the line that ended IDLE, or why none came.
type ending struct {
	done bool // the line was DONE
	err  error
}

// await waits for the next command, and tells meanwhile what NOTIFY asked for (RFC 5465, Section 3.1). A session that did
// not ask waits in a read, on one goroutine.
func (c *conn) await() error {
	n := c.notify
	if n == nil || !n.messages && !n.flags && n.others == nil || c.in.br != nil {
		return nil
	}
	done := make(chan ending, 1)
	go func() {
		_, err := c.in.reader()
		done <- ending{err: err}
	}()
	how := all
	if n.delayed {
		how = noExpunge
	}
	end, err := c.watch(done, nil, how)
	if err != nil {
		return c.endIdle(err)
	}
	return end.err
}

// watch tells the client what changes, until done.
func (c *conn) watch(done <-chan ending, tick <-chan time.Time, how announce) (ending, error) {
	var mailbox, others <-chan struct{}
	watched := c.home().ID
	if c.sel != nil {
		mailbox, watched = c.sel.watch.C, c.sel.ref.BAL
	}
	rights := c.srv.Store.WatchBAL(watched)
	defer rights.Close()
	for {
		// Asked before the wait too: the right may have ended before it was watched.
		if err := c.stillAllowed(); err != nil {
			return ending{}, err
		}
		if err := c.sync(how); err != nil {
			return ending{}, err
		}
		c.tellOthers()
		if err := c.out.flush(); err != nil {
			return ending{}, nil
		}
		if c.notify != nil && c.notify.others != nil {
			others = c.notify.others.news.C
		}
		select {
		case e := <-done:
			return e, nil
		case <-tick:
			c.out.line("* OK Still here")
		case <-rights.C:
		case <-c.user.rights:
		case <-mailbox:
		case <-others:
		}
	}
}

// endIdle ends the connection: the other goroutine still reads from it, so that nothing but BYE can follow.
func (c *conn) endIdle(err error) error {
	r := c.answer("IDLE", err)
	if r.status != statusBYE {
		r = response{statusBYE, "UNAVAILABLE", "The mailbox cannot be watched any longer"}
	}
	c.sayBye(r.code, r.text)
	return nil
}
