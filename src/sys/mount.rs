//! System calls: mount.
