package imapd

import (
	"errors"
	"time"

	"mssd/imapd/wire"
)

// state is a set of the states of RFC 9051, Section 3.
type state uint8

const (
	clear_        state = 1 << iota // not authenticated, no TLS
	secured                         // not authenticated, TLS
	authenticated                   // no mailbox selected
	selectedState                   // one selected

	early  = clear_ | secured
	logged = authenticated | selectedState
	always = early | logged
)

// command is one row of the table. A handler reads its arguments, acts, appends untagged responses and returns
// how the command ends.
type command struct {
	states state
	tell   announce // what others did that may be told before the command's end
	handle func(*conn, *wire.Command) (response, error)
}

// commands is every command this server knows. The check of the state is written once, in run.
var commands = map[string]command{
	"CAPABILITY":   {always, all, (*conn).cmdCapability},
	"NOOP":         {always, all, (*conn).cmdNoop},
	"LOGOUT":       {always, nothing, (*conn).cmdLogout},
	"ID":           {always, all, (*conn).cmdID},
	"STARTTLS":     {clear_, nothing, (*conn).cmdStartTLS},
	"LOGIN":        {early, nothing, (*conn).cmdLogin},
	"AUTHENTICATE": {early, nothing, (*conn).cmdAuthenticate},

	"ENABLE":       {logged, all, (*conn).cmdEnable},
	"COMPRESS":     {logged, nothing, (*conn).cmdCompress},
	"NAMESPACE":    {logged, all, (*conn).cmdNamespace},
	"LIST":         {logged, all, (*conn).cmdList},
	"LSUB":         {logged, all, (*conn).cmdLsub},
	"STATUS":       {logged, all, (*conn).cmdStatus},
	"SUBSCRIBE":    {logged, all, (*conn).cmdSubscribe},
	"UNSUBSCRIBE":  {logged, all, (*conn).cmdUnsubscribe},
	"CREATE":       {logged, all, (*conn).cmdCreate},
	"DELETE":       {logged, all, (*conn).cmdDelete},
	"RENAME":       {logged, all, (*conn).cmdRename},
	"GETQUOTA":     {logged, all, (*conn).cmdGetQuota},
	"GETQUOTAROOT": {logged, all, (*conn).cmdGetQuotaRoot},
	"GETMETADATA":  {logged, all, (*conn).cmdGetMetadata},
	"SETMETADATA":  {logged, all, (*conn).cmdSetMetadata},
	"MYRIGHTS":     {logged, all, (*conn).cmdMyRights},
	"GETACL":       {logged, all, (*conn).cmdGetACL},
	"LISTRIGHTS":   {logged, all, (*conn).cmdListRights},
	"SETACL":       {logged, all, (*conn).cmdSetACL},
	"DELETEACL":    {logged, all, (*conn).cmdSetACL},
	"APPEND":       {logged, all, (*conn).cmdAppend},
	"REPLACE":      {selectedState, removed, (*conn).cmdReplace},
	"UID REPLACE":  {selectedState, removed, (*conn).cmdReplace},
	"IDLE":         {logged, all, (*conn).cmdIdle},
	"NOTIFY":       {logged, all, (*conn).cmdNotify},
	"SELECT":       {logged, nothing, (*conn).cmdSelect},
	"EXAMINE":      {logged, nothing, (*conn).cmdExamine},

	"CHECK":       {selectedState, all, (*conn).cmdNoop},
	"CLOSE":       {selectedState, nothing, (*conn).cmdClose},
	"UNSELECT":    {selectedState, nothing, (*conn).cmdUnselect},
	"EXPUNGE":     {selectedState, removed, (*conn).cmdExpunge},
	"UID EXPUNGE": {selectedState, removed, (*conn).cmdUIDExpunge},
	"FETCH":       {selectedState, noExpunge, (*conn).cmdFetch},
	"STORE":       {selectedState, noExpunge, (*conn).cmdStore},
	"SEARCH":      {selectedState, noExpunge, (*conn).cmdSearch},
	"UID FETCH":   {selectedState, all, (*conn).cmdFetch},
	"UID STORE":   {selectedState, all, (*conn).cmdStore},
	"UID SEARCH":  {selectedState, all, (*conn).cmdSearch},
	"SORT":        {selectedState, noExpunge, (*conn).cmdSort},
	"UID SORT":    {selectedState, all, (*conn).cmdSort},
	"THREAD":      {selectedState, noExpunge, (*conn).cmdThread},
	"UID THREAD":  {selectedState, all, (*conn).cmdThread},
	"COPY":        {selectedState, all, (*conn).cmdCopy},
	"UID COPY":    {selectedState, all, (*conn).cmdCopy},
	"MOVE":        {selectedState, removed, (*conn).cmdMove},
	"UID MOVE":    {selectedState, removed, (*conn).cmdMove},
}

