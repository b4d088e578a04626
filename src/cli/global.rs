//! Flags before the verb.

use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, ValueEnum};

use super::argv::parse_bool;
use super::direct::{Flag, Flags};
use crate::cgroups::Driver;
use crate::container::{Host, StateRoot};
use crate::error::{Call, Error, Result};
use crate::{caller, log};

/// Where a caller with all rights keeps the state.
const SYSTEM_ROOT: &str = "/run/berth";

/// Flags before the verb.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Directory of the containers' state, on a tmpfs [default: /run/berth, or $XDG_RUNTIME_DIR/berth for a user]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Append errors and warnings to this file
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Format of the log
    #[arg(long, value_enum, default_value_t, value_name = "text|json", hide_possible_values = true)]
    pub log_format: log::Format,
    /// Lowest level that is logged
    #[arg(long, value_enum, value_name = "debug|info|warning|error", hide_possible_values = true)]
    pub log_level: Option<log::Level>,
    /// Log debug messages too
    #[arg(long)]
    pub debug: bool,
    /// Make the cgroup through systemd; cgroupsPath is then slice:prefix:name
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Who makes the cgroup
    #[arg(
        long,
        value_enum,
        value_name = "cgroupfs|systemd|disabled",
        hide_possible_values = true,
        conflicts_with = "systemd_cgroup"
    )]
    pub cgroup_manager: Option<CgroupManager>,
    /// Ignore what only root may do with cgroups
    #[arg(long, default_value = "auto", value_name = "auto|true|false", value_parser = parse_rootless)]
    pub rootless: Rootless,
    /// Accepted and ignored, as by runc: the criu that is found in $PATH is used
    #[arg(long, value_name = "PATH")]
    pub criu: Option<PathBuf>,
    /// Print the version
    #[arg(long, short = 'v', action = ArgAction::Version)]
    pub version: Option<bool>,
}

/// crun's names of the cgroup drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CgroupManager {
    /// Directories and files.
    Cgroupfs,
    /// A transient scope.
    Systemd,
    /// No cgroup at all.
    Disabled,
}

/// `--rootless`: `None` lets berth find out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rootless(pub Option<bool>);

fn parse_rootless(text: &str) -> Result<Rootless, String> {
    match (text, parse_bool(text)) {
        ("auto", _) => Ok(Rootless(None)),
        (_, Some(rootless)) => Ok(Rootless(Some(rootless))),
        (_, None) => Err("expected auto, true or false".into()),
    }
}

impl Flags for Global {
    fn take(&mut self, flag: &mut Flag<'_, '_>) -> Option<()> {
        match flag.name {
            "--root" => self.root = Some(flag.path()?),
            "--log" => self.log = Some(flag.path()?),
            "--log-format" => self.log_format = flag.one_of()?,
            "--log-level" => self.log_level = Some(flag.one_of()?),
            "--debug" => self.debug = flag.on()?,
            // Not both.
            "--systemd-cgroup" if self.cgroup_manager.is_none() => self.systemd_cgroup = flag.on()?,
            "--cgroup-manager" if !self.systemd_cgroup => self.cgroup_manager = Some(flag.one_of()?),
            "--rootless" => self.rootless = parse_rootless(&flag.text()?).ok()?,
            "--criu" => self.criu = Some(flag.path()?),
            _ => return None,
        }
        Some(())
    }
}

impl Global {
    /// Where and what to log.
    pub fn log(&self) -> log::Options {
        let level = if self.debug { log::Level::Debug } else { self.log_level.unwrap_or_default() };
        log::Options { file: self.log.clone(), format: self.log_format, level }
    }

    /// The host as the flags describe it.
    pub fn host(&self) -> Result<Host> {
        let root = match &self.root {
            Some(root) => absolute(root)?,
            None => default_root()?,
        };
        // The state directory is emptied and removed by name: never let that be the host's root.
        if root.components().eq(Path::new("/").components()) {
            return Err(Error::invalid("--root: / cannot be the state directory"));
        }
        Ok(Host { root: StateRoot::new(root), driver: self.driver(), rootless: self.rootless.0 })
    }

    fn driver(&self) -> Driver {
        match self.cgroup_manager {
            Some(CgroupManager::Cgroupfs) => Driver::Cgroupfs,
            Some(CgroupManager::Disabled) => Driver::Disabled,
            Some(CgroupManager::Systemd) => Driver::Systemd,
            None if self.systemd_cgroup => Driver::Systemd,
            None => Driver::Cgroupfs,
        }
    }
}

/// Relative paths are relative to where the command was typed.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).call(|| format!("absolute({})", path.display()))
}

/// `/run/berth`, or below `$XDG_RUNTIME_DIR` for a caller who does not own the host.
fn default_root() -> Result<PathBuf> {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(runtime_dir) if !runtime_dir.is_empty() && !caller::owns_the_host()? => {
            Ok(Path::new(&runtime_dir).join("berth"))
        }
        _ => Ok(SYSTEM_ROOT.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_the_hosts_root_as_state_directory() {
        for root in ["/", "//", "/."] {
            let global = Global { root: Some(root.into()), ..Global::default() };
            let error = global.host().err().map(|e| e.to_string());
            assert_eq!(error.as_deref(), Some("--root: / cannot be the state directory"), "{root}");
        }
    }

    #[test]
    fn reads_rootless_as_go_does() {
        assert_eq!(parse_rootless("auto"), Ok(Rootless(None)));
        assert_eq!(parse_rootless("1"), Ok(Rootless(Some(true))));
        assert_eq!(parse_rootless("False"), Ok(Rootless(Some(false))));
        assert!(parse_rootless("yes").is_err());
    }
}
