// Package tap prints the Test Anything Protocol: what runtime-tools uses of github.com/mndrix/tap-go, which
// Debian does not have. Only the names and what the calls mean are that package's.
package tap

import (
	"encoding/json"
	"fmt"
	"strings"
)

// T numbers the assertions of one stream.
type T struct {
	count *int
	todo  bool
}

// New begins a stream.
func New() *T { return &T{count: new(int)} }

// Header names the protocol's version; a plan of 0 is one that AutoPlan will print.
func (t *T) Header(plan int) {
	fmt.Println("TAP version 13")
	if plan > 0 {
		fmt.Printf("1..%d\n", plan)
	}
}

// AutoPlan says how many assertions there were.
func (t *T) AutoPlan() { fmt.Printf("1..%d\n", *t.count) }

// Ok is one assertion.
func (t *T) Ok(passed bool, description string) {
	*t.count++
	result, directive := "ok", ""
	if !passed {
		result = "not ok"
	}
	if t.todo {
		directive = " # TODO"
	}
	fmt.Printf("%s %d - %s%s\n", result, *t.count, strings.ReplaceAll(description, "\n", " "), directive)
}

// Pass is an assertion that holds.
func (t *T) Pass(description string) { t.Ok(true, description) }

// Fail is an assertion that does not hold.
func (t *T) Fail(description string) { t.Ok(false, description) }

// Skip counts assertions that were not made.
func (t *T) Skip(count int, reason string) {
	for ; count > 0; count-- {
		*t.count++
		fmt.Printf("ok %d # SKIP %s\n", *t.count, reason)
	}
}

// Todo is the same stream; an assertion made through it may fail.
func (t *T) Todo() *T { return &T{count: t.count, todo: true} }

// Diagnostic is a comment.
func (t *T) Diagnostic(message string) {
	fmt.Printf("# %s\n", strings.ReplaceAll(message, "\n", "\n# "))
}

// Diagnosticf is a formatted comment.
func (t *T) Diagnosticf(format string, arguments ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, arguments...))
}

// YAML describes the assertion before it, as JSON on one line, which is YAML too.
func (t *T) YAML(value interface{}) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	fmt.Printf("  ---\n  %s\n  ...\n", text)
	return nil
}
