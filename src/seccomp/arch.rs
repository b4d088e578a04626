//! Architectures as seccomp sees them: the kernel's AUDIT_ARCH tokens, word size and byte order.

use oci_spec::runtime::Arch;

use super::table::{Column, Syscall};

/// The flag in the number of an x32 call. The kernel gives x32 the token of x86_64 (arch/x86/include/
/// uapi/asm/unistd.h), so the numbers alone tell them apart.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// An architecture of which berth has the system call table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// x86_64 with 32-bit pointers.
    X32,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm, EABI.
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit LoongArch.
    Loongarch64,
    /// 64-bit POWER, little-endian.
    Ppc64le,
    /// 64-bit POWER, big-endian.
    Ppc64,
    /// 32-bit POWER, big-endian.
    Ppc,
    /// 64-bit z/Architecture.
    S390x,
    /// 31-bit z/Architecture.
    S390,
}

/// The architecture that berth is built for.
pub const NATIVE: Architecture = native();

const fn native() -> Architecture {
    if cfg!(target_arch = "x86_64") {
        Architecture::X86_64
    } else if cfg!(target_arch = "x86") {
        Architecture::X86
    } else if cfg!(target_arch = "aarch64") {
        Architecture::Aarch64
    } else if cfg!(target_arch = "arm") {
        Architecture::Arm
    } else if cfg!(target_arch = "riscv64") {
        Architecture::Riscv64
    } else if cfg!(target_arch = "loongarch64") {
        Architecture::Loongarch64
    } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
        Architecture::Ppc64le
    } else if cfg!(target_arch = "powerpc64") {
        Architecture::Ppc64
    } else if cfg!(target_arch = "s390x") {
        Architecture::S390x
    } else {
        panic!("no system call table for this target")
    }
}

/// What is known of an architecture.
struct Facts {
    arch: Architecture,
    oci: Arch,
    name: &'static str,
    /// AUDIT_ARCH_*: ELF machine, 64-bit flag, little-endian flag (linux/audit.h).
    token: u32,
    column: Column,
}

const fn facts(arch: Architecture, oci: Arch, name: &'static str, token: u32, column: Column) -> Facts {
    Facts { arch, oci, name, token, column }
}

/// In the order of [`Architecture`].
static FACTS: [Facts; 12] = [
    facts(Architecture::X86_64, Arch::ScmpArchX86_64, "x86_64", 0xc000_003e, Column::X86_64),
    facts(Architecture::X86, Arch::ScmpArchX86, "x86", 0x4000_0003, Column::X86),
    facts(Architecture::X32, Arch::ScmpArchX32, "x32", 0xc000_003e, Column::X32),
    facts(Architecture::Aarch64, Arch::ScmpArchAarch64, "aarch64", 0xc000_00b7, Column::Aarch64),
    facts(Architecture::Arm, Arch::ScmpArchArm, "arm", 0x4000_0028, Column::Arm),
    facts(Architecture::Riscv64, Arch::ScmpArchRiscv64, "riscv64", 0xc000_00f3, Column::Riscv64),
    facts(
        Architecture::Loongarch64,
        Arch::ScmpArchLoongarch64,
        "loongarch64",
        0xc000_0102,
        Column::Loongarch64,
    ),
    facts(Architecture::Ppc64le, Arch::ScmpArchPpc64le, "ppc64le", 0xc000_0015, Column::Ppc64),
    facts(Architecture::Ppc64, Arch::ScmpArchPpc64, "ppc64", 0x8000_0015, Column::Ppc64),
    facts(Architecture::Ppc, Arch::ScmpArchPpc, "ppc", 0x0000_0014, Column::Ppc),
    facts(Architecture::S390x, Arch::ScmpArchS390x, "s390x", 0x8000_0016, Column::S390x),
    facts(Architecture::S390, Arch::ScmpArchS390, "s390", 0x0000_0016, Column::S390),
];

impl Architecture {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        FACTS.iter().map(|facts| facts.arch)
    }

    fn facts(self) -> &'static Facts {
        &FACTS[self as usize]
    }

    /// The architecture that a profile names; `None` if its table is not here.
    pub fn of(arch: Arch) -> Option<Self> {
        if arch == Arch::ScmpArchNative {
            return Some(NATIVE);
        }
        FACTS.iter().find(|facts| facts.oci == arch).map(|facts| facts.arch)
    }

    /// The specification's name of it.
    pub fn oci(self) -> Arch {
        self.facts().oci
    }

    /// The machine whose kernel runs programs of this architecture, beside those of its own.
    pub fn machine(self) -> Self {
        match self {
            Self::X86 | Self::X32 => Self::X86_64,
            Self::Arm => Self::Aarch64,
            Self::Ppc => Self::Ppc64,
            Self::S390 => Self::S390x,
            own => own,
        }
    }

    /// Its name in lower case, as `uname -m` and libseccomp's tools have it.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The architecture of that [name](Self::name).
    pub fn named(name: &str) -> Option<Self> {
        FACTS.iter().find(|facts| facts.name == name).map(|facts| facts.arch)
    }

    /// AUDIT_ARCH_*: ELF machine, 64-bit flag, little-endian flag (linux/audit.h).
    pub fn token(self) -> u32 {
        self.facts().token
    }

    /// Whether all 64 bits of an argument count. x32 passes longs and pointers in 32, and
    /// libseccomp compares no more there.
    pub(super) fn is_64bit(self) -> bool {
        self != Self::X32 && self.token() & 0x8000_0000 != 0
    }

    /// Whether the low word of an argument comes first.
    pub(super) fn is_little_endian(self) -> bool {
        self.token() & 0x4000_0000 != 0
    }

    pub(super) fn column(self) -> Column {
        self.facts().column
    }

    /// The number that the kernel sees for a call, the x32 bit included; `None` if there is no such
    /// call on this architecture.
    pub fn number(self, call: Syscall) -> Option<u32> {
        let bit = if self == Self::X32 { X32_BIT } else { 0 };
        call.number(self.column()).map(|number| number | bit)
    }

    /// The call that a number stands for.
    pub fn syscall(self, number: u32) -> Option<Syscall> {
        let bit = if self == Self::X32 { X32_BIT } else { 0 };
        (number & X32_BIT == bit).then(|| Syscall::numbered(self.column(), number & !bit)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oci_values_are_audit_tokens_but_for_x32() {
        for arch in [Arch::ScmpArchX86, Arch::ScmpArchAarch64, Arch::ScmpArchS390x, Arch::ScmpArchPpc64le] {
            assert_eq!(Architecture::of(arch).unwrap().token(), arch as u32);
        }
        assert_eq!(Architecture::X32.token(), Architecture::X86_64.token());
        assert_eq!(Architecture::of(Arch::ScmpArchSh), None);
    }

    #[test]
    fn x32_numbers_carry_the_bit() {
        let read = Syscall::named("read").unwrap();
        assert_eq!(Architecture::X32.number(read), Some(0x4000_0000));
        assert_eq!(Architecture::X32.syscall(0x4000_0000), Some(read));
        assert_eq!(Architecture::X86_64.syscall(0x4000_0000), None);
        assert_eq!(Architecture::X32.syscall(0), None);
    }

    #[test]
    fn facts_are_of_their_architecture() {
        for (place, facts) in FACTS.iter().enumerate() {
            assert_eq!(facts.arch as usize, place);
            assert_eq!(Architecture::of(facts.oci), Some(facts.arch));
        }
    }

    #[test]
    fn names_lead_back() {
        for arch in Architecture::all() {
            assert_eq!(Architecture::named(arch.name()), Some(arch));
        }
    }
}
