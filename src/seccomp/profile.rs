//! The OCI profile in our own terms: each entry a return value and the alternatives under which it
//! holds. What the specification forbids is refused here.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

use super::arch::{Architecture, NATIVE};
use super::table::Syscall;
use crate::error::{Error, Result};

/// What the kernel is to do with a call: the value that a filter returns, action in the upper and
/// data in the lower half (linux/seccomp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action(pub u32);

impl Action {
    /// SECCOMP_RET_KILL_PROCESS.
    pub const KILL_PROCESS: Self = Self(0x8000_0000);
    /// SECCOMP_RET_KILL_THREAD: what `SCMP_ACT_KILL` has always meant.
    pub const KILL_THREAD: Self = Self(0);
    /// SECCOMP_RET_TRAP.
    pub const TRAP: Self = Self(0x0003_0000);
    /// SECCOMP_RET_USER_NOTIF.
    pub const NOTIFY: Self = Self(0x7fc0_0000);
    /// SECCOMP_RET_LOG.
    pub const LOG: Self = Self(0x7ffc_0000);
    /// SECCOMP_RET_ALLOW.
    pub const ALLOW: Self = Self(0x7fff_0000);
    /// The answer to a call that the profile's author cannot have known.
    pub const ENOSYS: Self = Self::errno(38);

    const ERRNO: u32 = 0x0005_0000;
    const TRACE: u32 = 0x7ff0_0000;

    /// SECCOMP_RET_ERRNO.
    pub const fn errno(errno: u16) -> Self {
        Self(Self::ERRNO | errno as u32)
    }

    /// SECCOMP_RET_TRACE with the message for the tracer.
    pub const fn trace(message: u16) -> Self {
        Self(Self::TRACE | message as u32)
    }

    /// The action without its data.
    pub fn kind(self) -> u32 {
        self.0 & 0xffff_0000
    }

    /// The lower half: an errno, or a message.
    pub fn data(self) -> u16 {
        let [low, high, ..] = self.0.to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// The kernel's order when filters disagree: the smallest, taken as signed, wins.
    #[allow(clippy::cast_possible_wrap, reason = "the kernel compares the action as an s32")]
    pub fn severity(self) -> i32 {
        self.kind() as i32
    }

    /// Whether the call is carried out, perhaps after a word to the log or the tracer.
    pub fn is_permissive(self) -> bool {
        matches!(self.kind(), 0x7ff0_0000 | 0x7ffc_0000 | 0x7fff_0000)
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.kind() {
            0x8000_0000 => "KILL_PROCESS",
            0 => "KILL_THREAD",
            0x0003_0000 => "TRAP",
            Self::ERRNO => {
                return write!(f, "ERRNO({})", errno_name(self.data()));
            }
            0x7fc0_0000 => "NOTIFY",
            Self::TRACE => return write!(f, "TRACE({})", self.data()),
            0x7ffc_0000 => "LOG",
            0x7fff_0000 => "ALLOW",
            _ => return write!(f, "{:#010x}", self.0),
        };
        f.write_str(name)
    }
}

fn errno_name(errno: u16) -> String {
    match nix::errno::Errno::from_raw(errno.into()) {
        nix::errno::Errno::UnknownErrno => errno.to_string(),
        known => format!("{known:?}"),
    }
}

/// How an argument is compared, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `argument != value`
    Ne,
    /// `argument < value`
    Lt,
    /// `argument <= value`
    Le,
    /// `argument == value`
    Eq,
    /// `argument >= value`
    Ge,
    /// `argument > value`
    Gt,
    /// `argument & mask == value`
    MaskedEq,
}

/// The actions of a profile that are understood, those of [`action`].
pub const ACTIONS: [LinuxSeccompAction; 9] = [
    LinuxSeccompAction::ScmpActAllow,
    LinuxSeccompAction::ScmpActErrno,
    LinuxSeccompAction::ScmpActKill,
    LinuxSeccompAction::ScmpActKillProcess,
    LinuxSeccompAction::ScmpActKillThread,
    LinuxSeccompAction::ScmpActLog,
    LinuxSeccompAction::ScmpActNotify,
    LinuxSeccompAction::ScmpActTrace,
    LinuxSeccompAction::ScmpActTrap,
];

