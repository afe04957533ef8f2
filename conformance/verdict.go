package conformance

// Verdict is what becomes of a case, or of a whole run.
type Verdict string

const (
	// Pass says that what had to be shown was.
	Pass Verdict = "pass"
	// Fail says that the backend broke its contract.
	Fail Verdict = "fail"
	// NotSupported cases make no sense for the backend, or can't be tried on it here; the reason says why.
	NotSupported Verdict = "not supported"
	// Error says that the suite could not do what it wanted to: nothing is known of the backend.
	Error Verdict = "error"
	// Partial runs passed all they tried, and left out some of their profile's cases.
	Partial Verdict = "partial"
)
