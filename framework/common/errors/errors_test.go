package errors_test

import (
	stderrors "errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/ckpt-project/ckpt/framework/common/errors"
)

var (
	errOne = errors.New("test/errors", 1, "one")
	errTwo = errors.New("test/errors", 2, "two")
)

func TestIdentity(t *testing.T) {
	wrapped := fmt.Errorf("while testing: %w", errOne)
	for _, c := range []struct {
		err, target error
		want        bool
	}{
		{errOne, errOne, true},
		{errOne, errTwo, false},
		{wrapped, errOne, true},
		{errors.WithContext(wrapped, "more"), errOne, true},
		{stderrors.Join(io.EOF, wrapped), errOne, true},
		{errors.FromCode("test/errors", 1, "another text"), errOne, true},
		{errors.FromCode("test/errors", 3, "unknown here"), errOne, false},
		{errors.FromCode("test/other", 1, "one"), errOne, false},
		{errors.FromCode("test/other", 1, "one"), errors.FromCode("test/other", 1, "told otherwise"), true},
		{io.EOF, errOne, false},
		{errOne, io.EOF, false},
	} {
		if got := errors.Is(c.err, c.target); got != c.want {
			t.Errorf("%v is %v: %v", c.err, c.target, got)
		}
	}
	if got := errors.WithContext(errOne, "doing this").Error(); got != "doing this: one" {
		t.Errorf("text %q", got)
	}
	if errors.WithContext(nil, "doing this") != nil {
		t.Error("no error with context is one")
	}
	var e interface{ Is(error) bool }
	if !errors.As(wrapped, &e) || !errors.Is(errors.Join(io.EOF, errTwo), errTwo) {
		t.Error("As or Join lose the error")
	}
}

func TestCode(t *testing.T) {
	for _, c := range []struct {
		err    error
		module string
		code   uint32
		text   string
	}{
		{nil, "", errors.CodeNoError, ""},
		{errOne, "test/errors", 1, "one"},
		{fmt.Errorf("while testing: %w", errTwo), "test/errors", 2, "two"},
		{io.EOF, errors.UnknownModule, 1, "EOF"},
		{errors.FromCode("test/away", 7, "from afar"), "test/away", 7, "from afar"},
	} {
		module, code, text := errors.Code(c.err)
		if module != c.module || code != c.code || text != c.text {
			t.Errorf("%v: %q %d %q", c.err, module, code, text)
		}
	}
	if errors.FromCode("test/errors", errors.CodeNoError, "x") != nil {
		t.Error("no error has a code")
	}
	if got := errors.FromCode("test/errors", 2, "x"); got != errTwo {
		t.Errorf("the sentinel that is known here is %v", got)
	}
}

func TestNewPanics(t *testing.T) {
	for name, code := range map[string]uint32{"reserved": errors.CodeNoError, "taken": 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a %s code was taken", name)
				}
			}()
			_ = errors.New("test/errors", code, "again")
		}()
	}
}

func TestConcurrently(t *testing.T) {
	var wg sync.WaitGroup
	for i := range uint32(8) {
		wg.Go(func() {
			err := errors.New("test/concurrent", i+1, "text")
			for code := range uint32(8) {
				if got := errors.Is(errors.FromCode("test/concurrent", code+1, "other"), err); got != (code == i) {
					t.Errorf("code %d is %v: %v", code+1, err, got)
				}
			}
		})
	}
	wg.Wait()
}
