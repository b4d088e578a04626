//! Terminals: size, controlling terminal, raw mode.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::termios::{self, LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, Termios};

use crate::error::{Call, Result};

mod ioctl {
    #![allow(missing_docs)] // the macros make public functions
    nix::ioctl_write_int_bad!(tiocsctty, libc::TIOCSCTTY);
    nix::ioctl_read_bad!(tiocgwinsz, libc::TIOCGWINSZ, libc::winsize);
    nix::ioctl_write_ptr_bad!(tiocswinsz, libc::TIOCSWINSZ, libc::winsize);
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters per line.
    pub columns: u16,
}

/// Sets the size; the foreground process group gets SIGWINCH when it changed.
///
/// # Errors
/// ENOTTY and the like.
pub fn set_size(tty: BorrowedFd<'_>, size: Size) -> Result<()> {
    let value = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads a winsize that outlives the call.
    unsafe { ioctl::tiocswinsz(tty.as_raw_fd(), &raw const value) }
        .call(|| format!("ioctl(TIOCSWINSZ, {}x{})", size.columns, size.rows))
        .map(drop)
}

/// The size of a terminal.
///
/// # Errors
/// ENOTTY and the like.
pub fn size(tty: BorrowedFd<'_>) -> Result<Size> {
    let mut value = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel fills a winsize that outlives the call.
    unsafe { ioctl::tiocgwinsz(tty.as_raw_fd(), &raw mut value) }.call(|| "ioctl(TIOCGWINSZ)".into())?;
    Ok(Size { rows: value.ws_row, columns: value.ws_col })
}

/// Makes `tty` the controlling terminal of the caller, who must be a session leader without one.
///
/// # Errors
/// EPERM when it belongs to another session.
pub fn set_controlling(tty: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: an integer argument; 0 means "do not steal it from another session".
    unsafe { ioctl::tiocsctty(tty.as_raw_fd(), 0) }.call(|| "ioctl(TIOCSCTTY)".into()).map(drop)
}

/// Switches off the translation of "\n" to "\r\n" on output, for a pty whose output goes to a file or
/// pipe: the reader would see bytes that the process never wrote.
///
/// # Errors
/// ENOTTY and the like.
pub fn clear_onlcr(tty: BorrowedFd<'_>) -> Result<()> {
    let mut attributes = termios::tcgetattr(tty).call(|| "tcgetattr".into())?;
    attributes.output_flags.remove(OutputFlags::ONLCR);
    termios::tcsetattr(tty, SetArg::TCSANOW, &attributes).call(|| "tcsetattr".into())
}

/// Puts a terminal into raw mode and gives back what it was.
///
/// # Errors
/// ENOTTY and the like.
pub fn make_raw(tty: BorrowedFd<'_>) -> Result<Termios> {
    let before = termios::tcgetattr(tty).call(|| "tcgetattr".into())?;
    let mut raw = before.clone();
    termios::cfmakeraw(&mut raw);
    debug_assert!(!raw.local_flags.contains(LocalFlags::ECHO));
    termios::tcsetattr(tty, SetArg::TCSANOW, &raw).call(|| "tcsetattr".into())?;
    Ok(before)
}

/// What is typed on the terminal for the end of the input (`^D`); None while its program reads single bytes.
///
/// # Errors
/// The kernel's.
pub fn end_of_file(tty: BorrowedFd<'_>) -> Result<Option<u8>> {
    let attributes = termios::tcgetattr(tty).call(|| "tcgetattr".into())?;
    let by_lines = attributes.local_flags.contains(LocalFlags::ICANON);
    Ok(by_lines.then(|| attributes.control_chars[SpecialCharacterIndices::VEOF as usize]))
}

/// Gives a terminal its earlier attributes back.
///
/// # Errors
/// ENOTTY and the like.
pub fn restore(tty: BorrowedFd<'_>, attributes: &Termios) -> Result<()> {
    termios::tcsetattr(tty, SetArg::TCSADRAIN, attributes).call(|| "tcsetattr".into())
}
