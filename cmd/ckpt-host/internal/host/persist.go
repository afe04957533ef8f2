package host

import (
	"errors"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// persistence is how often Persist does something: more often than a process may die in a row.
const persistence = 2 * plugin.DefaultRestarts

// Persist does something with a database that can be done again, until its process does not die with it
// (see Restart). A database that is not opened again says so, which ends this; one that can't be asked for
// reasons of its own, with its process alive, ends it soon.
func Persist(do func() error) (err error) {
	for range persistence {
		err = do()
		if !errors.Is(err, db.ErrUnavailable) || errors.Is(err, plugin.ErrGivenUp) {
			break
		}
	}
	return err
}
