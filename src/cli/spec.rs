//! `berth spec`

use std::path::PathBuf;

use clap::Args;

use super::Status;
use crate::cgroups;
use crate::error::{Call, Context, Result};
use crate::spec;

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

fn write_new(path: &std::path::Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let call = |name: &str| format!("{name}({})", path.display());
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .call(|| call("open"))
        .map_err(|e| e.remedy("move an existing config.json away first"))?;
    file.write_all(text.as_bytes()).call(|| call("write"))
}
