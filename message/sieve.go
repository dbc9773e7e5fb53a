package message

// Sieve rules most texts out that do not hold the words of a search, without the texts themselves. It has one bit for what
// every three octets in a row of Header or Body hash to, about a tenth of the size of the text. The zero Sieve rules nothing
// out.
type Sieve []byte

const (
	sieveShare = 10 // octets of text for each of its sieve
	sieveStep  = 64 // octets; sizes are multiples of it
)

// NewSieve makes the Sieve of a text. That of one that is cut is nil: what was left out may hold the words.
func NewSieve(t Text) Sieve {
	if t.HeaderCut || t.BodyCut {
		return nil
	}
	s := make(Sieve, ((len(t.Header)+len(t.Body))/sieveShare/sieveStep+1)*sieveStep)
	s.add(t.Header)
	s.add(t.Body)
	return s
}

func (s Sieve) add(text []byte) {
	for i := 2; i < len(text); i++ {
		bit := s.bit(text[i-2], text[i-1], text[i])
		s[bit/8] |= 1 << (bit % 8)
	}
}

func (s Sieve) bit(a, b, c byte) uint32 {
	h := (uint32(a) | uint32(b)<<8 | uint32(c)<<16) * 0x9e3779b1 // the golden ratio: neighbours go far apart
	return uint32(uint64(h) * uint64(len(s)*8) >> 32)
}

// MayHold is false where no field and no line of the text holds needle, folded. One of fewer than three octets may be
// anywhere.
func (s Sieve) MayHold(needle []byte) bool {
	if len(s) == 0 {
		return true
	}
	for i := 2; i < len(needle); i++ {
		if bit := s.bit(needle[i-2], needle[i-1], needle[i]); s[bit/8]&(1<<(bit%8)) == 0 {
			return false
		}
	}
	return true
}

// MinSieved is how many octets a needle has at least for a Sieve to say anything of it.
const MinSieved = 3
