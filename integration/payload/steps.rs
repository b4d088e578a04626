//! The steps, one word each: `verb:operand:operand`.

use crate::{kernel, report};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Map, Value, json};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

/// Does the steps; the exit code is that of an `exit` step, else 0.
pub fn run(steps: &[String]) -> ExitCode {
    let mut probes = Map::new();
    for step in steps {
        let (verb, operand) = step.split_once(':').unwrap_or((step, ""));
        match verb {
            "report" => print(operand, &report::report(&probes)),
            "echo" => println!("{operand}"),
            // One write: conmon makes a line of each that it reads.
            "complain" => {
                let line = format!("{operand}\n");
                eprint!("{line}");
            }
            "cat" => copy_stdin(),
            "sleep" => std::thread::sleep(Duration::from_secs_f64(operand.parse().unwrap_or(1000.0))),
            "count" => count(operand),
            "serve" => serve(operand),
            "converse" => converse(operand),
            "outlive" => outlive(operand.parse().unwrap_or(1000.0)),
            "spin" => spin(Duration::from_secs_f64(operand.parse().unwrap_or(1000.0))),
            "exit" => return ExitCode::from(operand.parse::<u8>().unwrap_or(125)),
            "hold-memory" => hold_memory(operand.parse().unwrap_or(1)),
            "background" => background(operand),
            "raise" => raise(operand),
            "signals" => print_signals(operand),
            "watch" => watch(operand),
            "leave-terminal" => leave_terminal(operand.parse().unwrap_or(0.0)),
            "label" => {
                probes.insert("label".into(), operand.into());
            }
            _ => {
                probes.insert(step.clone(), probe(verb, operand));
            }
        }
    }
    ExitCode::SUCCESS
}

/// To stdout, or appended to a file.
fn print(path: &str, value: &Value) {
    let written = if path.is_empty() {
        writeln!(std::io::stdout(), "{value}")
    } else {
        OpenOptions::new().append(true).create(true).open(path).and_then(|mut file| writeln!(file, "{value}"))
    };
    if let Err(error) = written {
        eprintln!("payload: report {path}: {error}");
    }
}

fn copy_stdin() {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = std::io::stdin().read(&mut buffer) {
        let mut stdout = std::io::stdout();
        if stdout.write_all(&buffer[..length]).and_then(|()| stdout.flush()).is_err() {
            return;
        }
    }
}

/// `count:PATH`: for ever writes a growing number to a file, or to stdout without a path.
fn count(path: &str) {
    for number in 0_u64.. {
        if path.is_empty() {
            println!("{number}");
        } else if let Err(error) = replace(path, number) {
            eprintln!("payload: count {path}: {error}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// In one step: whoever reads, or stops us, finds a whole number at any time.
fn replace(path: &str, number: u64) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.write_all(format!("{number:010}").as_bytes())
}

/// `serve:PORT`: listens on the loopback interface and gives back what each caller sends.
fn serve(port: &str) {
    let serve = || -> std::io::Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap_or(0)))?;
        println!("serving");
        loop {
            let (mut reader, _) = listener.accept()?;
            let mut writer = reader.try_clone()?;
            std::io::copy(&mut reader, &mut writer)?;
        }
    };
    if let Err(error) = serve() {
        eprintln!("payload: serve {port}: {error}");
    }
}

/// `converse:PATH`: a connection to itself, over which growing numbers go; those that arrive are written to
/// a file.
fn converse(path: &str) {
    let converse = || -> std::io::Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let mut one = TcpStream::connect(listener.local_addr()?)?;
        let (mut other, _) = listener.accept()?;
        for number in 0_u64.. {
            one.write_all(&number.to_le_bytes())?;
            let mut arrived = [0; 8];
            other.read_exact(&mut arrived)?;
            replace(path, u64::from_le_bytes(arrived))?;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    };
    if let Err(error) = converse() {
        eprintln!("payload: converse: {error}");
    }
}

