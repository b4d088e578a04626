//! What CRIU is asked (`criu_req` and `criu_opts` of CRIU's images/rpc.proto), as plain data until it is
//! encoded.

use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::wire::Message;
use crate::error::{Error, Result};

/// How much CRIU writes to its log: `LOG_DEBUG`, as runc has it, so that a failure can be understood
/// from one run.
const LOG_LEVEL: i64 = 4;

/// `criu_req_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Write the image of a process tree.
    Dump = 1,
    /// Make the tree of an image.
    Restore = 2,
    /// Write the memory alone and let the tree go on.
    PreDump = 4,
    /// Between the two: something has come to pass.
    Notify = 6,
    /// What CRIU and the kernel can do.
    FeatureCheck = 9,
    /// Which CRIU it is.
    Version = 10,
}

impl Kind {
    /// The kind with this number, among those that berth asks for.
    pub fn of(number: i32) -> Option<Self> {
        [Self::Dump, Self::Restore, Self::PreDump, Self::Notify, Self::FeatureCheck, Self::Version]
            .into_iter()
            .find(|kind| *kind as i32 == number)
    }

    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dump => "dump",
            Self::Restore => "restore",
            Self::PreDump => "pre-dump",
            Self::Notify => "notification",
            Self::FeatureCheck => "feature check",
            Self::Version => "version",
        }
    }
}

/// The switches of `criu_opts`, by their field numbers; criu(8) describes each under this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Let the processes go on after the dump.
    LeaveRunning = 3,
    /// Unix sockets whose peer is outside.
    ExternalUnixSockets = 4,
    /// Connections.
    TcpEstablished = 5,
    /// Take another path to a device when the old one is gone.
    EvasiveDevices = 6,
    /// A process in a session of somebody outside.
    ShellJob = 7,
    /// flock(2) and fcntl(2) locks.
    FileLocks = 8,
    /// Tell us what comes to pass ([`super::Notification`]).
    Notify = 12,
    /// Watch which memory changes, for the next image of a chain.
    TrackMemory = 15,
    /// Drop from the previous image what the new one has.
    AutoDedup = 16,
    /// Link files that were unlinked while open.
    LinkRemap = 18,
    /// The first restored process is a child of ours, not of CRIU.
    RestoreSibling = 26,
    /// Connections that are just being made are lost.
    TcpSkipInFlight = 46,
    /// Copy memory on demand.
    LazyPages = 48,
    /// A terminal whose master is held outside.
    OrphanPtsMaster = 50,
    /// Restored connections are closed.
    TcpClose = 52,
}

/// `criu_cg_mode`: how CRIU treats the cgroups, see criu(8), `--manage-cgroups`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupsMode {
    /// Restore the properties of cgroups that CRIU made.
    #[default]
    Soft = 3,
    /// Restore all cgroups and their properties.
    Full = 4,
    /// As full, and fail when one exists.
    Strict = 5,
    /// Leave cgroups alone.
    Ignore = 0,
}

/// Where memory pages are sent instead of being written to the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageServer {
    /// Host name or address.
    pub address: String,
    /// TCP port.
    pub port: u16,
}

/// A mount that is no part of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalMount {
    /// For a dump the mount point in the container, for a restore the name in the image.
    pub key: PathBuf,
    /// For a dump the name in the image, for a restore the path on the host.
    pub value: PathBuf,
}

impl ExternalMount {
    /// For a dump: the mount at `point` gets a name, under which a restore is asked for it.
    ///
    /// # Errors
    /// As [`ExternalMount::new`], which is what the name will have to pass.
    pub fn named(point: &Path, name: &Path) -> Result<Self> {
        Self::new(name.to_owned(), PathBuf::new())?;
        Self::new(point.to_owned(), name.to_owned())
    }

    /// `]:` would end the key early: CRIU joins the two to `mnt[KEY]:VALUE` and takes them apart again, so
    /// that a key could name another mount (CVE-2026-119101). A newline CRIU does not read out of the kernel's
    /// table of mounts.
    ///
    /// # Errors
    /// There is one in the key.
    pub fn new(key: PathBuf, value: PathBuf) -> Result<Self> {
        let bytes = key.as_os_str().as_bytes();
        let stumbles =
            [&b"]:"[..], b"\n"].into_iter().find(|words| bytes.windows(words.len()).any(|at| at == *words));
        match stumbles {
            Some(words) => {
                let words = String::from_utf8_lossy(words);
                Err(Error::invalid(format!("{key:?} cannot be named to CRIU: it has {words:?} in it")))
            }
            None => Ok(Self { key, value }),
        }
    }
}

