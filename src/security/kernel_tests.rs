//! The steps against the kernel, each in a child of its own: what they take away does not come back.

use std::io::Read as _;

use nix::unistd::{Gid, Uid};

use super::*;
use crate::sys::namespace::unshare;
use crate::sys::procfs::Procfs;
use crate::sys::spawn::in_child;

fn is_root() -> bool {
    let root = Uid::effective().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

fn planned(process: &str, linux: &str) -> Plan {
    let process: Process = serde_json::from_str(process).unwrap();
    let linux: Linux = serde_json::from_str(linux).unwrap();
    let mut warnings = Vec::new();
    let plan = plan(&process, &linux, &Host::look(&process).unwrap(), &mut warnings).unwrap();
    assert_eq!(warnings, [""; 0]);
    plan
}

fn status(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_user_with_capabilities_has_exactly_those() {
    if !is_root() {
        return;
    }
    let plan = planned(
        r#"{"cwd": "/", "noNewPrivileges": true,
            "user": {"uid": 1000, "gid": 1001, "additionalGids": [5, 7], "umask": 63},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}],
            "capabilities": {"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"],
                "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}}"#,
        "{}",
    );
    in_child(|| {
        let procfs = Procfs::host().unwrap();
        plan.set_rlimits().unwrap();
        plan.set_umask();
        plan.set_no_new_privileges().unwrap();
        plan.drop_bounding().unwrap();
        plan.become_user(&procfs).unwrap();
        plan.set_capabilities(0).unwrap();
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status(set), "0000000000000020", "{set}");
        }
        assert_eq!(status("CapBnd"), "0000000000000021");
        assert_eq!(status("NoNewPrivs"), "1");
        assert_eq!(status("Uid"), "1000 1000 1000 1000");
        assert_eq!(status("Gid"), "1001 1001 1001 1001");
        assert_eq!(status("Groups"), "5 7");
        assert_eq!(status("Umask"), "0077");
        assert_eq!(crate::sys::credentials::rlimit(libc::RLIMIT_NOFILE).unwrap(), (100, 200));
    });
}

