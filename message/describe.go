package message

import (
	"bytes"
	"slices"
	"strings"
)

// mimeFields are the fields that say what a part is; nil where missing.
type mimeFields struct {
	contentType, encoding, id, description, md5, disposition, language, location *string
}

// describe reads the header h of the part e and sets the scanner up for its body.
func (s *Scanner) describe(e *entity, h []byte) {
	var mf mimeFields
	if bytes.IndexByte(h, 0) >= 0 {
		s.fault(FaultNUL)
	}
	inDigest := false
	if n := len(s.open); n > 1 && !e.message {
		inDigest = s.open[n-2].digest
	}
	w := &wireParts{}
	e.part.wire = w
	var env envelope
	if eachField(h, func(name, value []byte) {
		var buf [48]byte
		n := lowerName(&buf, name)
		s.mimeField(&mf, n, value)
		if e.message {
			s.envelopeField(&env, n, value)
		}
	}) {
		s.fault(FaultHeader)
	}
	if e.message {
		s.describeMessage(e, &env, h)
	}
	params := s.describeType(e, &mf, inDigest)
	if len(s.open) == 1 {
		s.origin.Receipt = isReceipt(e.part, params)
	}
	s.describeRest(e, &mf, params)
	s.enter(e, params)
}

func (s *Scanner) set(p **string, value []byte) {
	if *p != nil {
		s.fault(FaultRepeated)
		return
	}
	v := unfold(value)
	*p = &v
}

func (s *Scanner) mimeField(mf *mimeFields, name, value []byte) {
	if !bytes.HasPrefix(name, []byte("content-")) {
		return
	}
	switch string(name) {
	case "content-type":
		s.set(&mf.contentType, value)
	case "content-transfer-encoding":
		s.set(&mf.encoding, value)
	case "content-id":
		s.set(&mf.id, value)
	case "content-description":
		s.set(&mf.description, value)
	case "content-md5":
		s.set(&mf.md5, value)
	case "content-disposition":
		s.set(&mf.disposition, value)
	case "content-language":
		s.set(&mf.language, value)
	case "content-location":
		s.set(&mf.location, value)
	}
}

func (s *Scanner) envelopeField(env *envelope, name, value []byte) {
	switch string(name) {
	case "date":
		s.set(&env.date, value)
	case "subject":
		s.set(&env.subject, value)
	case "in-reply-to":
		s.set(&env.inReplyTo, value)
		env.reply = env.reply || namesMessage(value)
	case "references":
		env.reply = env.reply || namesMessage(value)
	case "message-id":
		s.set(&env.messageID, value)
	case "from":
		s.addresses(&env.from, value)
	case "sender":
		s.addresses(&env.sender, value)
	case "reply-to":
		s.addresses(&env.replyTo, value)
	case "to":
		s.addresses(&env.to, value)
	case "cc":
		s.addresses(&env.cc, value)
	case "bcc":
		s.addresses(&env.bcc, value)
	}
}

// maxFrom bounds the domains that FromDomains yields.
const maxFrom = 16

// FromDomains are the domains of the addresses in the From fields of the top header, in lower case, each once, known
// after Finish: empty where there is no address. An address without a domain, and what is beyond the first 16, shows
// as "".
func (s *Scanner) FromDomains() []string { return s.from }

// ReplyToDomains are the domains of the addresses to which answers go, as FromDomains has those of From: of Reply-To, or of
// From where there is none.
func (s *Scanner) ReplyToDomains() []string { return s.answer }

// Reply reports whether the top header names a message that this one answers (RFC 5322, Section 3.6.4), known after
// Finish. It is the sender's word: nobody looked whether there is such a message.
func (s *Scanner) Reply() bool { return s.reply }

// namesMessage reports whether a field holds something of the form of a message identifier.
func namesMessage(value []byte) bool {
	_, rest, ok := bytes.Cut(value, []byte{'<'})
	at := bytes.IndexByte(rest, '@')
	return ok && at > 0 && bytes.IndexByte(rest[at:], '>') > 1
}

