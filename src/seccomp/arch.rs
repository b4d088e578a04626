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

/// The specification's names of the architectures, those without a table left out.
pub const OCI: [(Arch, Architecture); 12] = [
    (Arch::ScmpArchX86_64, Architecture::X86_64),
    (Arch::ScmpArchX86, Architecture::X86),
    (Arch::ScmpArchX32, Architecture::X32),
    (Arch::ScmpArchAarch64, Architecture::Aarch64),
    (Arch::ScmpArchArm, Architecture::Arm),
    (Arch::ScmpArchRiscv64, Architecture::Riscv64),
    (Arch::ScmpArchLoongarch64, Architecture::Loongarch64),
    (Arch::ScmpArchPpc64le, Architecture::Ppc64le),
    (Arch::ScmpArchPpc64, Architecture::Ppc64),
    (Arch::ScmpArchPpc, Architecture::Ppc),
    (Arch::ScmpArchS390x, Architecture::S390x),
    (Arch::ScmpArchS390, Architecture::S390),
];

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::X86_64,
        Self::X86,
        Self::X32,
        Self::Aarch64,
        Self::Arm,
        Self::Riscv64,
        Self::Loongarch64,
        Self::Ppc64le,
        Self::Ppc64,
        Self::Ppc,
        Self::S390x,
        Self::S390,
    ];

    /// The architecture that a profile names; `None` if its table is not here.
    pub fn of(arch: Arch) -> Option<Self> {
        if arch == Arch::ScmpArchNative {
            return Some(NATIVE);
        }
        OCI.into_iter().find(|(oci, _)| *oci == arch).map(|(_, arch)| arch)
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
        match self {
            Self::X86_64 => "x86_64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "aarch64",
            Self::Arm => "arm",
            Self::Riscv64 => "riscv64",
            Self::Loongarch64 => "loongarch64",
            Self::Ppc64le => "ppc64le",
            Self::Ppc64 => "ppc64",
            Self::Ppc => "ppc",
            Self::S390x => "s390x",
            Self::S390 => "s390",
        }
    }

    /// The architecture of that [name](Self::name).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == name)
    }

    /// AUDIT_ARCH_*: ELF machine, 64-bit flag, little-endian flag (linux/audit.h).
    pub fn token(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
            Self::Loongarch64 => 0xc000_0102,
            Self::Ppc64le => 0xc000_0015,
            Self::Ppc64 => 0x8000_0015,
            Self::Ppc => 0x0000_0014,
            Self::S390x => 0x8000_0016,
            Self::S390 => 0x0000_0016,
        }
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
        match self {
            Self::X86_64 => Column::X86_64,
            Self::X86 => Column::X86,
            Self::X32 => Column::X32,
            Self::Aarch64 => Column::Aarch64,
            Self::Arm => Column::Arm,
            Self::Riscv64 => Column::Riscv64,
            Self::Loongarch64 => Column::Loongarch64,
            Self::Ppc64le | Self::Ppc64 => Column::Ppc64,
            Self::Ppc => Column::Ppc,
            Self::S390x => Column::S390x,
            Self::S390 => Column::S390,
        }
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
    fn names_lead_back() {
        for arch in Architecture::ALL {
            assert_eq!(Architecture::named(arch.name()), Some(arch));
        }
    }
}
