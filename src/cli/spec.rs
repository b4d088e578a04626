//! `berth spec`

use std::path::{Path, PathBuf};

use clap::Args;
use nix::errno::Errno;

use super::Status;
use crate::cgroups;
use crate::error::{Call, Context, Error, Result};
use crate::spec;
use crate::sys::fs;

/// Write a config.json to start from
#[derive(Clone, Debug, Args)]
pub struct Spec {
    /// Directory to write config.json to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// A config.json that runs without root
    #[arg(long)]
    pub rootless: bool,
}

impl Spec {
    /// Writes `config.json`; an existing one is never overwritten.
    pub fn execute(&self) -> Result<Status> {
        let path = self.bundle.join(spec::CONFIG);
        let caller = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let text = spec::template(self.rootless.then_some(caller), cgroups::Layout::detect()?.is_v2());
        write_new(&path, &text).with_context(|| format!("write {}", path.display()))?;
        Ok(Status::DONE)
    }
}

fn write_new(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let call = |name: &str| format!("{name}({})", path.display());
    let bundle = fs::directory_of(path);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .call(|| call("open"))
        .map_err(|error| explain(error, bundle))?;
    let written = file.write_all(text.as_bytes()).call(|| call("write"));
    written.map_err(|error| match std::fs::remove_file(path) {
        Ok(()) => error.full(bundle),
        Err(also) => error.remedy(format!("an incomplete file is left: {also}")),
    })
}

fn explain(error: Error, bundle: &Path) -> Error {
    match error.errno() {
        Some(Errno::EEXIST) => error.remedy("move the existing config.json away first"),
        Some(Errno::ENOENT) if !bundle.exists() => {
            error.remedy(format!("make the directory {} first", bundle.display()))
        }
        Some(Errno::ENOENT | Errno::EACCES | Errno::EPERM | Errno::EROFS) => error.remedy(format!(
            "no file can be made in {}: name another directory with --bundle",
            bundle.display()
        )),
        Some(Errno::ENOTDIR) => error.remedy("--bundle takes a directory"),
        _ => error.full(bundle),
    }
}
