//! Writes the system call table, `src/seccomp/table/mod.rs`'s data, from the sources of the
//! linux-raw-sys crate, whose constants are made from the kernel's own uapi headers:
//!
//! ```text
//! cargo run --example syscall-table -- PATH-TO/linux-raw-sys-0.12.1 > src/seccomp/table/data.rs
//! ```
//!
//! The crate itself is no dependency: it shows a program only the constants of the architecture it
//! is built for, and a seccomp profile needs those of others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// The columns, in the order of `Column`; the crate's module of each. There is none for s390, which
/// is [`s390`]'s work.
const COLUMNS: [(&str, Option<&str>); 11] = [
    ("X86_64", Some("x86_64")),
    ("X86", Some("x86")),
    ("X32", Some("x32")),
    ("Aarch64", Some("aarch64")),
    ("Arm", Some("arm")),
    ("Riscv64", Some("riscv64")),
    ("Loongarch64", Some("loongarch64")),
    ("Ppc64", Some("powerpc64")),
    ("Ppc", Some("powerpc")),
    ("S390x", Some("s390x")),
    ("S390", None),
];

/// Read only for their names, so that one which no column has is not reported as unknown.
const NAMES_ONLY: [&str; 6] = ["m68k", "mips", "mips64", "riscv32", "sparc", "sparc64"];

/// In the constants of x32 the flag that tells its calls from those of x86_64.
const X32_BIT: u32 = 0x4000_0000;

/// What the headers behind the crate lack: system calls newer than them, and Arm's private calls,
/// which asm/unistd.h defines as __ARM_NR_*.
const ADDITIONS: [(&str, &str, u32); 7] = [
    ("x86_64", "uprobe", 336), // Linux 6.18
    ("arm", "breakpoint", 0x0f_0001),
    ("arm", "cacheflush", 0x0f_0002),
    ("arm", "usr26", 0x0f_0003),
    ("arm", "usr32", 0x0f_0004),
    ("arm", "set_tls", 0x0f_0005),
    ("arm", "get_tls", 0x0f_0006),
];

/// Constants that have the prefix of a system call and are none.
const NOT_SYSCALLS: [&str; 4] = ["Linux", "OABI_SYSCALL_BASE", "SYSCALL_BASE", "SYSCALL_MASK"];

/// The calls of 64-bit s390x that 31-bit s390 lacks.
const NOT_S390: [&str; 3] = ["newfstatat", "select", "semtimedop"];

/// The calls that only 31-bit s390 has or numbers otherwise (arch/s390/kernel/syscalls/syscall.tbl,
/// ABI column "32").
const ONLY_S390: [(u32, &str); 75] = [
    (13, "time"),
    (16, "lchown"),
    (23, "setuid"),
    (24, "getuid"),
    (25, "stime"),
    (46, "setgid"),
    (47, "getgid"),
    (49, "geteuid"),
    (50, "getegid"),
    (70, "setreuid"),
    (71, "setregid"),
    (76, "getrlimit"),
    (80, "getgroups"),
    (81, "setgroups"),
    (95, "fchown"),
    (101, "ioperm"),
    (138, "setfsuid"),
    (139, "setfsgid"),
    (140, "_llseek"),
    (142, "_newselect"),
    (164, "setresuid"),
    (165, "getresuid"),
    (170, "setresgid"),
    (171, "getresgid"),
    (182, "chown"),
    (191, "ugetrlimit"),
    (192, "mmap2"),
    (193, "truncate64"),
    (194, "ftruncate64"),
    (195, "stat64"),
    (196, "lstat64"),
    (197, "fstat64"),
    (198, "lchown32"),
    (199, "getuid32"),
    (200, "getgid32"),
    (201, "geteuid32"),
    (202, "getegid32"),
    (203, "setreuid32"),
    (204, "setregid32"),
    (205, "getgroups32"),
    (206, "setgroups32"),
    (207, "fchown32"),
    (208, "setresuid32"),
    (209, "getresuid32"),
    (210, "setresgid32"),
    (211, "getresgid32"),
    (212, "chown32"),
    (213, "setuid32"),
    (214, "setgid32"),
    (215, "setfsuid32"),
    (216, "setfsgid32"),
    (221, "fcntl64"),
    (223, "sendfile64"),
    (264, "fadvise64_64"),
    (293, "fstatat64"),
    (403, "clock_gettime64"),
    (404, "clock_settime64"),
    (405, "clock_adjtime64"),
    (406, "clock_getres_time64"),
    (407, "clock_nanosleep_time64"),
    (408, "timer_gettime64"),
    (409, "timer_settime64"),
    (410, "timerfd_gettime64"),
    (411, "timerfd_settime64"),
    (412, "utimensat_time64"),
    (413, "pselect6_time64"),
    (414, "ppoll_time64"),
    (416, "io_pgetevents_time64"),
    (417, "recvmmsg_time64"),
    (418, "mq_timedsend_time64"),
    (419, "mq_timedreceive_time64"),
    (420, "semtimedop_time64"),
    (421, "rt_sigtimedwait_time64"),
    (422, "futex_time64"),
    (423, "sched_rr_get_interval_time64"),
];

