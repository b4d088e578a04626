//! One test per published hole of an OCI runtime, named by its id: what an image or a config could do to
//! the host at create, start and run.

use crate::harness::program::{Bounded, Running, directory};
use crate::harness::terminal::ConsoleSocket;
use crate::harness::*;
use crate::tests;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

tests! {
    cve_2015_3627_symlinks_at_mount_targets, cve_2016_3697_numeric_user_names, cve_2016_8867_no_ambient_capabilities_for_a_user,
    cve_2019_5736_the_binary_cannot_be_reopened,
    cve_2019_5736_the_binarys_mount_cannot_be_made_writable, cve_2019_5736_entrypoint_is_proc_self_exe, cve_2019_16884_volume_on_proc,
    cve_2019_19921_symlinked_proc, cve_2023_27561_symlinked_proc_race, cve_2023_28642_masks_through_a_symlinked_proc,
    ghsa_g54h_m393_cpwq_device_list, cve_2021_30465_mount_target_swapped, cve_2021_43784_long_id_maps,
    cve_2022_29162_inheritable_capabilities, cve_2023_25809_cgroup_mount_is_readonly, cve_2024_21626_working_directory_through_a_descriptor,
    cve_2024_45310_directories_made_on_the_host, cve_2025_31133_dev_null_is_not_null, cve_2025_52565_console_through_a_symlink,
    cve_2025_52881_sysctl_write_redirected, cve_2025_54867_symlinked_proc_and_sys, cve_2026_41579_symlinked_dev,
    cve_2026_47766_dev_leads_into_a_volume,
    cve_2019_18837_absolute_symlink_in_a_destination, cve_2026_88264_dangling_console, cve_2026_88265_owner_of_the_hosts_null,
    cve_2026_115521_readonly_root_with_a_rogue_proc, runc_1_5_3_propagation_of_the_host, crun_2262_bind_of_the_hosts_root,
}

/// A directory of the host that must stay empty.
fn outside() -> PathBuf {
    let path = directory().join("outside");
    fs::create_dir_all(&path).expect("outside");
    path
}

#[track_caller]
fn assert_empty(path: &Path) {
    let entries: Vec<_> = fs::read_dir(path).expect("outside").flatten().map(|entry| entry.path()).collect();
    assert!(entries.is_empty(), "made on the host: {entries:?}");
}

fn hash(path: &Path) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(&fs::read(path).expect("the binary"));
    hasher.finish()
}

/// A refusal, or a container whose report passes the check; never anything on the host.
fn refused_or(bundle: Bundle, steps: &[&str], check: impl FnOnce(&Report)) {
    let container = bundle.steps(steps).container();
    let done = container.run();
    if done.status.success() {
        check(&Report::parse(&done.stdout()));
    } else {
        assert_eq!(done.code(), 1, "{}", done.describe());
    }
}

fn cve_2015_3627_symlinks_at_mount_targets() {
    let outside = outside();
    let target = outside.to_string_lossy().into_owned();
    let mut bundle = Bundle::new();
    for name in ["dev", "etc", "run", "mnt"] {
        bundle = bundle.symlink(&target, name);
    }
    bundle = bundle
        .mount("/run", "tmpfs", "tmpfs", &[])
        .bind("/etc/hosts".as_ref(), "/etc/hosts", &["bind"])
        .mount("/mnt/deep", "tmpfs", "tmpfs", &[]);
    let container = bundle.steps(&["report"]).container();
    container.run();
    assert_empty(&outside);
    assert!(host::mounts_below(&outside).is_empty());
}

fn cve_2016_3697_numeric_user_names() {
    let report = Bundle::new()
        .file("/etc/passwd", "1000:x:0:0:1000:/:/bin/sh\n", 0o644)
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .report();
    assert_eq!(report["uid"], json!([1000, 1000, 1000, 1000]));
}

fn cve_2016_8867_no_ambient_capabilities_for_a_user() {
    let report = Bundle::new().set("/process/user", json!({ "uid": 1000, "gid": 1000 })).report();
    for set in ["ambient", "inheritable", "permitted", "effective"] {
        assert_eq!(report["capabilities"][set], 0, "{set}");
    }
}

