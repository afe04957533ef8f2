package plugin

import (
	"context"
	stderrors "errors"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// ModuleName is the module of this package's errors.
const ModuleName = "plugin"

// The errors of this package. What a database itself reports is one of package db's.
var (
	// ErrLaunchFailed is returned when a plugin can't be started, or what was started is no plugin for
	// this host. Its text holds the last lines that the plugin printed.
	ErrLaunchFailed = errors.New(ModuleName, 1, "plugin: launch failed")
	// ErrChecksum is returned for a plugin whose file is not what the configuration says.
	ErrChecksum = errors.New(ModuleName, 2, "plugin: checksum mismatch")
	// ErrProtocol is returned when the other side sends what this one can't make sense of.
	ErrProtocol = errors.New(ModuleName, 3, "plugin: protocol violation")
	// ErrPanicked is returned for a call during which the backend panicked. The plugin's log has the stack.
	ErrPanicked = errors.New(ModuleName, 4, "plugin: backend panicked")
	// ErrGivenUp is returned, together with db.ErrUnavailable, by what a Supervisor gave up: it will not be
	// there again, and waiting or asking again is of no use. Opening it anew may be.
	ErrGivenUp = errors.New(ModuleName, 5, "plugin: given up")
)

const (
	// maxErrorText is where an error's text is cut before it travels, in bytes: it goes in HTTP/2
	// headers, which both sides bound.
	maxErrorText = 4 << 10
	// maxErrorIdentities bounds how many sentinels one error can be.
	maxErrorIdentities = 16
)

// toStatus makes of a backend's error one that keeps its identity across the wire.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	detail := &pb.ErrorDetail{
		Canceled:         errors.Is(err, context.Canceled),
		DeadlineExceeded: errors.Is(err, context.DeadlineExceeded),
	}
	var corrupted *db.CorruptedError
	if errors.As(err, &corrupted) {
		detail.Corrupted = toCorrupted(corrupted)
		if len(corrupted.Position) > maxErrorText { // a status travels in a header
			detail.Corrupted.Position = nil
		}
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		detail.Errno, detail.Os = uint32(errno), runtime.GOOS
	}
	collectIdentities(err, detail)
	code := codes.Unknown
	switch {
	case detail.Canceled:
		code = codes.Canceled
	case detail.DeadlineExceeded:
		code = codes.DeadlineExceeded
	}
	text := cutText(err.Error())
	withDetail, failed := status.New(code, text).WithDetails(detail)
	if failed != nil {
		return status.Error(codes.Internal, text)
	}
	return withDetail.Err()
}

// collectIdentities adds the sentinels in err's tree to detail. The tree is as deep as errors were
// wrapped, which no input decides.
func collectIdentities(err error, detail *pb.ErrorDetail) {
	switch wrapping := err.(type) {
	case nil:
		return
	case interface{ Unwrap() error }:
		if inner := wrapping.Unwrap(); inner != nil {
			collectIdentities(inner, detail)
			return
		}
	case interface{ Unwrap() []error }:
		for _, inner := range wrapping.Unwrap() {
			collectIdentities(inner, detail)
		}
		return
	}
	module, code, text := errors.Code(err)
	if module == errors.UnknownModule || len(detail.Identities) == maxErrorIdentities {
		return
	}
	for _, known := range detail.Identities {
		if known.Module == module && known.Code == code {
			return
		}
	}
	detail.Identities = append(detail.Identities, &pb.ErrorIdentity{Module: module, Code: code, Text: cutText(text)})
}

// cutText makes text valid UTF-8 of at most maxErrorText bytes.
func cutText(text string) string {
	if len(text) > maxErrorText {
		cut := maxErrorText - len("…")
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "?")
	}
	return text
}

// remoteError is an error that the backend returned: its text, and what it is.
type remoteError struct {
	text string
	is   []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.is }

// fromDetail makes a backend's error anew.
func fromDetail(text string, detail *pb.ErrorDetail) error {
	e := &remoteError{text: text}
	if c := detail.Corrupted; c != nil {
		e.is = append(e.is, fromCorrupted(c))
	}
	for _, identity := range detail.Identities {
		if err := errors.FromCode(identity.Module, identity.Code, identity.Text); err != nil {
			e.is = append(e.is, err)
		}
	}
	if detail.Canceled {
		e.is = append(e.is, context.Canceled)
	}
	if detail.DeadlineExceeded {
		e.is = append(e.is, context.DeadlineExceeded)
	}
	if detail.Errno != 0 && detail.Os == runtime.GOOS {
		e.is = append(e.is, syscall.Errno(detail.Errno))
	}
	return e
}

// detailOf returns what the backend said of an error, nil where the error is not the backend's.
func detailOf(s *status.Status) *pb.ErrorDetail {
	for _, d := range s.Details() {
		if detail, ok := d.(*pb.ErrorDetail); ok {
			return detail
		}
	}
	return nil
}

// fromStatus makes of a call's error what a NodeDB returns. ctx is the caller's: where it has ended, that
// is why a call failed without the backend's saying so. gone says why the backend can't be asked any more.
func fromStatus(ctx context.Context, err error, gone func() string) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok { // ours, or the context's own
		if stderrors.Is(err, ErrProtocol) || stderrors.Is(err, context.Canceled) || stderrors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return fmt.Errorf("%w: %w", db.ErrUnavailable, err)
	}
	if detail := detailOf(s); detail != nil {
		return fromDetail(s.Message(), detail)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("plugin: call ended: %w", ctx.Err())
	}
	switch s.Code() {
	case codes.DeadlineExceeded: // gRPC's timer was ahead of the context's
		return fmt.Errorf("plugin: call ended: %w", context.DeadlineExceeded)
	case codes.ResourceExhausted:
		return fmt.Errorf("%w: %s", db.ErrLimitExceeded, cutText(s.Message()))
	case codes.Unimplemented:
		return fmt.Errorf("%w: %s", db.ErrUnsupported, cutText(s.Message()))
	default:
		return fmt.Errorf("%w: %s", db.ErrUnavailable, gone())
	}
}