/// `criu_opts`. What is empty or None is left to CRIU's own default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The image's directory, by its number in this process.
    pub images: RawFd,
    /// The directory of the log and of what CRIU needs meanwhile; that of the image when None.
    pub work: Option<RawFd>,
    /// Name of the log in that directory.
    pub log_file: &'static str,
    /// The tree's first process, for a dump.
    pub pid: Option<i32>,
    /// The root of the tree's mount namespace on the host.
    pub root: PathBuf,
    /// What is on.
    pub switches: Vec<Switch>,
    /// How cgroups are treated.
    pub cgroups_mode: CgroupsMode,
    /// Where a restored process finds each hierarchy's cgroup: controller and path.
    pub cgroup_roots: Vec<(String, String)>,
    /// The cgroup whose freezer stops the tree, instead of ptrace(2).
    pub freeze_cgroup: Option<PathBuf>,
    /// `CLONE_NEW*` of namespaces whose content is left out.
    pub empty_namespaces: u64,
    /// Mounts that are no part of the image.
    pub external_mounts: Vec<ExternalMount>,
    /// Other resources that are no part of the image: `net[INODE]:KEY`, `file[MOUNT:INODE]`.
    pub external: Vec<String>,
    /// Descriptors of the CRIU process that stand in for them in a restore.
    pub inherited: Vec<(String, RawFd)>,
    /// Namespaces that a restored tree joins: name and path.
    pub joined: Vec<(&'static str, PathBuf)>,
    /// The previous image of a chain, relative to this one.
    pub parent: Option<PathBuf>,
    /// Who gets the memory.
    pub page_server: Option<PageServer>,
    /// A file of CRIU's options, which overrule these.
    pub config_file: Option<PathBuf>,
    /// `TYPE:NAME` of the security module's profile, instead of the image's.
    pub lsm_profile: Option<String>,
    /// SELinux context of restored mounts, instead of the image's.
    pub lsm_mount_context: Option<String>,
}

impl Options {
    /// Turns `switch` on if `on`.
    pub fn set(&mut self, switch: Switch, on: bool) {
        if on && !self.switches.contains(&switch) {
            self.switches.push(switch);
        }
    }

    fn encode(&self) -> Message {
        let mut options = Message::default();
        options.number(1, self.images.into()).number(9, LOG_LEVEL).text(10, self.log_file);
        options.text(13, self.root.as_os_str().as_bytes());
        if let Some(work) = self.work {
            options.number(17, work.into());
        }
        if let Some(pid) = self.pid {
            options.number(2, pid.into());
        }
        for switch in &self.switches {
            options.flag(*switch as u32, true);
        }
        // The older field is on too, for a CRIU that looks at it first.
        options.flag(24, true).number(34, self.cgroups_mode as i64);
        options.number(38, self.empty_namespaces.cast_signed());
        self.encode_lists(&mut options);
        for (field, path) in [(44, &self.freeze_cgroup), (14, &self.parent), (51, &self.config_file)] {
            if let Some(path) = path {
                options.text(field, path.as_os_str().as_bytes());
            }
        }
        if let Some(server) = &self.page_server {
            let mut message = Message::default();
            message.text(1, &server.address).number(2, server.port.into());
            options.message(11, &message);
        }
        for (field, text) in [(53, &self.lsm_profile), (63, &self.lsm_mount_context)] {
            if let Some(text) = text {
                options.text(field, text);
            }
        }
        options
    }

    fn encode_lists(&self, options: &mut Message) {
        for mount in &self.external_mounts {
            let (key, value) = (mount.key.as_os_str().as_bytes(), mount.value.as_os_str().as_bytes());
            options.message(23, Message::default().text(1, key).text(2, value));
        }
        for (controller, path) in &self.cgroup_roots {
            options.message(25, Message::default().text(1, controller).text(2, path));
        }
        for (key, fd) in &self.inherited {
            options.message(27, Message::default().text(1, key).number(2, (*fd).into()));
        }
        for resource in &self.external {
            options.text(37, resource);
        }
        for (name, path) in &self.joined {
            options.message(39, Message::default().text(1, name).text(2, path.as_os_str().as_bytes()));
        }
    }
}

/// What the kernel may lack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Tracking of changed memory (`CONFIG_MEM_SOFT_DIRTY`), for pre-dumps.
    pub memory_tracking: bool,
    /// userfaultfd(2), for lazy pages.
    pub lazy_pages: bool,
}

