//! Where below a hierarchy's mount point a container's cgroup lies. Pure.

use std::path::{Component, Path, PathBuf};

use super::layout::Hierarchy;
use crate::error::{Error, Result};

/// The cgroup's directory, relative to the mount point of `hierarchy`.
///
/// - An absolute linux.cgroupsPath lies below the mount point (config-linux.md, "Cgroups Path").
/// - A relative one, where the spec leaves the place to the runtime, lies where runc puts it: on v1
///   below the caller's own cgroup; on v2 beside it, because a cgroup that has processes (the caller)
///   cannot give controllers to its children.
/// - Without one, the container's id is the relative path.
pub(super) fn place(
    cgroups_path: Option<&Path>,
    id: &str,
    hierarchy: &Hierarchy,
    v2: bool,
) -> Result<PathBuf> {
    let asked = cgroups_path.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(id));
    let mut path = PathBuf::new();
    if !asked.is_absolute() {
        let own = hierarchy.own.as_deref().ok_or_else(|| {
            Error::unsupported(format!("our own cgroup is not visible below {:?}", hierarchy.mountpoint))
                .remedy("give an absolute linux.cgroupsPath")
        })?;
        path.push(if v2 { own.parent().unwrap_or(own) } else { own });
    }
    let anchor = path.components().count();
    for component in asked.components() {
        match component {
            Component::Normal(name) => path.push(name),
            // A path does not lead out of the place that it starts from.
            Component::ParentDir => {
                if path.components().count() > anchor {
                    path.pop();
                }
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if path.components().count() == anchor {
        return Err(Error::invalid(format!("linux.cgroupsPath {asked:?} names no cgroup of its own")));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(asked: Option<&str>, own: Option<&str>, v2: bool) -> Result<String> {
        let hierarchy =
            Hierarchy { names: Vec::new(), mountpoint: "/sys/fs/cgroup".into(), own: own.map(Into::into) };
        place(asked.map(Path::new), "id", &hierarchy, v2).map(|path| path.display().to_string())
    }

    #[test]
    fn absolute_paths_start_at_the_mount_point() {
        assert_eq!(at(Some("/docker/0123"), Some("user.slice/a"), true).unwrap(), "docker/0123");
        assert_eq!(at(Some("/docker/../x/./y/"), None, false).unwrap(), "x/y");
        assert_eq!(at(Some("/../../etc"), None, false).unwrap(), "etc");
    }

    #[test]
    fn relative_and_missing_paths_start_at_our_own_cgroup() {
        assert_eq!(at(None, Some("user.slice/a"), false).unwrap(), "user.slice/a/id");
        assert_eq!(at(None, Some("user.slice/a"), true).unwrap(), "user.slice/id");
        assert_eq!(at(None, Some(""), true).unwrap(), "id");
        assert_eq!(at(Some(""), Some(""), true).unwrap(), "id");
        assert_eq!(at(Some("b/c"), Some("user.slice/a"), true).unwrap(), "user.slice/b/c");
        assert_eq!(at(Some("../../c"), Some("user.slice/a"), false).unwrap(), "user.slice/a/c");
    }

    #[test]
    fn no_cgroup_of_its_own_is_refused() {
        at(Some("/"), Some(""), true).unwrap_err();
        at(Some(".."), Some("a"), false).unwrap_err();
        let error = at(None, None, true).unwrap_err().to_string();
        assert!(error.contains("give an absolute linux.cgroupsPath"), "{error}");
    }
}
