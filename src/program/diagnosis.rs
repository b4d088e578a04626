//! Why execve(2) failed. The kernel has one errno for many causes; ENOENT hides a missing ELF or
//! `#!` interpreter (moby#29420).

use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};

use super::{failed, text};
use crate::error::Error;

/// The error of a failed execve(2) of `path`, looked at again for its cause. `path` is resolved with
/// the root and working directory of the caller, as execve resolved it.
pub fn diagnose(path: &Path, errno: Errno) -> Error {
    let command = path.to_string_lossy();
    let error = failed(&command, text(errno));
    match cause(path, errno) {
        Some(cause) => error.remedy(cause),
        None => error,
    }
}

fn cause(path: &Path, errno: Errno) -> Option<String> {
    let meta = std::fs::metadata(path).ok()?;
    if meta.is_dir() {
        return Some("it is a directory".into());
    }
    if errno == Errno::EACCES && is_noexec(path) {
        return Some("it is on a mount with the option noexec".into());
    }
    // Never opens a fifo or a device: one might block, the other act.
    if !meta.is_file() {
        return Some("it is no regular file".into());
    }
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let mut head = Vec::new();
    (&file).take(HEAD).read_to_end(&mut head).ok()?;
    let interpreter = match kind(&head) {
        Kind::Script(interpreter) => {
            if errno == Errno::ENOEXEC {
                return Some("its #! line names no interpreter".into());
            }
            interpreter
        }
        Kind::Elf(elf) => {
            if errno == Errno::ENOEXEC && OWN_MACHINE.is_some_and(|own| own != elf.machine) {
                return Some(format!(
                    "it is a program for {}, this machine is {}",
                    elf.machine_name(),
                    std::env::consts::ARCH
                ));
            }
            elf.interpreter(&file)?
        }
        Kind::Empty => return Some("it is empty".into()),
        Kind::Other if errno == Errno::ENOEXEC => {
            return Some("it is neither an ELF program nor a script with #!".into());
        }
        Kind::Other => return None,
    };
    interpreter_cause(&interpreter, &head, errno)
}

/// What is wrong with the interpreter that the file names.
fn interpreter_cause(interpreter: &Path, head: &[u8], errno: Errno) -> Option<String> {
    let what = if head.starts_with(b"#!") { "its #! interpreter" } else { "its ELF interpreter" };
    let shown = interpreter.display();
    match std::fs::metadata(interpreter) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // A script written on Windows asks for "/bin/sh\r".
            let hint = if interpreter.as_os_str().as_bytes().ends_with(b"\r") {
                " (the line ends with CR LF)"
            } else {
                ""
            };
            Some(format!("{what} {:?} does not exist{hint}", interpreter.as_os_str()))
        }
        Err(error) => Some(format!("{what} {shown}: {}", error.kind())),
        Ok(_) if errno == Errno::EACCES && is_noexec(interpreter) => {
            Some(format!("{what} {shown} is on a mount with the option noexec"))
        }
        Ok(meta) if errno == Errno::EACCES && !meta.is_file() => {
            Some(format!("{what} {shown} is no regular file"))
        }
        Ok(_) if errno == Errno::EACCES => Some(format!("{what} {shown} may not be executable by this user")),
        Ok(_) => None,
    }
}

fn is_noexec(path: &Path) -> bool {
    statvfs(path).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC))
}

/// What a program needs besides itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The ELF interpreter, or that of a `#!` line.
    pub interpreter: Option<PathBuf>,
    /// Another machine than this one.
    pub machine: Option<String>,
}

/// What `file`, a regular one, needs to be executed. Nothing is known of what is neither ELF nor script.
pub fn needs(file: &File) -> std::io::Result<Needs> {
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    Ok(match kind(&head) {
        Kind::Script(interpreter) => Needs { interpreter: Some(interpreter), machine: None },
        Kind::Elf(elf) => Needs {
            interpreter: elf.interpreter(file),
            machine: OWN_MACHINE.is_some_and(|own| own != elf.machine).then(|| elf.machine_name()),
        },
        Kind::Empty | Kind::Other => Needs::default(),
    })
}

