//! Runs one hook (config.md, POSIX-platform Hooks): exact arguments and environment, the state on
//! stdin, a time limit.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use oci_spec::runtime::Hook;

use crate::error::{Call, Code, Context, Error, Result};
use crate::sys::spawn::{Spawn, Stream, memory_file};

/// The six points of a container's life at which hooks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Deprecated; in the runtime's namespaces, before [`Kind::CreateRuntime`].
    Prestart,
    /// In the runtime's namespaces, after the container's exist, before pivot_root.
    CreateRuntime,
    /// In the container's namespaces, before pivot_root; the path is the runtime's.
    CreateContainer,
    /// In the container's namespaces and rootfs, before the user's program.
    StartContainer,
    /// In the runtime's namespaces, after the user's program was started.
    Poststart,
    /// In the runtime's namespaces, after the container was deleted.
    Poststop,
}

impl Kind {
    /// All of them, in the order in which they run.
    pub const ALL: [Kind; 6] = [
        Kind::Prestart,
        Kind::CreateRuntime,
        Kind::CreateContainer,
        Kind::StartContainer,
        Kind::Poststart,
        Kind::Poststop,
    ];

    /// The spec's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Prestart => "prestart",
            Kind::CreateRuntime => "createRuntime",
            Kind::CreateContainer => "createContainer",
            Kind::StartContainer => "startContainer",
            Kind::Poststart => "poststart",
            Kind::Poststop => "poststop",
        }
    }
}

/// What a hook gets besides its own fields.
#[allow(missing_debug_implementations)] // a closure has none
pub struct Setting<'a> {
    /// The container's state (runtime.md, State) as JSON, for the hook's stdin.
    pub state: &'a [u8],
    /// The environment of a hook that has no `env` of its own. In the runtime's namespaces it is ours, as with runc
    /// and crun: that is how such a hook gets a `PATH`. In the container's, where others could read it, never.
    pub environment: &'a [String],
    /// Where it writes.
    pub output: &'a Output,
    /// What its process does right before execve.
    pub confine: Option<&'a dyn Fn() -> Result<()>>,
}

/// Where the hooks of a container write. Without a file nobody reads it but the error, which has the last
/// line: the caller's stdout and stderr may be the container's own.
#[derive(Debug, Default)]
pub struct Output {
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Output {
    /// Opens files on the host for all that hooks write; missing ones are made, for the caller alone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(stdout: Option<&Path>, stderr: Option<&Path>) -> Result<Self> {
        let append = |path: &Path| {
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOCTTY);
            let intent = || format!("open {} for the hooks' output", path.display());
            options.open(path).call(|| format!("open({path:?}, APPEND|CREAT)")).with_context(intent)
        };
        Ok(Self { stdout: stdout.map(append).transpose()?, stderr: stderr.map(append).transpose()? })
    }

    /// The files, which have to stay open until the last hook has run.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.stdout.iter().chain(&self.stderr).map(AsFd::as_fd)
    }

    fn stream(file: Option<&File>) -> Stream<'_> {
        file.map_or(Stream::Captured, |file| Stream::To(file.as_fd()))
    }
}

/// Runs one hook after the other, up to the first that fails.
///
/// # Errors
/// As [`run`].
pub fn run_all(kind: Kind, list: &[Hook], setting: &Setting<'_>) -> Result<()> {
    list.iter().enumerate().try_for_each(|(index, hook)| run(kind, index, hook, setting))
}

/// Runs the hook, which has this index in its list, to its end. An error (code `hook`) names the kind, the path and the
/// exit status, the signal, or the timeout after which the hook was killed. What an error means for the container is
/// the caller's part of the story.
pub fn run(kind: Kind, index: usize, hook: &Hook, setting: &Setting<'_>) -> Result<()> {
    run_to_end(hook, setting)
        .with_context(|| hook.path().display().to_string())
        // runc's words.
        .with_context(|| format!("error running {} hook #{index}", kind.name()))
        .map_err(|error| error.with_code(Code::Hook))
}