/// A copy of the program, so that no other test runs it and ETXTBSY protects nothing.
fn own_copy() -> PathBuf {
    let copy = directory().join("berth");
    fs::copy(program::path(), &copy).expect("copy of the program");
    copy
}

fn with_program(program: &Path, args: &[&str], container: &Container) -> Command {
    container.bundle.write();
    let mut command = Command::new(program);
    command
        .arg("--root")
        .arg(program::root())
        .args(args)
        .arg("--bundle")
        .arg(&container.bundle.path)
        .arg(&container.id);
    command.stdin(Stdio::null());
    command
}

/// The attacker's way: keep a handle on the executable of init, wait until it has become the payload, reopen it for writing.
fn cve_2019_5736_the_binary_cannot_be_reopened() {
    let copy = own_copy();
    let before = hash(&copy);
    let mut container = Bundle::new().steps(&["echo:started", "sleep:1000"]).container();
    let pid_file = container.pid_file();
    with_program(&copy, &["create", "--pid-file", pid_file.to_str().expect("path")], &container).done().ok();
    let handle = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(format!("/proc/{}/exe", container.pid()))
        .expect("exe of init");
    container.start();
    let payload = host::identity(&container.bundle.rootfs().join("bin/payload"));
    let runs = || host::identity(Path::new(&format!("/proc/{}/exe", container.pid()))) == payload;
    assert!(program::await_condition(runs));
    let reopened = fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle)));
    let error = reopened.expect_err("a writable handle on the host's program");
    assert_ne!(error.raw_os_error(), Some(libc::ETXTBSY), "only busy, and so open to a race");
    assert_eq!(hash(&copy), before);
}

/// A mount that is dissolved cannot be changed, one that somebody holds a descriptor of can: by whoever has
/// CAP_SYS_ADMIN and sees a process that runs from it.
fn cve_2019_5736_the_binarys_mount_cannot_be_made_writable() {
    let copy = own_copy();
    let container = Bundle::new().steps(&["echo:started", "sleep:1000"]).container();
    let running = with_program(&copy, &["run"], &container).start();
    running.await_stdout("started");
    assert_eq!(make_writable(running.child.id()), Errno::EINVAL, "of a run in the foreground");
    assert_no_mapping_leads_to_the_file(running.child.id());
    // The kernel was told anew where they lie (sys/remap.rs).
    let of_process =
        |file: &str| fs::read(format!("/proc/{}/{file}", running.child.id())).expect("its words");
    let words = of_process("cmdline");
    let mut words = words.strip_suffix(b"\0").expect("whole words").split(|byte| *byte == 0);
    assert_eq!(words.next(), Some(copy.as_os_str().as_encoded_bytes()));
    assert_eq!(words.next_back(), Some(container.id.as_bytes()));
    let environment = of_process("environ");
    assert!(environment.split(|byte| *byte == 0).any(|word| word.starts_with(b"PATH=")));
    assert!(environment.ends_with(b"\0") && !environment.ends_with(b"\0\0"));
    container.verb("kill", &[], &["KILL"]).done().ok();
    running.wait();

    let pid_file = container.pid_file();
    with_program(&copy, &["create", "--pid-file", pid_file.to_str().expect("path")], &container).done().ok();
    assert_eq!(make_writable(container.pid().cast_unsigned()), Errno::EINVAL, "of init");
    assert_no_mapping_leads_to_the_file(container.pid().cast_unsigned());
}

/// What of the program is mapped leads to it as well (proc(5), map_files).
fn assert_no_mapping_leads_to_the_file(pid: u32) {
    let mapped = fs::read_dir(format!("/proc/{pid}/map_files")).expect("map_files");
    let mapped: Vec<_> = mapped.map(|entry| entry.expect("a mapping").path()).collect();
    assert!(mapped.len() > 2, "{mapped:?}");
    for path in mapped {
        // Opened for writing it would only say that it is busy, for as long as it is.
        let flags = nix::sys::statvfs::statvfs(&path).expect("statvfs").flags();
        assert!(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY), "{path:?} of {pid}");
    }
}