/// The operators of a profile that are understood.
pub const OPERATORS: [(LinuxSeccompOperator, Operator); 7] = [
    (LinuxSeccompOperator::ScmpCmpNe, Operator::Ne),
    (LinuxSeccompOperator::ScmpCmpLt, Operator::Lt),
    (LinuxSeccompOperator::ScmpCmpLe, Operator::Le),
    (LinuxSeccompOperator::ScmpCmpEq, Operator::Eq),
    (LinuxSeccompOperator::ScmpCmpGe, Operator::Ge),
    (LinuxSeccompOperator::ScmpCmpGt, Operator::Gt),
    (LinuxSeccompOperator::ScmpCmpMaskedEq, Operator::MaskedEq),
];

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub argument: u8,
    /// The comparison.
    pub operator: Operator,
    /// What it is compared with.
    pub value: u64,
    /// The bits that are compared: all, but for [`Operator::MaskedEq`].
    pub mask: u64,
}

impl Condition {
    /// Whether it holds for these arguments on an architecture; what the program compiled from it
    /// must also say.
    pub fn holds(&self, arguments: &[u64; 6], arch: Architecture) -> bool {
        let width = if arch.is_64bit() { u64::MAX } else { u64::from(u32::MAX) };
        let argument = arguments[usize::from(self.argument)] & width;
        let value = self.value & width;
        match self.operator {
            Operator::Ne => argument != value,
            Operator::Lt => argument < value,
            Operator::Le => argument <= value,
            Operator::Eq => argument == value,
            Operator::Ge => argument >= value,
            Operator::Gt => argument > value,
            Operator::MaskedEq => argument & self.mask == value,
        }
    }
}

/// One element of the profile's `syscalls`.
#[derive(Debug)]
pub struct Entry {
    /// Its place in `syscalls`.
    pub index: usize,
    /// The known ones of its names.
    pub calls: Vec<Syscall>,
    /// What is done when one of the alternatives holds.
    pub action: Action,
    /// Conditions that must hold together; one empty list for an entry without `args`.
    pub alternatives: Vec<Vec<Condition>>,
}

/// A checked profile.
#[derive(Debug)]
pub struct Profile {
    /// What is done with a call that no entry decides.
    pub default: Action,
    /// The native architecture first, each once.
    pub architectures: Vec<Architecture>,
    /// The entries, those that repeat the default included: they too say which calls the profile's
    /// author knew.
    pub entries: Vec<Entry>,
    /// Whether calls newer than all that the profile knows get ENOSYS.
    pub answers_enosys: bool,
}

impl Profile {
    /// Checks a profile for the architecture that berth runs on.
    ///
    /// Errors are of kind `Invalid`: an `errnoRet` for an action that has none or beyond the kernel's
    /// range, an argument index above 5, NOTIFY where it would stop the runtime itself.
    pub fn read(profile: &LinuxSeccomp, warnings: &mut Vec<String>) -> Result<Self> {
        Self::read_for(NATIVE, profile, warnings)
    }

    /// As [`read`](Self::read) for another machine.
    pub fn read_for(
        native: Architecture,
        profile: &LinuxSeccomp,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let default = action(profile.default_action(), profile.default_errno_ret(), "defaultErrnoRet")?;
        if default == Action::NOTIFY {
            // The runtime's own calls between the load and the hand-over of the listener would wait
            // for an agent that has not got it yet. runc refuses it too.
            return Err(Error::invalid("seccomp: SCMP_ACT_NOTIFY cannot be the default action"));
        }
        let mut previous = None;
        let mut entries = Vec::new();
        for (index, syscall) in profile.syscalls().iter().flatten().enumerate() {
            entries.push(entry(index, syscall, &mut previous, warnings)?);
        }
        Ok(Self {
            default,
            architectures: architectures(native, profile, warnings),
            entries,
            answers_enosys: !default.is_permissive() && profile.default_errno_ret() != Some(38),
        })
    }

    /// Whether some entry hands calls to an agent.
    pub fn notifies(&self) -> bool {
        self.entries.iter().any(|entry| entry.action == Action::NOTIFY)
    }

    /// Whether every call of every architecture is allowed: nothing listed, nothing refused.
    pub(super) fn filters_nothing(&self, profile: &LinuxSeccomp) -> bool {
        self.default == Action::ALLOW
            && self.entries.is_empty()
            && profile.architectures().as_ref().is_none_or(Vec::is_empty)
    }
}

fn architectures(
    native: Architecture,
    profile: &LinuxSeccomp,
    warnings: &mut Vec<String>,
) -> Vec<Architecture> {
    // libseccomp's filters begin with the native architecture whether or not it is listed, and
    // Docker lists only the others on some.
    let mut architectures = vec![native];
    for &arch in profile.architectures().iter().flatten() {
        match Architecture::of(arch) {
            Some(arch) if arch.is_little_endian() != native.is_little_endian() => warnings.push(format!(
                "seccomp: architecture {} has another byte order than {}; its calls are killed",
                arch.name(),
                native.name()
            )),
            Some(arch) if architectures.contains(&arch) => {}
            Some(arch) => architectures.push(arch),
            None => warnings.push(format!("seccomp: no system call table for {arch}; its calls are killed")),
        }
    }
    architectures
}

