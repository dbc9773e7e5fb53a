package auth

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// FuzzBearer: whatever a client sends is a user and a token that stand in it, or no message.
func FuzzBearer(f *testing.F) {
	f.Add("user=a@b.test\x01auth=Bearer x.y.z\x01\x01")
	f.Add("n,a=a@b.test,\x01host=h\x01port=143\x01auth=Bearer x.y.z\x01\x01")
	f.Add("n,a=a=3Db=2C@b.test,\x01auth=bearer x\x01\x01")
	f.Add("y,,\x01auth=Bearer x\x01\x01")
	f.Add("user=\x01auth=Bearer x\x01\x01")
	f.Fuzz(func(t *testing.T, message string) {
		for _, mechanism := range []string{XOAuth2, OAuthBearer} {
			user, token, err := parseBearer(mechanism, []byte(message))
			if err != nil {
				if !errors.Is(err, ErrMessage) || user != "" || token != "" {
					t.Fatalf("%q %q %v", user, token, err)
				}
				continue
			}
			if token == "" || !strings.Contains(message, token) || strings.ContainsAny(user+token, "\x00\x01") {
				t.Fatalf("%s: %q %q of %q", mechanism, user, token, message)
			}
		}
	})
}

// FuzzClaims: whatever an issuer says is a person of ours, or a fault.
func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"exp":1.5e9,"SubjectNameID":"899900000052","aud":"x","cnf":{"x5t#S256":"AAAA"}}`))
	f.Add([]byte(`{"exp":"1","aud":["a",1],"preferred_username":"0759900015"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var c claims
		if json.Unmarshal(text, &c) != nil {
			return
		}
		id, err := c.identity()
		var fault *tokenFault
		if err != nil && !errors.As(err, &fault) || err == nil && !strings.HasPrefix(id.person, "rpps:") && !strings.HasPrefix(id.person, "adeli:") {
			t.Fatalf("%+v %v", id, err)
		}
	})
}
