//! Which cgroup hierarchies this host has, where they are mounted and where in them we are.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use crate::error::{Call, Error, Result};
use crate::sys::{mount, mountinfo, procfs};

const MOUNTPOINT: &str = "/sys/fs/cgroup";

/// The hierarchy without controllers in which systemd keeps its units on cgroup v1.
pub(super) const SYSTEMD_V1: &str = "name=systemd";

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Its v1 controllers (`["cpu", "cpuacct"]`) or name (`["name=systemd"]`); empty for cgroup v2.
    pub names: Vec<String>,
    pub mountpoint: PathBuf,
    /// The caller's own cgroup, relative to the mount point; [`None`] when it is not below it.
    pub own: Option<PathBuf>,
}

impl Hierarchy {
    pub fn has(&self, controller: &str) -> bool {
        self.names.iter().any(|name| name == controller)
    }
}

/// The host's cgroup hierarchies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// cgroup2, wherever it is mounted.
    pub(super) unified: Option<Hierarchy>,
    /// cgroup v1 hierarchies. With these, `unified` only tracks processes ("hybrid").
    pub(super) v1: Vec<Hierarchy>,
}

impl Layout {
    /// Reads the caller's cgroups and mounts. Sources: cgroups(7), proc_pid_mountinfo(5).
    ///
    /// On a pure v2 host (cgroup2 at /sys/fs/cgroup) the mount table, which is long on a busy host, is not
    /// read: the caller is in the root cgroup of its namespace, or the kernel (6.8) tells of that one mount.
    pub fn detect() -> Result<Self> {
        let unified = match statfs(MOUNTPOINT) {
            Ok(stat) => stat.filesystem_type() == CGROUP2_SUPER_MAGIC,
            Err(Errno::ENOENT) => false,
            Err(errno) => return Err(Error::syscall(format!("statfs({MOUNTPOINT:?})"), errno)),
        };
        // Who is in a cgroup whose name is not UTF-8 will hear that there is none of that name.
        let own = read("/proc/self/cgroup")?;
        let own = String::from_utf8_lossy(&own);
        if unified && own.trim_end() == "0::/" {
            return Ok(Self { unified: Some(root_hierarchy()), v1: Vec::new() });
        }
        if unified
            && let Some(own) = own.lines().find_map(|line| line.strip_prefix("0::"))
            && let Ok(root) = mount::root_of(MOUNTPOINT)
        {
            let mount = Mount::unified(PathBuf::from(OsString::from_vec(root)));
            return Ok(Self { unified: Some(mount.hierarchy(Vec::new(), own)), v1: Vec::new() });
        }
        Ok(Self::parse(&read("/proc/self/mountinfo")?, &own, unified))
    }

    /// The hierarchy `name=systemd` of cgroup v1, if it is mounted; also on a host whose controllers are on v2,
    /// with the mount table that [`Layout::detect`] does not read there.
    pub(super) fn systemd_v1(&self) -> Result<Option<Hierarchy>> {
        if let Some(hierarchy) = self.v1.iter().find(|hierarchy| hierarchy.has(SYSTEMD_V1)) {
            return Ok(Some(hierarchy.clone()));
        }
        let own = read("/proc/self/cgroup")?;
        let layout = Self::parse(&read("/proc/self/mountinfo")?, &String::from_utf8_lossy(&own), false);
        let Some(hierarchy) = layout.v1.into_iter().find(|hierarchy| hierarchy.has(SYSTEMD_V1)) else {
            return Ok(None);
        };
        // Another mount may cover it.
        let stat = statfs(&hierarchy.mountpoint).call(|| format!("statfs({:?})", hierarchy.mountpoint))?;
        Ok(Some(hierarchy).filter(|_| stat.filesystem_type() == CGROUP_SUPER_MAGIC))
    }

    /// A pure v2 host for the tests of others, the caller in the root cgroup.
    #[cfg(test)]
    pub fn of_v2(mountpoint: &str) -> Self {
        let root = Hierarchy { mountpoint: mountpoint.into(), ..root_hierarchy() };
        Self { unified: Some(root), v1: Vec::new() }
    }

    /// Whether controllers are those of cgroup v2.
    pub fn is_v2(&self) -> bool {
        self.v1.is_empty() && self.unified.is_some()
    }

    /// The caller's own cgroup in the hierarchy at `mountpoint`, relative to that; None when it is not below.
    pub fn own(&self, mountpoint: &Path) -> Option<&Path> {
        let mut all = self.v1.iter().chain(self.unified.as_ref());
        all.find(|hierarchy| hierarchy.mountpoint == mountpoint)?.own.as_deref()
    }

    /// From the texts of /proc/self/mountinfo and /proc/self/cgroup. `unified`: what one sees at
    /// /sys/fs/cgroup is cgroup2; any v1 mounts are then covered or of no use to us.
    fn parse(table: &[u8], cgroup: &str, unified: bool) -> Self {
        let mounts: Vec<Mount> = mountinfo::mounts(table).filter_map(Mount::of).collect();
        let mut layout = Self::default();
        for line in cgroup.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_id), Some(names), Some(own)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            if names.is_empty() {
                // The last mount at a place covers the earlier ones.
                let at_root = mounts.iter().rev().find(|m| m.v2 && m.mountpoint == Path::new(MOUNTPOINT));
                let mount = at_root.or_else(|| mounts.iter().find(|m| m.v2));
                layout.unified = mount.map(|m| m.hierarchy(Vec::new(), own));
            } else if !unified {
                let names: Vec<String> = names.split(',').map(Into::into).collect();
                let mount = mounts.iter().find(|m| !m.v2 && names.iter().all(|n| m.options.contains(n)));
                layout.v1.extend(mount.map(|m| m.hierarchy(names, own)));
            }
        }
        layout
    }
}

