package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// tokenFault is a token that is not good. It wraps ErrCredentials.
type tokenFault struct {
	reason string // for log and trace
	signed bool   // the issuer made it: whoever shows it does not guess
	person string // whose it is, where that is known
}

func (f *tokenFault) Error() string { return "auth: token refused: " + f.reason }
func (f *tokenFault) Unwrap() error { return ErrCredentials }

// forged is a token that the issuer cannot be shown to have made.
func forged(reason string) error { return &tokenFault{reason: reason} }

// refused is a token of the issuer that is of no use here.
func refused(reason, person string) error {
	return &tokenFault{reason: reason, signed: true, person: person}
}

// tokenAlgorithms is every signature believed. None and the symmetric ones are not among them: with these a public key
// would be the secret (RFC 8725, Section 2.1).
var tokenAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256}

// claims is what is read of a token, and of the issuer's answer about it (RFC 9068, RFC 7662).
type claims struct {
	Active   bool            `json:"active"` // of an answer
	Issuer   string          `json:"iss"`
	Subject  string          `json:"sub"`
	Expires  seconds         `json:"exp"`
	NotYet   seconds         `json:"nbf"`
	Issued   seconds         `json:"iat"`
	Audience audience        `json:"aud"`
	Party    string          `json:"azp"`
	Client   string          `json:"client_id"`
	Type     string          `json:"typ"`
	NameID   string          `json:"SubjectNameID"`      // national identifier of the professional
	Username string          `json:"preferred_username"` // the same
	RefPro   json.RawMessage `json:"SubjectRefPro"`      // advice: whatever stands there, the token is as good (places)
	Confirm  struct {
		Thumbprint string `json:"x5t#S256"`
	} `json:"cnf"`
}

// seconds is a NumericDate (RFC 7519, Section 2); 0 is none.
type seconds int64

// UnmarshalJSON takes whole numbers and fractions; what does not fit a date of this world is an error.
func (s *seconds) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	if f < 0 || f > 1<<40 || math.IsNaN(f) {
		return errors.New("auth: not a date")
	}
	*s = seconds(f)
	return nil
}

func (s seconds) time() time.Time { return time.Unix(int64(s), 0) }

// audience is one name or several (RFC 7519, Section 4.1.3).
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// verify checks a token without asking about it: signature by a key of the issuer, issuer, dates, parties.
func (p *PSC) verify(ctx context.Context, token string) (*claims, error) {
	jws, err := jose.ParseSignedCompact(token, tokenAlgorithms)
	if err != nil {
		return nil, forged("TokenMalformed")
	}
	head := jws.Signatures[0].Header
	payload, err := p.issuer.verified(ctx, head.KeyID, func(k *jose.JSONWebKey) ([]byte, error) {
		if k.Algorithm != "" && k.Algorithm != head.Algorithm {
			return nil, jose.ErrCryptoFailure
		}
		return jws.Verify(k.Key)
	})
	if err != nil {
		return nil, err
	}
	var c claims
	if json.Unmarshal(payload, &c) != nil {
		return nil, refused("TokenMalformed", "")
	}
	if c.Expires == 0 {
		return nil, refused("TokenWithoutEnd", "")
	}
	return &c, p.judge(&c, false)
}

// judge holds claims to the configuration: those of a token, or those of the issuer's answer about it, in which nothing
// that is left out is missed.
func (p *PSC) judge(c *claims, answer bool) error {
	now := p.cfg.Now()
	party := c.Party
	if party == "" {
		party = c.Client
	}
	switch {
	case c.Issuer != p.cfg.Issuer && (c.Issuer != "" || !answer):
		return refused("TokenOfAnotherIssuer", "")
	case c.Expires != 0 && !now.Before(c.Expires.time().Add(p.cfg.Skew)):
		return refused("TokenExpired", "")
	case c.NotYet != 0 && now.Add(p.cfg.Skew).Before(c.NotYet.time()), c.Issued != 0 && now.Add(p.cfg.Skew).Before(c.Issued.time()):
		return refused("TokenNotYetValid", "")
	// Keycloak calls an access token "Bearer"; an ID token or refresh token of the same issuer is no key to a door.
	case c.Type != "" && !slices.ContainsFunc([]string{"Bearer", "at+jwt", "JWT"}, func(t string) bool { return strings.EqualFold(t, c.Type) }):
		return refused("TokenOfAnotherType", "")
	case len(p.cfg.Parties) > 0 && !slices.Contains(p.cfg.Parties, party) && (party != "" || !answer):
		return refused("TokenOfAnotherParty", "")
	case len(p.cfg.Audiences) > 0 && !slices.ContainsFunc(c.Audience, func(a string) bool { return slices.Contains(p.cfg.Audiences, a) }) && (c.Audience != nil || !answer):
		return refused("TokenForAnotherAudience", "")
	}
	return nil
}

// identity is the person of the claims. SubjectNameID and preferred_username say the same where both are there.
func (c *claims) identity() (identity, error) {
	id := identity{expires: c.Expires.time(), places: places(c.RefPro)}
	for _, national := range []string{c.NameID, c.Username} {
		if national == "" {
			continue
		}
		person := personOf(national)
		if person == "" {
			return identity{}, refused("TokenWithoutPerson", "")
		}
		if id.person != "" && id.person != person {
			return identity{}, refused("TokenOfTwoPersons", "")
		}
		id.person = person
	}
	if id.person == "" {
		return identity{}, refused("TokenWithoutPerson", "")
	}
	if t := c.Confirm.Thumbprint; t != "" {
		sum, err := base64.RawURLEncoding.DecodeString(t)
		if err != nil || len(sum) != sha256.Size {
			return identity{}, refused("TokenMalformed", id.person)
		}
		id.bound, id.isBound = [sha256.Size]byte(sum), true
	}
	return id, nil
}

// personOf is the member id of a national identifier: "8" and an RPPS number of 11 digits, or "0" and an ADELI number of 9
// characters; "" for identifiers of another kind, which name nobody outside of a structure.
func personOf(national string) string {
	national = strings.ToUpper(national)
	const digits = "0123456789"
	switch {
	case len(national) == 12 && national[0] == '8' && strings.Trim(national, digits) == "":
		return "rpps:" + national[1:]
	case len(national) == 10 && national[0] == '0' && strings.Trim(national, digits+"ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "":
		return "adeli:" + national[1:]
	}
	return ""
}

// usableKey says whether signatures of a key of the issuer are believed.
func usableKey(k *jose.JSONWebKey) bool {
	if k.Use != "" && k.Use != "sig" || !k.Valid() {
		return false
	}
	switch pub := k.Key.(type) {
	case *rsa.PublicKey:
		n := pub.N.BitLen()
		return n >= 2048 && n <= 8192
	case *ecdsa.PublicKey:
		return pub.Curve == elliptic.P256()
	}
	return false
}
