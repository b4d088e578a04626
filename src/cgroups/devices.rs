//! Which devices a container may use: linux.resources.devices as one ordered rule list, applied as an
//! eBPF program (v2) or as device list entries (v1).
//!
//! The list starts from "nothing is allowed" (GHSA-g54h-m393-cpwq: an empty or partial list must never
//! mean that everything else is allowed); each kind of access is decided by the last rule that matches
//! it, as the spec's wording and runc's emulation of cgroup v1 have it. linux.devices creates nodes
//! but allows nothing (config-linux.md, "Allowed Device list").

use std::fmt;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::{Error, Result};
use crate::sys::bpf::Instruction;

/// A device's kind, with the numbers that the kernel gives to BPF_PROG_TYPE_CGROUP_DEVICE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Block = 1,
    Char = 2,
}

/// Kinds of access: a set of MKNOD, READ, WRITE, with the same kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Access(u8);

impl Access {
    const MKNOD: Self = Self(1);
    const READ: Self = Self(2);
    const WRITE: Self = Self(4);
    const ALL: Self = Self(7);

    /// `rwm` in any order, as the spec has it. A missing or empty access is all of them: a rule that
    /// denies must not turn into one that says nothing.
    fn parse(text: Option<&str>) -> Result<Self> {
        let text = text.filter(|text| !text.is_empty()).unwrap_or("rwm");
        text.chars().try_fold(Self(0), |set, c| match c {
            'm' => Ok(Self(set.0 | Self::MKNOD.0)),
            'r' => Ok(Self(set.0 | Self::READ.0)),
            'w' => Ok(Self(set.0 | Self::WRITE.0)),
            _ => Err(Error::invalid(format!("access {text:?} has a letter other than r, w and m"))),
        })
    }

    fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MKNOD, "m")] {
            if self.covers(bit) {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// The devices that a rule is about; [`None`] is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Device {
    kind: Option<Kind>,
    major: Option<u32>,
    minor: Option<u32>,
}

impl Device {
    const ANY: Self = Self { kind: None, major: None, minor: None };

    fn covers(self, other: Self) -> bool {
        (self.kind.is_none() || self.kind == other.kind)
            && (self.major.is_none() || self.major == other.major)
            && (self.minor.is_none() || self.minor == other.minor)
    }

    fn overlaps(self, other: Self) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        (self.kind.is_none() || other.kind.is_none() || self.kind == other.kind)
            && meet(self.major, other.major)
            && meet(self.minor, other.minor)
    }

    /// cgroup v1 knows "a" only as a word for everything: a rule for both kinds becomes two.
    fn per_kind(self) -> impl Iterator<Item = Self> {
        [Kind::Block, Kind::Char]
            .into_iter()
            .filter(move |kind| self.kind.is_none_or(|own| own == *kind))
            .map(move |kind| Self { kind: Some(kind), ..self })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let kind = match self.kind {
            None => "a",
            Some(Kind::Block) => "b",
            Some(Kind::Char) => "c",
        };
        write!(f, "{kind} {}:{}", number(self.major), number(self.minor))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    device: Device,
    access: Access,
}

/// The rules in the order of the list; the last that matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules(Vec<Rule>);

/// What every container may use whatever the list says, since engines list only what they add
/// (Podman and CRI send one deny-all): the spec's default devices without the console, whose node 5:1
/// is the *host's* console (the container's is a pty, major 136), and making nodes, which by itself
/// gives no access. runc's AllowedDevices are the same.
const DEFAULTS: [(Option<u32>, Option<u32>, Kind, Access); 10] = [
    (None, None, Kind::Char, Access::MKNOD),
    (None, None, Kind::Block, Access::MKNOD),
    (Some(1), Some(3), Kind::Char, Access::ALL), // /dev/null
    (Some(1), Some(5), Kind::Char, Access::ALL), // /dev/zero
    (Some(1), Some(7), Kind::Char, Access::ALL), // /dev/full
    (Some(1), Some(8), Kind::Char, Access::ALL), // /dev/random
    (Some(1), Some(9), Kind::Char, Access::ALL), // /dev/urandom
    (Some(5), Some(0), Kind::Char, Access::ALL), // /dev/tty
    (Some(5), Some(2), Kind::Char, Access::ALL), // /dev/ptmx
    (Some(136), None, Kind::Char, Access::ALL),  // /dev/pts/*
];

impl Rules {
    /// The list of the spec, with the default devices after it.
    pub fn new(list: &[LinuxDeviceCgroup]) -> Result<Self> {
        let mut rules = Vec::with_capacity(list.len() + DEFAULTS.len());
        for (index, rule) in list.iter().enumerate() {
            let rule =
                Rule::parse(rule).map_err(|e| e.context(format!("linux.resources.devices[{index}]")))?;
            // What comes before a rule about everything can no longer decide anything.
            if rule.device == Device::ANY && rule.access == Access::ALL {
                rules.clear();
            }
            rules.push(rule);
        }
        rules.extend(DEFAULTS.iter().map(|&(major, minor, kind, access)| Rule {
            allow: true,
            device: Device { kind: Some(kind), major, minor },
            access,
        }));
        Ok(Self(rules))
    }

    /// Whether what no other rule decides is allowed.
    fn default_allow(&self) -> bool {
        self.0.first().is_some_and(|r| r.allow && r.device == Device::ANY && r.access == Access::ALL)
    }

    /// The rules that can decide something, last one first.
    fn effective(&self) -> Vec<Rule> {
        let mut effective: Vec<Rule> = Vec::with_capacity(self.0.len());
        for rule in self.0.iter().rev() {
            let decided = |later: &Rule| later.device.covers(rule.device) && later.access.covers(rule.access);
            if !effective.iter().any(decided) {
                effective.push(*rule);
            }
        }
        // The oldest rules say what the default says anyway.
        let default = self.default_allow();
        while effective.last().is_some_and(|rule| rule.allow == default) {
            effective.pop();
        }
        effective
    }

    /// The filter for cgroup v2.
    pub fn program(&self) -> Vec<Instruction> {
        let rules = self.effective();
        let mut program = Vec::with_capacity(7 + rules.len() * 14 + 5);
        program.extend(prologue());
        for rule in &rules {
            append(&mut program, rule);
        }
        program.extend(verdict(self.default_allow()));
        program
    }

    /// The lists for cgroup v1.
    ///
    /// # Errors
    /// Where a later rule takes a single device out of an earlier wildcard of the same side: v1's
    /// list is unordered and would go on allowing it.
    pub fn list(&self) -> Result<List> {
        let mut list = List { allow: self.default_allow(), exceptions: Vec::new() };
        for rule in self.0.iter().filter(|rule| rule.device != Device::ANY || rule.access != Access::ALL) {
            for device in rule.device.per_kind() {
                if rule.allow == list.allow {
                    list.withdraw(device, rule.access)?;
                } else {
                    list.except(device, rule.access);
                }
            }
        }
        Ok(list)
    }
}

impl Rule {
    fn parse(rule: &LinuxDeviceCgroup) -> Result<Self> {
        let kind = match rule.typ().unwrap_or_default() {
            LinuxDeviceType::A => None,
            LinuxDeviceType::B => Some(Kind::Block),
            LinuxDeviceType::C | LinuxDeviceType::U => Some(Kind::Char),
            LinuxDeviceType::P => {
                return Err(Error::invalid("type p (fifo) is not a device that a cgroup controls"));
            }
        };
        let number = |name: &str, value: Option<i64>| match value {
            // Go's engines also write their wildcard, -1.
            None | Some(-1) => Ok(None),
            Some(value) => u32::try_from(value)
                .map(Some)
                .map_err(|_| Error::invalid(format!("{name} {value} is not a device number"))),
        };
        let device =
            Device { kind, major: number("major", rule.major())?, minor: number("minor", rule.minor())? };
        Ok(Self { allow: rule.allow(), device, access: Access::parse(rule.access().as_deref())? })
    }
}

/// The state of a v1 devices cgroup: a default, and the exceptions from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List {
    allow: bool,
    /// Each device once, in the order in which the rules first name them: written in this order the kernel
    /// shows them so, the configured ones before the defaults.
    exceptions: Vec<(Device, Access)>,
}

impl List {
    fn except(&mut self, device: Device, access: Access) {
        match self.exceptions.iter_mut().find(|(known, _)| *known == device) {
            Some((_, known)) => known.0 |= access.0,
            None => self.exceptions.push((device, access)),
        }
    }

    fn access_to(&self, device: Device) -> Access {
        self.exceptions.iter().find(|(known, _)| *known == device).map_or(Access(0), |(_, access)| *access)
    }

