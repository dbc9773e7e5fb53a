package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"mssd/admin"
	"mssd/cmd/mssd/story"
	"mssd/trace"
)

// plainLogin is PLAIN (RFC 4616), the side of the client.
type plainLogin struct{ user, password string }

func (p plainLogin) Start() (string, []byte, error) {
	return "PLAIN", []byte("\x00" + p.user + "\x00" + p.password), nil
}

func (plainLogin) Next([]byte) ([]byte, error) { return nil, errors.New("unexpected challenge") }

// question is what the pharmacy sends: to the doctor, who has a BAL here, by the submission front.
func (d *demo) question(ctx context.Context) error {
	if _, err := d.client.AddBAL(ctx, admin.NewBAL{Address: story.Doctor, Kind: "PER", Listing: "unlisted"}); err != nil {
		return err
	}
	c, err := smtp.DialTLS(d.addrs["submissions"], &tls.Config{RootCAs: d.roots(), ServerName: demoHost})
	if err != nil {
		return fmt.Errorf("l'envoi par la pharmacie : %w", err)
	}
	defer c.Close()
	if err := c.Auth(plainLogin{d.boxes[0].User, d.boxes[0].Password}); err != nil {
		return fmt.Errorf("l'authentification de la pharmacie : %w", err)
	}
	began := time.Now()
	err = c.Mail(story.Pharmacy, nil)
	if err == nil {
		err = c.Rcpt(story.Doctor, nil)
	}
	if err != nil {
		return fmt.Errorf("l'envoi par la pharmacie : %w", err)
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "From: %s <%s>\r\nTo: <%s>\r\nSubject: Question sur un renouvellement\r\n\r\nBonjour Docteur.\r\n", story.PharmacyName, story.Pharmacy, story.Doctor); err != nil {
		return err
	}
	resp, err := w.CloseWithResponse()
	if err != nil {
		return fmt.Errorf("l'envoi par la pharmacie : %w", err)
	}
	took := time.Since(began)
	id := idIn(resp.StatusText)
	if !strings.Contains(resp.StatusText, "<"+id+"@") {
		return fmt.Errorf("la réponse ne donne pas le Message-ID ajouté : %q", resp.StatusText)
	}
	if _, err := d.wholeTrace(ctx, id, []trace.Kind{trace.Submitted, trace.Recipient, trace.Committed}); err != nil {
		return err
	}
	d.say("La pharmacie écrit à un médecin de l'opérateur (envoi authentifié, TLS) : accepté en %d ms. Réponse : 250 %s", took.Milliseconds(), resp.StatusText)
	return d.notSent(c)
}

// notSent shows what a member cannot send.
func (d *demo) notSent(c *smtp.Client) error {
	refused := func(what string, err error, want smtp.EnhancedCode) error {
		var answer *smtp.SMTPError
		if !errors.As(err, &answer) || answer.Code != 550 || answer.EnhancedCode != want {
			return fmt.Errorf("%s : attendu 550 %v, obtenu %v", what, want, err)
		}
		d.detail("%-54s %d %d.%d.%d %s", what, answer.Code, want[0], want[1], want[2], answer.Message)
		return nil
	}
	if err := refused("écrire au nom d'une autre boîte", c.Mail(story.Doctor, nil), smtp.EnhancedCode{5, 7, 1}); err != nil {
		return err
	}
	if err := c.Mail(story.Pharmacy, nil); err != nil {
		return err
	}
	if err := refused("écrire à un autre opérateur (pas encore)", c.Rcpt(story.PatientAddress, nil), smtp.EnhancedCode{5, 3, 3}); err != nil {
		return err
	}
	return c.Quit()
}
