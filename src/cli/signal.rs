//! Names and numbers of signals.

use nix::libc;

/// Names that signal(7) has beside the one the kernel's headers prefer.
const ALIASES: [(&str, i32); 3] = [("IOT", libc::SIGABRT), ("CLD", libc::SIGCHLD), ("POLL", libc::SIGIO)];

/// A signal from its number, its name with or without `SIG`, in any case, or `RTMIN+n`, `RTMAX-n`.
///
/// Zero signals nothing and tells whether there is a process, as in kill(2). Nothing at all, which a script
/// with an unset variable sends, is the default as with runc.
pub fn parse(text: &str) -> Result<i32, String> {
    if text.is_empty() {
        return Ok(libc::SIGTERM);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = name.parse().ok().or_else(|| standard(name)).or_else(|| real_time(name));
    match number {
        Some(number) if (0..=libc::SIGRTMAX()).contains(&number) => Ok(number),
        _ => Err(format!("unknown signal {text:?}")),
    }
}

fn standard(name: &str) -> Option<i32> {
    if let Some((_, number)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
        return Some(*number);
    }
    nix::sys::signal::Signal::iterator()
        .find(|signal| signal.as_str().strip_prefix("SIG") == Some(name))
        .map(|signal| signal as i32)
}

fn real_time(name: &str) -> Option<i32> {
    let (base, offset) = match name.split_at_checked(5)? {
        ("RTMIN", rest) => (libc::SIGRTMIN(), rest),
        ("RTMAX", rest) => (libc::SIGRTMAX(), rest),
        _ => return None,
    };
    // `RTMIN5` is not a name: the sign must be there.
    if !offset.is_empty() && !offset.starts_with(['+', '-']) {
        return None;
    }
    let offset: i32 = if offset.is_empty() { 0 } else { offset.parse().ok()? };
    let number = base.checked_add(offset)?;
    (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("TERM", 15),
            ("term", 15),
            ("sigkill", 9),
            ("9", 9),
            ("CLD", 17),
            ("SIGPOLL", 29),
            ("IO", 29),
            ("IOT", 6),
            ("WINCH", 28),
            ("64", 64),
            ("0", 0),
            ("", 15),
            ("RTMIN", libc::SIGRTMIN()),
            ("SIGRTMIN+3", libc::SIGRTMIN() + 3),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_signal() {
        for text in ["SIG", "65", "-9", "TERMINATE", "RTMIN5", "RTMIN-1", "RTMAX+1", "RTMIN+x", "é"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
