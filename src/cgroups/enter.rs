//! Which of the container's cgroups one more process (exec) is put into.

use std::path::{Component, Path, PathBuf};

use nix::unistd::Pid;

use super::create::{Cgroup, gone};
use super::record::{Directory, Record};
use crate::error::{Call, Code, Error, Result};

/// What `exec --cgroup` says: where below the container's own cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Below {
    /// The hierarchies that it holds for, by one of their controllers each; empty for all.
    controllers: Vec<String>,
    /// Relative, without `..`: it can lead nowhere but down.
    path: PathBuf,
}

impl Below {
    /// Reads `PATH` or `CONTROLLER[,CONTROLLER]:PATH`. A leading `/` means the container's own cgroup.
    ///
    /// # Errors
    /// An empty controller, or a path with `..`: one that is only compared as text could name a sibling
    /// of the container (runc#5457).
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid(format!("--cgroup {text:?}: {why}"));
        let (controllers, path) = match text.split_once(':') {
            Some((controllers, path)) => (controllers.split(',').map(str::to_owned).collect(), path),
            None => (Vec::new(), text),
        };
        if controllers.iter().any(String::is_empty) {
            return Err(wrong("a controller without a name"));
        }
        let mut below = PathBuf::new();
        for component in Path::new(path).components() {
            match component {
                Component::Normal(name) => below.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    // runc's words.
                    return Err(wrong(&format!("{path} is not a sub cgroup path")));
                }
            }
        }
        Ok(Self { controllers, path: below })
    }

    fn holds_for(&self, directory: &Directory) -> bool {
        self.controllers.is_empty() || self.controllers.iter().any(|name| directory.has(name))
    }
}

impl Record {
    /// As [`Record::open`], in the cgroups that `--cgroup` names. They must be there: an exec makes none.
    ///
    /// # Errors
    /// A cgroup is not there; a controller is unknown, or named twice.
    pub fn open_below(&self, below: &[Below]) -> Result<Cgroup> {
        let mut moved = self.clone();
        if let [_, .., _] = below
            && below.iter().any(|one| one.controllers.is_empty())
        {
            return Err(Error::invalid("--cgroup: of several each needs its controllers (CONTROLLER:PATH)"));
        }
        for directory in &mut moved.directories {
            let mut named = below.iter().filter(|one| one.holds_for(directory));
            if let Some(one) = named.next() {
                if named.next().is_some() {
                    let names = directory.names.join(",");
                    return Err(Error::invalid(format!("--cgroup: {names} is named more than once")));
                }
                // Before its path is another's.
                if directory.is_replaced()? {
                    return Err(gone(&directory.host_path()));
                }
                *directory = directory.moved_to(directory.path.join(&one.path));
            }
        }
        let mut controllers = below.iter().flat_map(|one| &one.controllers);
        if let Some(unknown) = controllers.find(|name| !self.directories.iter().any(|d| d.has(name))) {
            return Err(Error::invalid(format!("--cgroup: unknown controller {unknown:?}")));
        }
        moved.open().map_err(|error| match error.code() {
            Code::State => {
                Error::invalid(format!("--cgroup: {error}")).remedy("make it first: an exec makes none")
            }
            _ => error,
        })
    }

    /// As [`Record::open`], but on the unified hierarchy the cgroup in which `init` is now. For when the
    /// container's own takes no process: init has made cgroups below it and given them its controllers
    /// (EBUSY), as systemd does, or somebody has moved it elsewhere and removed that one.
    ///
    /// # Errors
    /// The kernel's. None when init is still where the container began.
    pub fn open_beside(&self, init: Pid) -> Result<Option<Cgroup>> {
        let path = format!("/proc/{init}/cgroup");
        let text = std::fs::read_to_string(&path).call(|| format!("read({path})"))?;
        let mut moved = self.clone();
        let Some(directory) = moved.directories.iter_mut().find(|directory| directory.is_unified()) else {
            return Ok(None);
        };
        let now = text.lines().find_map(|line| line.strip_prefix("0::/")).map(Path::new);
        // Outside of our cgroup namespace it is shown with `..`, and out of reach.
        let reachable = |path: &&Path| path.components().all(|part| matches!(part, Component::Normal(_)));
        let Some(now) = now.filter(reachable) else { return Ok(None) };
        if now == directory.path && !directory.is_replaced()? {
            return Ok(None);
        }
        *directory = directory.moved_to(now.to_owned());
        moved.open().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(text: &str) -> Result<(String, String)> {
        Below::parse(text).map(|below| (below.controllers.join("+"), below.path.display().to_string()))
    }

    #[test]
    fn reads_what_runc_reads() {
        let pair = |controllers: &str, path: &str| (controllers.to_owned(), path.to_owned());
        assert_eq!(below("a/b").unwrap(), pair("", "a/b"));
        assert_eq!(below("/").unwrap(), pair("", ""));
        assert_eq!(below("cpu,memory:/a/./b").unwrap(), pair("cpu+memory", "a/b"));
    }

    #[test]
    fn leads_nowhere_but_down() {
        for text in ["../x-sibling", "/a/../..", "cpu:..", "cpu,:a", ":a"] {
            assert!(below(text).is_err(), "{text}");
        }
    }
}
