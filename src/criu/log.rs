//! CRIU's log, as far as it says why something failed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// How much of the end of a log is looked at.
const TAIL: u64 = 64 * 1024;
/// How many errors are told: what failed and what that made fail.
const TOLD: usize = 3;
/// Errors that say no more than that there was one, or that CRIU goes on without.
const EMPTY_WORDS: [&str; 4] =
    ["Dumping FAILED", "Restoring FAILED", "exited, status=", "Can't setup RLIMIT_NOFILE"];

/// What CRIU says instead of an error when it has no capability at all that it could begin with.
const NO_CAPABILITY: &str = "CRIU needs to have the CAP_";
/// Of EPERM and EACCES.
const MISSING_RIGHTS: [&str; 2] = ["Operation not permitted", "Permission denied"];

/// The last errors in the log, the later ones last; None when there is no log or no error in it.
pub fn errors_in(path: &Path) -> Option<String> {
    let tail = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut tail = Vec::new();
        file.take(TAIL).read_to_end(&mut tail)?;
        Ok(tail)
    };
    // It only adorns an error that is reported anyway.
    last_errors(&String::from_utf8_lossy(&tail().ok()?))
}

/// The last errors in the text of a log, the later ones last.
pub fn last_errors(log: &str) -> Option<String> {
    let mut told: Vec<&str> = Vec::new();
    for line in log.lines().rev() {
        let Some(error) = message_of(line) else { continue };
        if told.len() == TOLD {
            break;
        }
        if !told.contains(&error) {
            told.push(error);
        }
    }
    told.reverse();
    (!told.is_empty()).then(|| told.join("; "))
}

/// The first line of what `criu check` prints that says that a right is missing. What fails later fails because of it.
pub fn missing_right(output: &str) -> Option<&str> {
    let denied = |error: &&str| MISSING_RIGHTS.iter().any(|words| error.contains(words));
    output.lines().find_map(|line| match line.starts_with(NO_CAPABILITY) {
        true => Some(line.trim_end_matches([':', ' '])),
        false => message_of(line).filter(denied),
    })
}

/// `(00.020833)   42: Error (criu/mount.c:1234): mnt: …` without what is of use to CRIU's authors alone.
fn message_of(line: &str) -> Option<&str> {
    let (_, error) = line.split_once("Error (")?;
    let (_, message) = error.split_once("): ")?;
    let message = message.trim();
    (!EMPTY_WORDS.iter().any(|words| message.contains(words))).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_last_errors_without_their_places() {
        let log = "(00.076009) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n\
                   (00.1) Warn  (criu/x.c:1): (something): else\n\
                   (00.2) Error (criu/a.c:1): first\n\
                   (00.3) Error (criu/a.c:2): mnt: 12:./x doesn't have a proper root mount\n\
                   (00.3)      1: Error (criu/a.c:2): mnt: 12:./x doesn't have a proper root mount\n\
                   Error (criu/util.c:641): execvp(\"x\", ...) failed: No such file or directory\n\
                   (00.3) Error (criu/util.c:656): exited, status=1\n\
                   (00.4)   42: Error (criu/b.c:9): last\n\
                   (00.5) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        assert_eq!(
            last_errors(log).unwrap(),
            "mnt: 12:./x doesn't have a proper root mount; execvp(\"x\", ...) failed: No such file or directory; last"
        );
        assert_eq!(last_errors("(00.1) nothing wrong\n"), None);
        assert_eq!(errors_in(Path::new("/nowhere/dump.log")), None);
    }

    #[test]
    fn tells_a_missing_right_from_a_kernel_that_is_too_new() {
        let none = "CRIU needs to have the CAP_SYS_ADMIN or the CAP_CHECKPOINT_RESTORE capability: \n\
                    setcap cap_checkpoint_restore+eip criu\n";
        assert_eq!(
            missing_right(none),
            Some("CRIU needs to have the CAP_SYS_ADMIN or the CAP_CHECKPOINT_RESTORE capability")
        );
        let some = "Warn  (criu/sk-unix.c:224): unix: Unable to open a socket file: Operation not permitted\n\
                    Error (criu/net.c:4121): net: Unable create a network namespace: Operation not permitted\n\
                    Error (criu/crtools.c:280): Could not initialize kernel features detection.\n";
        assert_eq!(
            missing_right(some),
            Some("net: Unable create a network namespace: Operation not permitted")
        );
        let kernel = "Warn  (criu/sk-unix.c:224): unix: Unable to open a socket file: Operation not permitted\n\
                      Error (criu/vdso.c:381): vdso: Unexpected rt vDSO area bounds\n";
        assert_eq!(missing_right(kernel), None);
    }
}