/// How much of a file tells its kind: the kernel's BINPRM_BUF_SIZE, in which a `#!` line has to fit.
const HEAD: u64 = 256;

enum Kind {
    Script(PathBuf),
    Elf(Elf),
    Empty,
    Other,
}

fn kind(head: &[u8]) -> Kind {
    if head.is_empty() {
        return Kind::Empty;
    }
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n' || byte == 0).next().unwrap_or_default();
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
        let word = line.split(is_space).find(|word| !word.is_empty()).unwrap_or_default();
        return Kind::Script(PathBuf::from(std::ffi::OsStr::from_bytes(word)));
    }
    Elf::parse(head).map_or(Kind::Other, Kind::Elf)
}

/// What we need of an ELF header (elf(5)).
struct Elf {
    wide: bool,
    little: bool,
    machine: u16,
    table: u64,
    entry_size: u16,
    entries: u16,
}

/// `e_machine` of this build; None where we do not know it.
const OWN_MACHINE: Option<u16> = if cfg!(target_arch = "x86_64") {
    Some(62)
} else if cfg!(target_arch = "aarch64") {
    Some(183)
} else if cfg!(target_arch = "riscv64") {
    Some(243)
} else if cfg!(target_arch = "s390x") {
    Some(22)
} else if cfg!(target_arch = "powerpc64") {
    Some(21)
} else {
    None
};

impl Elf {
    fn parse(head: &[u8]) -> Option<Elf> {
        if !head.starts_with(b"\x7fELF") {
            return None;
        }
        let wide = *head.get(4)? == 2;
        let little = *head.get(5)? == 1;
        let field = |wide_at: usize, narrow_at: usize, size: usize| {
            number(head, if wide { wide_at } else { narrow_at }, size, little)
        };
        Some(Elf {
            wide,
            little,
            machine: u16::try_from(field(18, 18, 2)?).ok()?,
            table: field(32, 28, if wide { 8 } else { 4 })?,
            entry_size: u16::try_from(field(54, 42, 2)?).ok()?,
            entries: u16::try_from(field(56, 44, 2)?).ok()?,
        })
    }

    /// The path in PT_INTERP; None for a static program.
    fn interpreter(&self, file: &File) -> Option<PathBuf> {
        const PT_INTERP: u64 = 3;
        for index in 0..self.entries {
            let at = self.table.checked_add(u64::from(index) * u64::from(self.entry_size))?;
            let mut entry = [0; 56];
            let size = if self.wide { 56 } else { 32 };
            file.read_exact_at(&mut entry[..size], at).ok()?;
            if number(&entry, 0, 4, self.little)? != PT_INTERP {
                continue;
            }
            let (offset_at, size_at, word) = if self.wide { (8, 32, 8) } else { (4, 16, 4) };
            let offset = number(&entry, offset_at, word, self.little)?;
            let length = usize::try_from(number(&entry, size_at, word, self.little)?).ok()?;
            // The kernel takes at most PATH_MAX too.
            let mut path = vec![0; length.min(4096)];
            file.read_exact_at(&mut path, offset).ok()?;
            let path = path.split(|&byte| byte == 0).next()?;
            return Some(PathBuf::from(std::ffi::OsStr::from_bytes(path)));
        }
        None
    }

    fn machine_name(&self) -> String {
        match self.machine {
            3 => "x86".into(),
            20 => "powerpc".into(),
            21 => "powerpc64".into(),
            22 => "s390x".into(),
            40 => "arm".into(),
            62 => "x86_64".into(),
            183 => "aarch64".into(),
            243 => "riscv".into(),
            258 => "loongarch".into(),
            8 => "mips".into(),
            other => format!("ELF machine {other}"),
        }
    }
}

