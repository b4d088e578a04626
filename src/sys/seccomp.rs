//! System calls: seccomp.