func (c *conn) state() state {
	switch {
	case c.sel != nil:
		return selectedState
	case c.user != nil:
		return authenticated
	case c.tls != nil:
		return secured
	}
	return clear_
}

// wrongState is the answer to a known command at the wrong moment.
func (c *conn) wrongState(want state) error {
	switch {
	case want&early != 0 && c.user != nil:
		return bad("CLIENTBUG", "You are logged in already")
	case want == clear_:
		return bad("CLIENTBUG", "TLS is active already")
	case c.user == nil:
		return bad("CLIENTBUG", "Log in first")
	}
	return bad("CLIENTBUG", "Select a mailbox first")
}

// run runs one command and writes its responses.
func (c *conn) run(cmd *wire.Command) {
	start := time.Now()
	row, known := commands[cmd.Name]
	r, err := response{}, bad("", "Unknown command")
	if known {
		r, err = c.dispatch(cmd, row)
	} else {
		cmd.Name = "?" // what a client sends as a command may be a password: it is not logged
	}
	if lit := cmd.Literal; lit != nil {
		// A refused APPEND leaves its message in the stream.
		if cerr := lit.Close(); cerr != nil {
			var syn *wire.SyntaxError
			if !errors.As(cerr, &syn) {
				c.sayBye("", "The rest of the command cannot be read")
				return
			}
			if err == nil {
				err = cerr
			}
		}
	}
	if err != nil {
		r = c.answer(cmd.Name, err)
	}
	c.log.Debug("command", "cmd", cmd.Name, "code", r.status.String(), "dur", time.Since(start))
	if r.text == "" && r.status == statusOK {
		return // the handler has written the end itself
	}
	c.finish(cmd.Tag, r)
}

// answer turns an error into a response; a cause that the response does not tell goes to the log.
func (c *conn) answer(name string, err error) response {
	r, known := respond(err)
	if !known {
		c.log.Error("command failed", "cmd", name, "err", err)
	}
	return r
}

func (c *conn) dispatch(cmd *wire.Command, row command) (response, error) {
	if row.states&c.state() == 0 {
		return response{}, c.wrongState(row.states)
	}
	if err := c.stillAllowed(); err != nil {
		return response{}, err
	}
	if err := c.knowsNumber(cmd.Name); err != nil {
		return response{}, err
	}
	if c.sel != nil {
		c.sel.left = false
	}
	r, err := row.handle(c, cmd)
	if c.out.err != nil || c.bye {
		return r, err
	}
	if serr := c.sync(row.tell); serr != nil {
		return r, serr
	}
	c.tellOthers()
	if err != nil {
		c.sureCode(cmd.Name, response{status: statusNO})
		return r, err
	}
	return c.sureCode(cmd.Name, r), nil
}

// stillAllowed ends a session whose right was withdrawn (design.md §7): that on its first BAL, or on the selected mailbox.
func (c *conn) stillAllowed() error {
	if c.user == nil {
		return nil
	}
	grant, err := c.live.Over()
	if err == nil {
		return nil
	}
	err = endedBy(err)
	if c.live.Remove() {
		c.srv.recordEnd(c, c.user.who, grant, err)
	}
	return err
}