/// mount_setattr(2) on a process' program: how it refuses.
#[allow(unsafe_code)]
fn make_writable(pid: u32) -> Errno {
    let path = format!("/proc/{pid}/exe");
    let handle = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).expect("exe");
    let link = fs::read_link(format!("/proc/{pid}/exe")).expect("exe");
    assert_eq!(link, Path::new("/"), "it does not run from a mount of its own");
    let attributes =
        libc::mount_attr { attr_set: 0, attr_clr: libc::MOUNT_ATTR_RDONLY, propagation: 0, userns_fd: 0 };
    let (fd, size) = (std::os::fd::AsRawFd::as_raw_fd(&handle), size_of_val(&attributes));
    // SAFETY: the path is a C string, and the kernel reads as many bytes of the attributes as are said.
    let changed = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size,
        )
    };
    assert_eq!(changed, -1, "{pid}: its program's mount is writable now");
    Errno::last()
}

fn cve_2019_5736_entrypoint_is_proc_self_exe() {
    let copy = own_copy();
    let before = hash(&copy);
    let first = Bundle::new().args(&["/proc/self/exe", "--version"]).container();
    with_program(&copy, &["run"], &first).done();
    let second = Bundle::new()
        .file("/bin/script", "#!/proc/self/exe\nreport\n", 0o755)
        .args(&["/bin/script"])
        .container();
    with_program(&copy, &["run"], &second).done();
    assert_eq!(hash(&copy), before);
    fs::OpenOptions::new().write(true).open(&copy).expect("not busy: nothing still runs it");
}

fn cve_2019_16884_volume_on_proc() {
    let volume = directory().join("volume");
    fs::create_dir_all(volume.join("self/attr")).expect("volume");
    Bundle::new().bind(&volume, "/proc", &["rbind"]).refused("/proc");
    Bundle::new().bind(&volume, "/proc/self/attr", &["rbind"]).refused("/proc");
    Bundle::new().bind(&volume, "/proc/sys", &["rbind"]).refused("/proc");
    Bundle::new().without_mount("/proc").bind(&volume, "/proc", &["rbind"]).refused("/proc");
}

fn cve_2019_19921_symlinked_proc() {
    Bundle::new().directory("/elsewhere").symlink("/elsewhere", "/proc").refused("proc");
    Bundle::new().directory("/elsewhere").symlink("elsewhere/../elsewhere", "/proc").refused("proc");
}

fn cve_2023_28642_masks_through_a_symlinked_proc() {
    let bundle = Bundle::new()
        .directory("/fake/self")
        .symlink("/fake", "/proc")
        .set("/linux/maskedPaths", json!(["/proc/kcore"]));
    bundle.refused("proc");
}

/// A thread that swaps two names until it is dropped.
struct Swap {
    stop: std::sync::Arc<AtomicBool>,
    child: Option<Running>,
}

impl Swap {
    fn start<'scope>(scope: &'scope std::thread::Scope<'scope, '_>, one: &Path, other: &Path) -> Self {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let (flag, one, other) = (stop.clone(), one.to_owned(), other.to_owned());
        scope.spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).expect("exchange");
            }
        });
        Self { stop, child: None }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.child.take();
    }
}

/// How often a race is run: `BERTH_TEST_RACES`, 25 without it.
fn rounds() -> usize {
    std::env::var("BERTH_TEST_RACES").ok().and_then(|text| text.parse().ok()).unwrap_or(25)
}

/// Runs the bundle many times while `name` in a volume is now a directory and now a symlink to `target`.
fn race(target: &str, make: impl Fn(&Path) -> Bundle, check: impl Fn(&Report)) {
    let volume = directory().join("volume");
    fs::create_dir_all(volume.join("name")).expect("volume");
    symlink(target, volume.join("link")).expect("symlink");
    std::thread::scope(|scope| {
        let _swap = Swap::start(scope, &volume.join("name"), &volume.join("link"));
        for _ in 0..rounds() {
            refused_or(make(&volume), &["list:/", "report"], &check);
        }
    });
}

fn own_root(report: &Report) {
    let names = report.probe("list:/").as_array().expect("names");
    assert!(
        names.contains(&json!("bin")) && !names.contains(&json!("usr")),
        "the container's root: {names:?}"
    );
}

