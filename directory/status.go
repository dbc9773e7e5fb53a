package directory

import "time"

// Status is the state of the mirror, for people and monitoring.
type Status struct {
	Usable     bool         `json:"usable"` // some feed has an image that is not too old
	Generation uint64       `json:"generation"`
	Feeds      []FeedStatus `json:"feeds"`
	Live       *LiveStatus  `json:"live,omitempty"` // nil: no LDAP to ask
}

// FeedStatus is the state of one feed.
type FeedStatus struct {
	Name       string         `json:"name"`
	HasImage   bool           `json:"has_image"`
	Following  bool           `json:"following"` // changes arrive as they are made
	TooOld     bool           `json:"too_old"`
	Generation uint64         `json:"generation,omitempty"`
	Generated  time.Time      `json:"generated,omitzero"` // when the source was made or read
	AgeSeconds int64          `json:"age_seconds,omitempty"`
	Rows       int            `json:"rows"`
	RowsByKind map[string]int `json:"rows_by_kind,omitempty"`
	Octets     int            `json:"octets"`
	Faults     int            `json:"faults"` // rows that were left out
	FirstFault string         `json:"first_fault,omitempty"`
	Changed    time.Time      `json:"changed,omitzero"`    // when the rows in force were last changed
	Refused    *Refusal       `json:"refused,omitempty"`   // the last reading, if a gate kept it out
	NotSaved   string         `json:"not_saved,omitempty"` // why a restart would not find this image
	LastTry    time.Time      `json:"last_try,omitzero"`
	LastGood   time.Time      `json:"last_good,omitzero"`
	NextTry    time.Time      `json:"next_try,omitzero"`
	LastError  string         `json:"last_error,omitempty"`
}

// LiveStatus counts the live questions.
type LiveStatus struct {
	Asked    uint64 `json:"asked"`
	Failed   uint64 `json:"failed"`
	Refrains bool   `json:"refrains"` // the circuit breaker is open
	Dropped  uint64 `json:"dropped"`  // questions for the trace alone that had no room
}

// Status tells the state of the mirror.
func (d *Directory) Status() Status {
	now := d.cfg.Now()
	st := Status{Generation: d.generation.Load(), Feeds: []FeedStatus{}}
	for _, f := range d.feeds {
		fs := d.feedStatus(f, now)
		st.Usable = st.Usable || fs.HasImage && !fs.TooOld
		st.Feeds = append(st.Feeds, fs)
	}
	if d.live != nil {
		st.Live = d.live.status()
	}
	return st
}

func (d *Directory) feedStatus(f *feed, now time.Time) FeedStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	fs := FeedStatus{Name: f.name, Following: f.following.Load(), LastTry: f.lastTry, LastGood: f.lastGood, NextTry: f.nextTry, Refused: f.refusal}
	if f.lastErr != nil {
		fs.LastError = f.lastErr.Error()
	}
	if f.saveErr != nil {
		fs.NotSaved = f.saveErr.Error()
	}
	img := f.image.Load()
	if img == nil {
		return fs
	}
	fs.HasImage, fs.Generation, fs.Generated, fs.Changed = true, img.generation, img.generated, img.changed
	fs.TooOld = img.age(now) > d.cfg.CannotTellAfter
	fs.AgeSeconds = int64(img.age(now) / time.Second)
	fs.Rows, fs.RowsByKind, fs.Octets = img.rows(), img.rowKinds(), img.octets()
	fs.Faults, fs.FirstFault = img.faults, img.firstFault
	return fs
}
