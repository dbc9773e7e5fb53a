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
	c.out.str("+ idling\r\n")
	// What happened before now is told at once: nothing may wait for the next change.
	if err := c.sync(all); err != nil {
		return response{}, err
	}
	if c.out.flush() != nil {
		return response{}, nil
	}
	type ending struct {
		line []byte
		err  error
	}
	done := make(chan ending, 1)
	br := c.br
	go func() {
		line, err := wire.ReadLine(br, maxDone)
		done <- ending{bytes.Clone(line), err}
	}()
	// While it waits, the session is idle: the end of the server may hang it up.
	c.guard.SetBusy(false)
	err := c.watch(func(wake <-chan struct{}, tick <-chan time.Time) (bool, error) {
		select {
		case e := <-done:
			if e.err != nil {
				c.bye = true
				return false, nil
			}
			if !bytes.EqualFold(e.line, []byte("DONE")) {
				return false, bad("", "IDLE ends with DONE")
			}
			return false, nil
		case <-tick:
			c.out.line("* OK Still here")
		case <-wake:
		}
		return true, nil
	})
	c.guard.SetBusy(true)
	if err != nil {
		return response{}, err
	}
	if c.bye {
		return response{}, nil
	}
	return okay("IDLE completed"), nil
}

// watch calls wait for each thing that happens until it is false, and tells the client what changed.
func (c *conn) watch(wait func(wake <-chan struct{}, tick <-chan time.Time) (bool, error)) error {
	var wake <-chan struct{}
	if c.sel != nil {
		wake = c.sel.watch.C
	}
	tick := time.NewTicker(c.srv.KeepAlive)
	defer tick.Stop()
	for {
		more, err := wait(wake, tick.C)
		if !more || err != nil {
			return err
		}
		if err := c.stillAllowed(); err != nil {
			return c.endIdle(err)
		}
		if err := c.sync(all); err != nil {
			return c.endIdle(err)
		}
		if c.out.flush() != nil {
			c.bye = true
			return nil
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
