package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"

	"mssd/admin"
	"mssd/cmd/mssd/story"
	"mssd/tlsconf/testpki"
	"mssd/trace"
)

// patience bounds every wait of the story.
const patience = 20 * time.Second

// tell plays the story against the running daemon. The first thing that differs from what should happen ends it.
func (d *demo) tell(ctx context.Context) error {
	d.say("Le vrai service écoute : SMTP %s, IMAP %s (TLS) et %s (STARTTLS), envoi %s (TLS) et %s (STARTTLS).", d.addrs["smtp"], d.addrs["imaps"], d.addrs["imap"], d.addrs["submissions"], d.addrs["submission"])
	d.client = &admin.Client{Socket: d.cfg.Admin.Socket}
	if err := d.addBALs(ctx); err != nil {
		return err
	}
	d.say("%d boîte(s) de pharmacie créée(s), dont %s.", d.bals, story.Pharmacy)
	if h, err := waitHealth(ctx, d.client, patience); err != nil {
		return err
	} else if h.Status != "ok" {
		return fmt.Errorf("le service se dit %q : %s", h.Status, strings.Join(h.Reasons, " ; "))
	}
	d.say("L'annuaire est recopié en mémoire ; le service se dit en bonne santé.")
	id, letter, err := d.prescription()
	if err != nil {
		return err
	}
	if err := d.refusals(); err != nil {
		return err
	}
	if err := d.question(ctx); err != nil {
		return err
	}
	if err := d.trace(ctx, id, letter.MessageID); err != nil {
		return err
	}
	return d.writeFile() // now the stage is free for others
}

// prescription sends the letter while the pharmacy waits in IDLE, and reads it.
func (d *demo) prescription() (id string, letter *story.Letter, err error) {
	arrived := make(chan time.Time, 1)
	pharmacy, err := d.openBox(arrived)
	if err != nil {
		return "", nil, fmt.Errorf("IMAP : %w", err)
	}
	defer pharmacy.Close()
	idle, err := pharmacy.Idle()
	if err != nil {
		return "", nil, fmt.Errorf("IDLE : %w", err)
	}
	d.say("La pharmacie est connectée (IMAP, TLS) et attend (IDLE).")
	if letter, err = story.NewLetter(story.Pharmacy, time.Now()); err != nil {
		return "", nil, err
	}
	d.say("La patiente écrit à sa pharmacie, de la part de %s :", story.Masked)
	for _, p := range letter.Parts {
		d.detail("pièce jointe : %s", p)
	}
	answer, took, err := d.send(letter)
	if err != nil {
		return "", nil, fmt.Errorf("l'envoi par la plateforme des patients : %w", err)
	}
	accepted := time.Now()
	if id = idIn(answer); id == "" {
		return "", nil, fmt.Errorf("la réponse au message ne porte pas d'identifiant de trace : %q", answer)
	}
	d.say("Message accepté et conservé durablement en %d ms. Réponse : 250 %s", took.Milliseconds(), answer)
	select {
	case at := <-arrived:
		d.say("La pharmacie est prévenue (EXISTS) %s.", afterAnswer(at.Sub(accepted)))
	case <-time.After(patience):
		return "", nil, errors.New("la pharmacie n'a pas été prévenue (pas de EXISTS)")
	}
	if err := idle.Close(); err != nil {
		return "", nil, fmt.Errorf("fin de IDLE : %w", err)
	}
	if err := idle.Wait(); err != nil {
		return "", nil, fmt.Errorf("fin de IDLE : %w", err)
	}
	return id, letter, d.read(pharmacy, letter)
}

func afterAnswer(t time.Duration) string {
	if t < 0 {
		return "avant même que la réponse soit lue par la plateforme"
	}
	return fmt.Sprintf("%.1f ms après la réponse", float64(t.Microseconds())/1000)
}

// idIn finds the trace id in the text of a 250.
func idIn(answer string) string {
	for word := range strings.FieldsSeq(answer) {
		if _, err := trace.ParseID(word); err == nil {
			return word
		}
	}
	return ""
}

func (d *demo) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	if b, err := os.ReadFile(d.trust.Anchors); err == nil {
		pool.AppendCertsFromPEM(b)
	}
	return pool
}

