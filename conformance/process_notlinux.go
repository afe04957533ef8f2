//go:build !linux

package conformance

import "errors"

// What the system knows of processes: there is no way to ask here.

func descriptors(int) (int, error) { return 0, errors.ErrUnsupported }

func privateBytes(int) (int64, error) { return 0, errors.ErrUnsupported }

func whoHasOpen(string) ([]string, error) { return nil, errors.ErrUnsupported }

func hasStopped(int) (bool, error) { return false, errors.ErrUnsupported }

func leftOf(int) ([]int, error) { return nil, errors.ErrUnsupported }