type Numbers = BTreeMap<String, u32>;

fn main() -> Result<()> {
    let source = std::env::args().nth(1).context("usage: syscall-table LINUX_RAW_SYS_DIRECTORY")?;
    let source = Path::new(&source).join("src");
    let mut modules = BTreeMap::new();
    for module in COLUMNS.iter().filter_map(|column| column.1).chain(NAMES_ONLY) {
        modules.insert(module, read(&source, module)?);
    }
    for (module, name, number) in ADDITIONS {
        let numbers = modules.get_mut(module).context("an addition to a module that is not read")?;
        if numbers.insert(name.into(), number).is_some() {
            bail!("{module} has {name} by now: remove the addition");
        }
    }
    let s390 = s390(&modules["s390x"]);
    let columns: Vec<&Numbers> =
        COLUMNS.iter().map(|(_, module)| module.map_or(&s390, |module| &modules[module])).collect();
    let names: BTreeSet<&String> = modules.values().chain([&s390]).flat_map(BTreeMap::keys).collect();
    print!("{}", render(&names, &columns)?);
    Ok(())
}

fn read(source: &Path, module: &str) -> Result<Numbers> {
    let file = source.join(module).join("general.rs");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let mut numbers = Numbers::new();
    for line in text.lines() {
        let Some(constant) = line.strip_prefix("pub const __NR_") else { continue };
        let (name, rest) = constant.split_once(": u32 = ").context("a constant of another type")?;
        let number: u32 = rest.trim_end_matches(';').parse()?;
        if !NOT_SYSCALLS.contains(&name) {
            let bit = if module == "x32" { X32_BIT } else { 0 };
            ensure!(number & bit == bit, "{module}: {name} lacks the x32 bit");
            numbers.insert(name.into(), number & !bit);
        }
    }
    ensure!(numbers.len() > 300, "{} has only {} system calls", file.display(), numbers.len());
    Ok(numbers)
}

/// 31-bit s390 has the numbers of s390x but for the calls that are split by width.
fn s390(s390x: &Numbers) -> Numbers {
    let mut numbers = s390x.clone();
    numbers.retain(|name, number| {
        !NOT_S390.contains(&name.as_str()) && !ONLY_S390.iter().any(|only| only.0 == *number)
    });
    numbers.extend(ONLY_S390.map(|(number, name)| (name.into(), number)));
    numbers
}

fn render(names: &BTreeSet<&String>, columns: &[&Numbers]) -> Result<String> {
    let mut out = String::new();
    writeln!(
        out,
        "// @generated by `cargo run --example syscall-table` (generate.rs) from linux-raw-sys 0.12.1."
    )?;
    writeln!(out)?;
    writeln!(out, "/// How many names there are.")?;
    writeln!(out, "pub(super) const COUNT: usize = {};", names.len())?;
    writeln!(out)?;
    writeln!(out, "/// The names in byte order, each followed by a newline.")?;
    writeln!(out, "pub(super) const NAMES: &str = concat!(")?;
    for name in names {
        writeln!(out, "    \"{name}\\n\",")?;
    }
    writeln!(out, ");")?;
    writeln!(out)?;
    writeln!(out, "/// No such call there.")?;
    writeln!(out, "const X: i32 = -1;")?;
    writeln!(out)?;
    let titles: Vec<&str> = COLUMNS.iter().map(|column| column.0).collect();
    writeln!(out, "/// The numbers by name and by column: {}.", titles.join(", "))?;
    writeln!(out, "#[rustfmt::skip]")?;
    writeln!(out, "pub(super) static NUMBERS: [[i32; {}]; COUNT] = [", columns.len())?;
    for name in names {
        let cells: Vec<String> =
            columns.iter().map(|column| column.get(*name).map_or("X".into(), ToString::to_string)).collect();
        writeln!(out, "    [{}], // {name}", cells.join(", "))?;
    }
    writeln!(out, "];")?;
    Ok(out)
}
