//! System calls: credentials.
