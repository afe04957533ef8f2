// Package faulty makes backends with a defect, to prove the suite that proves backends: a case that no
// defect can fail says nothing. A factory wraps another one's databases; which defect they have is a
// setting, so that a database in this process and one in a plugin's process are made faulty in the same way.
//
// The defects are such as real backends have: a cache that is keyed too coarsely, memory that is used
// again, a mark that is written too early, an error that loses its identity. Each has a sentence that says
// what goes wrong and the clauses of package framework/mkvs/db that it breaks. They are not made for a
// case; which cases fail on which is for the tests to say.
//
//	faulty.go     the factory, and the settings that name a defect
//	table.go      all defects, in the order of the contract
//	wrap.go       what most are made of
//	general.go    defects of all methods
//	reading.go    of roots, nodes, paths, walks and write logs
//	batches.go    of batches
//	versions.go   of finalizing, pins and pruning
//	multipart.go  of multipart inserts
//	reopening.go  of what is stored: they show when a database is opened again, or its process was killed
//	leaks.go      of what is not given back
//	process.go    of programs, where the database itself is sound: those that serve nothing
//	wire.go       and those that speak the wire badly
package faulty
