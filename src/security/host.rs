//! What the plan must know of the host and of the runtime's own rights.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

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
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether SELinux is on.
    pub selinux: bool,
    /// Device and inode of the runtime's network namespace.
    pub network: Option<(u64, u64)>,
}

impl Host {
    /// Looks. Reads only; opens nothing of a container.
    pub fn look() -> Result<Host> {
        let sets =
            credentials::capget().call(|| "capget(self)".into()).context("read the runtime's rights")?;
        let (mut known, mut bounding) = (0, 0);
        for capability in 0..u64::BITS {
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
            apparmor: fs::read("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with(b"Y")),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            network: identity(Path::new("/proc/self/ns/net")),
        })
    }

    /// Whether a joined network namespace is the host's own, in whose `/proc/sys/net` a container
    /// writes nothing. A path that cannot be read is reported when it is joined.
    pub(super) fn owns_network(&self, path: &Path) -> bool {
        self.network.is_some() && identity(path) == self.network
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(PathBuf::from(path)).ok().map(|meta| (meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_this_kernels_capabilities() {
        let host = Host::look().unwrap();
        let last: u32 = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
        assert_eq!(host.known.count_ones(), last + 1);
        assert_eq!(host.bounding & !host.known, 0);
        assert!(host.owns_network(Path::new("/proc/self/ns/net")));
        assert!(!host.owns_network(Path::new("/proc/self/ns/uts")));
    }
}
