//! Writes link/order.ld: which functions a container's life runs through, by who runs through them.
//!
//! ```text
//! code-order MAP COMMAND [ARGUMENT]... [-- COMMAND [ARGUMENT]...]...
//! ```
//!
//! Runs each command instruction by instruction (ptrace(2), its clones too until they execute another
//! program) and prints a linker script that lays the input sections of all that was executed side by side, those
//! together that the same processes run through: each page that a process touches first is a fault, which brings its
//! neighbours along, and a clone begins without any.
//! MAP is the map that lld wrote (`-Map`) when it linked the very binary that the commands run.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let map = arguments.next().context("usage: code-order MAP COMMAND [ARGUMENT]... [-- COMMAND...]")?;
    let sections = Sections::read(&map)?;
    let arguments: Vec<String> = arguments.collect();
    let mut order = Order::new(&sections);
    for command in arguments.split(|word| word == "--") {
        trace(command, &mut order).with_context(|| command.join(" "))?;
    }
    print!("{}", order.script());
    Ok(())
}

/// The executable input sections of a linked program by their addresses.
struct Sections(BTreeMap<u64, Section>);

struct Section {
    end: u64,
    /// `FILE(SECTION)` as a linker script finds it again in a later build.
    pattern: String,
    /// The same with the hash of this build.
    exact: String,
}

impl Sections {
    /// Lines of a map: address, load address, size, alignment, and `FILE:(SECTION)` for an input section.
    fn read(map: &str) -> Result<Self> {
        let text = std::fs::read_to_string(map).with_context(|| format!("read {map}"))?;
        let mut sections = BTreeMap::new();
        for line in text.lines() {
            let mut fields = line.split_whitespace();
            let (Some(address), Some(_), Some(size), Some(_), Some(input)) =
                (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let Some((file, section)) = input.strip_suffix(')').and_then(|input| input.split_once(":("))
            else {
                continue;
            };
            let (Ok(address), Ok(size)) = (u64::from_str_radix(address, 16), u64::from_str_radix(size, 16))
            else {
                continue;
            };
            if section.starts_with(".text") && size > 0 {
                let named = |section: &str| pattern(file, section);
                let (pattern, exact) = (named(&without_hash(section)), named(section));
                sections.insert(address, Section { end: address + size, pattern, exact });
            }
        }
        ensure!(!sections.is_empty(), "{map} names no input section: is it lld's?");
        Ok(Self(sections))
    }

    fn at(&self, address: u64) -> Option<&Section> {
        self.0
            .range(..=address)
            .next_back()
            .map(|(_, section)| section)
            .filter(|section| address < section.end)
    }
}

/// A member of the C library's archive is named by file, since its sections have no names of their own.
fn pattern(file: &str, section: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    match name.split_once('(') {
        Some((archive, member)) => format!("*{archive}:{}({section})", member.trim_end_matches(')')),
        // The start files' and assembly's.
        None if section == ".text" && name.ends_with(".rcgu.o") => "*.rcgu.o(.text)".into(),
        None if section == ".text" => format!("*{name}(.text)"),
        None => format!("*({section})"),
    }
}

/// `_ZN5berth4init3run17h0123456789abcdefE.llvm.42` → `_ZN5berth4init3run17h*`; of the newer mangling each
/// crate's disambiguator, `Cs` and a number up to `_`, becomes `Cs*_`.
fn without_hash(section: &str) -> String {
    const HASH: usize = 16;
    if let Some(at) = section.rfind("17h").filter(|at| section.len() >= at + 3 + HASH) {
        return format!("{}17h*", &section[..at]);
    }
    let mut parts = section.split("Cs");
    let mut stable = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        stable.push_str("Cs");
        match part.split_once('_') {
            Some((hash, rest))
                if !hash.is_empty() && hash.bytes().all(|byte| byte.is_ascii_alphanumeric()) =>
            {
                stable.push_str("*_");
                stable.push_str(rest);
            }
            _ => stable.push_str(part),
        }
    }
    stable
}

/// What was executed, and by whom.
struct Order<'a> {
    sections: &'a Sections,
    /// Addresses that a process has come through.
    seen: HashSet<(Process, u64)>,
    /// In the order of their first execution, with all who have executed them.
    executed: Vec<(&'a Section, BTreeSet<Process>)>,
    /// Where a section, known by its end, is in `executed`.
    places: HashMap<u64, usize>,
    /// Processes so far.
    count: usize,
}

/// The processes in the order of their beginnings; a clone begins in the middle of our code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Process {
    is_clone: bool,
    number: usize,
}

impl<'a> Order<'a> {
    fn new(sections: &'a Sections) -> Self {
        let (seen, executed, places) = (HashSet::new(), Vec::new(), HashMap::new());
        Self { sections, seen, executed, places, count: 0 }
    }

    fn begin(&mut self, is_clone: bool) -> Process {
        self.count += 1;
        Process { is_clone, number: self.count }
    }

    fn executed(&mut self, process: Process, address: u64) {
        if self.seen.insert((process, address))
            && let Some(section) = self.sections.at(address)
        {
            let place = *self.places.entry(section.end).or_insert_with(|| {
                self.executed.push((section, BTreeSet::new()));
                self.executed.len() - 1
            });
            self.executed[place].1.insert(process);
        }
    }