func domainsOf(list *[]mailAddress) []string {
	if list == nil {
		return nil
	}
	var out []string
	for _, a := range *list {
		d := strings.ToLower(a.host)
		switch {
		case a.group != noGroup:
			continue
		case a.host == missingDomain || len(d) > 255 || len(out) >= maxFrom:
			d = ""
		}
		if !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}

func (s *Scanner) addresses(p **[]mailAddress, value []byte) {
	list := parseAddresses(unfold(value))
	if *p != nil {
		s.fault(FaultRepeated)
		list = append(**p, list...)
	}
	*p = &list
}

// describeMessage makes ENVELOPE and the header's words.
func (s *Scanner) describeMessage(e *entity, env *envelope, h []byte) {
	var cut bool
	top := len(s.open) == 1
	if s.budget > 0 || top {
		e.part.wire.envelope, cut = env.append(nil)
		if !top {
			s.budget -= len(e.part.wire.envelope)
		}
	} else {
		cut = true
		e.part.wire.envelope = []byte("(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)")
	}
	if cut {
		s.fault(FaultStructureLong)
	}
	if top {
		if env.date != nil {
			s.meta.SentDate = parseDate(*env.date)
		}
		if env.messageID != nil {
			s.meta.MessageID = strings.ToValidUTF8((*env.messageID)[:min(len(*env.messageID), 998)], "?")
		}
		s.from, s.answer, s.reply = domainsOf(env.from), domainsOf(env.replyTo), env.reply
		s.origin = originOf(h, s.hdrCut)
		s.headerText(h)
		if b, ok := s.body.(*bounded); ok {
			b.limit = MaxText - maxNameText - len(s.headers.(*bounded).buf)
		}
		return
	}
	s.embeddedText(h)
}

// isFirstField names those that must not be crowded out of the bounded text by trace fields and signatures.
func isFirstField(name []byte) bool {
	switch string(name) {
	case "from", "to", "cc", "bcc", "subject", "date", "message-id", "sender", "reply-to", "in-reply-to":
		return true
	}
	return false
}

// headerText folds the fields of the top header, the important ones first.
func (s *Scanner) headerText(h []byte) {
	if s.headers == nil {
		return
	}
	w := &folded{to: s.headers}
	for _, first := range []bool{true, false} {
		eachField(h, func(name, value []byte) {
			var buf [48]byte
			n := lowerName(&buf, name)
			if isFirstField(n) == first {
				s.fieldLine(w, name, value)
			}
		})
	}
}

func (s *Scanner) fieldLine(w *folded, name, value []byte) {
	lower := bytes.ToLower(name)
	if s.field == "" {
		s.headers.add(append(lower, ": "...))
	} else if s.field != string(lower) {
		return
	}
	if v := decodeWords(unfold(value)); len(v) > 0 {
		w.write(v)
	}
	w.any = true // a field without a value is a line too
	w.end()
}

// embeddedText makes the names in an embedded message's header part of the body's words.
func (s *Scanner) embeddedText(h []byte) {
	if s.body == nil {
		return
	}
	w := &folded{to: s.body}
	eachField(h, func(name, value []byte) {
		var buf [48]byte
		switch string(lowerName(&buf, name)) {
		case "from", "to", "cc", "subject", "date":
			w.write(decodeWords(unfold(value)))
			w.end()
		}
	})
}

// describeType sets type and subtype and returns the parameters.
func (s *Scanner) describeType(e *entity, mf *mimeFields, inDigest bool) []param {
	p := e.part
	p.Type, p.Subtype = "text", "plain"
	if inDigest {
		p.Type, p.Subtype = "message", "rfc822"
	}
	if mf.contentType == nil {
		return nil
	}
	main, params, fault := parseValue(*mf.contentType)
	s.fault(fault)
	t, sub, ok := strings.Cut(strings.ToLower(main), "/")
	t, sub = strings.TrimSpace(t), strings.TrimSpace(sub)
	if !ok || !isToken(t) || !isToken(sub) {
		// RFC 2045, Section 5.2: what cannot be read is text/plain.
		s.fault(FaultContentType)
		p.Type, p.Subtype = "text", "plain"
		return nil
	}
	if len(t) > maxTypeName || len(sub) > maxTypeName {
		// Unknown subtypes of text and multipart are plain and mixed, the rest octets (RFC 2046, Sections 4 and 5.1.3).
		s.fault(FaultContentType)
		switch t {
		case "text":
			sub = "plain"
		case "multipart":
			sub = "mixed"
		default:
			t, sub, params = "application", "octet-stream", nil
		}
	}
	p.Type, p.Subtype = t, sub
	return params
}

// maxTypeName is the longest name of a type or subtype (RFC 6838, Section 4.2), octets.
const maxTypeName = 127

// identity reports whether the transfer encoding leaves lines as they are.
func identity(encoding string) bool {
	return encoding != "base64" && encoding != "quoted-printable"
}

// describeRest reads the other fields and makes the texts for BODYSTRUCTURE.
func (s *Scanner) describeRest(e *entity, mf *mimeFields, params []param) {
	p, w := e.part, e.part.wire
	p.Encoding = "7bit"
	if mf.encoding != nil {
		// "base64;" and "quoted-printable (c)" are seen: the first token counts.
		if f := strings.FieldsFunc(strings.ToLower(*mf.encoding), func(r rune) bool {
			return r == ';' || r == ' ' || r == '\t' || r == '('
		}); len(f) > 0 {
			p.Encoding = f[0][:min(len(f[0]), 64)]
		}
	}
	disp, dispParams := "", []param(nil)
	if mf.disposition != nil {
		var fault Fault
		disp, dispParams, fault = parseValue(*mf.disposition)
		disp = strings.ToLower(disp)
		s.fault(fault)
	}
	w.attached = disp == "attachment"
	if w.name = paramText(dispParams, "filename"); w.name == "" {
		w.name = paramText(params, "name")
	}
	if p.Type == "text" {
		p.Charset, _ = lookup(params, "charset")
		p.Charset = p.Charset[:min(len(p.Charset), 64)]
	}
	multi := p.Type == "multipart"
	if len(s.open) > MaxDepth && (multi || isMessage(p)) {
		s.fault(FaultDepth)
		p.Type, p.Subtype, params, multi = "application", "octet-stream", nil, false
	}
	w.head, w.ext = structureTexts(p, mf, params, disp, dispParams)
	if n := len(w.head) + len(w.ext) + len(w.name); n > s.budget {
		s.fault(FaultStructureLong)
		w.name = ""
		w.head, w.ext = structureTexts(&Part{Type: short(p.Type), Subtype: short(p.Subtype), Encoding: p.Encoding},
			&mimeFields{}, nil, "", nil)
	} else {
		s.budget -= n
	}
	e.multi = multi
}

func short(s string) string {
	if len(s) > 64 {
		return "x-long"
	}
	return s
}

func isMessage(p *Part) bool { return p.Type == "message" && p.Subtype == "rfc822" }

func structureTexts(p *Part, mf *mimeFields, params []param, disp string, dispParams []param) (head, ext []byte) {
	if p.Type == "multipart" {
		head = appendString(nil, p.Subtype)
		ext = append(ext, ' ')
		ext = appendParams(ext, params)
		return head, appendTail(ext, mf, disp, dispParams)
	}
	if p.Type == "text" && !has(params, "charset") {
		params = append(params, param{"charset", "us-ascii"}) // RFC 2046, Section 4.1.2
	}
	head = appendString(nil, p.Type)
	head = append(head, ' ')
	head = appendString(head, p.Subtype)
	head = append(head, ' ')
	head = appendParams(head, params)
	for _, v := range []*string{mf.id, mf.description} {
		head = append(head, ' ')
		head = appendNonEmpty(head, v)
	}
	head = append(head, ' ')
	head = appendString(head, p.Encoding)
	ext = append(ext, ' ')
	ext = appendNonEmpty(ext, mf.md5)
	return head, appendTail(ext, mf, disp, dispParams)
}

func appendNonEmpty(b []byte, s *string) []byte {
	if s == nil {
		return append(b, "NIL"...)
	}
	return appendOr(b, *s)
}

// appendTail writes disposition, language and location.
func appendTail(b []byte, mf *mimeFields, disp string, params []param) []byte {
	b = append(b, ' ')
	if disp == "" {
		b = append(b, "NIL"...)
	} else {
		b = append(b, '(')
		b = appendString(b, disp)
		b = append(b, ' ')
		b = appendParams(b, params)
		b = append(b, ')')
	}
	b = append(b, ' ')
	b = appendLanguages(b, mf.language)
	b = append(b, ' ')
	return appendNonEmpty(b, mf.location)
}

// appendLanguages writes the tags of Content-Language (RFC 3282): NIL or a list.
func appendLanguages(b []byte, v *string) []byte {
	if v == nil {
		return append(b, "NIL"...)
	}
	var vp valueParser
	list, _ := vp.cutValue(*v)
	n := 0
	for tag := range strings.SplitSeq(list, ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			b = append(b, " ("[b2i(n == 0)])
			b = appendString(b, tag)
			n++
		}
	}
	if n == 0 {
		return append(b, "NIL"...)
	}
	return append(b, ')')
}

