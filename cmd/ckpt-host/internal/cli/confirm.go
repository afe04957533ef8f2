package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"
)

// confirm asks the person at the terminal, and fails with otherwise, which says what is so then, unless the answer
// is yes.
func (e *env) confirm(ctx context.Context, question string, otherwise error) error {
	if _, err := fmt.Fprintf(e.Err(), "%s [y/N] ", question); err != nil {
		return err
	}
	// The read can't be broken off. A signal ends the command all the same, and the process with it.
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(e.In()).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case text := <-answer:
		if text == "y" || text == "yes" {
			return nil
		}
		return otherwise
	}
}
