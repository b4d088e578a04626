//! `linux.sysctl`: only what belongs to a namespace of the container, or it would change the host.

use oci_spec::runtime::LinuxNamespaceType;

use super::{Config, Problems, sorted};

const OF_IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// The rules are runc's. A network namespace that is joined by path may still be the host's, which
/// is found out when it is opened.
pub(super) fn namespaced(config: &Config, problems: &mut Problems) {
    let Some(sysctls) = config.linux().and_then(|linux| linux.sysctl().as_ref()) else { return };
    for (name, _) in sorted(sysctls) {
        let path = format!("linux.sysctl[{name:?}]");
        let name = dotted(name);
        // As a path below /proc/sys a part of slashes is `.` or `..`, and would leave net/ again.
        if name.split('.').any(|part| part.chars().all(|c| c == '/')) {
            problems.add(path, "is not a name of a sysctl");
        } else if name == "kernel.hostname" {
            problems.add(path, "conflicts with hostname, which is for that");
        } else {
            match namespace_of(&name) {
                None => problems.add(path, "does not belong to a namespace and would change the host"),
                Some(typ) if !config.has_namespace(typ) => {
                    let typ =
                        if typ == LinuxNamespaceType::Network { "network".into() } else { typ.to_string() };
                    problems
                        .add(path, format!("needs a namespace of type {typ}, or it would change the host"));
                }
                Some(_) => {}
            }
        }
    }
}

fn namespace_of(name: &str) -> Option<LinuxNamespaceType> {
    if OF_IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        Some(LinuxNamespaceType::Ipc)
    } else if name.starts_with("net.") {
        Some(LinuxNamespaceType::Network)
    } else if name == "kernel.domainname" {
        Some(LinuxNamespaceType::Uts)
    } else if name.starts_with("user.") {
        Some(LinuxNamespaceType::User)
    } else {
        None
    }
}

/// sysctl.d(5): the first separator decides; after a slash, slashes separate and dots are slashes
/// of the name (`net/ipv4/conf/enp3s0.200/forwarding`).
fn dotted(name: &str) -> String {
    let slashes_separate = name.find(['.', '/']).is_some_and(|at| name.as_bytes().get(at) == Some(&b'/'));
    if !slashes_separate {
        return name.to_owned();
    }
    let swap = |c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    name.chars().map(swap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_separator_names_the_same_sysctl() {
        assert_eq!(dotted("net.ipv4.conf.enp3s0/200.forwarding"), "net.ipv4.conf.enp3s0/200.forwarding");
        assert_eq!(dotted("net/ipv4/conf/enp3s0.200/forwarding"), "net.ipv4.conf.enp3s0/200.forwarding");
        assert_eq!(dotted("kernel"), "kernel");
    }
}