/// cgroup2 at /sys/fs/cgroup, the caller in its root.
fn root_hierarchy() -> Hierarchy {
    Hierarchy { names: Vec::new(), mountpoint: MOUNTPOINT.into(), own: Some(PathBuf::new()) }
}

/// A cgroup line of mountinfo.
struct Mount {
    v2: bool,
    /// Which cgroup of the hierarchy is visible at the mount point.
    root: PathBuf,
    mountpoint: PathBuf,
    /// Super block options; on v1 they name the controllers.
    options: Vec<String>,
}

impl Mount {
    /// cgroup2 at /sys/fs/cgroup.
    fn unified(root: PathBuf) -> Self {
        Self { v2: true, root, mountpoint: MOUNTPOINT.into(), options: Vec::new() }
    }

    fn of(entry: mountinfo::Mount) -> Option<Self> {
        let v2 = match entry.fstype {
            b"cgroup2" => true,
            b"cgroup" => false,
            _ => return None,
        };
        let options = String::from_utf8_lossy(entry.options).split(',').map(Into::into).collect();
        Some(Self { v2, root: entry.root.into_owned(), mountpoint: entry.point.into_owned(), options })
    }

    fn hierarchy(&self, names: Vec<String>, own: &str) -> Hierarchy {
        // A cgroup outside of our cgroup namespace is shown as /../…; one outside of the mount's root
        // does not have its prefix.
        let own = Path::new(own)
            .strip_prefix(&self.root)
            .ok()
            .filter(|own| own.components().all(|c| matches!(c, Component::Normal(_))))
            .map(Path::to_path_buf);
        Hierarchy { names, mountpoint: self.mountpoint.clone(), own }
    }
}

fn read(path: &str) -> Result<Vec<u8>> {
    procfs::read(path).call(|| format!("read({path:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";
    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn v2_with_a_session() {
        let layout = Layout::parse(V2.as_bytes(), "0::/user.slice/user-0.slice/session-1.scope\n", true);
        assert!(layout.is_v2());
        let unified = layout.unified.unwrap();
        assert_eq!(unified.mountpoint, Path::new("/sys/fs/cgroup"));
        assert_eq!(unified.own.unwrap(), Path::new("user.slice/user-0.slice/session-1.scope"));
    }

    #[test]
    fn hybrid_uses_v1_and_knows_the_unified_hierarchy() {
        let own = "4:memory:/a/b\n3:cpuset:/\n2:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n";
        let layout = Layout::parse(HYBRID.as_bytes(), own, false);
        assert!(!layout.is_v2());
        let names: Vec<_> = layout.v1.iter().map(|h| h.names.join(",")).collect();
        // cpuset is known to the kernel but mounted nowhere.
        assert_eq!(names, ["memory", "cpu,cpuacct", "name=systemd"]);
        assert_eq!(layout.v1[0].own.as_deref(), Some(Path::new("a/b")));
        assert!(layout.v1[1].has("cpuacct"));
        assert_eq!(layout.unified.unwrap().mountpoint, Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn inside_a_container_the_mount_shows_only_its_own_cgroup() {
        let mountinfo = "30 23 0:26 /docker/0123 /sys/fs/cgroup ro,relatime - cgroup2 cgroup rw\n";
        let own = |cgroup| Layout::parse(mountinfo.as_bytes(), cgroup, true).unified.unwrap().own;
        assert_eq!(own("0::/docker/0123\n"), Some(PathBuf::new()));
        assert_eq!(own("0::/docker/0123/below\n"), Some("below".into()));
        assert_eq!(own("0::/elsewhere\n"), None);
        let namespaced = "30 23 0:26 / /sys/fs/cgroup ro,relatime - cgroup2 cgroup rw\n";
        assert_eq!(Layout::parse(namespaced.as_bytes(), "0::/../outside\n", true).unified.unwrap().own, None);
    }

    #[test]
    fn a_covered_v1_mount_does_not_count() {
        let mountinfo = format!("{HYBRID}{V2}");
        let layout = Layout::parse(mountinfo.as_bytes(), "4:memory:/\n0::/\n", true);
        assert!(layout.is_v2());
        assert_eq!(layout.unified.unwrap().mountpoint, Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn the_kernel_tells_what_the_mount_table_says() {
        let Ok(told) = mount::root_of(MOUNTPOINT) else { return };
        let table = read("/proc/self/mountinfo").unwrap();
        let at_root = mountinfo::mounts(&table).rev().find(|mount| mount.point == Path::new(MOUNTPOINT));
        assert_eq!(PathBuf::from(OsString::from_vec(told)), at_root.unwrap().root);
        // No mount of its own there: what is told is of the one that holds it.
        mount::root_of(c"/no/such/path").unwrap_err();
    }

    #[test]
    fn this_host_can_be_read() {
        let layout = Layout::detect().unwrap();
        assert!(layout.unified.is_some() || !layout.v1.is_empty());
    }
}