fn cve_2021_30465_mount_target_swapped() {
    let outside = outside();
    let marker = directory().join("marker");
    fs::create_dir_all(&marker).expect("marker");
    fs::write(marker.join("landed"), "").expect("marker");
    let target = outside.to_string_lossy().into_owned();
    race(
        &target,
        |volume| Bundle::new().bind(volume, "/vol", &["bind"]).bind(&marker, "/vol/name", &["bind"]),
        |report| {
            own_root(report);
            assert!(
                report["mounts"]
                    .as_array()
                    .expect("mounts")
                    .iter()
                    .all(|mount| !mount["destination"].to_string().contains("/old"))
            );
        },
    );
    assert_empty(&outside);
    assert!(host::mounts_below(&outside).is_empty());
}

fn cve_2024_45310_directories_made_on_the_host() {
    let outside = outside();
    let target = outside.to_string_lossy().into_owned();
    race(
        &target,
        |volume| {
            Bundle::new().bind(volume, "/vol", &["bind"]).mount("/vol/name/deep/er", "tmpfs", "tmpfs", &[])
        },
        own_root,
    );
    assert_empty(&outside);
}

/// Whatever name the procfs has in the end, what is masked in it is masked.
fn cve_2023_27561_symlinked_proc_race() {
    let outside = outside();
    fs::create_dir_all(outside.join("sys")).expect("outside");
    let target = outside.to_string_lossy().into_owned();
    std::thread::scope(|scope| {
        for _ in 0..rounds() / 2 {
            let bundle = Bundle::new().set("/linux/maskedPaths", json!(["/proc/timer_list"]));
            let rootfs = bundle.rootfs();
            symlink(&target, rootfs.join("link")).expect("symlink");
            let _swap = Swap::start(scope, &rootfs.join("proc"), &rootfs.join("link"));
            let steps = ["read:/proc/timer_list", "read:/link/timer_list", "report"];
            refused_or(bundle, &steps, |report| {
                for step in &steps[..2] {
                    let seen = report.probe(step);
                    assert!(
                        seen == "" || seen["error"].is_string(),
                        "{step}: not masked: {}",
                        seen.to_string().len()
                    );
                }
            });
        }
    });
    assert!(host::mounts_below(&outside).is_empty());
}

fn ghsa_g54h_m393_cpwq_device_list() {
    let report = Bundle::new()
        .capabilities(&["bounding", "effective", "permitted"], &["CAP_MKNOD"])
        .report_after(&["device:c:10:229", "device:b:7:0", "device:c:1:1"]);
    for step in ["device:c:10:229", "device:b:7:0", "device:c:1:1"] {
        assert_eq!(report.probe(step), "open EPERM", "{step}: mknod is allowed, use is not");
    }
}

fn cve_2021_43784_long_id_maps() {
    let map: Vec<Value> = (0..8000)
        .map(|number| json!({ "containerID": number, "hostID": 100_000 + number, "size": 1 }))
        .collect();
    let container =
        Bundle::new().user_namespace(100_000, 1).set("/linux/uidMappings", json!(map)).container();
    let done = container.run().exits(1);
    assert!(done.stderr().to_lowercase().contains("map"), "{}", done.describe());
}

fn cve_2022_29162_inheritable_capabilities() {
    let report = Bundle::new().report();
    assert_eq!(report["capabilities"]["inheritable"], 0);
}

fn cve_2023_25809_cgroup_mount_is_readonly() {
    let report = Bundle::new()
        .capabilities(&["bounding", "effective", "permitted"], &["CAP_DAC_OVERRIDE"])
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"])
        .report_after(&["mkdir:/sys/fs/cgroup/new", "mkdir:/sys/fs/cgroup/pids/new"]);
    assert_eq!(report.probe("mkdir:/sys/fs/cgroup/new"), "EROFS");
    let below = report.probe("mkdir:/sys/fs/cgroup/pids/new");
    assert!(below == "EROFS" || below == "ENOENT", "{below}");
}

