package smtpd

import (
	"bytes"
	"errors"
	"os"
	"strings"

	"mssd/tlsconf/guard"
)

// A clear is the dialogue before TLS. It knows EHLO and STARTTLS and little more: everything that
// concerns mail gets 530 (RFC 3207, Section 4), and go-smtp is not there yet.
type clear struct {
	conn *guard.Conn
	host string
	size string // of the SIZE keyword
	in   []byte // read, not yet used: what follows STARTTLS belongs to the handshake
	errs int
	// refused is told of commands that TLS is missing for.
	refused func(cmd string, r reply)
}

// maxClearErrors ends a dialogue before TLS.
const maxClearErrors = 10

// run talks until STARTTLS has been agreed (true) or there is nothing more to say.
func (c *clear) run() bool {
	c.conn.OnHangUp(func() {
		c.say(replyTo(whyEnding(c.conn)).line())
		_ = c.conn.Close()
	})
	if !c.say(c.greeting()) {
		return false
	}
	for {
		line, err := c.readLine()
		switch {
		case errors.Is(err, errLineTooLong):
			c.say(replyTo(err).line())
			return false
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.say(replyTo(errIdle).line())
			return false
		case err != nil:
			return false
		}
		text, err := checkLine(line)
		verb, args, _ := strings.Cut(text, " ")
		verb = strings.ToUpper(verb)
		answer := ""
		if err == nil {
			answer, err = c.command(verb, strings.TrimSpace(args))
		}
		if err != nil {
			r := replyTo(err)
			answer = r.line()
			c.errs++
			if errors.Is(err, errNeedTLS) && c.refused != nil {
				c.refused(verb, r)
			}
		}
		switch {
		case !c.say(answer), verb == "QUIT":
			return false
		case verb == "STARTTLS" && err == nil:
			return true
		case c.errs > maxClearErrors:
			c.say(replyTo(errTooManyError).line())
			return false
		case verb == "BDAT": // its octets would be taken for commands
			return false
		}
	}
}

func (c *clear) greeting() string { return "220 " + c.host + " ESMTP MSSante\r\n" }

func (c *clear) command(verb, args string) (string, error) {
	switch verb {
	case "EHLO", "HELO":
		if args == "" {
			return "", errSyntax
		}
		if verb == "HELO" {
			return "250 " + c.host + "\r\n", nil
		}
		return "250-" + c.host + "\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n" +
			c.size + "250 STARTTLS\r\n", nil
	case "STARTTLS":
		if args != "" {
			return "", errSyntax // RFC 3207, Section 4
		}
		return "220 2.0.0 ready to start TLS\r\n", nil
	case "QUIT":
		return "221 2.0.0 bye\r\n", nil
	case "NOOP", "RSET":
		return "250 2.0.0 ok\r\n", nil
	}
	if _, known := commands[verb]; known {
		return "", errNeedTLS
	}
	return "", errCommand
}

func (c *clear) say(s string) bool {
	_, err := c.conn.Write([]byte(s))
	return err == nil
}

func (c *clear) readLine() ([]byte, error) {
	for {
		if i := bytes.IndexByte(c.in, '\n'); i >= 0 && i < maxLine {
			line := c.in[:i+1]
			c.in = c.in[i+1:]
			return line, nil
		}
		if len(c.in) >= maxLine {
			return nil, errLineTooLong
		}
		var b [512]byte
		n, err := c.conn.Read(b[:])
		c.in = append(c.in, b[:n]...)
		if err != nil {
			return nil, err
		}
	}
}

// replay is the socket with what was read ahead of the handshake put back.
type replay struct {
	*guard.Conn
	before []byte
}

func (r *replay) Read(p []byte) (int, error) {
	if len(r.before) > 0 {
		n := copy(p, r.before)
		r.before = r.before[n:]
		return n, nil
	}
	return r.Conn.Read(p)
}
