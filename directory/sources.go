package directory

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"mssd/tlsconf"
	"mssd/tlsconf/fetch"
)

const fetchTimeout = 15 * time.Minute // of one download: 90 MB over a slow line

// webSource is a place of the extraction. Only the loop of its feed uses it.
type webSource struct {
	fetch.Source
	tag   fetch.Tag // of the version read last; not known after a start
	stamp string    // of the same
}

func newSources(x *ExtractionConfig) []*webSource {
	var out []*webSource
	for _, u := range x.URLs {
		// The mirror of data.gouv.fr redirects to a sister host that serves files.
		out = append(out, &webSource{Source: fetch.Source{URL: u, MaxSize: maxExtraction, Timeout: fetchTimeout, Agent: "mssd", Sisters: true}})
	}
	return out
}

// readExtraction asks the places in their order, the file last; the first that answers is taken. One further down the list
// must be newer than what is held: it is a copy of the same.
func (d *Directory) readExtraction(ctx context.Context) (*image, error) {
	feed := d.feed("extraction")
	var errs []error
	done := func(img *image, err error) bool {
		// What a gate refused waits for the operator: a copy of it must not take its place.
		if err == nil || errors.Is(err, errUnchanged) || errors.Is(err, errStillRefused) || ctx.Err() != nil {
			return true
		}
		errs = append(errs, err)
		return false
	}
	for i, src := range d.extraction {
		img, err := d.readWeb(ctx, feed, src, i > 0)
		if err != nil && !errors.Is(err, errUnchanged) {
			err = fmt.Errorf("%s: %w", src.URL, err)
		}
		if done(img, err) {
			d.tellPassedOver(errs)
			return img, err
		}
	}
	if d.cfg.Extraction.File != "" {
		img, err := d.readFile(ctx, feed, len(d.extraction) > 0)
		if done(img, err) {
			d.tellPassedOver(errs)
			return img, err
		}
	}
	return nil, errors.Join(errs...)
}

func (d *Directory) tellPassedOver(errs []error) {
	for _, err := range errs {
		d.cfg.Log.Warn("directory source passed over, the next one answered", "feed", "extraction", "err", err)
	}
}

// readWeb asks what version a place has, and fetches it if it is another one.
func (d *Directory) readWeb(ctx context.Context, feed *feed, src *webSource, fallback bool) (*image, error) {
	roots, err := webRoots(d.cfg.Extraction.AnchorFiles)
	if err != nil {
		return nil, err
	}
	src.Roots = nil
	if roots != nil {
		src.Roots = func() *x509.CertPool { return roots }
	}
	info, err := src.Head(ctx)
	switch {
	case err == nil:
		if stamp := src.version(info); stamp != "" {
			if err := feed.seen(stamp); err != nil {
				return nil, err
			}
		}
	case !errors.Is(err, fetch.ErrStatus): // this status may be for the question alone: then the next one tells
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	file, info, err := d.download(ctx, feed, src)
	if file == nil {
		return nil, err
	}
	defer func() {
		_ = file.Close()
		_ = os.Remove(file.Name())
	}()
	modified, err := time.Parse(time.RFC1123, strings.Replace(info.LastModified, "GMT", "UTC", 1))
	if err != nil {
		modified = d.cfg.Now()
	}
	stamp := src.version(info)
	img, err := d.parseExtraction(ctx, feed, document{file: file, size: info.Size, where: src.URL, stamp: stamp, name: info.Name,
		modified: modified, fallback: fallback})
	if err == nil {
		src.tag, src.stamp = info.Tag, stamp
	}
	return img, err
}

// download puts the document into a file that the caller removes; nil with the reason when there is none.
func (d *Directory) download(ctx context.Context, feed *feed, src *webSource) (*os.File, fetch.Info, error) {
	var tag fetch.Tag
	known := feed.seen(src.stamp)
	if src.stamp != "" && known != nil {
		tag = src.tag
	}
	if d.cfg.StateDir != "" {
		if err := os.MkdirAll(d.cfg.StateDir, 0o700); err != nil {
			return nil, fetch.Info{}, err
		}
	}
	file, err := os.CreateTemp(d.cfg.StateDir, "extraction.new*")
	if err != nil {
		return nil, fetch.Info{}, err
	}
	info, changed, err := src.Save(ctx, tag, file)
	if err == nil && changed {
		return file, info, nil
	}
	_ = file.Close()
	_ = os.Remove(file.Name())
	if err != nil {
		return nil, info, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil, info, known
}

// version tells one version of a document from the next: by the date in its name, else by what the server gives for it;
// "" where nothing does.
func (w *webSource) version(info fetch.Info) string {
	switch {
	case dateInName.MatchString(info.Name):
		return w.URL + " " + path.Base(info.Name)
	case info.Tag != fetch.Tag{}:
		return fmt.Sprintf("%s %q %q", w.URL, info.ETag, info.LastModified)
	}
	return ""
}

// webRoots are the authorities of the system and those of files; nil: of the system alone. The files may be replaced
// while we run.
func webRoots(files []string) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	anchors, err := tlsconf.LoadAnchors(files)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, c := range anchors.Certs() {
		pool.AddCert(c)
	}
	return pool, nil
}
