package main

import (
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mssd/directory/whitelist"
	"mssd/tlsconf"
)

// maxListOctets bounds a list file; the real one has 5 MB.
const maxListOctets = 256 << 20

func newWhitelist() *cobra.Command {
	return group("whitelist", "The signed list of domains (liste blanche)", newWhitelistStatus(), newWhitelistFind(),
		newWhitelistVerify(), newWhitelistDiff(), newWhitelistPreview(), newWhitelistAccept(), newWhitelistMake())
}

func newWhitelistVerify() *cobra.Command {
	var anchors, signers []string
	var noChain bool
	c := &cobra.Command{
		Use:   "verify FILE --anchors PEM | --no-chain",
		Short: "Verify a signed list off line and say what it holds",
		Long: "Verify digest, signature and signer of a list, and print rows, domains, DNs, signer and dates. --no-chain leaves the\n" +
			"signer's certificate unjudged: the list is then unbroken, but nothing is known of who made it.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if noChain == (len(anchors) > 0) {
				return usageError{errors.New("give either --anchors (PEM files of the signer's authorities) or --no-chain")}
			}
			opt := whitelist.Options{SignerNames: signers, NoChain: noChain}
			if !noChain {
				a, err := tlsconf.LoadAnchors(anchors)
				if err != nil {
					return err
				}
				opt.Anchors = a
			}
			b, err := readLimited(args[0], maxListOctets)
			if err != nil {
				return err
			}
			list, err := whitelist.Load(b, opt)
			if err != nil {
				return fmt.Errorf("%s: refused: %w", args[0], err)
			}
			showList(cmd.OutOrStdout(), args[0], list)
			if noChain {
				fmt.Fprintln(cmd.ErrOrStderr(), "WARNING: --no-chain: only digest and signature were verified. The signer was NOT judged: anybody\n"+
					"could have signed this list. Verify with --anchors before you trust it.")
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringSliceVar(&anchors, "anchors", nil, "PEM file of the authorities of the signer (may be repeated)")
	f.StringSliceVar(&signers, "signer", listSigners(), "name of which the signer's certificate must carry one")
	f.BoolVar(&noChain, "no-chain", false, "verify digest and signature only")
	return c
}

func showList(out io.Writer, file string, l *whitelist.List) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	s := l.Signer()
	row(w, "file", file)
	row(w, "generated", l.Generated().UTC().Format(time.RFC3339))
	row(w, "rows", l.Rows())
	row(w, "domains", l.Domains())
	row(w, "DNs", l.DNs())
	if dn, err := tlsconf.DNFromRaw(s.RawSubject); err == nil {
		row(w, "signer", dn.String())
	}
	row(w, "signer's mail", dash(strings.Join(s.EmailAddresses, ", ")))
	if dn, err := tlsconf.DNFromRaw(s.RawIssuer); err == nil {
		row(w, "issued by", dn.String())
	}
	row(w, "signer valid", s.NotBefore.UTC().Format(time.RFC3339)+" to "+s.NotAfter.UTC().Format(time.RFC3339))
	row(w, "sha256", fmt.Sprintf("%x", l.SHA256))
	row(w, "version", l.Version())
	_ = w.Flush()
}

func newWhitelistMake() *cobra.Command {
	var cert, key, out string
	var at string
	c := &cobra.Command{
		Use:   "make --cert PEM --key PEM [--out FILE] DOMAIN=DN…",
		Short: "Write a signed list for a sandbox or a test",
		Long: "Write a list of the form of the liste blanche, signed with a certificate and its RSA key, from pairs domain=DN:\n\n" +
			"  mssd whitelist make --cert signer.pem --key signer.key --out list.xml \\\n" +
			"    \"pharma.test=CN=smtp.pharma.test,OU=300000000000001,O=OPERATEUR,ST=Paris (75),C=FR\"",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := bindings(args)
			if err != nil {
				return err
			}
			generated := time.Now()
			if at != "" {
				t, err := when("--generated", at)
				if err != nil {
					return err
				}
				generated = *t
			}
			return makeList(cmd.OutOrStdout(), out, cert, key, rows, generated)
		},
	}
	f := c.Flags()
	f.StringVar(&cert, "cert", "", "PEM file of the signer's certificate")
	f.StringVar(&key, "key", "", "PEM file of the signer's RSA key")
	f.StringVar(&out, "out", "", "file to write (default: standard output)")
	f.StringVar(&at, "generated", "", "date of the list (default: now)")
	_ = c.MarkFlagRequired("cert")
	_ = c.MarkFlagRequired("key")
	return c
}

func bindings(args []string) ([]whitelist.Binding, error) {
	var rows []whitelist.Binding
	for _, a := range args {
		domain, dn, ok := strings.Cut(a, "=")
		if !ok || domain == "" || dn == "" {
			return nil, usageError{fmt.Errorf("%q; expected domain=DN, as pharma.test=CN=smtp.pharma.test,O=OPERATEUR,C=FR", a)}
		}
		if _, err := tlsconf.ParseDN(dn); err != nil {
			return nil, usageError{fmt.Errorf("%q: %w", a, err)}
		}
		rows = append(rows, whitelist.Binding{Domain: strings.ToLower(domain), DN: dn, Description: "made by mssd whitelist make"})
	}
	return rows, nil
}

// makeList signs rows; the file appears whole or not at all.
func makeList(stdout io.Writer, out, certFile, keyFile string, rows []whitelist.Binding, generated time.Time) error {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", certFile, keyFile, err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return fmt.Errorf("%s: this key cannot sign", keyFile)
	}
	if out == "" {
		return whitelist.Make(stdout, rows, pair.Leaf, signer, generated)
	}
	tmp := out + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer os.Remove(tmp) // nothing to remove once renamed
	err = whitelist.Make(f, rows, pair.Leaf, signer, generated)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp, out)
}

// readLimited reads a whole file of at most limit octets.
func readLimited(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: more than %d octets; this is no list", file, limit)
	}
	return b, err
}
