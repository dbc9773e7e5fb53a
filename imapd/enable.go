package imapd

import (
	"strings"

	"mssd/imapd/wire"
)

// RFC 5161. What this server does not know is passed over; the answer says what was enabled.
func (c *conn) cmdEnable(cmd *wire.Command) (response, error) {
	caps, err := wire.ParseEnable(cmd)
	if err != nil {
		return response{}, err
	}
	enabled := "* ENABLED"
	for _, name := range caps {
		if c.enable(name) {
			enabled += " " + strings.Replace(name, "REV2", "rev2", 1)
		}
	}
	c.out.line(enabled)
	return okay("ENABLE completed"), nil
}

func (c *conn) enable(name string) bool {
	switch name {
	case "CONDSTORE":
		c.enableCondStore()
		return true
	case "IMAP4REV2": // RFC 9051, Section 6.3.1; Appendix A for a server of both
		c.rev2 = true
		return true
	case "UTF8=ACCEPT": // RFC 9755, Section 3; of IMAP4rev2 it is a part
		c.utf8 = true
		return true
	case "UIDONLY": // RFC 9586, Section 3
		c.uidOnly = true
		return true
	case "QRESYNC": // RFC 7162, Section 3.2.3: CONDSTORE is in it
		c.qresync = true
		c.enableCondStore()
		return true
	}
	return false
}
