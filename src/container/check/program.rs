//! Whether the container's program is in the root file system, with what it needs.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};

use crate::program;
use crate::rootfs::{Symlinks, find};

/// What is known of `process.args[0]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::container) enum Program {
    /// Nothing: a mount may bring it, or the root file system cannot be looked at.
    #[default]
    Unknown,
    /// It is there, and so is all that it needs.
    Found,
    /// It is at none of these paths.
    Missing(Vec<PathBuf>),
    /// There is a file without the permission to execute it.
    NotExecutable(PathBuf),
    /// The ELF interpreter, or that of its first line, is not there.
    WithoutInterpreter(PathBuf),
    /// It is for this other machine.
    OfMachine(String),
}

/// Looks for the program of `spec` below `rootfs`, as init will.
pub(super) fn look(spec: &Spec, rootfs: &Path) -> Program {
    let Some(process) = spec.process() else { return Program::Unknown };
    // As a directory: to open a fifo for reading takes as long as nobody writes to it.
    let root = match File::options().read(true).custom_flags(libc::O_DIRECTORY).open(rootfs) {
        Ok(root) if root.metadata().is_ok_and(|root| root.is_dir()) => root,
        // The rule about the root says so.
        _ => return Program::Unknown,
    };
    let candidates = candidates(process);
    let mut refused = None;
    for path in &candidates {
        if is_covered(spec, path) {
            return Program::Unknown;
        }
        let Ok(found) = find(root.as_fd(), path, Symlinks::Follow) else { return Program::Unknown };
        let Some(file) = found else { continue };
        match metadata(&file) {
            Some((true, mode)) if mode & 0o111 != 0 => return needs(spec, &root, &file),
            Some((true, _)) => refused = Some(path.clone()),
            _ => {}
        }
    }
    refused.map_or(Program::Missing(candidates), Program::NotExecutable)
}

/// Where the program may be: absolute paths, as execvp(3) would try them.
fn candidates(process: &Process) -> Vec<PathBuf> {
    let Some(command) = process.args().as_ref().and_then(|args| args.first()) else { return Vec::new() };
    if command.contains('/') {
        return vec![process.cwd().join(command)];
    }
    let env = process.env().as_deref().unwrap_or_default();
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
    let directories = path.into_iter().flat_map(|path| path.split(':'));
    directories.map(|directory| process.cwd().join(directory).join(command)).collect()
}

/// Whether a mount of the container is at the path or above it.
fn is_covered(spec: &Spec, path: &Path) -> bool {
    let destinations = spec.mounts().iter().flatten().map(|mount| Path::new("/").join(mount.destination()));
    destinations.into_iter().any(|destination| path.starts_with(destination))
}

/// Whether it is a regular file, and its mode. Through /proc, for the descriptor is no more than a place.
fn metadata(file: &OwnedFd) -> Option<(bool, u32)> {
    let metadata = std::fs::metadata(through_proc(file)).ok()?;
    Some((metadata.is_file(), metadata.permissions().mode()))
}

fn through_proc(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn needs(spec: &Spec, root: &File, file: &OwnedFd) -> Program {
    // A program that may be executed and not read tells nothing.
    let Ok(needs) = File::open(through_proc(file)).and_then(|file| program::needs(&file)) else {
        return Program::Found;
    };
    if let Some(machine) = needs.machine {
        return Program::OfMachine(machine);
    }
    let missing = needs.interpreter.filter(|path| {
        path.is_absolute()
            && !is_covered(spec, path)
            && matches!(find(root.as_fd(), path, Symlinks::Follow), Ok(None))
    });
    missing.map_or(Program::Found, Program::WithoutInterpreter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(args: &str, cwd: &str, env: &str) -> Vec<String> {
        let json = format!(r#"{{"user": {{}}, "args": ["{args}"], "cwd": "{cwd}", "env": {env}}}"#);
        let process: Process = serde_json::from_str(&json).unwrap();
        candidates(&process).iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn candidates_are_those_of_execvp() {
        assert_eq!(process("sh", "/", r#"["PATH=/x", "PATH=/usr/bin:/bin"]"#), ["/usr/bin/sh", "/bin/sh"]);
        assert_eq!(process("sh", "/srv", r#"["PATH=:/bin"]"#), ["/srv/sh", "/bin/sh"]);
        assert_eq!(process("./run", "/srv", "[]"), ["/srv/./run"]);
        assert_eq!(process("/init", "/srv", "[]"), ["/init"]);
        assert_eq!(process("sh", "/", "[]"), [""; 0]);
    }

    #[test]
    fn a_mount_may_bring_the_program() {
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion": "1.0.0", "mounts": [{"destination": "/usr"}, {"destination": "opt"}]}"#,
        )
        .unwrap();
        for (path, covered) in [("/usr/bin/sh", true), ("/opt/a", true), ("/bin/sh", false), ("/usrx", false)]
        {
            assert_eq!(is_covered(&spec, Path::new(path)), covered, "{path}");
        }
    }
}
