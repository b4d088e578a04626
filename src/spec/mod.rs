//! config.json: read, checked, and written for a start.
//!
//! The only system call is the read. What the document says about the host (do these paths exist,
//! can this kernel do that) is found out by those who use it.

mod document;
mod locate;
mod shape;
mod template;
#[cfg(test)]
mod tests;
mod tree;
mod validate;

use std::io::ErrorKind;
use std::path::Path;

use oci_spec::runtime::Spec;

use crate::error::{Call, Context, Error, Result};

pub use document::{parse, parse_process, parse_resources};
pub use template::template;
pub use validate::{Options as ValidateOptions, validate};

/// Name of the file in the bundle.
pub const CONFIG: &str = "config.json";

/// Version of the runtime specification that berth implements.
pub const VERSION: &str = "1.3.0";

/// A bundle's config.json.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// As it was understood.
    pub spec: Spec,
    /// As it was read: the state directory keeps it, because later edits must have no effect
    /// (runtime.md#create).
    pub raw: Vec<u8>,
}

/// One thing that is wrong with a config.json.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where: `process.args[1]`; empty for the document itself.
    pub path: String,
    /// The section of the runtime specification that says so, empty for the JSON itself.
    pub section: &'static str,
    /// What: `must be an absolute path, not "a"`.
    pub message: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if !self.section.is_empty() {
            write!(f, " ({})", self.section)?;
        }
        Ok(())
    }
}

/// Reads `bundle/config.json`.
///
/// # Errors
/// The file cannot be read, is no JSON, or a value has the wrong type; the latter names all such
/// values and, with them, what [`validate`] finds in the rest.
pub fn load(bundle: &Path, warnings: &mut Vec<String>) -> Result<Loaded> {
    let path = bundle.join(CONFIG);
    let raw = match std::fs::read(&path) {
        // Not as ENOENT: engines take `no such file or directory` for a missing command (exit 127).
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let missing = Error::invalid(format!("bundle {}: {CONFIG} not found", bundle.display()));
            return Err(missing.remedy("`berth spec` writes one to start from"));
        }
        result => result.call(|| format!("read({})", path.display())).context("read the bundle")?,
    };
    let spec = parse(&raw, warnings)?;
    Ok(Loaded { spec, raw })
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
