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
	end, err := c.watch(done)
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

// watch tells the client what changes, until done.
func (c *conn) watch(done <-chan ending) (ending, error) {
	var mailbox <-chan struct{}
	watched := c.home().ID
	if c.sel != nil {
		mailbox, watched = c.sel.watch.C, c.sel.ref.BAL
	}
	rights := c.srv.Store.WatchBAL(watched)
	defer rights.Close()
	tick := time.NewTicker(c.srv.KeepAlive)
	defer tick.Stop()
	for {
		// Asked before the wait too: the right may have ended before it was watched.
		if err := c.stillAllowed(); err != nil {
			return ending{}, err
		}
		if err := c.sync(all); err != nil {
			return ending{}, err
		}
		if err := c.out.flush(); err != nil {
			return ending{}, nil
		}
		select {
		case e := <-done:
			return e, nil
		case <-tick.C:
			c.out.line("* OK Still here")
		case <-rights.C:
		case <-mailbox:
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
