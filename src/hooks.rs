//! Runs one hook: environment, state on stdin, timeout.
