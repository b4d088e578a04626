//! The five capability sets (capabilities(7)).

use nix::errno::Errno;
use oci_spec::runtime::{self as oci, Capability, Linux, LinuxCapabilities, LinuxNamespaceType};

use super::{Host, Plan};
use crate::error::{Call, Context, Result};
use crate::sys::credentials::{self, Sets};

/// One bit per capability number in each set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Limits what execve(2) can ever give.
    pub bounding: u64,
    /// What the kernel checks.
    pub effective: u64,
    /// Exactly what config.json says and never more: with rights here, a program with inheritable
    /// file capabilities gains them (CVE-2022-29162).
    pub inheritable: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What a non-root program keeps over execve(2); empty unless asked for (CVE-2016-8867).
    pub ambient: u64,
    /// All capabilities of this kernel, for the walk over the bounding set.
    pub known: u64,
}

/// In the order of linux/capability.h: the index is the kernel's number.
pub const BY_NUMBER: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

fn bit(capability: Capability) -> u64 {
    BY_NUMBER.iter().position(|&known| known == capability).map_or(0, |number| 1 << number)
}

/// The sets of config.json, less what cannot be had, with a warning for each such name.
pub(super) fn plan(
    capabilities: Option<&LinuxCapabilities>,
    linux: &Linux,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Capabilities {
    let Some(wanted) = capabilities else {
        return Capabilities { known: host.known, ..Capabilities::default() };
    };
    // In a user namespace other than the runtime's init starts with every capability, whatever the
    // runtime has (user_namespaces(7), Capabilities).
    let user_namespace =
        linux.namespaces().iter().flatten().any(|namespace| namespace.typ() == LinuxNamespaceType::User);
    let (bounding, permitted) =
        if user_namespace { (host.known, host.known) } else { (host.bounding, host.permitted) };
    let mut unknown = 0;
    let mut missing = 0;
    let mut take = |names: &Option<oci::Capabilities>, available: u64| {
        let set = names.iter().flatten().fold(0, |set, &capability| set | bit(capability));
        unknown |= set & !host.known;
        missing |= set & host.known & !available;
        set & available
    };
    let mut sets = Capabilities {
        bounding: take(wanted.bounding(), bounding),
        effective: take(wanted.effective(), permitted),
        inheritable: take(wanted.inheritable(), permitted),
        permitted: take(wanted.permitted(), permitted),
        ambient: take(wanted.ambient(), permitted),
        known: host.known,
    };
    for (set, why) in
        [(unknown, "this kernel does not know them"), (missing, "the runtime does not have them")]
    {
        if set != 0 {
            warnings.push(format!("ignoring capabilities {}: {why}", names(set)));
        }
    }
    // What the kernel would refuse with a bare EPERM. Less than was asked is no danger, and the spec wants
    // a container that runs.
    sets.effective = within("effective", sets.effective, "permitted", sets.permitted, warnings);
    sets.inheritable = within("inheritable", sets.inheritable, "bounding", sets.bounding, warnings);
    // Engines ask for ambient capabilities and have left them out of the inheritable set since
    // CVE-2022-29162.
    for (outer, bound) in [("permitted", sets.permitted), ("inheritable", sets.inheritable)] {
        for name in list(sets.ambient & !bound) {
            // runc's words, but for the reason.
            warnings.push(format!("can't raise ambient capability {name}: it is not in the {outer} set"));
        }
        sets.ambient &= bound;
    }
    sets
}

/// The part of a set that lies in another one, with a warning of the rest.
fn within(inner: &str, set: u64, outer: &str, bound: u64, warnings: &mut Vec<String>) -> u64 {
    if set & !bound != 0 {
        warnings.push(format!(
            "ignoring {inner} capabilities {}: they are not in the {outer} set (EPERM)",
            names(set & !bound)
        ));
    }
    set & bound
}

/// `CAP_CHOWN CAP_KILL`, by number.
fn names(set: u64) -> String {
    list(set).collect::<Vec<_>>().join(" ")
}

fn list(set: u64) -> impl Iterator<Item = String> {
    let inside = move |capability: &Capability| set & bit(*capability) != 0;
    BY_NUMBER.into_iter().filter(inside).map(|capability| format!("CAP_{capability}"))
}

/// What loading a filter without no_new_privs needs (seccomp(2)): CAP_SYS_ADMIN.
pub const SECCOMP_RIGHT: u64 = 1 << 21;

impl Plan {
    /// Drops from the bounding set all that is not in it. Before [`Plan::become_user`]: the drop needs
    /// an effective CAP_SETPCAP, which the change to a uid other than 0 clears.
    pub fn drop_bounding(&self) -> Result<()> {
        let unwanted = self.capabilities.known & !self.capabilities.bounding;
        for capability in (0..u64::BITS).filter(|bit| unwanted & 1 << bit != 0) {
            match credentials::bounding_drop(capability) {
                Ok(()) => {}
                // A runtime without CAP_SETPCAP is fine as long as there is nothing to drop.
                Err(Errno::EPERM) if credentials::bounding_has(capability) == Ok(false) => {}
                Err(errno) => {
                    return Err(errno)
                        .call(|| format!("prctl(PR_CAPBSET_DROP, {})", names(1 << capability)))
                        .context("limit the capability bounding set");
                }
            }
        }
        Ok(())
    }

    /// Sets permitted, effective, inheritable and ambient. After [`Plan::become_user`], which needs
    /// CAP_SETUID and CAP_SETGID. The ambient set comes last, since each of its capabilities must be
    /// permitted and inheritable by then, and is cleared first: the caller's own would leak otherwise.
    ///
    /// With `retained` these stay permitted, though not effective: [`SECCOMP_RIGHT`] for
    /// [`Plan::raise`]. They end with execve(2), which works the permitted set out anew from the
    /// bounding and the ambient set (capabilities(7)); until then a process without them cannot ptrace
    /// this one.
    pub fn set_capabilities(&self, retained: u64) -> Result<()> {
        let set = || {
            let wanted = &self.capabilities;
            match credentials::ambient_clear() {
                // Before Linux 4.3 there is no ambient set.
                Err(Errno::EINVAL) if wanted.ambient == 0 => {}
                cleared => cleared.call(|| "prctl(PR_CAP_AMBIENT_CLEAR_ALL)".into())?,
            }
            let sets = Sets {
                effective: wanted.effective,
                permitted: wanted.permitted | retained,
                inheritable: wanted.inheritable,
            };
            credentials::capset(sets).call(|| {
                format!(
                    "capset(effective {:#x}, permitted {:#x}, inheritable {:#x})",
                    sets.effective, sets.permitted, sets.inheritable
                )
            })?;
            for capability in (0..u64::BITS).filter(|bit| wanted.ambient & 1 << bit != 0) {
                credentials::ambient_raise(capability)
                    .call(|| format!("prctl(PR_CAP_AMBIENT_RAISE, {})", names(1 << capability)))?;
            }
            Ok(())
        };
        set().context("set the capabilities")
    }

    /// Makes retained capabilities effective beside the wanted ones.
    pub fn raise(&self, retained: u64) -> Result<()> {
        let wanted = &self.capabilities;
        let sets = Sets {
            effective: wanted.effective | retained,
            permitted: wanted.permitted | retained,
            inheritable: wanted.inheritable,
        };
        credentials::capset(sets).call(|| format!("capset(effective {:#x})", sets.effective))
    }

    /// PR_SET_NO_NEW_PRIVS, when the plan says so.
    pub fn set_no_new_privileges(&self) -> Result<()> {
        if !self.no_new_privileges {
            return Ok(());
        }
        credentials::no_new_privs().call(|| "prctl(PR_SET_NO_NEW_PRIVS)".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        let known = (1 << 41) - 1;
        Host { known, bounding: known, permitted: known, ..Host::default() }
    }

    fn planned(json: &str, linux: &str, host: &Host) -> (Capabilities, Vec<String>) {
        let wanted: LinuxCapabilities = serde_json::from_str(json).unwrap();
        let linux: Linux = serde_json::from_str(linux).unwrap();
        let mut warnings = Vec::new();
        let sets = plan(Some(&wanted), &linux, host, &mut warnings);
        (sets, warnings)
    }

    #[test]
    fn numbers_and_names_agree_with_the_kernels() {
        assert_eq!(names(1), "CAP_CHOWN");
        assert_eq!(names(1 << 21 | 1 << 40), "CAP_SYS_ADMIN CAP_CHECKPOINT_RESTORE");
        assert_eq!(names((1 << 41) - 1).split(' ').count(), 41);
    }

    #[test]
    fn gives_nothing_without_the_object() {
        let mut warnings = Vec::new();
        let sets = plan(None, &Linux::default(), &host(), &mut warnings);
        assert_eq!(sets, Capabilities { known: host().known, ..Capabilities::default() });
    }

    #[test]
    fn cve_2022_29162_inheritable_is_what_was_asked() {
        let json = r#"{"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}"#;
        let (sets, warnings) = planned(json, "{}", &host());
        assert_eq!((sets.bounding, sets.effective, sets.permitted), (1 << 5, 1 << 5, 1 << 5));
        assert_eq!((sets.inheritable, sets.ambient), (0, 0));
        assert!(warnings.is_empty());
    }

    #[test]
    fn warns_of_what_the_kernel_or_the_runtime_lacks() {
        let old = Host { known: 0xff, bounding: 0x1f, permitted: 0x3f, ..Host::default() };
        let json = r#"{"bounding": ["CAP_KILL", "CAP_BPF"], "permitted": ["CAP_KILL"]}"#;
        let (sets, warnings) = planned(json, "{}", &old);
        assert_eq!((sets.bounding, sets.permitted), (0, 1 << 5));
        assert_eq!(
            warnings,
            [
                "ignoring capabilities CAP_BPF: this kernel does not know them",
                "ignoring capabilities CAP_KILL: the runtime does not have them"
            ]
        );
        // A new user namespace gives all that the kernel knows.
        let (sets, _) = planned(json, r#"{"namespaces": [{"type": "user"}]}"#, &old);
        assert_eq!(sets.bounding, 1 << 5);
    }

    #[test]
    fn drops_ambient_capabilities_that_could_not_be_raised() {
        let json = r#"{"permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]}"#;
        let (sets, warnings) = planned(json, "{}", &host());
        assert_eq!(sets.ambient, 0);
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn warns_of_what_the_kernel_would_refuse() {
        let json = r#"{"effective": ["CAP_KILL"], "inheritable": ["CAP_CHOWN"]}"#;
        let (sets, warnings) = planned(json, "{}", &host());
        assert_eq!((sets.effective, sets.inheritable), (0, 0));
        assert_eq!(
            warnings,
            [
                "ignoring effective capabilities CAP_KILL: they are not in the permitted set (EPERM)",
                "ignoring inheritable capabilities CAP_CHOWN: they are not in the bounding set (EPERM)"
            ]
        );
    }
}