func (d *demo) openBox(arrived chan<- time.Time) (*imapclient.Client, error) {
	c, err := imapclient.DialTLS(d.addrs["imaps"], &imapclient.Options{
		TLSConfig: &tls.Config{RootCAs: d.roots(), ServerName: demoHost},
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{Mailbox: func(m *imapclient.UnilateralDataMailbox) {
			if m.NumMessages != nil && *m.NumMessages == 1 {
				select {
				case arrived <- time.Now():
				default:
				}
			}
		}},
	})
	if err != nil {
		return nil, err
	}
	if err := c.Login(d.boxes[0].User, d.boxes[0].Password).Wait(); err != nil {
		c.Close()
		return nil, err
	}
	box, err := c.Select("INBOX", nil).Wait()
	if err == nil && box.NumMessages != 0 {
		err = fmt.Errorf("la boîte neuve contient %d messages", box.NumMessages)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// connect opens an SMTP session as an operator with that certificate; nil shows none.
func (d *demo) connect(id *testpki.Identity) (*smtp.Client, error) {
	conf := &tls.Config{RootCAs: d.roots(), ServerName: demoHost}
	if id != nil {
		conf.Certificates = []tls.Certificate{id.TLS()}
	}
	return smtp.DialStartTLS(d.addrs["smtp"], conf)
}

// send is what the patient platform does; it returns the text of the final 250.
func (d *demo) send(letter *story.Letter) (string, time.Duration, error) {
	c, err := d.connect(d.trust.Platform)
	if err != nil {
		return "", 0, err
	}
	defer c.Close()
	began := time.Now()
	if err := c.Mail(story.PatientAddress, &smtp.MailOptions{Size: int64(len(letter.Body))}); err != nil {
		return "", 0, err
	}
	if err := c.Rcpt(story.Pharmacy, nil); err != nil {
		return "", 0, err
	}
	w, err := c.Data()
	if err != nil {
		return "", 0, err
	}
	if _, err := w.Write(letter.Body); err != nil {
		return "", 0, err
	}
	resp, err := w.CloseWithResponse()
	if err != nil {
		return "", 0, err
	}
	took := time.Since(began)
	return resp.StatusText, took, c.Quit()
}

// read fetches the message as pharmacy software would and compares every octet.
func (d *demo) read(c *imapclient.Client, letter *story.Letter) error {
	began := time.Now()
	body := &imap.FetchItemBodySection{}
	messages, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{UID: true, Envelope: true, RFC822Size: true,
		BodySection: []*imap.FetchItemBodySection{body}}).Collect()
	if err != nil {
		return fmt.Errorf("FETCH : %w", err)
	}
	if len(messages) != 1 {
		return fmt.Errorf("FETCH : %d messages au lieu de 1", len(messages))
	}
	m := messages[0]
	got := m.FindBodySection(body)
	if m.RFC822Size != int64(len(got)) {
		return fmt.Errorf("RFC822.SIZE dit %d octets, BODY[] en a %d", m.RFC822Size, len(got))
	}
	if len(got) < len(letter.Body) {
		return fmt.Errorf("lu %d octets, envoyé %d", len(got), len(letter.Body))
	}
	prefix, blob := got[:len(got)-len(letter.Body)], got[len(got)-len(letter.Body):]
	want, have := sha256.Sum256(letter.Body), sha256.Sum256(blob)
	if want != have {
		return fmt.Errorf("l'empreinte du message lu (%x) n'est pas celle du message envoyé (%x)", have, want)
	}
	if !bytes.HasPrefix(prefix, []byte("Return-Path: <"+story.PatientAddress+">")) {
		return errors.New("les lignes ajoutées à l'arrivée ne commencent pas par Return-Path avec l'adresse de la patiente")
	}
	if m.Envelope.Subject != letter.Subject || "<"+m.Envelope.MessageID+">" != letter.MessageID {
		return errors.New("ENVELOPE ne donne pas l'objet et le Message-ID envoyés")
	}
	d.say("La pharmacie lit le message en %d ms : %d octets, identiques à l'octet près (SHA-256 %x…).", time.Since(began).Milliseconds(), len(blob), have[:8])
	return c.Logout().Wait()
}

// refusal is something that must not pass.
type refusal struct {
	what string
	as   *testpki.Identity
	tls  bool
	from string
	to   string
	code int
	enh  smtp.EnhancedCode
}

// refusals shows what the operator front refuses, and that it says why.
func (d *demo) refusals() error {
	d.say("Ce qui est refusé, et pourquoi :")
	t := d.trust
	for _, r := range []refusal{
		{"sans chiffrement (pas de TLS)", nil, false, story.PatientAddress, story.Pharmacy, 530, smtp.EnhancedCode{5, 7, 0}},
		{"sans certificat", nil, true, story.PatientAddress, story.Pharmacy, 550, smtp.EnhancedCode{5, 7, 1}},
		{"certificat d'une autorité inconnue", t.Stranger, true, story.PatientAddress, story.Pharmacy, 550, smtp.EnhancedCode{5, 7, 1}},
		{"certificat d'un autre opérateur, non lié à ce domaine", t.Intruder, true, story.PatientAddress, story.Pharmacy, 550, smtp.EnhancedCode{5, 7, 1}},
		{"adresse que nous n'avons pas", t.Platform, true, story.PatientAddress, story.Nobody, 550, smtp.EnhancedCode{5, 1, 1}},
		{"boîte que l'annuaire ne connaît pas", t.Platform, true, story.PatientAddress, story.Unpublished, 550, smtp.EnhancedCode{5, 1, 1}},
		{"domaine qui n'est pas le nôtre", t.Platform, true, story.PatientAddress, "contact@" + story.IntruderDomain, 550, smtp.EnhancedCode{5, 7, 1}},
	} {
		began := time.Now()
		err := d.attempt(r)
		var answer *smtp.SMTPError
		if !errors.As(err, &answer) {
			return fmt.Errorf("%s : attendu un refus %d, obtenu %v", r.what, r.code, err)
		}
		if answer.Code != r.code || answer.EnhancedCode != r.enh {
			return fmt.Errorf("%s : attendu %d %v, obtenu %d %v %s", r.what, r.code, r.enh, answer.Code, answer.EnhancedCode, answer.Message)
		}
		e := answer.EnhancedCode
		d.detail("%-54s %d %d.%d.%d %s (%d ms)", r.what, answer.Code, e[0], e[1], e[2], answer.Message, time.Since(began).Milliseconds())
	}
	return nil
}

// attempt returns the refusal, or nil when the recipient was accepted.
func (d *demo) attempt(r refusal) error {
	var c *smtp.Client
	var err error
	if r.tls {
		c, err = d.connect(r.as)
	} else {
		c, err = smtp.Dial(d.addrs["smtp"])
	}
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Mail(r.from, nil); err != nil {
		return err
	}
	return c.Rcpt(r.to, nil)
}

// trace prints the life of the message and checks that its stations are there.
func (d *demo) trace(ctx context.Context, id, messageID string) error {
	want := []trace.Kind{trace.Judged, trace.Recipient, trace.Committed, trace.Fetched}
	doc, err := d.wholeTrace(ctx, id, want)
	if err != nil {
		return err
	}
	d.say("La trace du message (mssd trace %s), sans aucune donnée de la patiente :", id)
	for _, e := range doc.Messages[0].Events {
		d.detail("%s", e.Line)
		if strings.Contains(e.Line, story.PatientINS) {
			return errors.New("la trace contient le numéro de la patiente")
		}
	}
	byMessageID, err := d.client.TraceByMessageID(ctx, messageID)
	if err != nil {
		return fmt.Errorf("trace par Message-ID : %w", err)
	}
	if len(byMessageID.Messages) != 1 || byMessageID.Messages[0].ID != id {
		return errors.New("la trace par Message-ID ne rend pas le même message")
	}
	return nil
}

// wholeTrace waits for the stations that are recorded a moment after the act (reading, at most a second).
func (d *demo) wholeTrace(ctx context.Context, id string, want []trace.Kind) (admin.Trace, error) {
	end := time.Now().Add(patience)
	for {
		doc, err := d.client.TraceByID(ctx, id)
		if err != nil {
			return doc, fmt.Errorf("trace : %w", err)
		}
		missing := missingKinds(doc, want)
		if missing == "" {
			return doc, nil
		}
		if time.Now().After(end) {
			return doc, fmt.Errorf("la trace ne montre pas : %s", missing)
		}
		select {
		case <-ctx.Done():
			return doc, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func missingKinds(doc admin.Trace, want []trace.Kind) string {
	seen := map[string]bool{}
	for _, m := range doc.Messages {
		for _, e := range m.Events {
			seen[e.Kind] = true
		}
	}
	var missing []string
	for _, k := range want {
		if !seen[k.String()] {
			missing = append(missing, k.String())
		}
	}
	return strings.Join(missing, ", ")
}