/// Uses the processor, and nothing else, for a time.
fn spin(time: Duration) {
    let end = std::time::Instant::now() + time;
    while std::time::Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// So many megabytes, for ever.
fn hold_memory(megabytes: usize) {
    let block = vec![1u8; megabytes << 20];
    std::hint::black_box(&block);
    println!("holding");
    loop {
        std::thread::sleep(Duration::from_secs(1000));
        std::hint::black_box(&block);
    }
}

/// `background:STEP`: a child of ours does the step.
fn background(step: &str) {
    if let Err(error) = std::process::Command::new("/proc/self/exe").arg(step).spawn() {
        eprintln!("payload: background {step}: {error}");
    }
}

fn signals(operand: &str) -> SigSet {
    operand.split(',').filter_map(|name| Signal::from_str(name).ok()).collect()
}

/// A name, or for a real-time signal its number.
fn raise(operand: &str) {
    let named = || Signal::from_str(operand).map(|signal| signal as i32);
    let Ok(signal) = operand.parse().or_else(|_| named()) else { return };
    // SAFETY: two numbers.
    if unsafe { libc::kill(libc::getpid(), signal) } != 0 {
        eprintln!("payload: raise {operand}: {}", std::io::Error::last_os_error());
    }
}

/// `signals:SIGTERM,SIGHUP`: prints each that comes; ends by SIGTERM with code 15.
fn print_signals(operand: &str) {
    let set = signals(operand);
    if let Err(errno) = set.thread_block() {
        eprintln!("payload: block {operand}: {errno}");
        return;
    }
    println!("ready");
    while let Ok(signal) = set.wait() {
        if signal == Signal::SIGWINCH {
            println!("SIGWINCH {:?}", kernel::window_size(0));
        } else {
            println!("{signal}");
        }
        if signal == Signal::SIGTERM {
            return;
        }
    }
}

/// Ends the first thread; another one of the process goes on for so many seconds.
fn outlive(seconds: f64) {
    #[allow(clippy::disallowed_methods)] // the payload is no runtime
    std::thread::spawn(move || std::thread::sleep(Duration::from_secs_f64(seconds)));
    kernel::end_thread();
}

/// `watch:PATH`: for ever tries to reach a file and the descriptors of the host through every process that
/// is not the payload, and prints what it reached.
fn watch(marker: &str) {
    println!("spying");
    let mut announced = false;
    loop {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let process = entry.path();
            // The program that the runtime has become in the end may be looked into.
            let is_runtime =
                || fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim_end() != "payload");
            let is_process = entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
            if !is_process || !is_runtime() {
                continue;
            }
            if !announced {
                println!("saw init");
                announced = true;
            }
            let file = fs::read(process.join("root").join(marker.trim_start_matches('/'))).is_ok();
            let descriptors = fs::read_dir(process.join("fd")).is_ok();
            let directory = fs::read_link(process.join("cwd")).is_ok();
            if (file || descriptors || directory) && is_runtime() {
                println!("reached: file {file}, descriptors {descriptors}, directory {directory}");
            }
        }
    }
}

/// Nobody has the terminal open for so many seconds; then /dev/console is all three streams again.
fn leave_terminal(seconds: f64) {
    let turn_to = |path: &str| -> std::io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path)?;
        nix::unistd::dup2_stdin(&file)?;
        nix::unistd::dup2_stdout(&file)?;
        Ok(nix::unistd::dup2_stderr(&file)?)
    };
    let turned = turn_to("/dev/null").and_then(|()| {
        std::thread::sleep(Duration::from_secs_f64(seconds));
        turn_to("/dev/console")
    });
    if turned.is_err() {
        #[allow(clippy::disallowed_methods)] // the payload is no runtime
        std::process::exit(124);
    }
}

fn done<T>(result: std::io::Result<T>) -> Value {
    match result {
        Ok(_) => "ok".into(),
        Err(error) => report::errno(&error).into(),
    }
}