/// An unsigned number of `size` bytes; None beyond the end.
fn number(bytes: &[u8], at: usize, size: usize, little: bool) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(size)?)?;
    let shift = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    Some(if little { field.iter().rev().fold(0, shift) } else { field.iter().fold(0, shift) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn diagnosed(name: &str, content: &[u8], errno: Errno) -> String {
        let path = std::env::temp_dir().join(format!("berth-diagnosis-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        let error = diagnose(&path, errno).to_string();
        fs::remove_file(&path).unwrap();
        error.split_once(": ").unwrap().1.split_once(": ").unwrap().1.to_string()
    }

    /// A 64-bit little-endian header with one PT_INTERP entry.
    fn elf(machine: u16, interpreter: &str) -> Vec<u8> {
        let mut elf = vec![0_u8; 120];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18..20].copy_from_slice(&machine.to_le_bytes());
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64] = 3;
        elf[72] = 120;
        elf[96] = u8::try_from(interpreter.len()).unwrap() + 1;
        elf.extend(interpreter.as_bytes());
        elf.push(0);
        elf
    }

    #[test]
    fn names_a_missing_interpreter() {
        assert_eq!(
            diagnosed("script", b"#! /nowhere/bash -e\necho", Errno::ENOENT),
            "no such file or directory; its #! interpreter \"/nowhere/bash\" does not exist"
        );
        assert!(
            diagnosed("crlf", b"#!/bin/sh\r\necho", Errno::ENOENT).ends_with("(the line ends with CR LF)")
        );
        assert_eq!(
            diagnosed("elf", &elf(OWN_MACHINE.unwrap(), "/lib/ld-nowhere.so.1"), Errno::ENOENT),
            "no such file or directory; its ELF interpreter \"/lib/ld-nowhere.so.1\" does not exist"
        );
    }

    #[test]
    fn explains_a_wrong_format() {
        let said = |name, content: &[u8]| diagnosed(name, content, Errno::ENOEXEC);
        let other = if OWN_MACHINE == Some(183) { 62 } else { 183 };
        assert!(said("machine", &elf(other, "/x")).starts_with("exec format error; it is a program for "));
        assert_eq!(said("empty", b""), "exec format error; it is empty");
        assert!(said("text", b"echo hello").ends_with("neither an ELF program nor a script with #!"));
        assert!(said("shebang", b"#!\n").ends_with("names no interpreter"));
    }

    #[test]
    fn what_a_program_needs() {
        let needs = |name: &str, content: &[u8]| {
            let path = std::env::temp_dir().join(format!("berth-needs-{}-{name}", std::process::id()));
            fs::write(&path, content).unwrap();
            let needs = needs(&File::open(&path).unwrap()).unwrap();
            fs::remove_file(&path).unwrap();
            (needs.interpreter.map(|path| path.display().to_string()), needs.machine)
        };
        assert_eq!(needs("script", b"#!/bin/sh -e\n"), (Some("/bin/sh".into()), None));
        assert_eq!(needs("elf", &elf(OWN_MACHINE.unwrap(), "/ld.so")), (Some("/ld.so".into()), None));
        assert_eq!(needs("mips", &elf(8, "/ld.so")), (Some("/ld.so".into()), Some("mips".into())));
        assert_eq!(needs("text", b"hello"), (None, None));
    }

    #[test]
    fn survives_garbage() {
        for length in 0..70 {
            diagnosed("garbage", &elf(OWN_MACHINE.unwrap(), "/x")[..length], Errno::ENOENT);
        }
        let mut far = elf(OWN_MACHINE.unwrap(), "/x");
        far[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        diagnosed("far", &far, Errno::ENOENT);
        let mut long = elf(OWN_MACHINE.unwrap(), "/x");
        long[96..104].copy_from_slice(&u64::MAX.to_le_bytes());
        diagnosed("long", &long, Errno::ENOENT);
    }

    #[test]
    fn tells_directories_and_devices() {
        let said = |path: &str| diagnose(Path::new(path), Errno::EACCES).to_string();
        assert_eq!(said("/etc"), "exec: \"/etc\": permission denied; it is a directory");
        assert!(said("/dev/null").starts_with("exec: \"/dev/null\": permission denied; it is "));
    }
}
