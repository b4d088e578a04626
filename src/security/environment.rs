//! The environment of the container's program.

use std::collections::HashSet;

/// The environment with `HOME` added when it is missing or empty, as runc and crun do and programs
/// rely on. Of several entries of one name the last stays, at its place: what a program makes of
/// duplicates differs from program to program, which has hidden variables from those who check them.
///
/// `passwd` is the container's `/etc/passwd`, None when it has none.
pub fn environment(env: &[String], passwd: Option<&[u8]>, uid: u32) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut kept: Vec<String> = env.iter().rev().filter(|entry| seen.insert(name(entry))).cloned().collect();
    kept.reverse();
    kept.retain(|entry| entry != "HOME=");
    if !kept.iter().any(|entry| name(entry) == "HOME") {
        kept.push(format!("HOME={}", home(passwd.unwrap_or_default(), uid)));
    }
    kept
}

/// Whether the environment says itself what `HOME` is: by the entry that stays, the last one.
pub fn has_home(env: &[String]) -> bool {
    let last = env.iter().rev().find_map(|entry| entry.strip_prefix("HOME="));
    last.is_some_and(|home| !home.is_empty())
}

fn name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

/// The home directory of the first entry of passwd(5) whose third field is the uid; `/` without one. The
/// name field is never compared: an image may call a user `1000` (CVE-2016-3697).
pub fn home(passwd: &[u8], uid: u32) -> String {
    let home = passwd.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b':').skip(2);
        let number = std::str::from_utf8(fields.next()?).ok()?;
        // parse would take "+0" too.
        if !number.bytes().all(|byte| byte.is_ascii_digit()) || number.parse() != Ok(uid) {
            return None;
        }
        std::str::from_utf8(fields.nth(2)?).ok()
    });
    // A relative or empty home would mean something else in every directory; a control character
    // cannot be meant.
    match home {
        Some(home) if home.starts_with('/') && !home.contains(char::is_control) => home.to_string(),
        _ => "/".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n1000:x:0:0:evil:/evil:\nuser:x:1000:100::/home/user:\nshort:x:7\nrel:x:8:8::home:\nsign:x:+9:9::/nine:\n";

    #[test]
    fn cve_2016_3697_a_numeric_name_does_not_win() {
        assert_eq!(home(PASSWD, 1000), "/home/user");
        assert_eq!(home(PASSWD, 0), "/root");
    }

    #[test]
    fn falls_back_to_the_root_directory() {
        for uid in [5, 7, 8, 9] {
            assert_eq!(home(PASSWD, uid), "/", "uid {uid}");
        }
        assert_eq!(home(b"\xff:x:1:1:\xff:/one:\n", 1), "/one");
        assert_eq!(home(b"", 0), "/");
    }

    #[test]
    fn adds_home_only_when_it_is_missing() {
        let env = |entries: &[&str]| {
            let entries: Vec<_> = entries.iter().map(ToString::to_string).collect();
            environment(&entries, Some(PASSWD), 0)
        };
        assert_eq!(env(&["A=1"]), ["A=1", "HOME=/root"]);
        assert_eq!(env(&["HOME=/x", "A=1"]), ["HOME=/x", "A=1"]);
        assert_eq!(env(&["HOME=", "A=1"]), ["A=1", "HOME=/root"]);
        assert_eq!(env(&["HOME=/x", "HOME="]), ["HOME=/root"]);
        assert_eq!(env(&["A=1", "B=2", "A=3", "HOME=/x"]), ["B=2", "A=3", "HOME=/x"]);
    }
}
