package trace

import "strconv"

// Kind is the station an event tells of. Its number is part of the stored format: never reuse one.
type Kind uint8

// The stations of a message and the acts around it (design.md §10).
const (
	Judged       Kind = 1  // a peer's certificate and its sender domain were judged
	Recipient    Kind = 2  // a recipient was accepted: what the directory answered, what the policy made of it
	Refused      Kind = 3  // a connection, sender, recipient or message was refused
	Committed    Kind = 4  // the message is stored durably; the 250 follows
	Duplicate    Kind = 5  // the same message again, before its 250 was confirmed: nothing stored
	Notified     Kind = 6  // a session was told of it (EXISTS)
	Fetched      Kind = 7  // a person read it; one event per command
	Flagged      Kind = 8  // flags or keywords changed
	Moved        Kind = 9  //
	Copied       Kind = 10 //
	Expunged     Kind = 11 //
	Appended     Kind = 12 // a client stored a message of its own
	Submitted    Kind = 13 // a member sent a message
	Relayed      Kind = 14 // another operator took it
	Bounced      Kind = 15 // it could not be delivered
	DSN          Kind = 16 // a delivery status notification was made
	MDN          Kind = 17 // a read receipt was seen
	Login        Kind = 18 //
	LoginRefused Kind = 19 //
	Logout       Kind = 20 //
	Member       Kind = 21 // a member was added, changed or ended
	BAL          Kind = 22 // a BAL was created or changed
	Mailbox      Kind = 23 // a mailbox was created, renamed or deleted
	Admin        Kind = 24 // an act of an operator, reads and exports included
	System       Kind = 25 // the daemon itself: start, stop, reload, trust data
	Recovered    Kind = 26 // expunged mail was brought back
	Asked        Kind = 27 // after the 250 the directory server itself was asked about a recipient
	Advised      Kind = 28 // what the issuer says of a person was compared with the BAL they opened
)

// kinds holds, for each Kind, its name and what it says to people.
var kinds = [...]struct{ name, says string }{
	Judged:       {"judged", "peer judged"},
	Recipient:    {"recipient", "recipient accepted"},
	Refused:      {"refused", "refused"},
	Committed:    {"committed", "stored durably"},
	Duplicate:    {"duplicate", "received again, not stored twice"},
	Notified:     {"notified", "session told of it"},
	Fetched:      {"fetched", "read"},
	Flagged:      {"flagged", "flags changed"},
	Moved:        {"moved", "moved"},
	Copied:       {"copied", "copied"},
	Expunged:     {"expunged", "expunged"},
	Appended:     {"appended", "stored by a client"},
	Submitted:    {"submitted", "submitted"},
	Relayed:      {"relayed", "taken by the next operator"},
	Bounced:      {"bounced", "could not be delivered"},
	DSN:          {"dsn", "delivery report made"},
	MDN:          {"mdn", "read receipt seen"},
	Login:        {"login", "logged in"},
	LoginRefused: {"loginrefused", "login refused"},
	Logout:       {"logout", "logged out"},
	Member:       {"member", "member changed"},
	BAL:          {"bal", "BAL changed"},
	Mailbox:      {"mailbox", "mailbox changed"},
	Admin:        {"admin", "act of an operator"},
	System:       {"system", "daemon"},
	Recovered:    {"recovered", "brought back after it was expunged"},
	Asked:        {"asked", "the directory was asked afterwards"},
	Advised:      {"advised", "activities compared with the BAL"},
}

// Valid reports whether k is one of the constants.
func (k Kind) Valid() bool { return int(k) < len(kinds) && kinds[k].name != "" }

// String is the kind's name in lower case, as filters and metrics use it.
func (k Kind) String() string {
	if !k.Valid() {
		return "kind" + strconv.Itoa(int(k))
	}
	return kinds[k].name
}

// ParseKind is the inverse of String for the constants.
func ParseKind(s string) (Kind, bool) {
	for k := range kinds {
		if s != "" && kinds[k].name == s {
			return Kind(k), true
		}
	}
	return 0, false
}

