//! Who calls berth, as far as cgroups are concerned.

use std::io::ErrorKind;

use crate::error::{Code, Error, Result};

/// The caller's uid on the host when it is an ordinary user; None for who owns the system's cgroups.
///
/// Rootless engines call us as root of a user namespace: that is an ordinary user too. So is not the root
/// of a system container, which has a systemd of its own; there `USER` is root (this is how runc and
/// crun tell the two apart).
pub(super) fn ordinary_user() -> Result<Option<u32>> {
    let own = nix::unistd::geteuid().as_raw();
    let map = match std::fs::read_to_string("/proc/self/uid_map") {
        Ok(map) => map,
        // A kernel without user namespaces.
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::new(Code::Kernel, format!("read(/proc/self/uid_map): {error}"))),
    };
    let on_the_host = outside(&map, own).unwrap_or(own);
    let is_root_by_name = || std::env::var_os("USER").is_some_and(|user| user == "root");
    Ok((on_the_host != 0 && !(own == 0 && is_root_by_name())).then_some(on_the_host))
}

/// What `id` is outside of the user namespace with the uid_map `map` (user_namespaces(7)).
fn outside(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(|word| word.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let offset = id.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::outside;

    #[test]
    fn ids_outside_of_a_user_namespace() {
        let podmans = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(outside(podmans, 0), Some(1000));
        assert_eq!(outside(podmans, 65536), Some(165_535));
        assert_eq!(outside(podmans, 65537), None);
        assert_eq!(outside("         0          0 4294967295\n", 7), Some(7));
    }
}
