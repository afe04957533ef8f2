package conformance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// endTimeout is how long a process in which no database could be opened has to end, before it is killed.
const endTimeout = 5 * time.Second

// Program is a plugin's program.
type Program struct {
	// Name is what reports call it; "" means Path.
	Name string
	// Path, Args and Env are as in plugin.LaunchConfig.
	Path string
	Args []string
	Env  []string
	// Settings are the backend's own, for all databases that are opened.
	Settings []byte
	// RunDir is where sockets go, see plugin.LaunchConfig.
	RunDir string
	// NoSharedMemory is as in plugin.LaunchConfig. The suite shares memory, but for a case that does not.
	NoSharedMemory bool
	// StartTimeout is how long the program may take to start; 0 means plugin.DefaultStartTimeout.
	StartTimeout time.Duration
	// Logger takes the program's messages; nil means that they are dropped.
	Logger hclog.Logger
}

// Harness returns a harness in which each database has a process of the program for itself.
func (p Program) Harness() Harness {
	return Harness{
		Open:     p.open,
		Crash:    killProcess,
		Settings: p.Settings,
		Program:  &p,
	}
}

func (p *Program) name() string {
	if p.Name != "" {
		return p.Name
	}
	return p.Path
}

// launch starts a process of the program, in which no database is open yet.
func (p *Program) launch(ctx context.Context) (*served, error) {
	said := &output{}
	process, err := plugin.Launch(ctx, plugin.LaunchConfig{
		Path: p.Path, Args: p.Args, Env: p.Env, RunDir: p.RunDir, StartTimeout: p.StartTimeout,
		NoSharedMemory: p.NoSharedMemory,
		Logger:         said.logger(p.Logger),
	})
	if err != nil {
		return nil, err
	}
	return &served{process: process, said: said}, nil
}

func (p Program) open(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
	s, err := p.launch(ctx)
	if err != nil {
		return nil, err
	}
	if s.NodeDB, err = s.process.Open(ctx, cfg); err != nil {
		// Nothing is open in it that had to be closed well.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		err = errors.Join(err, s.process.Close(ctx))
		if text := s.said.String(); text != "" {
			err = fmt.Errorf("%w\n%s", err, text)
		}
		return nil, err
	}
	return s, nil
}

// served is a database that has a process for itself, which ends with it.
type served struct {
	db.NodeDB
	process *plugin.Process
	said    *output

	mu     sync.Mutex
	closed bool
}

// Close closes the database and ends its process.
func (s *served) Close(ctx context.Context) error {
	err := s.NodeDB.Close(ctx)
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if !first {
		return err
	}
	return errors.Join(err, s.process.Close(context.WithoutCancel(ctx)))
}

// killProcess ends the process of a database as kill -9 does.
func killProcess(ndb db.NodeDB) error {
	process := processOf(ndb)
	if process == nil {
		return fmt.Errorf("conformance: a %T has no process", ndb)
	}
	found, err := os.FindProcess(process.PID())
	if err != nil {
		return err
	}
	if err := found.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-process.Done()
	return nil
}

// sha256 returns the hash of the program's file.
func (p *Program) sha256() (string, error) {
	path, err := exec.LookPath(p.Path)
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
