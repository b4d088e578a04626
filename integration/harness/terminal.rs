//! Both ends of a terminal: the console socket's receiver, and a pty of the test to run berth in.

use super::program::{directory, patience};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Instant;

nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, libc::winsize);

/// One side of a terminal that is read with patience.
pub struct Terminal {
    pub file: File,
    seen: Vec<u8>,
}

impl Terminal {
    pub fn new(fd: OwnedFd) -> Self {
        Self { file: File::from(fd), seen: Vec::new() }
    }

    /// Reads until the condition holds of all that was seen, or the other side is gone.
    #[track_caller]
    pub fn read_until(&mut self, mut condition: impl FnMut(&str) -> bool) -> String {
        let deadline = Instant::now() + patience();
        loop {
            let text = String::from_utf8_lossy(&self.seen).replace("\r\n", "\n");
            if condition(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "not seen in time on the terminal: {text:?}");
            let mut polled = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut polled, PollTimeout::from(100_u8)).expect("poll");
            if ready > 0 {
                let mut buffer = [0; 4096];
                match self.file.read(&mut buffer) {
                    Ok(0) | Err(_) => {
                        let text = String::from_utf8_lossy(&self.seen).replace("\r\n", "\n");
                        assert!(condition(&text), "the terminal ended: {text:?}");
                        return text;
                    }
                    Ok(length) => self.seen.extend(&buffer[..length]),
                }
            }
        }
    }

    #[track_caller]
    pub fn type_in(&mut self, text: &str) {
        self.file.write_all(text.as_bytes()).expect("write to the terminal");
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCSWINSZ reads one winsize, which lives until the call returns.
        unsafe { set_window_size(self.file.as_raw_fd(), &raw const size) }.expect("TIOCSWINSZ");
    }
}

/// A pty: master for the test, slave for berth's standard streams.
pub fn pty() -> (Terminal, File) {
    let pair = nix::pty::openpty(None, None).expect("openpty");
    (Terminal::new(pair.master), File::from(pair.slave))
}

/// Listens where `--console-socket` points.
pub struct ConsoleSocket {
    pub path: PathBuf,
    listener: UnixListener,
}

/// What came over a console socket: the payload, the descriptors, and whether anything followed.
pub struct Console {
    pub payload: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
    pub stream: UnixStream,
}

impl ConsoleSocket {
    pub fn new() -> Self {
        let path = directory().join("console.sock");
        Self { listener: UnixListener::bind(&path).expect("console socket"), path }
    }

    #[track_caller]
    pub fn receive(&self) -> Console {
        let mut polled = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let wait = PollTimeout::try_from(patience()).expect("patience");
        assert_eq!(poll(&mut polled, wait).expect("poll"), 1, "nobody connected to the console socket");
        let (stream, _) = self.listener.accept().expect("accept");
        stream.set_read_timeout(Some(patience())).expect("timeout");
        let mut buffer = vec![0; 8192];
        let mut space = nix::cmsg_space!([i32; 16]);
        let (length, descriptors) = {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let message =
                recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
                    .expect("recvmsg");
            let mut descriptors = Vec::new();
            for control in message.cmsgs().expect("control messages") {
                if let ControlMessageOwned::ScmRights(fds) = control {
                    // SAFETY: the kernel has just made these descriptors for this process; nobody else owns them.
                    descriptors.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                }
            }
            (message.bytes, descriptors)
        };
        buffer.truncate(length);
        Console { payload: buffer, descriptors, stream }
    }
}