#[test]
fn the_user_gets_streams_but_no_file_to_read() {
    if !is_root() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("berth-stdio-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let (input, output) = (dir.join("in"), dir.join("out"));
    std::fs::write(&input, "").unwrap();
    std::fs::write(&output, "").unwrap();
    let plan = planned(r#"{"cwd": "/", "user": {"uid": 1000, "gid": 1000}}"#, "{}");
    in_child(|| {
        let open =
            |path, write: bool| std::fs::OpenOptions::new().read(!write).write(write).open(path).unwrap();
        nix::unistd::dup2_stdin(open(&input, false)).unwrap();
        nix::unistd::dup2_stdout(open(&output, true)).unwrap();
        plan.own_stdio().unwrap();
    });
    let owner = |path| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap());
    assert_eq!((owner(&input), owner(&output)), (0, 1000));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn cve_2016_8867_nothing_is_kept_unless_asked_for() {
    if !is_root() {
        return;
    }
    let plan = planned(r#"{"cwd": "/", "user": {"uid": 1000, "gid": 1000}}"#, "{}");
    in_child(|| {
        // A caller with ambient capabilities, as a service manager may start us.
        let all = crate::sys::credentials::capget().unwrap();
        let sets = crate::sys::credentials::Sets { inheritable: all.permitted, ..all };
        crate::sys::credentials::capset(sets).unwrap();
        crate::sys::credentials::ambient_raise(5).unwrap();
        plan.drop_bounding().unwrap();
        plan.become_user(&Procfs::host().unwrap()).unwrap();
        plan.set_capabilities(0).unwrap();
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"] {
            assert_eq!(status(set), "0000000000000000", "{set}");
        }
        assert_eq!(status("Groups"), "");
    });
}

#[test]
fn a_retained_capability_can_be_raised_once_more() {
    if !is_root() {
        return;
    }
    let plan = planned(r#"{"cwd": "/", "user": {"uid": 1000, "gid": 1000}}"#, "{}");
    in_child(|| {
        plan.drop_bounding().unwrap();
        plan.become_user(&Procfs::host().unwrap()).unwrap();
        plan.set_capabilities(SECCOMP_RIGHT).unwrap();
        assert_eq!(status("CapEff"), "0000000000000000");
        plan.raise(SECCOMP_RIGHT).unwrap();
        assert_eq!(status("CapEff"), "0000000000200000");
    });
}

#[test]
fn a_rootless_user_keeps_groups_only_when_none_are_asked_for() {
    // Without maps and with setgroups denied, as an unprivileged user namespace is.
    let deny = || std::fs::write("/proc/self/setgroups", "deny").unwrap();
    let asked = planned(r#"{"cwd": "/", "user": {"uid": 0, "gid": 0, "additionalGids": [7]}}"#, "{}");
    in_child(|| {
        unshare(libc::CLONE_NEWUSER.cast_unsigned().into()).unwrap();
        deny();
        let error = asked.become_user(&Procfs::host().unwrap()).unwrap_err().to_string();
        assert!(error.contains("setgroups is denied in this user namespace"), "{error}");
    });
    let none = planned(r#"{"cwd": "/", "user": {"uid": 0, "gid": 0}}"#, "{}");
    in_child(|| {
        unshare(libc::CLONE_NEWUSER.cast_unsigned().into()).unwrap();
        deny();
        let error = none.become_user(&Procfs::host().unwrap()).unwrap_err().to_string();
        // The group step passed; the gid is refused because nothing is mapped.
        assert!(error.contains("setresgid(0)") && error.contains("not mapped"), "{error}");
    });
}

#[test]
fn attributes_are_set() {
    let plan = planned(
        r#"{"cwd": "/", "user": {"uid": 0, "gid": 0}, "oomScoreAdj": 321,
            "scheduler": {"policy": "SCHED_BATCH", "nice": 3},
            "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
            "execCPUAffinity": {"initial": "0"}}"#,
        r#"{"personality": {"domain": "LINUX"}, "memoryPolicy": {"mode": "MPOL_DEFAULT"}}"#,
    );
    in_child(|| {
        let procfs = Procfs::host().unwrap();
        plan.set_oom_score_adj(&procfs, "self").unwrap();
        assert_eq!(std::fs::read_to_string("/proc/self/oom_score_adj").unwrap(), "321\n");
        plan.set_scheduler().unwrap();
        // Fields 19 and 41 of proc_pid_stat(5): nice and policy (SCHED_BATCH is 3).
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        assert_eq!((fields[16], fields[38]), ("3", "3"));
        plan.set_io_priority().unwrap();
        plan.set_memory_policy().unwrap();
        plan.set_personality().unwrap();
        plan.initial_cpus.as_ref().unwrap().apply().unwrap();
        assert_eq!(status("Cpus_allowed_list"), "0");
    });
}

#[test]
fn sysctls_reach_the_new_namespace_only() {
    if !is_root() {
        return;
    }
    let read = || std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap();
    let before = read();
    let plan = planned(
        r#"{"cwd": "/", "user": {"uid": 0, "gid": 0}}"#,
        r#"{"namespaces": [{"type": "ipc"}], "sysctl": {"kernel.shmmni": "1234"}}"#,
    );
    in_child(|| {
        unshare(libc::CLONE_NEWIPC.cast_unsigned().into()).unwrap();
        plan.write_sysctls(&Procfs::host().unwrap(), None).unwrap();
        assert_eq!(read(), "1234\n");
    });
    assert_eq!(read(), before);
}

#[test]
fn the_session_keyring_is_the_containers_own() {
    in_child(|| {
        match join_session_keyring("berth-test", None, false, &Procfs::host().unwrap()) {
            Ok(()) => {
                let mut keys = String::new();
                std::fs::File::open("/proc/keys").unwrap().read_to_string(&mut keys).unwrap();
                let ours = keys.lines().find(|line| line.contains("_ses.berth-test")).unwrap();
                // Search for the owner beside the kernel's default.
                let mask = u32::from_str_radix(ours.split_whitespace().nth(4).unwrap(), 16).unwrap();
                assert_eq!(mask & 0x8_0000, 0x8_0000, "{ours}");
            }
            Err(error) => eprintln!("skipped: {error}"),
        }
    });
}

#[test]
fn a_hard_limit_above_ours_is_a_clear_error() {
    let current = crate::sys::credentials::rlimit(libc::RLIMIT_CORE).unwrap();
    in_child(|| {
        crate::sys::credentials::set_rlimit(libc::RLIMIT_CORE, 0, 1).unwrap();
        // Whether or not this process may raise limits, an unprivileged user may not.
        nix::unistd::setresgid(Gid::from_raw(1000), Gid::from_raw(1000), Gid::from_raw(1000)).ok();
        nix::unistd::setresuid(Uid::from_raw(1000), Uid::from_raw(1000), Uid::from_raw(1000)).ok();
        let limits = r#"{"cwd": "/", "user": {"uid": 0, "gid": 0},
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 5}]}"#;
        let plan = planned(limits, "{}");
        for result in [plan.raise_hard_rlimits(), plan.set_rlimits()] {
            let error = result.unwrap_err().to_string();
            assert!(
                error.starts_with("limit RLIMIT_CORE: prlimit(RLIMIT_CORE, soft 0, hard 5): "),
                "{error}"
            );
            assert!(error.contains("from 1 needs CAP_SYS_RESOURCE"), "{error}");
        }
    });
    assert_eq!(crate::sys::credentials::rlimit(libc::RLIMIT_CORE).unwrap(), current);
}