/// A request without options.
pub fn plain(kind: Kind) -> Message {
    let mut request = Message::default();
    request.number(1, kind as i64);
    request
}

/// A request with options.
pub fn with_options(kind: Kind, options: &Options) -> Message {
    let mut request = plain(kind);
    request.message(2, &options.encode());
    request
}

/// The question whether these features are there.
pub fn feature_check(features: Features) -> Message {
    let mut asked = Message::default();
    asked.flag(1, features.memory_tracking).flag(2, features.lazy_pages);
    let mut request = plain(Kind::FeatureCheck);
    request.message(5, &asked);
    request
}

/// The answer to a notification.
pub fn notified(well: bool) -> Message {
    let mut request = plain(Kind::Notify);
    request.flag(3, well);
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::wire::{Value, fields};

    /// The fields of the options in a request.
    fn sent(options: &Options) -> Vec<(u32, Vec<u8>)> {
        let request = with_options(Kind::Dump, options);
        let read = fields(request.as_bytes()).unwrap();
        assert_eq!(read[0], (1, Value::Number(1)));
        let options = fields(read[1].1.bytes()).unwrap();
        options
            .into_iter()
            .map(|(field, value)| match value {
                Value::Number(number) => (field, number.to_string().into_bytes()),
                other => (field, other.bytes().to_vec()),
            })
            .collect()
    }

    #[test]
    fn says_only_what_was_asked_for() {
        let options = Options { images: 5, log_file: "dump.log", root: "/r".into(), ..Options::default() };
        let numbers: Vec<u32> = sent(&options).into_iter().map(|(field, _)| field).collect();
        assert_eq!(numbers, [1, 9, 10, 13, 24, 34, 38]);
    }

    #[test]
    fn numbers_every_field_as_rpc_proto() {
        let mut options = Options {
            work: Some(6),
            pid: Some(42),
            cgroups_mode: CgroupsMode::Ignore,
            cgroup_roots: vec![("cpu".into(), "/a".into())],
            freeze_cgroup: Some("/sys/fs/cgroup/a".into()),
            empty_namespaces: 0x4000_0000,
            external_mounts: vec![ExternalMount::new("/etc/hosts".into(), "/etc/hosts".into()).unwrap()],
            external: vec!["net[7]:extRootNetNS".into()],
            inherited: vec![("pipe:[9]".into(), 1)],
            joined: vec![("uts", "/proc/1/ns/uts".into())],
            parent: Some("../parent".into()),
            page_server: Some(PageServer { address: "::1".into(), port: 9876 }),
            config_file: Some("/etc/criu/runc.conf".into()),
            lsm_profile: Some("apparmor:a".into()),
            lsm_mount_context: Some("c".into()),
            ..Options::default()
        };
        options.set(Switch::LeaveRunning, true);
        options.set(Switch::LeaveRunning, true);
        options.set(Switch::ShellJob, false);
        options.set(Switch::OrphanPtsMaster, true);
        let sent = sent(&options);
        let value = |number: u32| {
            let of_number: Vec<&[u8]> = sent
                .iter()
                .filter(|(field, _)| *field == number)
                .map(|(_, value)| value.as_slice())
                .collect();
            assert_eq!(of_number.len(), 1, "field {number}");
            of_number[0]
        };
        for (field, expected) in [
            (17, &b"6"[..]),
            (2, b"42"),
            (3, b"1"),
            (50, b"1"),
            (34, b"0"),
            (38, b"1073741824"),
            (14, b"../parent"),
            (44, b"/sys/fs/cgroup/a"),
            (51, b"/etc/criu/runc.conf"),
            (53, b"apparmor:a"),
            (63, b"c"),
            (37, b"net[7]:extRootNetNS"),
            (23, b"\x0a\x0a/etc/hosts\x12\x0a/etc/hosts"),
            (25, b"\x0a\x03cpu\x12\x02/a"),
            (27, b"\x0a\x08pipe:[9]\x10\x01"),
            (39, b"\x0a\x03uts\x12\x0e/proc/1/ns/uts"),
            (11, b"\x0a\x03::1\x10\x94\x4d"),
        ] {
            assert_eq!(value(field), expected, "field {field}");
        }
        assert!(sent.iter().all(|(field, _)| *field != 7));
    }

    #[test]
    fn a_key_cannot_end_early() {
        assert!(ExternalMount::new("/a]:/etc".into(), "/x".into()).is_err());
        assert!(ExternalMount::new("/a\nb".into(), "/x".into()).is_err());
        assert!(ExternalMount::new("/a]b:[c".into(), "/x]:y".into()).is_ok());
    }
}