fn cve_2024_21626_working_directory_through_a_descriptor() {
    for fd in 3..=64 {
        Bundle::new().set("/process/cwd", format!("/proc/self/fd/{fd}")).refused("");
    }
    // The same below the image's own symlink.
    for fd in 3..=12 {
        Bundle::new()
            .symlink(&format!("/proc/self/fd/{fd}"), "/innocent")
            .set("/process/cwd", "/innocent")
            .refused("");
    }
}

/// The published attack names core_pattern; the hostname of the container's own namespace harms nobody where it works.
fn cve_2025_31133_dev_null_is_not_null() {
    let container = Bundle::new()
        .without_mount("/dev")
        .without_mount("/dev/pts")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue")
        .symlink("/proc/sys/kernel/hostname", "/dev/null")
        .set("/linux/maskedPaths", json!(["/proc/timer_list"]))
        .steps(&["stat:/proc/timer_list", "read:/proc/sys/kernel/hostname", "report"])
        .container();
    let done = container.run();
    if done.code() == 1 {
        return;
    }
    let done = done.ok();
    let report = Report::parse(&done.stdout());
    let stat = report.probe("stat:/proc/timer_list");
    assert_eq!(
        (&stat["type"], &stat["major"], &stat["minor"]),
        (&json!("c"), &json!(1), &json!(3)),
        "what masks it"
    );
    assert_eq!(report.probe("read:/proc/sys/kernel/hostname"), "berth-test");
}

/// /dev of the image, with a terminal, and a console that points elsewhere.
fn console_at(target: &str) {
    let socket = ConsoleSocket::new();
    let mut container = Bundle::new()
        .without_mount("/dev")
        .without_mount("/dev/mqueue")
        .without_mount("/dev/shm")
        .without_mount("/dev/pts")
        .directory("/dev/pts")
        .mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"])
        .symlink(target, "/dev/console")
        .set("/process/terminal", true)
        .steps(&["sleep:1000"])
        .container();
    let done = container.try_create(&["--console-socket", socket.path.to_str().expect("path")]);
    assert!(done.code() == 0 || done.code() == 1, "{}", done.describe());
}

fn cve_2025_52565_console_through_a_symlink() {
    let victim = directory().join("victim");
    fs::write(&victim, "untouched").expect("victim");
    console_at(&victim.to_string_lossy());
    assert_eq!(fs::read_to_string(&victim).expect("victim"), "untouched");
    assert!(host::mounts_below(&victim).is_empty());
}

fn cve_2026_88264_dangling_console() {
    let outside = outside();
    console_at(&outside.join("made").to_string_lossy());
    assert_empty(&outside);
}

/// Without a procfs in the container, its files stand where the sysctls would be.
fn cve_2025_52881_sysctl_write_redirected() {
    let bundle = Bundle::new()
        .without_mount("/proc")
        .file("/proc/sys/net/ipv4/ip_unprivileged_port_start", "of the image", 0o666)
        .set("/linux/sysctl", json!({ "net.ipv4.ip_unprivileged_port_start": "55" }))
        .steps(&["exit:0"]);
    let rootfs = bundle.rootfs();
    let container = bundle.container();
    let done = container.run();
    let text = fs::read_to_string(rootfs.join("proc/sys/net/ipv4/ip_unprivileged_port_start"))
        .expect("the image's file");
    assert_eq!(text, "of the image", "{}", done.describe());
}

fn cve_2025_54867_symlinked_proc_and_sys() {
    let outside = outside();
    for name in ["proc", "sys"] {
        Bundle::new().symlink(&outside.to_string_lossy(), name).refused(name);
    }
    assert_empty(&outside);
}

fn cve_2026_41579_symlinked_dev() {
    let outside = outside();
    let target = outside.to_string_lossy().into_owned();
    let container = Bundle::new().symlink(&target, "/dev").steps(&["exit:0"]).container();
    container.run();
    assert_empty(&outside);
    let mut bundle = Bundle::new();
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle = bundle.without_mount(destination);
    }
    let container = bundle.symlink(&target, "/dev").steps(&["exit:0"]).container();
    container.run();
    assert_empty(&outside);
}

