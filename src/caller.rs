//! Who calls berth: the host's root, an ordinary user, or root of a user namespace (user_namespaces(7)).
//!
//! Rootless engines call us as root of a user namespace: that is an ordinary user too, whose /run and cgroups are not
//! the system's. A system container is such a namespace as well, but its root has both; there `USER` is root, which is
//! how runc and crun tell the two apart.

use std::io::ErrorKind;
use std::path::Path;

use crate::error::{Code, Error, Result};

/// Whether the caller owns the host, or the system container that is its host.
///
/// # Errors
/// /proc cannot be read.
pub fn owns_the_host() -> Result<bool> {
    Ok(nix::unistd::geteuid().is_root() && (is_root_by_name() || UidMap::own()?.is_initial()))
}

/// Whether the caller is root in the initial user namespace.
///
/// # Errors
/// /proc cannot be read.
pub fn is_initial_root() -> Result<bool> {
    Ok(nix::unistd::geteuid().is_root() && UidMap::own()?.is_initial())
}

/// The caller's uid on the host when it is an ordinary user; None for who owns the system's cgroups.
///
/// # Errors
/// /proc cannot be read.
pub fn ordinary_user() -> Result<Option<u32>> {
    let own = nix::unistd::geteuid().as_raw();
    let on_the_host = UidMap::own()?.outside(own).unwrap_or(own);
    Ok((on_the_host != 0 && !(own == 0 && is_root_by_name())).then_some(on_the_host))
}

fn is_root_by_name() -> bool {
    std::env::var_os("USER").is_some_and(|user| user == "root")
}

/// `/proc/self/uid_map`; None on a kernel without user namespaces.
struct UidMap(Option<String>);

impl UidMap {
    fn own() -> Result<Self> {
        match std::fs::read_to_string("/proc/self/uid_map") {
            Ok(map) => Ok(Self(Some(map))),
            Err(error) if error.kind() == ErrorKind::NotFound && Path::new("/proc/self").exists() => {
                Ok(Self(None))
            }
            Err(error) => Err(Error::new(Code::Kernel, format!("read(/proc/self/uid_map): {error}"))),
        }
    }

    /// Whether every id is mapped to itself.
    fn is_initial(&self) -> bool {
        self.0.as_ref().is_none_or(|map| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]))
    }

    /// What `id` is outside of the namespace; None where it is nothing, or the same.
    fn outside(&self, id: u32) -> Option<u32> {
        self.0.as_ref()?.lines().find_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(|word| word.parse::<u32>().ok());
            let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
            let offset = id.checked_sub(inside).filter(|offset| *offset < count)?;
            outside.checked_add(offset)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::UidMap;

    fn map(text: &str) -> UidMap {
        UidMap(Some(text.into()))
    }

    #[test]
    fn ids_outside_of_a_user_namespace() {
        let podmans = map("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(podmans.outside(0), Some(1000));
        assert_eq!(podmans.outside(65536), Some(165_535));
        assert_eq!(podmans.outside(65537), None);
        assert_eq!(map("         0          0 4294967295\n").outside(7), Some(7));
        assert_eq!(UidMap(None).outside(7), None);
    }

    #[test]
    fn tells_the_initial_user_namespace() {
        assert!(map("         0          0 4294967295\n").is_initial());
        assert!(!map("         0       1000          1\n").is_initial());
        assert!(!map("0 1000 1\n1 100000 65536\n").is_initial());
        // One that nobody has mapped yet.
        assert!(!map("").is_initial());
        assert!(UidMap(None).is_initial());
    }
}