fn probe(verb: &str, operand: &str) -> Value {
    let parts: Vec<&str> = operand.split(':').collect();
    let part = |index: usize| parts.get(index).copied().unwrap_or_default();
    let number = |index: usize| part(index).parse::<i64>().unwrap_or(0);
    match verb {
        "open" => {
            let write = part(1).contains('w');
            let options = OpenOptions::new()
                .read(!write || part(1).contains('r'))
                .write(write)
                .custom_flags(libc::O_NOCTTY)
                .to_owned();
            done(options.open(part(0)))
        }
        "write" => done(
            OpenOptions::new()
                .write(true)
                .open(part(0))
                .and_then(|mut file| file.write_all(part(1).as_bytes())),
        ),
        "create" => done(fs::write(part(0), part(1))),
        "mkdir" => done(fs::create_dir(part(0))),
        "unlink" => done(fs::remove_file(part(0))),
        "chown" => done(std::os::unix::fs::chown(part(0), u32::try_from(number(1)).ok(), None)),
        "read" => match fs::read_to_string(part(0)) {
            Ok(text) => text.trim_end().into(),
            Err(error) => json!({ "error": report::errno(&error) }),
        },
        "list" => match fs::read_dir(part(0)) {
            Ok(entries) => {
                let mut names: Vec<_> =
                    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
                names.sort();
                names.into()
            }
            Err(error) => json!({ "error": report::errno(&error) }),
        },
        "link" => match fs::read_link(part(0)) {
            Ok(target) => target.to_string_lossy().into(),
            Err(error) => json!({ "error": report::errno(&error) }),
        },
        "stat" => report::stat(part(0).as_ref()),
        "mount" => done(
            nix::mount::mount(
                Some("none"),
                part(0),
                Some("tmpfs"),
                nix::mount::MsFlags::empty(),
                None::<&str>,
            )
            .map_err(Into::into),
        ),
        "device" => device(part(0), number(1), number(2), part(3)),
        "syscall" => {
            let mut args = [0; 6];
            for (index, arg) in args.iter_mut().enumerate() {
                *arg = number(index + 1);
            }
            kernel::syscall(number(0), args).into()
        }
        "i386" => kernel::syscall_i386(i32::try_from(number(0)).unwrap_or(-1)).into(),
        "threads" => threads(number(0)),
        "fork" => {
            let (born, stopped) = kernel::fork_bomb(usize::try_from(number(0)).unwrap_or(0));
            json!({ "born": born, "stopped": stopped })
        }
        "spawn" => match std::process::Command::new(part(0)).args(&parts[1..]).output() {
            Ok(output) => {
                json!({ "code": output.status.code(), "stdout": String::from_utf8_lossy(&output.stdout) })
            }
            Err(error) => report::errno(&error).into(),
        },
        "setuid" => done(
            nix::unistd::setuid(nix::unistd::Uid::from_raw(u32::try_from(number(0)).unwrap_or(0)))
                .map_err(Into::into),
        ),
        "unshare-uts" => done(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS).map_err(Into::into)),
        "slay" => slay(Duration::from_secs_f64(part(0).parse().unwrap_or(1.0))).into(),
        "rob" => rob(Duration::from_secs_f64(part(0).parse().unwrap_or(1.0)), part(1)),
        "spy" => spy(Duration::from_secs_f64(part(0).parse().unwrap_or(1.0))),
        "touch-memory" => {
            let block = vec![1u8; usize::try_from(number(0)).unwrap_or(0) << 20];
            std::hint::black_box(&block);
            "ok".into()
        }
        "stdin" => {
            let mut text = String::new();
            match std::io::stdin().read_to_string(&mut text) {
                Ok(_) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
                Err(error) => json!({ "error": report::errno(&error) }),
            }
        }
        _ => json!({ "error": format!("no step {verb}") }),
    }
}

/// The sum of what this many threads return, each its own number.
fn threads(count: i64) -> Value {
    let spawned: std::io::Result<Vec<_>> =
        (0..count).map(|number| std::thread::Builder::new().spawn(move || number)).collect();
    match spawned {
        Ok(threads) => threads.into_iter().filter_map(|thread| thread.join().ok()).sum::<i64>().into(),
        Err(error) => report::errno(&error).into(),
    }
}

