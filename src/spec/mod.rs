//! config.json: read, checked, and written for a start.
//!
//! The only system call is the read. What the document says about the host (do these paths exist,
//! can this kernel do that) is found out by those who use it.

mod adapt;
mod advice;
pub mod annotations;
#[cfg(test)]
mod conformance;
mod document;
mod finding;
mod locate;
mod members;
mod part;
mod shape;
mod shorten;
mod template;
#[cfg(test)]
mod tests;
mod tree;
mod validate;

use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use oci_spec::runtime::Spec;

use crate::error::{Call, Context, Error, Result};
use crate::sys::fs;

pub use advice::hooks_by_kind;
pub use document::{
    Examined, examine, member, parse, parse_for_exec, parse_process, parse_resources, parse_with_mounts,
};
pub use finding::{Finding, Problems, Rule, Severity};
pub use shorten::without_syscalls;
pub use template::template;
pub use validate::{Options as ValidateOptions, validate, validate_exec};

/// Name of the file in the bundle.
pub const CONFIG: &str = "config.json";

/// Version of the runtime specification that berth implements.
pub const VERSION: &str = "1.3.0";

/// Reads `bundle/config.json`, for [`parse`].
///
/// # Errors
/// The file cannot be read.
pub fn read(bundle: &Path) -> Result<Vec<u8>> {
    let path = bundle.join(CONFIG);
    match open(&path).and_then(fs::read_regular) {
        // Not as ENOENT: engines take `no such file or directory` for a missing command (exit 127).
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let missing = Error::invalid(format!("bundle {}: {CONFIG} not found", bundle.display()));
            Err(missing.remedy(match bundle.is_dir() {
                true => "`berth spec` writes one to start from",
                false => "there is no such directory",
            }))
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            let file = Error::invalid(format!("bundle {}: is no directory", bundle.display()));
            Err(file.remedy(format!("name the directory with {CONFIG} in it")))
        }
        result => result.call(|| format!("read({})", path.display())).context("read the bundle"),
    }
}

/// Reads a config.json that lies elsewhere and may have another name.
///
/// # Errors
/// The file cannot be read.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    open(path)
        .and_then(fs::read_regular)
        .map_err(|error| Error::invalid(format!("--config {}: {error}", path.display())))
}

/// A bundle may be anybody's.
fn open(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::File::options().read(true).custom_flags(fs::UNTRUSTED).open(path)
}

/// Whether a config.json looks as if a container gets a network namespace of its own, owned by the runtime's
/// user namespace. A guess from the text, in microseconds, for what is worth beginning before [`parse`] is
/// done; whoever acts on it finds out afterwards.
pub fn seems_to_make_a_network(raw: &[u8]) -> bool {
    /// A namespace is not written longer, and who writes the word a thousand times shall not keep us busy.
    const NEAR: usize = 128;
    const LOOKS: usize = 8;
    let Ok(text) = std::str::from_utf8(raw) else { return false };
    let is_new = |(at, _): (usize, &str)| {
        let before = &raw[at.saturating_sub(NEAR)..at];
        let behind = &raw[at..raw.len().min(at + NEAR)];
        let start = before.iter().rposition(|byte| *byte == b'{').map(|from| at - before.len() + from);
        let end = behind.iter().position(|byte| *byte == b'}').map(|to| at + to);
        let object = start.zip(end).map(|(start, end)| &text[start..end]);
        object.is_some_and(|object| object.contains("\"type\"") && !object.contains("\"path\""))
    };
    text.match_indices("\"network\"").take(LOOKS).any(is_new) && !text.contains("\"uidMappings\"")
}

/// Every rule about the document.
#[cfg(test)]
pub fn rules() -> Vec<&'static Rule> {
    let checked = validate::CHECKS.into_iter().flatten().chain(advice::ADVICE).map(|(rule, _)| rule);
    checked.chain(document::RULES).chain([&members::UNKNOWN]).collect()
}

/// [`validate`] as a step that fails: every problem, in one line.
pub fn check(spec: &Spec, options: &ValidateOptions) -> Result<()> {
    none_in(CONFIG, &validate(spec, options))
}

/// `config.json: 3 problems: …; …; …`
fn none_in(file: &str, findings: &[Finding]) -> Result<()> {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    match lines.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::invalid(format!("{file}: {one}"))),
        many => Err(Error::invalid(format!("{file}: {} problems: {}", many.len(), many.join("; ")))),
    }
}
