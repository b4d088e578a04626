//! Which unit a container is, and where systemd puts it. Pure.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A container's scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cgroups) struct Unit {
    /// `docker-0123.scope`
    pub name: String,
    /// `system.slice`
    pub slice: String,
    /// Of the caller's own systemd, not the system's.
    pub user: bool,
}

impl Unit {
    /// From linux.cgroupsPath, which with systemd has the form `slice:prefix:name` (runc:
    /// docs/systemd.md). Without one: `berth-<id>.scope` in the default slice, as `runc-<id>.scope`.
    pub fn new(cgroups_path: Option<&Path>, id: &str, user: bool) -> Result<Self> {
        let default = if user { "user.slice" } else { "system.slice" };
        let text = match cgroups_path.filter(|path| !path.as_os_str().is_empty()) {
            None => format!("{default}:berth:{id}"),
            Some(path) => path.display().to_string(),
        };
        let parts: Vec<&str> = text.split(':').collect();
        let [slice, prefix, name] = parts.as_slice() else {
            return Err(Error::invalid(format!(
                "linux.cgroupsPath {text:?} is not of the form slice:prefix:name"
            ))
            .remedy("a path is for the cgroupfs driver: leave out --systemd-cgroup"));
        };
        let slice = if slice.is_empty() { default } else { slice };
        let name = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        // systemd.unit(5): "Valid unit names …", which are also file names.
        let valid = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if name.ends_with(".slice.scope") || name.len() > 255 || !name.chars().all(valid) || name == ".scope"
        {
            return Err(Error::invalid(format!("linux.cgroupsPath {text:?} names no valid unit: {name:?}")));
        }
        let unit = Self { name, slice: slice.to_owned(), user };
        unit.path()?;
        Ok(unit)
    }

    /// Below the cgroup of systemd: `a-b.slice` lies in `a.slice` (systemd.slice(5)).
    pub fn path(&self) -> Result<PathBuf> {
        let mut path = PathBuf::new();
        if self.slice != "-.slice" {
            let invalid =
                || Error::invalid(format!("linux.cgroupsPath: {:?} is not a slice's name", self.slice));
            let stem = self.slice.strip_suffix(".slice").ok_or_else(invalid)?;
            if stem.split('-').any(str::is_empty) || stem.contains('/') {
                return Err(invalid());
            }
            for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
                path.push(format!("{}.slice", &stem[..at]));
            }
        }
        path.push(&self.name);
        Ok(path)
    }
}

/// Where the user's systemd lives, from the caller's own cgroup if it is below it. Else where
/// systemd's pam module has put it since version 205.
pub(in crate::cgroups) fn user_manager(own: Option<&Path>, uid: u32) -> PathBuf {
    let service = format!("user@{uid}.service");
    let below = own.and_then(|own| own.ancestors().find(|path| path.ends_with(&service)));
    below.map_or_else(|| format!("user.slice/user-{uid}.slice/{service}").into(), Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(asked: Option<&str>) -> Result<String> {
        Unit::new(asked.map(Path::new), "id", false)?.path().map(|path| path.display().to_string())
    }

    #[test]
    fn slices_nest_by_their_dashes() {
        assert_eq!(path(None).unwrap(), "system.slice/berth-id.scope");
        assert_eq!(path(Some(":docker:01")).unwrap(), "system.slice/docker-01.scope");
        assert_eq!(path(Some("-.slice::x")).unwrap(), "x.scope");
        assert_eq!(
            path(Some("kubepods-burstable-pod1.slice:cri-containerd:01")).unwrap(),
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-01.scope"
        );
    }

    #[test]
    fn names_that_systemd_would_refuse_are_refused() {
        for asked in [
            "/docker/01",
            "a:b",
            "a:b:c:d",
            "a.service:b:c",
            "a--b.slice:b:c",
            "-a.slice:b:c",
            ":a:b/c",
            "::",
            "::x.slice",
        ] {
            path(Some(asked)).expect_err(asked);
        }
    }

    #[test]
    fn the_users_systemd_is_found() {
        let own = Path::new("user.slice/user-7.slice/user@7.service/app.slice/x.scope");
        assert_eq!(user_manager(Some(own), 7), Path::new("user.slice/user-7.slice/user@7.service"));
        let other = Path::new("user.slice/user-7.slice/session-1.scope");
        assert_eq!(user_manager(Some(other), 7), Path::new("user.slice/user-7.slice/user@7.service"));
    }
}
