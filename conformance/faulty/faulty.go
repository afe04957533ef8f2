package faulty

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// Defect is a way in which a backend can be wrong.
type Defect struct {
	// Name is the defect's, in settings and reports.
	Name string
	// Wrong says what goes wrong, in a sentence.
	Wrong string
	// Clauses are those of package framework/mkvs/db that the defect breaks.
	Clauses []string
	// Stored says that the defect shows only in a database that is there again when it is opened again.
	Stored bool
	// Killed says that it shows only when the database's process was killed.
	Killed bool

	// spoil makes a sound database faulty; it or open is set.
	spoil func(ndb db.NodeDB) db.NodeDB
	// open opens a database of a sound factory, and makes it faulty.
	open func(ctx context.Context, sound db.Factory, cfg *db.Config) (db.NodeDB, error)
}

// Settings returns the settings of a database that has a defect; "" is none.
func Settings(defect string) []byte {
	b, err := json.Marshal(settings{Defect: defect})
	if err != nil {
		panic(err) // a string can be encoded
	}
	return b
}

// settings are those of a database.
type settings struct {
	// Defect is the name of its defect.
	Defect string `json:"defect"`
	// Backend are the settings of the backend below, or nothing.
	Backend json.RawMessage `json:"backend,omitempty"`
}

// factory opens faulty databases.
type factory struct{ sound db.Factory }

// New returns a factory of databases that are another factory's, with the defect that their settings name.
// Without settings they are as sound as those.
func New(sound db.Factory) db.Factory { return factory{sound} }

// Name is the sound factory's name, with a word before it.
func (f factory) Name() string { return "faulty-" + f.sound.Name() }

// New opens a database.
func (f factory) New(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
	var s settings
	if len(cfg.Settings) > 0 {
		d := json.NewDecoder(bytes.NewReader(cfg.Settings))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", db.ErrBadSettings, f.Name(), err)
		}
	}
	below := *cfg
	below.Settings = s.Backend
	if s.Defect == "" {
		return f.sound.New(ctx, &below)
	}
	i := slices.IndexFunc(defects, func(d Defect) bool { return d.Name == s.Defect })
	if i < 0 {
		return nil, fmt.Errorf("%w: %s: there is no defect %q", db.ErrBadSettings, f.Name(), s.Defect)
	}
	if d := defects[i]; d.open != nil {
		return d.open(ctx, f.sound, &below)
	}
	ndb, err := f.sound.New(ctx, &below)
	if err != nil {
		return nil, err
	}
	return defects[i].spoil(ndb), nil
}
