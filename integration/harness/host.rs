//! The host as the tests see it: cgroup layout, mounts, processes, and what is left of a test.

use nix::mount::{MntFlags, umount2};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One mounted cgroup hierarchy; no controllers on v2.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    pub mountpoint: PathBuf,
    /// The v1 controllers or `name=systemd`; empty for cgroup2.
    pub controllers: Vec<String>,
}

/// A mount of this mount namespace: destination, type, and options of mount and superblock.
#[derive(Debug, Clone)]
pub struct Mount {
    pub destination: PathBuf,
    pub kind: String,
    pub options: Vec<String>,
    pub line: String,
}

pub fn mounts() -> Vec<Mount> {
    // A mount point need not be text.
    let table = fs::read("/proc/self/mountinfo").expect("mountinfo");
    let table = String::from_utf8_lossy(&table);
    let parsed = table.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut words = filesystem.split(' ');
        let kind = words.next()?.to_owned();
        let superblock = words.nth(1)?.split(',').map(str::to_owned);
        let mut fields = mount.split(' ').skip(4);
        let destination = PathBuf::from(fields.next()?.replace("\\040", " "));
        let options = fields.next()?.split(',').map(str::to_owned).chain(superblock).collect();
        Some(Mount { destination, kind, options, line: line.to_owned() })
    });
    parsed.collect()
}

pub fn hierarchies() -> Vec<Hierarchy> {
    const OPTIONS: [&str; 6] = ["rw", "ro", "relatime", "nosuid", "nodev", "noexec"];
    let found =
        mounts().into_iter().filter(|mount| mount.kind.starts_with("cgroup")).map(|mount| Hierarchy {
            mountpoint: mount.destination,
            controllers: match mount.kind.as_str() {
                "cgroup2" => Vec::new(),
                _ => {
                    let names =
                        mount.options.into_iter().filter(|option| !OPTIONS.contains(&option.as_str()));
                    names
                        .filter(|name| {
                            !name.starts_with("release_agent") && name != "xattr" && name != "clone_children"
                        })
                        .collect()
                }
            },
        });
    found.collect()
}

/// `cgroup v2`, `hybrid` or `cgroup v1`, from what is mounted.
pub fn layout() -> &'static str {
    let all = hierarchies();
    let v2 = all.iter().any(|hierarchy| hierarchy.controllers.is_empty());
    let v1 = all.iter().any(|hierarchy| hierarchy.controllers.iter().any(|name| !name.starts_with("name=")));
    match (v1, v2) {
        (false, true) => "cgroup v2",
        (true, true) => "hybrid",
        _ => "cgroup v1",
    }
}

pub fn has_apparmor() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

pub fn is_v2() -> bool {
    layout() == "cgroup v2"
}

/// The hierarchy that has a controller; on v2 the controller must be there in the root.
pub fn hierarchy_of(controller: &str) -> Option<PathBuf> {
    hierarchies().into_iter().find_map(|hierarchy| {
        let has = if hierarchy.controllers.is_empty() {
            let listed =
                fs::read_to_string(hierarchy.mountpoint.join("cgroup.controllers")).unwrap_or_default();
            listed.split_whitespace().any(|name| name == controller)
        } else {
            hierarchy.controllers.iter().any(|name| name == controller)
        };
        has.then_some(hierarchy.mountpoint)
    })
}

/// The text of a control file: `v1` or `v2` name by layout.
#[track_caller]
pub fn control(controller: &str, cgroup: &str, v1: &str, v2: &str) -> String {
    let mountpoint = hierarchy_of(controller).unwrap_or_else(|| panic!("no controller {controller}"));
    let file = mountpoint.join(cgroup.trim_start_matches('/')).join(if is_v2() { v2 } else { v1 });
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.trim_end().to_owned()
}

/// Every cgroup whose path holds the word.
pub fn cgroups_with(word: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        collect_cgroups(&hierarchy.mountpoint, &mut |path| {
            if path.to_string_lossy().contains(word) {
                found.push(path.to_owned());
            }
        });
    }
    found
}

fn collect_cgroups(directory: &Path, found: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found(&entry.path());
            collect_cgroups(&entry.path(), found);
        }
    }
}

/// Makes a cgroup in every hierarchy, so that a runtime finds the parent of its own.
pub fn make_cgroups(path: &str) {
    for hierarchy in hierarchies() {
        fs::create_dir_all(hierarchy.mountpoint.join(path.trim_start_matches('/'))).expect("cgroup");
    }
}

/// Removes a cgroup of every hierarchy where nobody has anything in it.
pub fn remove_empty_cgroups(path: &str) {
    for hierarchy in hierarchies() {
        match fs::remove_dir(hierarchy.mountpoint.join(path)) {
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EBUSY)) => {}
            Err(error) => eprintln!("remove cgroup {path}: {error}"),
        }
    }
}