// The keys of attributes. Their order here is the order on a printed line, their index in keys is the stored
// form: append only.
const (
	KeyReason      = "reason"       // why, as a name: Expired, NotBound, Unknown …
	KeyCode        = "code"         // SMTP reply code with its enhanced code
	KeyCommand     = "cmd"          // protocol command that led to the event
	KeyOperatorDN  = "operator_dn"  // distinguished name of the peer's certificate
	KeyDomain      = "domain"       // sender's domain
	KeySender      = "sender"       // address of one of our BALs, or a pseudonym
	KeyTLS         = "tls"          // protocol version
	KeyCipher      = "cipher"       //
	KeyUsage       = "usage"        // extended key usage seen in the peer's certificate
	KeySerial      = "serial"       // serial number of the peer's certificate
	KeyListVersion = "list_version" // white list in force
	KeyDirectory   = "directory"    // answer of the directory
	KeyPolicy      = "policy"       // what the policy made of it
	KeySource      = "source"       // feed that answered
	KeyGeneration  = "generation"   // of the image, list or anchors
	KeyAge         = "age"          // of that image or list
	KeyLive        = "live"         // a live question was asked
	KeyNote        = "note"         // fixed text of the policy
	KeySize        = "size"         // octets
	KeyRecipients  = "rcpts"        // number of recipients
	KeyBlobSHA     = "blob_sha"     // pseudonym of the body's hash
	KeyMessageID   = "message_id"   // pseudonym of the Message-ID
	KeyEnvID       = "envid"        // pseudonym of the ENVID parameter
	KeyPrevious    = "previous"     // ID of the transaction that this one repeats
	KeyFaults      = "faults"       // structural faults found by the scanner
	KeyFlags       = "flags"        // "+\Seen", "-\Flagged"
	KeyItems       = "items"        // FETCH items, without header names
	KeyTo          = "to"           // target mailbox number
	KeyToUIDs      = "to_uids"      // UIDs in the target mailbox
	KeyMethod      = "method"       // of login
	KeyClient      = "client"       // name of the client's software (ID, RFC 2971)
	KeyRemote      = "remote"       // network address of the peer
	KeyRole        = "role"         // of a member
	KeyMember      = "member"       // member acted upon
	KeyState       = "state"        // of a BAL
	KeyDuration    = "dur"          // how long it took
	KeyCount       = "count"        //
	KeyAct         = "act"          // what an operator or the daemon did
	KeyVersion     = "version"      // of the daemon
	KeyDKIM        = "dkim"         // results of the signatures, in their order (RFC 8601, Section 2.7.1)
	KeyHeaderFrom  = "header_from"  // whether From is bound to the peer's certificate, and its domain
	KeyClass       = "class"        // who sends, for the policy: operator, patient, member
	KeyToBAL       = "to_bal"       // BAL of the target mailbox, where it is another one
)

// NoteFurther is the KeyNote of logins to the BALs that come with the first of a session: it is one login of a person.
const NoteFurther = "further"

// keys is the closed list in printing and storing order.
var keys = [...]string{
	KeyReason, KeyCode, KeyCommand, KeyOperatorDN, KeyDomain, KeySender, KeyTLS, KeyCipher, KeyUsage, KeySerial,
	KeyListVersion, KeyDirectory, KeyPolicy, KeySource, KeyGeneration, KeyAge, KeyLive, KeyNote, KeySize,
	KeyRecipients, KeyBlobSHA, KeyMessageID, KeyEnvID, KeyPrevious, KeyFaults, KeyFlags, KeyItems, KeyTo,
	KeyToUIDs, KeyMethod, KeyClient, KeyRemote, KeyRole, KeyMember, KeyState, KeyDuration, KeyCount, KeyAct,
	KeyVersion, KeyHeaderFrom, KeyDKIM, KeyClass, KeyToBAL,
}

func keyIndex(key string) (int, bool) {
	for i, k := range keys {
		if k == key {
			return i, true
		}
	}
	return 0, false
}
