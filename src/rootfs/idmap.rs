//! Id-mapped mounts (Linux 5.12): the maps of a mount, and the user namespace that carries them.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, Mount};

use super::options::{IdmapRange, Options};
use crate::error::{Call, Context, Error, Result};
use crate::sys::mount::{mount_set_idmap, user_namespace};

/// How the ids of a mount are mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Idmap {
    pub recursive: bool,
    pub maps: Maps,
}

/// Where the maps come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Maps {
    /// In the format of `/proc/PID/uid_map`: one range a line, `FILESYSTEM HOST SIZE`.
    Text { uids: String, gids: String },
    /// Those of a user namespace that exists.
    Namespace(PathBuf),
}

/// The id map that `mount` asks for: its own maps, those in its options, or the container's. Pure.
pub(super) fn plan(mount: &Mount, options: &Options, linux: &Linux) -> Result<Option<Idmap>> {
    let own = (mount.uid_mappings().as_deref(), mount.gid_mappings().as_deref());
    let (own_uids, own_gids) = (own.0.unwrap_or_default(), own.1.unwrap_or_default());
    if own_uids.is_empty() != own_gids.is_empty() {
        return Err(Error::invalid("uidMappings and gidMappings: one without the other"));
    }
    let recursive = options.idmap.as_ref().is_some_and(|option| option.recursive);
    let maps = if !own_uids.is_empty() {
        // Without the option too: older engines send the maps alone.
        Maps::Text { uids: lines(own_uids), gids: lines(own_gids) }
    } else if let Some(words) = options.idmap.as_ref().and_then(|option| option.maps.as_ref()) {
        Maps::Text {
            uids: resolve(&words.uids, linux.uid_mappings().as_deref())?,
            gids: resolve(&words.gids, linux.gid_mappings().as_deref())?,
        }
    } else if options.idmap.is_some() {
        of_container(linux)?
    } else {
        return Ok(None);
    };
    Ok(Some(Idmap { recursive, maps }))
}

/// The container's own maps, which a plain `idmap` means.
fn of_container(linux: &Linux) -> Result<Maps> {
    if let (Some(uids @ [_, ..]), Some(gids @ [_, ..])) =
        (linux.uid_mappings().as_deref(), linux.gid_mappings().as_deref())
    {
        return Ok(Maps::Text { uids: lines(uids), gids: lines(gids) });
    }
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let user = namespaces.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::User);
    match user.and_then(|namespace| namespace.path().clone()) {
        Some(path) => Ok(Maps::Namespace(path)),
        None => Err(Error::invalid("options: idmap without maps needs a container with a user namespace")
            .remedy("give the mount uidMappings and gidMappings")),
    }
}

/// crun's `@`: the host id is the one that the container's own maps give.
fn resolve(ranges: &[IdmapRange], container: Option<&[LinuxIdMapping]>) -> Result<String> {
    let mut text = String::new();
    for range in ranges {
        let host = if range.of_container { host_id(range, container)? } else { range.host };
        text += &line(range.filesystem, host, range.size);
    }
    Ok(text)
}

fn host_id(range: &IdmapRange, container: Option<&[LinuxIdMapping]>) -> Result<u32> {
    let (first, size) = (u64::from(range.host), u64::from(range.size));
    let holds = |map: &&LinuxIdMapping| {
        let start = u64::from(map.container_id());
        first >= start && first + size <= start + u64::from(map.size())
    };
    let map = container.unwrap_or_default().iter().find(holds).ok_or_else(|| {
        Error::invalid(format!("options: idmap range @{first} of {size} is in no range of the container"))
            .remedy("split it where the container's ranges end")
    })?;
    let host = (range.host - map.container_id()).checked_add(map.host_id());
    host.ok_or_else(|| Error::invalid(format!("options: idmap range @{first} ends above the largest id")))
}

fn lines(maps: &[LinuxIdMapping]) -> String {
    maps.iter().map(|map| line(map.container_id(), map.host_id(), map.size())).collect()
}

