//! exec on hosts of several kinds: with and without security modules, with many processors, with an older
//! kernel, and by a user without rights.

use crate::exec::{exec, refused, same_namespaces, sleeper, up, write_process};
use crate::harness::bundle::PAYLOAD;
use crate::harness::program::Bounded;
use crate::harness::*;
use crate::tests;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

tests! {
    affinity_beyond_1024_processors, a_process_file_says_itself_whether_it_has_a_terminal,
    a_kernel_that_joins_by_files_only, users_exec_in_a_created_container, a_caller_who_ignores_its_children,
}

/// The C library's cpu_set_t ends there.
fn affinity_beyond_1024_processors() {
    let container = up(sleeper());
    let run = |list: &str| {
        let process = json!({
            "args": [PAYLOAD, "read:/proc/self/status", "report"], "cwd": "/", "env": ["PATH=/bin"],
            "execCPUAffinity": { "initial": list, "final": list },
        });
        container.verb("exec", &["-p", &write_process(&container, &process)], &[]).done()
    };
    let report = Report::parse(&run("0,1500-8191").ok().stdout());
    let status = report.probe("read:/proc/self/status").to_string();
    assert!(status.contains("Cpus_allowed_list:\\t0\\n"), "{status}");
    refused(&run("1500"), "process.execCPUAffinity");
    refused(&run("70000"), "a number that no machine has");
}

/// An ignored SIGCHLD is inherited, and then the kernel reaps what nobody has waited for.
fn a_caller_who_ignores_its_children() {
    let ignoring = |command: &Command| {
        let mut caller = Command::new("env");
        caller.arg("--ignore-signal=CHLD").arg(command.get_program()).args(command.get_args());
        caller.done()
    };
    let container = Bundle::new().steps(&["exit:3"]).container();
    assert_eq!(ignoring(&container.command("run", &[])).code(), 3);
    let container = up(sleeper().user_namespace(100_000, 65_536));
    assert_eq!(ignoring(&exec(&container, &[], &["exit:4"])).code(), 4);
}

fn a_process_file_says_itself_whether_it_has_a_terminal() {
    let container = up(sleeper());
    let mut process = json!({ "args": [PAYLOAD, "report"], "cwd": "/", "env": ["PATH=/bin"] });
    let tty = |process: &Value| {
        let file = write_process(&container, process);
        let done = container.verb("exec", &["--tty", "-p", &file], &[]).done().ok();
        Report::parse(&done.stdout())["tty"][0].clone()
    };
    assert_eq!(tty(&process), Value::Null, "--tty changes nothing of a file");
    process["terminal"] = json!(true);
    assert_eq!(tty(&process)["name"], "/dev/pts/0");
}

/// `setns(pidfd, …)` is of Linux 5.8; before, it was EINVAL.
fn a_kernel_that_joins_by_files_only() {
    let namespaces = i64::from(
        libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNET | libc::CLONE_NEWPID,
    );
    let container = up(sleeper());
    let mut old = exec(&container, &[], &["report"]);
    refuse(&mut old, libc::SYS_setns, namespaces, libc::EINVAL);
    let inside = Report::parse(&old.done().ok().stdout());
    same_namespaces(&container.started_report(), &inside);

    let container = up(sleeper().user_namespace(100_000, 65536));
    let mut old = exec(&container, &[], &["report"]);
    refuse(&mut old, libc::SYS_setns, namespaces | i64::from(libc::CLONE_NEWUSER), libc::EINVAL);
    let inside = Report::parse(&old.done().ok().stdout());
    same_namespaces(&container.started_report(), &inside);
    assert_eq!(inside["uid"][0], 0);

    // That the filter is there at all: what it cannot fall back from fails.
    let mut refused_everywhere = exec(&container, &[], &["echo:ran"]);
    for kinds in [namespaces | i64::from(libc::CLONE_NEWUSER), i64::from(libc::CLONE_NEWPID)] {
        refuse(&mut refused_everywhere, libc::SYS_setns, kinds, libc::EINVAL);
    }
    refused(&refused_everywhere.done(), "setns");
}

/// A user without rights may look into no undumpable process, and init is one while it is made.
fn users_exec_in_a_created_container() {
    const NOBODY: u32 = 65534;
    let map = json!([{ "containerID": 0, "hostID": NOBODY, "size": 1 }]);
    let bundle = sleeper().without_mount("/sys").without_mount("/dev/mqueue").namespace("user", None);
    let bundle = bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let bundle = bundle.mount_options("/dev/pts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666"]);
    let bundle = bundle.remove("/linux/resources").remove("/linux/cgroupsPath");
    bundle.write();
    let directory = program::directory();
    let (binary, root) = (directory.join("berth"), directory.join("user.run"));
    fs::copy(program::path(), &binary).expect("a berth that everybody can reach");
    fs::create_dir(&root).expect("a state root");
    for path in [&root, &bundle.path, &bundle.rootfs()] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
    }
    let berth = |args: &[&str]| {
        let mut command = Command::new(&binary);
        command.args(["--cgroup-manager", "disabled", "--root"]).arg(&root).args(args);
        command.uid(NOBODY).gid(NOBODY).stdin(std::process::Stdio::null()).current_dir(&bundle.path);
        command.done()
    };
    berth(&["create", "user"]).ok();
    let inside = Report::parse(&berth(&["exec", "user", PAYLOAD, "report"]).ok().stdout());
    assert_eq!((&inside["uid"][0], &inside["pid"]), (&json!(0), &json!(2)));
    berth(&["start", "user"]).ok();
    let inside = Report::parse(&berth(&["exec", "user", PAYLOAD, "report"]).ok().stdout());
    assert_eq!(inside["uid"][0], 0);
    berth(&["delete", "--force", "user"]).ok();
}

/// The command's system call `number` fails with `errno` when its second argument is `second`.
fn refuse(command: &mut Command, number: i64, second: i64, errno: i32) {
    let low = |value: i64| u32::try_from(value).expect("32 bits");
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: u16::try_from(code).expect("an opcode"),
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    // struct seccomp_data: the number at 0, the second argument at 24.
    let filter = [
        statement(load, 0, 0, 0),
        statement(equal, low(number), 0, 3),
        statement(load, 24, 0, 0),
        statement(equal, low(second), 0, 1),
        statement(answer, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs(), 0, 0),
        statement(answer, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let install = move || {
        let mut filter = filter;
        let program = libc::sock_fprog { len: 6, filter: filter.as_mut_ptr() };
        // SAFETY: prctl(2) reads the program and its six statements, which live until it returns. The caller has
        // CAP_SYS_ADMIN, so that no_new_privs is not needed.
        match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec only prctl(2) is called, which allocates nothing and takes no lock.
    unsafe { command.pre_exec(install) };
}
