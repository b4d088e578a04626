//! System calls: socket.