/// Looks for processes that are not the payload yet, and tries to look into them: how many were seen, and
/// what succeeded with one that was still not the payload afterwards.
fn spy(time: Duration) -> Value {
    let end = std::time::Instant::now() + time;
    let (mut seen, mut opened) = (0, std::collections::BTreeSet::new());
    while std::time::Instant::now() < end {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let path = entry.path();
            let is_strange =
                || fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() != "payload");
            if entry.file_name().to_string_lossy().parse::<i32>().is_err() || !is_strange() {
                continue;
            }
            seen += 1;
            // The numbers alone are no secret; what they refer to is.
            let links = fs::read_dir(path.join("fd"))
                .is_ok_and(|files| files.flatten().any(|file| fs::read_link(file.path()).is_ok()));
            let memory = fs::File::open(path.join("mem")).is_ok();
            let exe = fs::read_link(path.join("exe")).is_ok();
            if (links || memory || exe) && is_strange() {
                opened.insert(format!("fd {links}, mem {memory}, exe {exe}"));
            }
        }
    }
    json!({ "seen": seen, "opened": opened })
}

/// Kills whoever else appears in the pid namespace, but its init; how often there was somebody.
fn slay(time: Duration) -> u64 {
    let end = std::time::Instant::now() + time;
    let everybody = nix::unistd::Pid::from_raw(-1);
    let mut slain = 0;
    while std::time::Instant::now() < end {
        slain += u64::from(nix::sys::signal::kill(everybody, nix::sys::signal::SIGKILL).is_ok());
    }
    slain
}

/// Stops processes that are not the payload yet, and takes from them what is not the container's: how many were seen, and
/// what was had of one that was still not the payload. `marker` is a file that only the host's root directory has.
fn rob(time: Duration, marker: &str) -> Value {
    let end = std::time::Instant::now() + time;
    let own = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let rights = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap_or("0");
        u64::from_str_radix(line, 16).unwrap_or(0)
    };
    let bounds = rights(&own("status").replace("CapEff", "-").replace("CapBnd", "CapEff"));
    // A container's root is a directory of a file system of the host's.
    let is_of_the_host = |table: &str| {
        table.lines().any(|line| matches!(line.split(' ').collect::<Vec<_>>()[..], [_, _, _, "/", "/", ..]))
    };
    let (mut seen, mut taken) = (0, std::collections::BTreeSet::new());
    while std::time::Instant::now() < end {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let is_strange =
                || fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() != "payload");
            if !is_strange() {
                continue;
            }
            let stopped =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGSTOP).is_ok();
            seen += 1;
            let mut found = Vec::new();
            if fs::File::open(path.join("root").join(marker.trim_start_matches('/'))).is_ok() {
                found.push("the host's root directory".to_owned());
            }
            if fs::read_to_string(path.join("mountinfo")).is_ok_and(|text| is_of_the_host(&text)) {
                found.push("the host's mount table".to_owned());
            }
            let status = fs::read_to_string(path.join("status")).unwrap_or_default();
            if rights(&status) & !bounds != 0 {
                found.push(format!("capabilities {:x}", rights(&status)));
            }
            for file in fs::read_dir(path.join("fd")).into_iter().flatten().flatten() {
                let link = fs::read_link(file.path()).unwrap_or_default().to_string_lossy().into_owned();
                let number = file.file_name().to_string_lossy().parse().unwrap_or(0);
                if number > 2 && link.starts_with('/') {
                    found.push(format!("descriptor {link}"));
                }
            }
            if is_strange() {
                taken.extend(found);
            }
            if stopped {
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGCONT).ok();
            }
        }
    }
    json!({ "seen": seen, "taken": taken })
}

/// Makes a node in the first of /tmp and / that takes one, opens it, removes it: `ok`, `mknod EPERM`, `open EPERM`.
fn device(kind: &str, major: i64, minor: i64, access: &str) -> Value {
    let path = format!("/tmp/device-{kind}-{major}-{minor}");
    let flag = if kind == "b" { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
    let rdev = makedev(u64::try_from(major).unwrap_or(0), u64::try_from(minor).unwrap_or(0));
    if let Err(errno) = mknod(path.as_str(), flag, Mode::from_bits_truncate(0o600), rdev) {
        return format!("mknod {errno:?}").into();
    }
    let write = access.contains('w') || access.is_empty();
    let read = access.contains('r') || access.is_empty();
    let opened = OpenOptions::new()
        .read(read)
        .write(write)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(&path);
    let result = match opened {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!("open {}", report::errno(&error)),
    };
    match fs::remove_file(&path) {
        Ok(()) => result.into(),
        Err(error) => format!("{result}, unlink {}", report::errno(&error)).into(),
    }
}
