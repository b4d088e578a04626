//! System calls: fs.
