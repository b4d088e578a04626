//! Prints what a process can see of the machine and do to it, a line "subject<TAB>answer" each.
//! `make demo` runs it on the host and in a container, side by side.

use std::fs;
use std::path::Path;

fn main() {
    let lines = [
        ("own process id", std::process::id().to_string()),
        ("processes in sight", processes()),
        ("host name", read("/proc/sys/kernel/hostname")),
        ("network interfaces", names("/sys/class/net")),
        ("mounts", count_lines("/proc/self/mounts")),
        ("root directory", names("/")),
        ("write to /", make_file("/")),
        ("write to /proc/sys", open_for_writing("/proc/sys/kernel/hostname")),
        ("read /proc/kcore", first_byte("/proc/kcore")),
        ("devices in /dev", devices()),
        ("capabilities", capabilities()),
        (
            "new privileges",
            if status("NoNewPrivs") == "1" { "never".into() } else { "by setuid programs".into() },
        ),
        ("seccomp", if status("Seccomp") == "2" { "filters system calls".into() } else { "none".into() }),
        ("open files", limit("Max open files")),
        ("memory limit", cgroup(&["memory.max", "memory/memory.limit_in_bytes"])),
        ("process limit", cgroup(&["pids.max", "pids/pids.max"])),
        ("processor quota", cgroup(&["cpu.max", "cpu/cpu.cfs_quota_us", "cpu,cpuacct/cpu.cfs_quota_us"])),
    ];
    for (subject, answer) in lines {
        println!("{subject}\t{answer}");
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|error| reason(&error), |text| text.trim().to_owned())
}

/// "Operation not permitted" without the number that Rust puts behind it.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn attempt(result: std::io::Result<()>) -> String {
    result.map_or_else(|error| reason(&error), |()| "allowed".to_owned())
}

/// A file without a name: nothing is left behind where it is allowed.
fn make_file(directory: &str) -> String {
    use std::os::unix::fs::OpenOptionsExt;
    attempt(fs::OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(directory).map(|_| ()))
}

fn open_for_writing(path: &str) -> String {
    attempt(fs::OpenOptions::new().write(true).open(path).map(|_| ()))
}

/// A masked file is there and empty.
fn first_byte(path: &str) -> String {
    let mut byte = [0];
    match fs::File::open(path).and_then(|mut file| std::io::Read::read(&mut file, &mut byte)) {
        Ok(0) => "empty".to_owned(),
        Ok(_) => "readable".to_owned(),
        Err(error) => reason(&error),
    }
}

fn processes() -> String {
    let Ok(entries) = fs::read_dir("/proc") else { return "none".to_owned() };
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    entries.flatten().filter(|entry| is_process(&entry.file_name().to_string_lossy())).count().to_string()
}

/// Names in a directory, or how many if they are many.
fn names(path: &str) -> String {
    let Ok(entries) = fs::read_dir(path) else { return "none".to_owned() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    if names.len() > 6 { format!("{} entries", names.len()) } else { names.join(" ") }
}

fn devices() -> String {
    use std::os::unix::fs::FileTypeExt;
    let Ok(entries) = fs::read_dir("/dev") else { return "none".to_owned() };
    let is_device = |path: &Path| {
        fs::symlink_metadata(path)
            .is_ok_and(|file| file.file_type().is_char_device() || file.file_type().is_block_device())
    };
    entries.flatten().filter(|entry| is_device(&entry.path())).count().to_string()
}

fn count_lines(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|error| reason(&error), |text| text.lines().count().to_string())
}

fn status(key: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}

fn capabilities() -> String {
    let effective = u64::from_str_radix(&status("CapEff"), 16).unwrap_or(0);
    format!(
        "{} of {}",
        effective.count_ones(),
        read("/proc/sys/kernel/cap_last_cap").parse().map_or(0, |last: u32| last + 1)
    )
}

fn limit(name: &str) -> String {
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next().map(str::to_owned));
    value.unwrap_or_default()
}

/// The first of these files of the cgroup file system; its root has no limits.
fn cgroup(files: &[&str]) -> String {
    let found = files.iter().find_map(|file| fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok());
    let text = found.unwrap_or_else(|| "none".to_owned());
    match text.trim() {
        "max" | "-1" | "9223372036854771712" => "none".to_owned(),
        limit => limit.to_owned(),
    }
}
