//! What the plan must know of the host and of the runtime's own rights.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::Process;

use crate::error::{Call, Context, Result};
use crate::sys::credentials;

/// A look at the host, taken once by the parent before it plans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// All capabilities of this kernel.
    pub known: u64,
    /// The runtime's bounding set.
    pub bounding: u64,
    /// The runtime's permitted set.
    pub permitted: u64,
    /// Whether AppArmor is on; looked at only for a process that has a profile.
    pub apparmor: bool,
    /// Whether SELinux is on; looked at only for a process that has a label.
    pub selinux: bool,
}

impl Host {
    /// Looks at what the plan of `process` depends on. Reads only; opens nothing of a container.
    ///
    /// # Errors
    /// The kernel's on the runtime's own rights.
    pub fn look(process: &Process) -> Result<Host> {
        let sets =
            credentials::capget().call(|| "capget(self)".into()).context("read the runtime's rights")?;
        // What our own execve(2) gave us came from the bounding set (capabilities(7)), and need not be asked for.
        let given = sets.permitted & !sets.inheritable;
        let (mut known, mut bounding) = (given, given);
        for capability in (0..u64::BITS).filter(|bit| given & 1 << bit == 0) {
            match credentials::bounding_has(capability) {
                Ok(has) => {
                    known |= 1 << capability;
                    bounding |= u64::from(has) << capability;
                }
                // The first number that the kernel does not know.
                Err(Errno::EINVAL) => break,
                Err(errno) => {
                    return Err(errno)
                        .call(|| format!("prctl(PR_CAPBSET_READ, {capability})"))
                        .context("read the runtime's rights");
                }
            }
        }
        Ok(Host {
            known,
            bounding,
            permitted: sets.permitted,
            apparmor: process.apparmor_profile().is_some()
                && fs::read("/sys/module/apparmor/parameters/enabled")
                    .is_ok_and(|text| text.starts_with(b"Y")),
            selinux: process.selinux_label().is_some() && Path::new("/sys/fs/selinux/enforce").exists(),
        })
    }
}

/// Whether a joined network namespace is the host's own, in whose `/proc/sys/net` a container writes
/// nothing. A path that cannot be read is reported when it is joined.
pub(super) fn owns_network(path: &Path) -> bool {
    let own = identity(Path::new("/proc/self/ns/net"));
    own.is_some() && identity(path) == own
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(PathBuf::from(path)).ok().map(|meta| (meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_this_kernels_capabilities() {
        let host = Host::look(&Process::default()).unwrap();
        let last: u32 = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
        assert_eq!(host.known.count_ones(), last + 1);
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim();
        assert_eq!(host.bounding, u64::from_str_radix(bounding, 16).unwrap());
        assert!(owns_network(Path::new("/proc/self/ns/net")));
        assert!(!owns_network(Path::new("/proc/self/ns/uts")));
    }
}
