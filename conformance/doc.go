// Package conformance proves a backend: a table of cases, each named, each about clauses of the contract
// (package framework/mkvs/db), each with a fresh database. It looks at nothing but the contract, so that a
// backend may store what it likes how it likes, in this process or another. A backend runs it with
//
//	func TestConformance(t *testing.T) {
//		conformance.Run(t, conformance.Harness{Open: mybackend.New().New})
//	}
//
// and a plugin's program, each database in a process of its own, with
//
//	func TestConformance(t *testing.T) {
//		conformance.Run(t, conformance.Program{Path: "./my-backend"}.Harness())
//	}
//
// The command `ckpt-host conformance` is the same for a program that is not at hand as source. It uses
// Prove, which gives a report; package report writes that.
//
// # Levels and profiles
//
// A case has a level. Core cases are for every backend. Durable cases are for those that claim to survive
// crashes, and each other level is for an optional capability, which the backend declares at run time
// (db.Capabilities). Process cases are about the way to a backend in a process of its own.
//
// A profile says which levels have to be passed: Core, and Durable, which has Core in it, both with what
// the backend declares. A capability that is declared and fails is a failure; one that works and is not
// declared is a remark.
//
// # Verdicts
//
// A case passes or fails; or it is not supported, with the reason; or the suite itself could not do it,
// which is an error. Nothing but a case that passed counts as passed: a run in which a case of the profile
// was left out is partial. A backend that can't be begun with, as its program is no plugin or opens no
// database, fails with that as the reason. Benchmarks stand beside the verdict.
//
// # The suite is proved, too
//
// A case says nothing if no backend can fail it. Package conformance/faulty has databases with a defect, and
// its test a table of cases and the defects that each has to fail on. A new case comes with a row.
//
// # Stability
//
// Names of cases stay what they are, and so do the fields of a report. Version grows when cases come.
package conformance

// Version is the suite's.
const Version = "1.0.0"
