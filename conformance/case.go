package conformance

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// Case is a line of the table.
type Case struct {
	// Name is area/name: it stays what it is.
	Name string
	// Level says for whom the case is.
	Level Level
	// Clauses are those of package framework/mkvs/db that the case is about, or of another contract.
	Clauses []string
	// Explanation says what is done and why it matters, for whoever reads a failure.
	Explanation string

	run func(e *env)
	// needsCrash says that the case kills processes.
	needsCrash bool
	// timesKills says that how long the case may take grows with Options.Kills.
	timesKills bool
}

// Area is the part of the contract that the case is about: the first half of its name.
func (c *Case) Area() string {
	area, _, _ := strings.Cut(c.Name, "/")
	return area
}

// Level says for whom a case is.
type Level string

const (
	// Core cases are for every backend.
	Core Level = "core"
	// Process cases are for every backend in a process of its own.
	Process Level = "process"
	// Durable cases are for backends whose databases survive crashes.
	Durable Level = "durable"
	// WriteLogs, Compact and Integrity cases are for backends with these capabilities.
	WriteLogs Level = "write-logs"
	Compact   Level = "compact"
	Integrity Level = "integrity"
)

// capabilities are the levels that a backend declares.
var capabilities = []struct {
	level    Level
	declared func(c db.Capabilities) bool
}{
	{Durable, func(c db.Capabilities) bool { return c.Durable }},
	{WriteLogs, func(c db.Capabilities) bool { return c.WriteLogs }},
	{Compact, func(c db.Capabilities) bool { return c.Compact }},
	{Integrity, func(c db.Capabilities) bool { return c.Integrity }},
}

// Profile is what a backend is to pass.
type Profile string

const (
	// ProfileCore is what every backend has to pass: core and process cases, and those of the capabilities
	// that it declares, but for Durable.
	ProfileCore Profile = "core"
	// ProfileDurable is ProfileCore and the durable cases.
	ProfileDurable Profile = "durable"
	// ProfileCrash is the crash cases alone, with many more kills.
	ProfileCrash Profile = "crash"
)

// Profiles are all profiles, the default first.
var Profiles = []Profile{ProfileCore, ProfileDurable, ProfileCrash}

// kills is how often the crash histories kill where nothing else is said.
func (p Profile) kills() int {
	if p == ProfileCrash {
		return CrashProfileKills
	}
	return DefaultKills
}

// requires says whether a backend that declares some capabilities has to pass a case.
func (p Profile) requires(c *Case, declared map[Level]bool) bool {
	if p == ProfileCrash {
		return c.Area() == crashArea
	}
	switch c.Level {
	case Core, Process:
		return true
	case Durable:
		return p == ProfileDurable
	case Integrity: // what is in memory alone nobody can damage
		return declared[Integrity] && declared[Durable]
	default:
		return declared[c.Level]
	}
}

// tries says whether a case is tried where no others are chosen: those that are required, and those of
// capabilities that are not declared, which may work all the same.
func (p Profile) tries(c *Case, declared map[Level]bool) bool {
	return p.requires(c, declared) || p != ProfileCrash && isCapability(c.Level) && !declared[c.Level]
}

func isCapability(l Level) bool { return l != Core && l != Process }

// crashArea is the area of the cases that kill processes.
const crashArea = "crash"

// Select returns the cases whose names match, all for nil.
func Select(name *regexp.Regexp) []Case {
	var out []Case
	for _, c := range Cases() {
		if name == nil || name.MatchString(c.Name) {
			out = append(out, c)
		}
	}
	return out
}

// Alone returns a regular expression that selects only the case.
func (c *Case) Alone() string { return fmt.Sprintf("^%s$", regexp.QuoteMeta(c.Name)) }