fn line(filesystem: u32, host: u32, size: u32) -> String {
    format!("{filesystem} {host} {size}\n")
}

impl Idmap {
    /// Maps the detached `tree`.
    pub(super) fn apply(&self, tree: BorrowedFd<'_>) -> Result<()> {
        let namespace = match &self.maps {
            Maps::Text { uids, gids } => {
                user_namespace(uids, gids).context("user namespace for its id map")?
            }
            Maps::Namespace(path) => {
                OwnedFd::from(File::open(path).call(|| format!("open({})", path.display()))?)
            }
        };
        mount_set_idmap(tree, self.recursive, namespace.as_fd())
            .call(|| "mount_setattr(MOUNT_ATTR_IDMAP)".into())
            .map_err(|error| match error.errno() {
                Some(nix::errno::Errno::EINVAL) => {
                    error.remedy("the kernel (5.12) or the source's filesystem has no id-mapped mounts")
                }
                _ => error,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(json: &str) -> Mount {
        serde_json::from_str(json).unwrap()
    }

    fn linux(json: &str) -> Linux {
        serde_json::from_str(json).unwrap()
    }

    const CONTAINER: &str = r#"{
        "uidMappings": [{"containerID":0,"hostID":0,"size":1}, {"containerID":1,"hostID":2,"size":1000}],
        "gidMappings": [{"containerID":0,"hostID":100000,"size":65536}]}"#;

    fn text(mount_json: &str, linux_json: &str) -> Result<(String, String)> {
        let mount = mount(mount_json);
        let words = mount.options().clone().unwrap_or_default();
        let options = Options::parse(&words, &mut Vec::new())?;
        match plan(&mount, &options, &linux(linux_json))?.unwrap().maps {
            Maps::Text { uids, gids } => Ok((uids, gids)),
            Maps::Namespace(path) => Ok((path.display().to_string(), String::new())),
        }
    }

    #[test]
    fn crun_manual_example() {
        let (uids, _) =
            text(r#"{"destination":"/x","options":["bind","idmap=uids=@1-3-10;gids=0-100-10"]}"#, CONTAINER)
                .unwrap();
        assert_eq!(uids, "1 4 10\n");
    }

    #[test]
    fn own_maps_go_before_the_containers() {
        let own = r#"{"destination":"/x","options":["bind","ridmap"],
            "uidMappings":[{"containerID":5,"hostID":6,"size":7}],
            "gidMappings":[{"containerID":8,"hostID":9,"size":10}]}"#;
        assert_eq!(text(own, CONTAINER).unwrap(), ("5 6 7\n".into(), "8 9 10\n".into()));
        let (uids, gids) = text(r#"{"destination":"/x","options":["bind","idmap"]}"#, CONTAINER).unwrap();
        assert_eq!((uids.as_str(), gids.as_str()), ("0 0 1\n1 2 1000\n", "0 100000 65536\n"));
    }

    #[test]
    fn a_joined_user_namespace_has_the_maps() {
        let joined = r#"{"namespaces":[{"type":"user","path":"/proc/7/ns/user"}]}"#;
        let (path, _) = text(r#"{"destination":"/x","options":["bind","idmap"]}"#, joined).unwrap();
        assert_eq!(path, "/proc/7/ns/user");
    }

    #[test]
    fn maps_from_nowhere_are_refused() {
        let nowhere = r#"{"namespaces":[]}"#;
        assert!(text(r#"{"destination":"/x","options":["bind","idmap"]}"#, nowhere).is_err());
        let crossing = r#"{"destination":"/x","options":["bind","idmap=uids=@0-0-2;gids=@0-0-1"]}"#;
        assert!(text(crossing, CONTAINER).is_err());
        let half = r#"{"destination":"/x","uidMappings":[{"containerID":5,"hostID":6,"size":7}]}"#;
        assert!(text(half, CONTAINER).is_err());
    }
}