// enter prepares for the body of e: delimiters to wait for, an embedded message, or words to read.
func (s *Scanner) enter(e *entity, params []param) {
	p := e.part
	name := p.wire.name
	if name != "" && s.names != nil {
		w := &folded{to: s.names}
		w.write([]byte(name))
		w.end()
	}
	switch {
	case e.multi:
		if !identity(p.Encoding) {
			s.fault(FaultEncoding)
		}
		e.digest = p.Subtype == "digest"
		b, _ := lookup(params, "boundary")
		b = strings.TrimRight(b, " \t")
		if len(b) > stdBoundary {
			s.fault(FaultBoundaryLong)
		}
		if b == "" || len(b) > maxBoundary {
			s.fault(FaultNoBoundary)
			s.read(p, "plain")
			return
		}
		e.boundary = []byte(b)
		s.waits++
	case isMessage(p):
		if !identity(p.Encoding) {
			s.fault(FaultEncoding)
		}
		if s.parts >= MaxParts {
			s.fault(FaultParts)
		}
		s.parts++
		p.Embedded = &Part{}
		s.push(entity{part: p.Embedded, message: true})
	case p.Type == "message" || p.Type == "text" && (p.Subtype == "plain" || p.Subtype == "html" ||
		name == "" && !p.wire.attached):
		s.read(p, p.Subtype)
	}
}

// read makes the body of p part of the words.
func (s *Scanner) read(p *Part, kind string) {
	if s.body == nil || s.body.done() {
		return
	}
	tags := kind == "html" || kind == "xml" || strings.HasSuffix(kind, "+xml")
	s.text = newTextWriter(p.Encoding, p.Charset, tags, s.body)
}