fn entry(
    index: usize,
    syscall: &LinuxSyscall,
    previous: &mut Option<Syscall>,
    warnings: &mut Vec<String>,
) -> Result<Entry> {
    let action = action(syscall.action(), syscall.errno_ret(), "errnoRet")
        .map_err(|error| error.context(format!("seccomp: syscalls[{index}]")))?;
    let mut calls = Vec::with_capacity(syscall.names().len());
    for name in syscall.names() {
        match Syscall::named_after(*previous, name) {
            Some(call) => {
                calls.push(call);
                *previous = Some(call);
            }
            None => warnings.push(format!("seccomp: unknown system call {name:?} is skipped")),
        }
    }
    // Between the load and the hand-over of the listener nobody can answer: the runtime would wait for
    // ever for sendmsg, which hands it over, and for write, which reports an error. runc refuses write.
    let own = calls.iter().find(|call| matches!(call.name(), "write" | "sendmsg"));
    if let (Action::NOTIFY, Some(call)) = (action, own) {
        return Err(Error::invalid(format!(
            "seccomp: syscalls[{index}]: SCMP_ACT_NOTIFY cannot be used for the {} syscall",
            call.name()
        )));
    }
    let mut conditions = Vec::new();
    for arg in syscall.args().iter().flatten() {
        conditions
            .push(condition(arg).map_err(|error| error.context(format!("seccomp: syscalls[{index}]")))?);
    }
    Ok(Entry { index, calls, action, alternatives: alternatives(conditions) })
}

fn action(action: LinuxSeccompAction, errno: Option<u32>, field: &str) -> Result<Action> {
    use LinuxSeccompAction as Oci;
    // The value of EPERM is 1 on every architecture.
    let (base, max) = match action {
        Oci::ScmpActErrno => (Action::errno(0), 4095), // MAX_ERRNO: the kernel caps what is above
        Oci::ScmpActTrace => (Action::trace(0), u32::from(u16::MAX)),
        _ if errno.is_some() => {
            // "When the action doesn't support an errno, the runtime MUST print an error and fail"
            // (config-linux.md, Seccomp).
            return Err(Error::invalid(format!("{field} with {action}, which has no errno")));
        }
        Oci::ScmpActKill | Oci::ScmpActKillThread => return Ok(Action::KILL_THREAD),
        Oci::ScmpActKillProcess => return Ok(Action::KILL_PROCESS),
        Oci::ScmpActTrap => return Ok(Action::TRAP),
        Oci::ScmpActNotify => return Ok(Action::NOTIFY),
        Oci::ScmpActLog => return Ok(Action::LOG),
        Oci::ScmpActAllow => return Ok(Action::ALLOW),
    };
    let errno = errno.unwrap_or(1);
    if errno > max {
        return Err(Error::invalid(format!("{field} {errno} with {action} is above {max}")));
    }
    Ok(Action(base.0 | errno))
}

fn condition(arg: &LinuxSeccompArg) -> Result<Condition> {
    let argument = u8::try_from(arg.index())
        .ok()
        .filter(|index| *index < 6)
        .ok_or_else(|| Error::invalid(format!("argument index {} is above 5", arg.index())))?;
    let known = OPERATORS.into_iter().find(|(operator, _)| *operator == arg.op());
    let (_, operator) = known.ok_or_else(|| Error::invalid(format!("unknown operator {}", arg.op())))?;
    // `value` is the mask there and `valueTwo` the datum, of which libseccomp drops the bits outside the
    // mask.
    let (value, mask) = match operator {
        Operator::MaskedEq => (arg.value_two().unwrap_or(0) & arg.value(), arg.value()),
        _ => (arg.value(), u64::MAX),
    };
    Ok(Condition { argument, operator, value, mask })
}

/// Conditions on different arguments hold together. Several on one argument turn the whole entry
/// into alternatives, one per condition: libseccomp takes an argument once per rule, so runc and crun
/// have always added such an entry's conditions as separate rules.
fn alternatives(mut conditions: Vec<Condition>) -> Vec<Vec<Condition>> {
    conditions.sort_by_key(|condition| condition.argument);
    if conditions.windows(2).any(|pair| pair[0].argument == pair[1].argument) {
        conditions.into_iter().map(|condition| vec![condition]).collect()
    } else {
        vec![conditions]
    }
}