    /// What only programs from their beginning execute, then what clones do; both by the last and by the first of those
    /// processes, so that what each of them needs is nearly in one piece.
    fn laid_out(&self) -> Vec<&'a Section> {
        let mut sections: Vec<_> = self.executed.iter().collect();
        sections.sort_by_key(|(_, by)| {
            let is_clone = by.iter().any(|process| process.is_clone);
            let mut of_that_kind = by.iter().filter(|process| process.is_clone == is_clone);
            let first = of_that_kind.next();
            (is_clone, of_that_kind.next_back().or(first), first)
        });
        sections.into_iter().map(|(section, _)| *section).collect()
    }

    /// A name without its hash also means the instances of a generic function that were not executed;
    /// where there are any, the name is written with its hash.
    fn script(&self) -> String {
        let count = |sections: &mut dyn Iterator<Item = &Section>, pattern: &str| {
            sections.filter(|section| section.pattern == pattern).count()
        };
        let mut lines: Vec<&str> = Vec::new();
        let laid_out = self.laid_out();
        for section in &laid_out {
            let all = count(&mut self.sections.0.values(), &section.pattern);
            let executed = count(&mut laid_out.iter().copied(), &section.pattern);
            let name = if all == executed { &section.pattern } else { &section.exact };
            if !lines.contains(&name.as_str()) {
                lines.push(name);
            }
        }
        let lines: String = lines.iter().map(|name| format!("    {name}\n")).collect();
        format!(
            "/* The functions that a container's life runs through, side by side: a page that is read in brings\n   \
             its neighbours along. Written by `make link-order`; a name that is no longer there costs nothing. */\n\
             SECTIONS {{\n  .text.start : {{\n{lines}  }}\n}}\nINSERT BEFORE .text;\n"
        )
    }
}

/// How far a traced process has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The program that the map is about.
    Ours,
    /// Something else that a clone of it executes.
    Foreign,
}

fn trace(command: &[String], order: &mut Order<'_>) -> Result<()> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    let mut child = Command::new(program);
    child.args(arguments).stdout(Stdio::null());
    // SAFETY: ptrace(2) is a system call that a forked child may make.
    unsafe { child.pre_exec(|| Ok(ptrace(libc::PTRACE_TRACEME, Pid::from_raw(0), 0, 0).map(drop)?)) };
    let first = Pid::from_raw(child.spawn()?.id().cast_signed());
    let mut stages = HashMap::from([(first, Stage::Ours)]);
    let mut processes = HashMap::from([(first, order.begin(false))]);
    loop {
        let status = waitpid(None, Some(WaitPidFlag::__WALL))?;
        let Some(pid) = status.pid() else { continue };
        match status {
            WaitStatus::Exited(_, code) if pid == first => {
                ensure!(code == 0, "exit status {code}");
                return Ok(());
            }
            WaitStatus::Signaled(_, signal, _) if pid == first => bail!("ended by {signal}"),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                stages.remove(&pid);
            }
            WaitStatus::PtraceEvent(_, _, event) => {
                if event == libc::PTRACE_EVENT_EXEC && pid != first {
                    stages.insert(pid, Stage::Foreign);
                }
                go_on(pid, &stages, None)?;
            }
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {
                if stages.get(&pid) == Some(&Stage::Ours) {
                    let process = *processes.entry(pid).or_insert_with(|| order.begin(true));
                    order.executed(process, instruction(pid)?);
                }
                if pid == first {
                    ptrace(libc::PTRACE_SETOPTIONS, pid, 0, OPTIONS)?;
                }
                go_on(pid, &stages, None)?;
            }
            // A new clone's first stop.
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {
                stages.entry(pid).or_insert(Stage::Ours);
                go_on(pid, &stages, None)?;
            }
            WaitStatus::Stopped(_, signal) => go_on(pid, &stages, Some(signal))?,
            _ => {}
        }
    }
}

fn go_on(pid: Pid, stages: &HashMap<Pid, Stage>, signal: Option<Signal>) -> Result<()> {
    let request = match stages.get(&pid) {
        Some(Stage::Foreign) => libc::PTRACE_CONT,
        _ => libc::PTRACE_SINGLESTEP,
    };
    match ptrace(request, pid, 0, signal.map_or(0, |signal| signal as usize)) {
        // Killed meanwhile: its end is reported next.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

const OPTIONS: usize = libc::PTRACE_O_TRACECLONE.cast_unsigned() as usize
    | libc::PTRACE_O_TRACEFORK.cast_unsigned() as usize
    | libc::PTRACE_O_TRACEVFORK.cast_unsigned() as usize
    | libc::PTRACE_O_TRACEEXEC.cast_unsigned() as usize
    | libc::PTRACE_O_EXITKILL.cast_unsigned() as usize;

/// Where the stopped process is.
fn instruction(pid: Pid) -> nix::Result<u64> {
    let mut address = 0_u64;
    // The system call itself writes where glibc's wrapper would return.
    let place = &raw mut address as usize;
    ptrace(libc::PTRACE_PEEKUSER, pid, std::mem::offset_of!(libc::user, regs.rip), place)?;
    Ok(address)
}

fn ptrace(request: libc::c_uint, pid: Pid, address: usize, data: usize) -> nix::Result<()> {
    // SAFETY: of the requests used here only PTRACE_PEEKUSER writes memory of ours: the u64 at `data`.
    Errno::result(unsafe { libc::syscall(libc::SYS_ptrace, request, pid.as_raw(), address, data) }).map(drop)
}