/// Removes cgroups, the deepest first, after killing what is in them. Returns what stays.
pub fn remove_cgroups(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for path in &paths {
        for pid in fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default().lines() {
            kill_process(pid.parse().unwrap_or(0));
        }
    }
    paths.retain(|path| {
        !super::program::await_condition(|| match fs::remove_dir(path) {
            Ok(()) => true,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        })
    });
    paths
}

/// SIGKILL to one process of ours.
pub fn kill_process(pid: i32) {
    if pid > 1 {
        match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(errno) => eprintln!("kill {pid}: {errno}"),
        }
    }
}

/// The mounts at or below a directory, the last first.
pub fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let mut below: Vec<PathBuf> = mounts()
        .into_iter()
        .map(|mount| mount.destination)
        .filter(|path| path.starts_with(directory))
        .collect();
    below.reverse();
    below
}

/// Unmounts all below a directory, so that removing it cannot reach into what was mounted.
pub fn detach_mounts_below(directory: &Path) {
    for path in mounts_below(directory) {
        match umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(errno) => eprintln!("unmount {}: {errno}", path.display()),
        }
    }
}

/// A row of the process table.
struct Row {
    pid: i32,
    parent: i32,
    command: String,
    dead: bool,
}

fn process_table() -> Vec<Row> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let rows = entries.flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (name, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let dead = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        Some(Row { pid, parent, command: name.split_once('(')?.1.to_owned(), dead })
    });
    rows.collect()
}

/// Processes as (pid, parent, command), without those that are dead.
pub fn processes() -> Vec<(i32, i32, String)> {
    process_table()
        .into_iter()
        .filter(|row| !row.dead)
        .map(|row| (row.pid, row.parent, row.command))
        .collect()
}

/// Children of this process that are dead and were not waited for.
pub fn zombies_of_this_process() -> Vec<nix::unistd::Pid> {
    let own = nix::unistd::getpid().as_raw();
    let rows = process_table().into_iter().filter(|row| row.dead && row.parent == own);
    rows.map(|row| nix::unistd::Pid::from_raw(row.pid)).collect()
}

/// All live processes that descend from one, itself not.
pub fn descendants(ancestor: i32) -> Vec<(i32, String)> {
    let all = processes();
    let mut family = BTreeSet::from([ancestor]);
    let mut found = Vec::new();
    loop {
        let before = family.len();
        for (pid, parent, command) in &all {
            if family.contains(parent) && family.insert(*pid) {
                found.push((*pid, command.clone()));
            }
        }
        if family.len() == before {
            return found;
        }
    }
}

/// All that berth could leave behind: files below /run, cgroups, mounts, processes that descend from this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing(BTreeSet<String>);

impl Listing {
    pub fn take() -> Self {
        let mut lines = BTreeSet::new();
        list_files(Path::new("/run"), &mut lines);
        // udev's locks come and go by themselves for a while after the machine's start.
        lines.retain(|line| !line.starts_with("file /run/udev/"));
        list_files(&super::program::root(), &mut lines);
        for hierarchy in hierarchies() {
            collect_cgroups(&hierarchy.mountpoint, &mut |path| {
                lines.insert(format!("cgroup {}", path.display()));
            });
        }
        lines.extend(mounts().into_iter().map(|mount| format!("mount {}", mount.line)));
        let own = i32::try_from(std::process::id()).expect("a pid");
        lines.extend(descendants(own).into_iter().map(|(pid, command)| format!("process {pid} {command}")));
        Self(lines)
    }

    /// What differs now and stays different for two seconds: other programs of the machine come and go.
    pub fn changes(&self) -> Vec<String> {
        let mut difference = Vec::new();
        for _ in 0..20 {
            super::program::reap_orphans();
            let now = Self::take();
            difference = now.0.symmetric_difference(&self.0).cloned().collect();
            if difference.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        difference
    }

    #[track_caller]
    pub fn assert_unchanged(&self, after: &str) {
        let changes = self.changes();
        assert!(changes.is_empty(), "{after}: changed the host: {changes:#?}");
    }
}

fn list_files(directory: &Path, lines: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        lines.insert(format!("file {}", entry.path().display()));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list_files(&entry.path(), lines);
        }
    }
}

/// Whether the kernel is of this version or a newer one.
pub fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("osrelease");
    let mut numbers = release.split(['.', '-']).map_while(|word| word.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// Whether this process has a capability: some machines withhold CAP_SYS_RESOURCE.
pub fn has_capability(capability: caps::Capability) -> bool {
    caps::has_cap(None, caps::CapSet::Effective, capability).unwrap_or(false)
}

/// The device and inode of a file.
pub fn identity(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (meta.dev(), meta.ino())
}

/// The namespace of a process as `/proc/PID/ns/KIND` names it.
#[track_caller]
pub fn namespace(pid: &str, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("namespace link").to_string_lossy().into_owned()
}