fn run_to_end(hook: &Hook, setting: &Setting<'_>) -> Result<()> {
    let path = hook.path();
    if !path.is_absolute() {
        return Err(Error::invalid("its path is not absolute"));
    }
    let limit = match hook.timeout() {
        None => None,
        Some(seconds) => Some(
            u64::try_from(seconds)
                .ok()
                .filter(|&seconds| seconds > 0)
                .map(Duration::from_secs)
                .ok_or_else(|| Error::invalid(format!("its timeout {seconds} is not greater than 0")))?,
        ),
    };
    // args has the semantics of execv's argv, so argv[0] is ours to fill only when there is none.
    let own_name = [path.to_string_lossy().into_owned()];
    let arguments = match hook.args().as_deref() {
        None | Some([]) => &own_name,
        Some(arguments) => arguments,
    };
    // A file in memory, not a pipe: a hook that does not read must neither block us (a state may be
    // larger than a pipe) nor kill us with SIGPIPE.
    let mut state = memory_file(c"state").call(|| "memfd_create(\"state\")".into())?;
    state.write_all(setting.state).and_then(|()| state.rewind()).call(|| "write(memfd \"state\")".into())?;
    let mut spawn = Spawn::new(path, arguments, hook.env().as_deref().unwrap_or(setting.environment))?;
    spawn.stdin = Some(state.as_fd());
    spawn.confine = setting.confine;
    spawn.stdout = Output::stream(setting.output.stdout.as_ref());
    spawn.stderr = Output::stream(setting.output.stderr.as_ref());
    let child = spawn.start().call(|| format!("execve({path:?})"))?;
    let exit = child.wait(limit).call(|| "wait for it".into())?;
    if exit.status.is_success() {
        return Ok(());
    }
    let line = exit.last_line();
    let said = if line.is_empty() { String::new() } else { format!(": {line}") };
    Err(Error::new(Code::Hook, format!("{}{said}", exit.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(json: &str) -> Hook {
        serde_json::from_str(json).unwrap()
    }

    fn run_captured(hook: &Hook, state: &[u8]) -> Result<()> {
        let output = &Output::default();
        let environment = &["INHERITED=1".to_owned()];
        run(Kind::CreateRuntime, 0, hook, &Setting { state, environment, output, confine: None })
    }

    #[test]
    fn gives_a_large_state_on_stdin() {
        let state = vec![b'x'; 3 << 20];
        let counts = hook(r#"{"path": "/bin/sh", "args": ["sh", "-c", "test $(/usr/bin/wc -c) = 3145728"]}"#);
        run_captured(&counts, &state).unwrap();
        let ignores = hook(r#"{"path": "/bin/true"}"#);
        run_captured(&ignores, &state).unwrap();
    }

    #[test]
    fn gives_its_own_environment_or_that_of_the_setting() {
        let inherits = hook(r#"{"path": "/bin/sh", "args": ["sh", "-c", "test $INHERITED = 1"]}"#);
        run_captured(&inherits, b"{}").unwrap();
        let empty =
            hook(r#"{"path": "/bin/sh", "args": ["sh", "-c", "test ! -s /proc/$$/environ"], "env": []}"#);
        run_captured(&empty, b"{}").unwrap();
        let env = r#"{"path": "/bin/sh", "args": ["sh", "-c", "test \"$A\" = 'b c'"], "env": ["A=b c"]}"#;
        run_captured(&hook(env), b"{}").unwrap();
    }

    #[test]
    fn names_kind_path_and_what_went_wrong() {
        let text = |json: &str| run_captured(&hook(json), b"{}").unwrap_err().to_string();
        assert_eq!(
            text(r#"{"path": "/bin/sh", "args": ["sh", "-c", "echo no luck >&2; exit 7"]}"#),
            "error running createRuntime hook #0: /bin/sh: exit status 7: no luck"
        );
        assert_eq!(
            text(r#"{"path": "/nowhere/hook"}"#),
            "error running createRuntime hook #0: /nowhere/hook: execve(\"/nowhere/hook\"): no such file or directory (ENOENT)"
        );
        assert_eq!(
            text(r#"{"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}"#),
            "error running createRuntime hook #0: /bin/sleep: killed after its timeout of 1 s"
        );
        assert!(text(r#"{"path": "relative"}"#).contains("not absolute"));
        assert!(text(r#"{"path": "/bin/true", "timeout": 0}"#).contains("greater than 0"));
    }
}
