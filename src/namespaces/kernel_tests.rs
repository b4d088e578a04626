//! The steps against the kernel, each in a child of its own.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::UdpSocket;
use std::os::fd::AsFd as _;

use nix::fcntl::OFlag;
use nix::unistd::{Gid, Pid, Uid, pipe2, setresgid, setresuid};

use super::*;
use crate::sys::process::{self, Exit, Side, Whom};
use crate::sys::procfs::Procfs;
use crate::sys::spawn::in_child;

fn is_root() -> bool {
    let root = Uid::effective().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

fn planned(json: &str) -> Plan {
    plan(&serde_json::from_str(json).unwrap()).unwrap()
}

/// Clones; the child runs its part once the parent's part has returned. The child's status is checked.
fn clone_and(flags: u64, parent: impl FnOnce(Pid), child_part: impl FnOnce()) {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    match process::clone3(flags, None).unwrap() {
        Side::Child { .. } => {
            drop(writer);
            File::from(reader).read_to_end(&mut Vec::new()).unwrap();
            child_part();
            process::exit_now(0)
        }
        Side::Parent { child, .. } => {
            parent(child.pid);
            drop((reader, writer));
            let exit = process::wait(Whom::One(child.pidfd.as_fd()), true).unwrap().unwrap().1;
            assert_eq!(exit, Exit::Code(0), "the clone's part went wrong");
        }
    }
}

fn namespace_of(pid: &str, name: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap()
}

const USER: &str = r#"{"namespaces": [{"type": "user"}],
    "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 10}, {"containerID": 10, "hostID": 7, "size": 1}],
    "gidMappings": [{"containerID": 0, "hostID": 200000, "size": 10}]}"#;

fn become_root() {
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0)).unwrap();
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).unwrap();
}

#[test]
fn maps_ids() {
    if !is_root() {
        return;
    }
    let plan = planned(USER);
    in_child(|| {
        clone_and(
            plan.clone_flags(&Opened::default()),
            |pid| write_id_maps(&plan, pid).unwrap(),
            || {
                let map = |file: &str| {
                    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
                    text.split_whitespace().map(|n| n.parse().unwrap()).collect::<Vec<u32>>()
                };
                assert_eq!(map("uid_map"), [0, 100_000, 10, 10, 7, 1]);
                assert_eq!(map("gid_map"), [0, 200_000, 10]);
                become_root();
            },
        );
    });
}

/// A user without rights maps its own id, with setgroups denied.
#[test]
fn maps_the_own_id_without_rights() {
    if !is_root() {
        return;
    }
    let plan = planned(
        r#"{"namespaces": [{"type": "user"}],
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": 1001, "size": 1}]}"#,
    );
    in_child(|| {
        let (uid, gid) = (Uid::from_raw(1000), Gid::from_raw(1001));
        setresgid(gid, gid, gid).unwrap();
        setresuid(uid, uid, uid).unwrap();
        // As after the execve that a user's berth came from.
        nix::sys::prctl::set_dumpable(true).unwrap();
        clone_and(
            plan.clone_flags(&Opened::default()),
            |pid| write_id_maps(&plan, pid).unwrap(),
            || {
                become_root();
                assert_eq!(std::fs::read_to_string("/proc/self/setgroups").unwrap(), "deny\n");
            },
        );
    });
}

#[test]
fn says_what_cannot_be_mapped() {
    if !is_root() {
        return;
    }
    let plan = planned(
        r#"{"namespaces": [{"type": "user"}],
            "uidMappings": [{"containerID": 0, "hostID": 0, "size": 2}, {"containerID": 1, "hostID": 5, "size": 2}]}"#,
    );
    in_child(|| {
        clone_and(
            plan.clone_flags(&Opened::default()),
            |pid| {
                let error = write_id_maps(&plan, pid).unwrap_err().to_string();
                assert!(error.starts_with("write the uid_map of the container: write("), "{error}");
                assert!(error.contains("must not overlap"), "{error}");
            },
            || {},
        );
    });
}

#[test]
fn sets_clocks_for_the_child_and_goes_back() {
    if !is_root() {
        return;
    }
    let plan = planned(
        r#"{"namespaces": [{"type": "time"}], "timeOffsets": {"boottime": {"secs": 1000}, "monotonic": {"secs": 5, "nanosecs": 7}}}"#,
    );
    in_child(|| {
        let before = namespace_of("self", "time_for_children");
        let offsets = plan.time_offsets.as_ref().unwrap();
        let original = unshare_time(offsets, &Procfs::host().unwrap()).unwrap();
        clone_and(
            plan.clone_flags(&Opened::default()),
            |_| original.restore().unwrap(),
            || {
                assert_eq!(namespace_of("self", "time"), namespace_of("self", "time_for_children"));
                let text = std::fs::read_to_string("/proc/self/timens_offsets").unwrap();
                let words: Vec<_> = text.split_whitespace().collect();
                assert_eq!(words, ["monotonic", "5", "7", "boottime", "1000", "0"]);
            },
        );
        assert_eq!(namespace_of("self", "time_for_children"), before);
    });
}

