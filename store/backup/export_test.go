package backup

import "fmt"

var ParseManifest = parseManifest

// ManifestText is a whole manifest, its signature included.
func ManifestText(m *Manifest) []byte { return fmt.Appendf(m.text(), "%s %x\n", macWord, m.mac) }
