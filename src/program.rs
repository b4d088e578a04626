//! The container's program: found as execvp(3) would, and diagnosed when execve(2) fails.
//!
//! Runs in init with the container's root and user, so that a path means what it means to the
//! program. The words are those of Go's `os/exec`, on which engines match to tell "not found" (exit
//! code 127) from "not permitted" (126).

mod diagnosis;

pub use diagnosis::{Needs, diagnose, needs};

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{SFlag, stat};
use nix::unistd::{AccessFlags, faccessat};

use crate::error::{Code, Error, Result};

/// Finds the program of `process.args[0]`. A command with a slash is taken as it is, relative to the
/// working directory; any other is searched in `PATH` of `environment`, the container's.
pub fn find(command: &str, environment: &[String]) -> Result<PathBuf> {
    if command.contains('/') {
        let path = PathBuf::from(command);
        return match executable(&path) {
            Ok(()) => Ok(path),
            Err(Errno::EISDIR) => Err(failed(command, "permission denied: it is a directory".into())),
            Err(Errno::EACCES) => Err(failed(command, "permission denied".into())),
            Err(errno) => Err(failed(command, format!("stat {command}: {}", text(errno)))),
        };
    }
    let not_found = || failed(command, "executable file not found in $PATH".into());
    if command.is_empty() {
        return Err(not_found());
    }
    // The last entry wins, as in the environment that the program gets.
    let Some(path) = environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")) else {
        return Err(not_found().remedy("process.env has no PATH"));
    };
    let mut refused = None;
    for directory in path.split(':') {
        // An empty element means the working directory (execvp(3), POSIX XBD 8.3).
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(command);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) if refused.is_none() => refused = Some(candidate),
            // Missing, or out of reach in whatever way: the next directory may have it (as with execvp(3)).
            Err(_) => {}
        }
    }
    Err(match refused {
        Some(candidate) => {
            not_found().remedy(format!("{} is not executable by this user", candidate.display()))
        }
        None => not_found(),
    })
}

/// Whether the process may execute the file, by its effective ids and capabilities.
fn executable(path: &Path) -> nix::Result<()> {
    let kind = SFlag::from_bits_truncate(stat(path)?.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    if kind != SFlag::S_IFREG {
        return Err(Errno::EACCES);
    }
    // Also EACCES on a mount with noexec.
    faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS)
}

/// `exec: "sh": what`.
fn failed(command: &str, what: String) -> Error {
    Error::new(Code::Exec, format!("exec: {command:?}: {what}"))
}

/// The errno's words in lower case, as engines match them.
fn text(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn env(entries: &[&str]) -> Vec<String> {
        entries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn searches_the_containers_path() {
        assert_eq!(find("sh", &env(&["PATH=/nowhere:/bin"])).unwrap(), Path::new("/bin/sh"));
        assert_eq!(find("sh", &env(&["PATH=/nowhere", "PATH=/bin"])).unwrap(), Path::new("/bin/sh"));
        assert_eq!(find("/bin/sh", &[]).unwrap(), Path::new("/bin/sh"));
    }

    #[test]
    fn says_what_engines_match_on() {
        let error = |command: &str, entries: &[&str]| find(command, &env(entries)).unwrap_err().to_string();
        assert_eq!(error("foo", &["PATH=/bin"]), "exec: \"foo\": executable file not found in $PATH");
        assert_eq!(error("", &["PATH=/bin"]), "exec: \"\": executable file not found in $PATH");
        assert!(error("sh", &[]).ends_with("not found in $PATH; process.env has no PATH"));
        assert_eq!(error("/foo", &[]), "exec: \"/foo\": stat /foo: no such file or directory");
        assert_eq!(error("/etc", &[]), "exec: \"/etc\": permission denied: it is a directory");
        assert_eq!(error("/dev/null", &[]), "exec: \"/dev/null\": permission denied");
        assert_eq!(find("/foo", &[]).unwrap_err().code(), Code::Exec);
    }

    #[test]
    fn passes_over_directories_and_names_what_is_not_executable() {
        let dir = std::env::temp_dir().join(format!("berth-program-{}", std::process::id()));
        fs::create_dir_all(dir.join("sh")).unwrap();
        fs::write(dir.join("plain"), "x").unwrap();
        fs::set_permissions(dir.join("plain"), fs::Permissions::from_mode(0o644)).unwrap();
        let path = format!("PATH={}:/bin", dir.display());
        assert_eq!(find("sh", &env(&[&path])).unwrap(), Path::new("/bin/sh"));
        let error = find("plain", &env(&[&path])).unwrap_err().to_string();
        assert!(
            error.contains("not found in $PATH; ") && error.contains("plain is not executable"),
            "{error}"
        );
        fs::remove_dir_all(dir).unwrap();
    }
}