/// /dev of the image leads to where the engine mounts a directory of the host: what is made in /dev would
/// be made there.
fn cve_2026_47766_dev_leads_into_a_volume() {
    let outside = outside();
    let mut bare = Bundle::new();
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bare = bare.without_mount(destination);
    }
    let mut first = Bundle::new();
    let volume = json!({ "destination": "/volume", "type": "bind", "source": outside, "options": ["rbind"] });
    first.config["mounts"].as_array_mut().expect("mounts").insert(0, volume);
    for bundle in [Bundle::new(), bare, first] {
        let mut bundle = bundle.directory("/volume").symlink("/volume", "/dev").steps(&["report"]);
        let mounts = bundle.config["mounts"].as_array().expect("mounts");
        if !mounts.iter().any(|mount| mount["destination"] == "/volume") {
            bundle = bundle.bind(&outside, "/volume", &["rbind"]);
        }
        let mut container = bundle.container();
        for terminal in [false, true] {
            bundle::set(&mut container.bundle.config, "/process/terminal", json!(terminal));
            let done = container.run().fails("/dev");
            assert!(Report::all(&done.stdout()).is_empty(), "the process ran; {}", done.describe());
            assert_empty(&outside);
        }
    }
}

fn cve_2019_18837_absolute_symlink_in_a_destination() {
    let outside = outside();
    let report = Bundle::new()
        .symlink(&outside.to_string_lossy(), "/data")
        .mount("/data/inner", "tmpfs", "tmpfs", &[])
        .report();
    assert!(
        report.mount(&format!("{}/inner", outside.display())).is_some(),
        "inside of the root: {}",
        report["mounts"]
    );
    assert_empty(&outside);
}

/// The standard streams are given to the user of the container, but not when they are the host's devices.
fn cve_2026_88265_owner_of_the_hosts_null() {
    let before = fs::metadata("/dev/null").expect("null");
    assert!(before.file_type().is_char_device());
    let victim = directory().join("victim");
    fs::write(&victim, "untouched").expect("victim");
    let container = Bundle::new()
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .steps(&["report"])
        .container();
    container.run().ok();
    let mut images = Bundle::new();
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        images = images.without_mount(destination);
    }
    let container = images
        .symlink(&victim.to_string_lossy(), "/dev/null")
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .steps(&["report"])
        .container();
    container.run();
    let after = fs::metadata("/dev/null").expect("null");
    assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
    let meta = fs::metadata(&victim).expect("victim");
    assert_eq!((meta.uid(), fs::read_to_string(&victim).expect("victim").as_str()), (0, "untouched"));
}

fn cve_2026_115521_readonly_root_with_a_rogue_proc() {
    let outside = outside();
    let bundle = Bundle::new().without_mount("/proc").set("/root/readonly", true).directory("/proc/self/fd");
    for fd in 3..20 {
        symlink(&outside, bundle.rootfs().join(format!("proc/self/fd/{fd}"))).expect("symlink");
    }
    let rootfs = bundle.rootfs();
    let container = bundle.steps(&["create:/written", "create:/tmp/written"]).container();
    container.run();
    assert!(!rootfs.join("written").exists() && !rootfs.join("tmp/written").exists(), "the root is writable");
    assert_empty(&outside);
}

fn runc_1_5_3_propagation_of_the_host() {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("unshare");
    for flag in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | flag, None::<&str>).expect("propagation");
    }
    let table = || host::mounts().into_iter().map(|mount| mount.line).collect::<Vec<_>>();
    let before = table();
    let container =
        Bundle::new().without_namespace("mount").set("/mounts", json!([])).steps(&["exit:0"]).container();
    container.run();
    assert_eq!(table(), before);
}

fn crun_2262_bind_of_the_hosts_root() {
    let report = Bundle::new()
        .bind("/".as_ref(), "/host", &["rbind", "ro"])
        .report_after(&["stat:/host/etc/passwd", "stat:/host/bin/payload"]);
    assert_eq!(
        report.probe("stat:/host/etc/passwd")["inode"],
        fs::metadata("/etc/passwd").expect("passwd").ino()
    );
    assert_eq!(report.probe("stat:/host/bin/payload"), "ENOENT");
}
