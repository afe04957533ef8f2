//go:build !unix

package conformance

import "errors"

// stop would have a process do nothing; there is no way here.
func stop(int) (resume func(), err error) { return nil, errors.ErrUnsupported }
