//! New shares for the class of a container that lives.

use std::path::PathBuf;

use oci_spec::runtime::LinuxIntelRdt;

use super::{Record, explain, has_shares, read_schemata, root, schemata, write_schemata};
use crate::error::{Error, Result};

/// New lines of `schemata`, with those to go back to. Resources that are not mentioned keep their shares.
#[derive(Clone, Debug)]
pub struct Change {
    class: PathBuf,
    lines: Vec<String>,
    before: Vec<String>,
}

/// Whether this host can divide what `shares` are of, `l3CacheSchema` and `memBwSchema`.
///
/// # Errors
/// It cannot; the words are runc's.
pub fn check_host(shares: &LinuxIntelRdt) -> Result<()> {
    let root = root()?;
    let has = |names: &[&str]| match &root {
        Some(root) => names.iter().any(|name| root.join("info").join(name).is_dir()),
        None => false,
    };
    // Divided for code and data apart (mount option cdp), the cache has two names.
    if shares.l3_cache_schema().is_some() && !has(&["L3", "L3CODE"]) {
        return Err(Error::unsupported("Intel RDT/CAT: l3 cache schema is not enabled"));
    }
    if shares.mem_bw_schema().is_some() && !has(&["MB"]) {
        return Err(Error::unsupported("Intel RDT/MBA: memory bandwidth schema is not enabled"));
    }
    Ok(())
}

impl Change {
    /// What has to be done for these `shares`, as `l3CacheSchema` and `memBwSchema`. `record` is where the
    /// container is, `config` what its config.json says; None for what it has nothing of.
    ///
    /// A container without a class gets none (as runc since 1.4): its processes would have to be moved one by
    /// one, while they fork.
    ///
    /// # Errors
    /// The container has no class, or one that is shared and has other shares.
    pub fn plan(
        shares: &LinuxIntelRdt,
        record: Option<&Record>,
        config: Option<&LinuxIntelRdt>,
    ) -> Result<Option<Self>> {
        let (Some(class), Some(config)) = (record.and_then(|record| record.groups.first()), config) else {
            return Err(Error::unsupported(
                "updating a non-existent Intel RDT configuration is not supported",
            )
            .remedy("create the container with linux.intelRdt"));
        };
        let lines = schemata(shares);
        if config.clos_id().is_some() {
            let checked = has_shares(class, &lines.join("\n"));
            return checked.map(|()| None).map_err(|error| {
                error.remedy(
                    "the class is not this container's alone; write its schemata for all that are in it",
                )
            });
        }
        let before = read_schemata(class)?;
        let before = before.lines().filter(|old| lines.iter().any(|new| resource(new) == resource(old)));
        let before = before.map(str::to_owned).collect();
        Ok(Some(Self { class: class.clone(), lines, before }))
    }

    /// Writes the new shares.
    ///
    /// # Errors
    /// The kernel's, with its own words (`info/last_cmd_status`); the shares are what they were.
    pub fn apply(&self) -> Result<()> {
        let Err(error) = write_schemata(&self.class, &self.lines) else { return Ok(()) };
        // The class is the container's own, right below the root. Before the next write, which has words of its own.
        let error = match self.class.parent() {
            Some(root) => explain(error, root),
            None => error,
        };
        let error = error.context("set the shares of the class");
        match self.is_as_before() {
            Ok(true) => Err(error),
            _ => Err(self.set_back_after(error)),
        }
    }

    /// Sets the old shares back, `error` being why.
    #[must_use]
    pub fn set_back_after(&self, error: Error) -> Error {
        match write_schemata(&self.class, &self.before) {
            Ok(()) => error,
            Err(left) => error.context(format!("(and then: set back the shares of the class: {left})")),
        }
    }

    fn is_as_before(&self) -> Result<bool> {
        let now = read_schemata(&self.class)?;
        Ok(self.before.iter().all(|old| now.lines().any(|line| line == old)))
    }
}

/// `L3` of `L3:0=7f`.
fn resource(line: &str) -> Option<&str> {
    line.split_once(':').map(|(resource, _)| resource.trim())
}