/// With a user namespace init sets its own clocks, and execve moves it there.
#[test]
fn sets_clocks_of_a_user_namespace_from_inside() {
    if !is_root() {
        return;
    }
    let plan = planned(USER);
    in_child(|| {
        let host = namespace_of("self", "time").display().to_string();
        clone_and(
            plan.clone_flags(&Opened::default()),
            |pid| write_id_maps(&plan, pid).unwrap(),
            || {
                become_root();
                // The change of ids has made us undumpable; our files in /proc would be the host root's.
                nix::sys::prctl::set_dumpable(true).unwrap();
                drop(unshare_time("boottime 1000 0\n", &Procfs::host().unwrap()).unwrap());
                let script = format!(
                    "n=$(readlink /proc/self/ns/time); test \"$n\" != '{host}' && test \"$n\" = \"$(readlink /proc/self/ns/time_for_children)\""
                );
                let arguments = [c"sh".to_owned(), c"-c".to_owned(), std::ffi::CString::new(script).unwrap()];
                nix::unistd::execv(c"/bin/sh", &arguments).unwrap();
            },
        );
    });
}

#[test]
fn joins_a_network_namespace_whose_loopback_is_up() {
    if !is_root() {
        return;
    }
    in_child(|| {
        // With lo down there is no route to it.
        let send = || UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", "127.0.0.1:9"));
        clone_and(
            Kind::Network.flag() | Kind::Uts.flag(),
            |pid| {
                let json =
                    format!(r#"{{"namespaces": [{{"type": "network", "path": "/proc/{pid}/ns/net"}}]}}"#);
                let mut opened = planned(&json).open().unwrap();
                opened.enter().unwrap();
                assert_eq!(namespace_of("self", "net"), namespace_of(&pid.to_string(), "net"));
                assert!(send().is_err());
                bring_up_loopback().unwrap();
                bring_up_loopback().unwrap();
                assert!(send().is_ok());
            },
            || {
                set_hostname("berth-test").unwrap();
                set_domainname("berth.test").unwrap();
                let names = nix::sys::utsname::uname().unwrap();
                assert_eq!(names.nodename(), "berth-test");
                assert_eq!(names.domainname(), "berth.test");
            },
        );
    });
}

/// The two rounds around a user namespace: the network namespace is the user namespace's, the IPC
/// namespace the host's.
#[test]
fn joins_namespaces_of_two_owners() {
    if !is_root() {
        return;
    }
    let mut made = planned(USER);
    made.new |= Kind::Network.flag();
    in_child(|| {
        sys::namespace::unshare(Kind::Ipc.flag()).unwrap();
        let ipc_holder = namespace_of("self", "ipc");
        let (reader, mut writer) = pipe2(OFlag::O_CLOEXEC).map(|(r, w)| (r, File::from(w))).unwrap();
        clone_and(
            made.clone_flags(&Opened::default()),
            |pid| {
                write_id_maps(&made, pid).unwrap();
                let own = std::process::id();
                let json = format!(
                    r#"{{"namespaces": [{{"type": "network", "path": "/proc/{pid}/ns/net"}},
                        {{"type": "ipc", "path": "/proc/{own}/ns/ipc"}},
                        {{"type": "user", "path": "/proc/{pid}/ns/user"}}]}}"#
                );
                let target = pid.to_string();
                // In a process of its own: the user namespace cannot be left again.
                clone_and(
                    0,
                    |_| writer.write_all(b"x").unwrap(),
                    || {
                        sys::namespace::unshare(Kind::Ipc.flag()).unwrap();
                        let mut opened = planned(&json).open().unwrap();
                        opened.enter_with_user().unwrap();
                        assert_eq!(namespace_of("self", "user"), namespace_of(&target, "user"));
                        assert_eq!(namespace_of("self", "net"), namespace_of(&target, "net"));
                        assert_eq!(namespace_of("self", "ipc"), ipc_holder);
                        become_root();
                    },
                );
            },
            || drop(reader),
        );
    });
}

#[test]
fn makes_children_in_a_joined_pid_namespace_and_goes_back() {
    if !is_root() {
        return;
    }
    in_child(|| {
        clone_and(
            Kind::Pid.flag(),
            |pid| {
                let json = format!(r#"{{"namespaces": [{{"type": "pid", "path": "/proc/{pid}/ns/pid"}}]}}"#);
                let mut opened = planned(&json).open().unwrap();
                let before = namespace_of("self", "pid_for_children");
                for number in [2, 3] {
                    let original = opened.enter_pid_for_children().unwrap().unwrap();
                    let back = |_| original.restore(&mut opened).unwrap();
                    clone_and(0, back, || assert_eq!(std::process::id(), number));
                    assert_eq!(namespace_of("self", "pid_for_children"), before);
                }
            },
            || assert_eq!(std::process::id(), 1),
        );
    });
}