    fn withdraw(&mut self, device: Device, access: Access) -> Result<()> {
        for (exception, rest) in &mut self.exceptions {
            if device.covers(*exception) {
                rest.0 &= !access.0;
            } else if device.overlaps(*exception) && rest.0 & access.0 != 0 {
                return Err(Error::unsupported(format!(
                    "linux.resources.devices: cgroup v1 cannot take {device} {access} out of {exception} {rest}"
                ))
                .remedy("list the devices one by one, or use cgroup v2"));
            }
        }
        self.exceptions.retain(|(_, rest)| rest.0 != 0);
        Ok(())
    }

    /// The text of `devices.list`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut list = Self { allow: false, exceptions: Vec::new() };
        for line in text.lines() {
            let mut words = line.split([' ', ':']);
            let kind = match words.next()? {
                // Exceptions from "everything" are not shown (kernel: devcgroup_seq_show).
                "a" => return Some(Self { allow: true, exceptions: Vec::new() }),
                "b" => Kind::Block,
                "c" => Kind::Char,
                _ => return None,
            };
            let mut number = || match words.next()? {
                "*" => Some(None),
                digits => digits.parse().ok().map(Some),
            };
            let device = Device { kind: Some(kind), major: number()?, minor: number()? };
            list.except(device, Access::parse(words.next()).ok()?);
        }
        Some(list)
    }

    /// The writes (file, rule) that lead from `current` to this list, those that allow first, so that
    /// a running container does not for a moment lose what it keeps.
    pub fn writes_from(&self, current: &Self) -> Vec<(&'static str, String)> {
        let (grant, revoke) =
            if self.allow { ("devices.deny", "devices.allow") } else { ("devices.allow", "devices.deny") };
        // While everything is allowed the kernel does not show the exceptions: start afresh.
        if self.allow || current.allow {
            let reset = if self.allow && current.allow && self.exceptions.is_empty() {
                None
            } else {
                Some((revoke, "a".to_owned()))
            };
            let exceptions =
                self.exceptions.iter().map(|(device, access)| (grant, format!("{device} {access}")));
            return reset.into_iter().chain(exceptions).collect();
        }
        let missing = |from: &Self, to: &Self| {
            to.exceptions
                .iter()
                .filter_map(|(device, access)| {
                    let rest = Access(access.0 & !from.access_to(*device).0);
                    (rest.0 != 0).then(|| format!("{device} {rest}"))
                })
                .collect::<Vec<_>>()
        };
        let granted = missing(current, self).into_iter().map(|rule| (grant, rule));
        granted.chain(missing(self, current).into_iter().map(|rule| (revoke, rule))).collect()
    }

    /// The list as systemd's DeviceAllow; [`None`] when everything is allowed. `groups` is the text of
    /// /proc/devices.
    ///
    /// # Errors
    /// systemd has no words for it: exceptions from "everything", or a minor number of any major.
    pub fn for_systemd(&self, groups: &str) -> Result<Option<Vec<(String, String)>>> {
        let inexpressible = |device: &Device, access: &Access| {
            let denied = if self.allow { "not " } else { "" };
            Error::unsupported(format!(
                "linux.resources.devices: {denied}{device} {access} has no form in systemd"
            ))
            .remedy("leave out --systemd-cgroup, or list the devices one by one")
        };
        if self.allow {
            return match self.exceptions.first() {
                None => Ok(None),
                Some((device, access)) => Err(inexpressible(device, access)),
            };
        }
        let mut allowed = Vec::with_capacity(self.exceptions.len());
        for (device, access) in &self.exceptions {
            let kind = if device.kind == Some(Kind::Block) { "block" } else { "char" };
            let name = match (device.major, device.minor) {
                (None, None) => format!("{kind}-*"),
                (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
                (Some(major), None) => match driver(groups, kind, major) {
                    Some(driver) => format!("{kind}-{driver}"),
                    // No driver has this major, so there is no device to allow.
                    None => continue,
                },
                (None, Some(_)) => return Err(inexpressible(device, access)),
            };
            allowed.push((name, access.to_string()));
        }
        Ok(Some(allowed))
    }

    /// Whether `rule` (as written to devices.allow) is there only because every container has it.
    pub fn is_default(rule: &str) -> bool {
        DEFAULTS.iter().any(|&(major, minor, kind, access)| {
            rule == format!("{} {access}", Device { kind: Some(kind), major, minor })
        })
    }
}

