//! `linux.sysctl`: which may be set, under which path, and the writing.

use nix::errno::Errno;
use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType};

use super::Plan;
use super::host::owns_network;
use crate::error::{Context, Error, Result};
use crate::sys::procfs::Procfs;

/// One kernel parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// As config.json has it.
    pub name: String,
    /// Below `/proc/sys`: `net/ipv4/ip_forward`.
    pub path: String,
    /// What is written, as it is.
    pub value: String,
}

/// The parameters that an IPC namespace has of its own, besides all of `fs/mqueue`
/// (ipc_namespaces(7)).
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// All parameters, sorted by name. One that would reach the host because the container has no
/// namespace for it is refused.
pub(super) fn plan(linux: &Linux) -> Result<Vec<Sysctl>> {
    let mut planned = Vec::new();
    for (name, value) in linux.sysctl().iter().flatten() {
        let path = path(name).ok_or_else(|| Error::invalid(format!("linux.sysctl: {name:?} is no name")))?;
        if let Some(reason) = refusal(&path, linux) {
            return Err(Error::invalid(format!("linux.sysctl: {name:?} {reason}")));
        }
        planned.push(Sysctl { name: name.clone(), path, value: value.clone() });
    }
    planned.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(planned)
}

/// sysctl.d(5): the first separator of a name tells which one it uses. With `.`, a `/` stands for a
/// dot in a file's name (`net.ipv4.conf.eth0/1.forwarding`); with `/`, all is as it is.
fn path(name: &str) -> Option<String> {
    let path: String = match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('.') => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => name.to_string(),
    };
    let sound = !path.contains('\0') && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    sound.then_some(path)
}

/// Why the parameter may not be set, in runc's words where it has some.
fn refusal(path: &str, linux: &Linux) -> Option<&'static str> {
    let namespace = |kind: LinuxNamespaceType| -> Option<&LinuxNamespace> {
        linux.namespaces().iter().flatten().find(|namespace| namespace.typ() == kind)
    };
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let ipc = (first == "kernel" && IPC.contains(&rest)) || path.starts_with("fs/mqueue/");
    if ipc {
        let own = namespace(LinuxNamespaceType::Ipc).is_some();
        return (!own).then_some("is not allowed in the hosts ipc namespace");
    }
    if first == "net" {
        let own = namespace(LinuxNamespaceType::Network)
            .is_some_and(|namespace| namespace.path().as_deref().is_none_or(|path| !owns_network(path)));
        return (!own).then_some("not allowed in host network namespace");
    }
    let uts = namespace(LinuxNamespaceType::Uts).is_some();
    match path {
        "kernel/domainname" if uts => None,
        "kernel/hostname" if uts => Some("is not allowed as it conflicts with the OCI \"hostname\" field"),
        // user/ is per user namespace (namespaces(7), /proc/sys/user).
        _ if first == "user" && namespace(LinuxNamespaceType::User).is_some() => None,
        _ => Some("is not in a separate kernel namespace"),
    }
}

impl Sysctl {
    /// Whether it is a value of the interface `lo` (`net.ipv6.conf.lo.mtu`).
    pub fn is_of_loopback(&self) -> bool {
        self.path.split('/').any(|part| part == "lo")
    }

    fn write(&self, procfs: &Procfs) -> Result<()> {
        procfs
            .write(format!("sys/{}", self.path), &self.value)
            .with_context(|| format!("set the sysctl {:?}", self.name))
    }
}

impl Plan {
    /// Writes all parameters, or those with the indices `only`, through a procfs that no container can have
    /// touched: its own `/proc/sys` may lead anywhere (CVE-2025-52881). After the namespaces are entered, before the capabilities
    /// are given up.
    pub fn write_sysctls(&self, procfs: &Procfs, only: Option<&[usize]>) -> Result<()> {
        let wanted = |index: &usize| only.is_none_or(|only| only.contains(index));
        let mut chosen = self.sysctls.iter().enumerate().filter(|(index, _)| wanted(index));
        chosen.try_for_each(|(_, sysctl)| sysctl.write(procfs))
    }

    /// Writes what the caller may; the indices of those that somebody else has to write. Of a user namespace
    /// (`user.max_net_namespaces`) they are only for who is in it.
    ///
    /// # Errors
    /// The kernel's, but for EACCES and EPERM.
    pub fn write_sysctls_that_we_may(&self, procfs: &Procfs) -> Result<Vec<usize>> {
        let mut left = Vec::new();
        for (index, sysctl) in self.sysctls.iter().enumerate() {
            if sysctl.path.starts_with("user/") {
                left.push(index);
                continue;
            }
            match sysctl.write(procfs) {
                Err(error) if matches!(error.errno(), Some(Errno::EACCES | Errno::EPERM)) => left.push(index),
                result => result?,
            }
        }
        Ok(left)
    }

    /// Writes those of the network alone, in the network namespace of the caller.
    pub fn write_network_sysctls(&self, procfs: &Procfs) -> Result<()> {
        let mut of_network = self.sysctls.iter().filter(|sysctl| sysctl.path.starts_with("net/"));
        of_network.try_for_each(|sysctl| sysctl.write(procfs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translates_names_as_sysctl_d_does() {
        assert_eq!(path("net.ipv4.ip_forward").unwrap(), "net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/conf/eno2.100/rp_filter").unwrap(), "net/ipv4/conf/eno2.100/rp_filter");
        assert_eq!(path("net.ipv4.conf.eno2/100.rp_filter").unwrap(), "net/ipv4/conf/eno2.100/rp_filter");
        assert_eq!(path("kernel"), Some("kernel".into()));
        for bad in ["", "net..x", "net/../kernel/x", "/net/x", "net/x/", "net./.x", "kernel.//.x", "a\0.b"] {
            assert_eq!(path(bad), None, "{bad:?}");
        }
    }

    fn planned(sysctl: &str, namespaces: &str) -> Result<Vec<Sysctl>> {
        let json = format!(r#"{{"sysctl": {sysctl}, "namespaces": {namespaces}}}"#);
        plan(&serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn allows_only_what_a_namespace_keeps_to_the_container() {
        let all = r#"[{"type": "ipc"}, {"type": "network"}, {"type": "uts"}]"#;
        let host_net = r#"[{"type": "network", "path": "/proc/self/ns/net"}]"#;
        for (sysctl, namespaces, allowed) in [
            (r#"{"net.ipv4.ip_forward": "1"}"#, all, true),
            (r#"{"net.ipv4.ip_forward": "1"}"#, "[]", false),
            (r#"{"net.ipv4.ip_forward": "1"}"#, host_net, false),
            (r#"{"kernel.shmmax": "1", "fs.mqueue.msg_max": "2"}"#, all, true),
            (r#"{"kernel.shmmax": "1"}"#, "[]", false),
            (r#"{"fs.mqueue.msg_max": "1"}"#, "[]", false),
            (r#"{"kernel.domainname": "x"}"#, all, true),
            (r#"{"kernel.domainname": "x"}"#, "[]", false),
            (r#"{"kernel.hostname": "x"}"#, all, false),
            (r#"{"kernel.core_pattern": "x"}"#, all, false),
            (r#"{"netx.y": "x"}"#, all, false),
        ] {
            assert_eq!(planned(sysctl, namespaces).is_ok(), allowed, "{sysctl} {namespaces}");
        }
    }
}
