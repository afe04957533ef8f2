// Package errors makes sentinel errors that keep their identity across processes: each has a module
// and a code, which are part of the API, and two errors with the same module and code are the same
// error to errors.Is, wherever they were made.
package errors

import (
	stderrors "errors"
	"fmt"
	"sync"
)

// UnknownModule is the module of errors that have none; their code is 1.
const UnknownModule = "unknown"

// CodeNoError is the code of no error.
const CodeNoError = 0

type coded struct {
	module string
	code   uint32
	text   string
}

func (e *coded) Error() string { return e.text }

// Is compares by module and code, so that an error received from another process is the sentinel that
// it was there, even where this process does not know the sentinel.
func (e *coded) Is(target error) bool {
	t, ok := target.(*coded)
	return ok && t.module == e.module && t.code == e.code
}

type identity struct {
	module string
	code   uint32
}

var registry sync.Map // identity → *coded

// New makes a sentinel error and registers it. It panics when module and code are taken, or code is
// CodeNoError: both are mistakes in the program, seen when it starts.
func New(module string, code uint32, text string) error {
	if code == CodeNoError {
		panic(fmt.Sprintf("errors: module %q: code %d is reserved", module, code))
	}
	e := &coded{module: module, code: code, text: text}
	if prev, taken := registry.LoadOrStore(identity{module, code}, e); taken {
		panic(fmt.Sprintf("errors: module %q: code %d is taken by %q", module, code, prev.(*coded).text))
	}
	return e
}

// FromCode returns the sentinel with this module and code; where this process has none, a new error
// with text that compares by module and code. It returns nil for CodeNoError.
func FromCode(module string, code uint32, text string) error {
	if code == CodeNoError {
		return nil
	}
	if e, ok := registry.Load(identity{module, code}); ok {
		return e.(*coded)
	}
	return &coded{module: module, code: code, text: text}
}

// Code returns the module and code of the first error in err's tree that has them, and that error's
// own text. It returns UnknownModule and 1 where there is none, and "", CodeNoError for nil.
func Code(err error) (module string, code uint32, text string) {
	if err == nil {
		return "", CodeNoError, ""
	}
	var e *coded
	if stderrors.As(err, &e) {
		return e.module, e.code, e.text
	}
	return UnknownModule, 1, err.Error()
}

// WithContext adds what happened to err, in front of its text, and keeps its identity.
func WithContext(err error, context string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", context, err)
}

// Is is the standard library's errors.Is.
func Is(err, target error) bool { return stderrors.Is(err, target) }

// As is the standard library's errors.As.
func As(err error, target any) bool { return stderrors.As(err, target) }

// Join is the standard library's errors.Join.
func Join(errs ...error) error { return stderrors.Join(errs...) }