/// The name that /proc/devices gives to a major number.
fn driver(groups: &str, kind: &str, major: u32) -> Option<String> {
    let section = match kind {
        "char" => groups.split("Block devices:").next()?,
        _ => groups.split("Block devices:").nth(1)?,
    };
    section.lines().find_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        (number.parse() == Ok(major)).then(|| name.trim().to_owned())
    })
}

// The program has no branches: for the kernel's verifier each conditional jump is a state to keep and a
// path to walk again, which made loading the filter of an ordinary container cost 0.5 ms, a tenth of its
// start. Every rule is arithmetic on masks instead.
//
// Registers: r1 the context (struct bpf_cgroup_dev_ctx: access << 16 | kind, major, minor), r3 the kinds
// of access that no rule has decided yet, r4 the kind, r5 the major, r6 the minor, r7 the kinds of access
// that were denied, r0 and r2 scratch; at the end r0 is the verdict (1 allow, 0 deny with EPERM).
const LDX_W: u8 = 0x61;
const ADD_K: u8 = 0x07;
const AND_K: u8 = 0x57;
const AND_X: u8 = 0x5f;
const OR_X: u8 = 0x4f;
const XOR_X: u8 = 0xaf;
/// On 32 bits, so that an immediate of 2^31 and above is not sign-extended.
const XOR32_K: u8 = 0xa4;
const RSH_K: u8 = 0x77;
const ARSH_K: u8 = 0xc7;
const MOV_K: u8 = 0xb7;
const MOV_X: u8 = 0xbf;
const EXIT: u8 = 0x95;

const fn instruction(code: u8, registers: u8, immediate: i32) -> Instruction {
    Instruction { code, registers, offset: 0, immediate }
}

const fn load(registers: u8, offset: i16) -> Instruction {
    Instruction { code: LDX_W, registers, offset, immediate: 0 }
}

fn prologue() -> [Instruction; 7] {
    [
        load(0x13, 0), // r3 = access << 16 | kind
        instruction(MOV_X, 0x34, 0),
        instruction(AND_K, 0x04, 0xffff),
        instruction(RSH_K, 0x03, 16),
        load(0x15, 4),
        load(0x16, 8),
        instruction(MOV_K, 0x07, 0),
    ]
}

/// What no rule has decided is denied or allowed; r0 = 1 if nothing is denied.
fn verdict(default_allow: bool) -> Vec<Instruction> {
    let mut end = Vec::with_capacity(6);
    if !default_allow {
        end.push(instruction(OR_X, 0x37, 0));
    }
    end.extend([
        instruction(MOV_X, 0x70, 0),
        instruction(ADD_K, 0x00, -1), // below zero only if r7 was zero
        instruction(RSH_K, 0x00, 63),
        instruction(EXIT, 0, 0),
    ]);
    end
}

/// One rule: r0 becomes the kinds of access that it decides, all of r3 or none of it.
fn append(program: &mut Vec<Instruction>, rule: &Rule) {
    let conditions = [
        rule.device.kind.map(|kind| (0x40, kind as u32)),
        rule.device.major.map(|major| (0x50, major)),
        rule.device.minor.map(|minor| (0x60, minor)),
    ];
    let conditions: Vec<_> = conditions.into_iter().flatten().collect();
    for (index, (register, value)) in conditions.iter().enumerate() {
        // Zero exactly if it is the rule's; r0 gathers what differs.
        let scratch = if index == 0 { 0x00 } else { 0x02 };
        program.push(instruction(MOV_X, register | scratch, 0));
        program.push(instruction(XOR32_K, scratch, value.cast_signed()));
        if index > 0 {
            program.push(instruction(OR_X, 0x20, 0));
        }
    }
    if conditions.is_empty() {
        program.push(instruction(MOV_X, 0x30, 0));
    } else {
        // Zero becomes all ones, anything else (it has at most 32 bits) zero.
        program.push(instruction(ADD_K, 0x00, -1));
        program.push(instruction(ARSH_K, 0x00, 63));
        program.push(instruction(AND_X, 0x30, 0));
    }
    if rule.access != Access::ALL {
        program.push(instruction(AND_K, 0x00, rule.access.0.into()));
    }
    if !rule.allow {
        program.push(instruction(OR_X, 0x07, 0));
    }
    program.push(instruction(XOR_X, 0x03, 0));
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
