//! Many containers, four at a time, through their whole life: nothing is left of any of them.
//!
//! `BERTH_SOAK` is how many (`make soak`: 2,000); the suite's own run makes a few, which shows whether all
//! of it still works.

use crate::harness::host::{hierarchy_of, is_v2};
use crate::harness::program::{Bounded, await_condition, berth, root};
use crate::harness::*;
use crate::systemd::needs_systemd;
use crate::tests;
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

tests! { ; alone: by_the_file_system, by_systemd }

const AT_A_TIME: usize = 4;

fn count() -> usize {
    std::env::var("BERTH_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}

fn by_the_file_system() {
    soak(&[], |id| format!("/{id}"));
}

fn by_systemd() {
    needs_systemd();
    soak(&["--systemd-cgroup"], |id| format!("system.slice:berth-test:{id}"));
}

fn soak(driver: &[&str], path: impl Fn(&str) -> String + Sync) {
    let filters = device_filters();
    let begun = Instant::now();
    let next = AtomicUsize::new(0);
    let prefix = format!("soak-{}-", bundle::tag());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                let mut life = Life { bundle: Bundle::new().steps(&["sleep:1000"]), driver };
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && number < count()
                {
                    let id = format!("{prefix}{number}");
                    life.live(&id, &path(&id), number);
                }
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let left = |what: &str, list: Vec<String>| assert_eq!(list, Vec::<String>::new(), "{what} left");
    left("cgroups", host::cgroups_with(&prefix).iter().map(|path| path.display().to_string()).collect());
    left("scopes", scopes(&prefix));
    left("states", names(&root()));
    let own = i32::try_from(std::process::id()).expect("a pid");
    await_condition(|| host::descendants(own).is_empty());
    left(
        "processes",
        host::descendants(own).into_iter().map(|(pid, name)| format!("{pid} {name}")).collect(),
    );
    // The kernel frees a filter some time after its cgroup; others come and go, but none of these stays.
    let mut new: BTreeSet<u32> = device_filters().difference(&filters).copied().collect();
    await_condition(|| {
        let now = device_filters();
        new.retain(|id| now.contains(id));
        new.is_empty()
    });
    left("device filters", new.iter().map(u32::to_string).collect());
    println!("{}{} containers in {took:.1} s, nothing left", runner::RESULT_MARK, count());
}

/// One container after the other in the same bundle.
struct Life<'a> {
    bundle: Bundle,
    driver: &'a [&'a str],
}

impl Life<'_> {
    fn live(&mut self, id: &str, path: &str, number: usize) {
        bundle::set(&mut self.bundle.config, "/linux/cgroupsPath", path.into());
        self.bundle.write();
        let bundle = self.bundle.path.to_string_lossy().into_owned();
        let create = [self.driver, &["create", "--bundle", &bundle, id]].concat();
        call(&create);
        call(&["start", id]);
        if hierarchy_of("pids").is_some() {
            call(&["update", "--pids-limit", &(10 + number % 50).to_string(), id]);
        }
        if hierarchy_of("memory").is_some() {
            call(&["update", "--memory", "64m", "--memory-swap", "64m", id]);
        }
        self.update_devices(id);
        if is_v2() || hierarchy_of("freezer").is_some() {
            call(&["pause", id]);
            call(&["resume", id]);
        }
        call(&["kill", id, "KILL"]);
        assert!(await_condition(|| call(&["state", id]).contains("\"stopped\"")), "{id} does not stop");
        call(&["delete", id]);
    }

    /// Exchanges the device filter.
    fn update_devices(&self, id: &str) {
        let rule = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" });
        let file = self.bundle.path.join("resources.json");
        fs::write(&file, json!({ "devices": [rule] }).to_string()).expect("resources");
        call(&["update", "-r", &file.to_string_lossy(), id]);
    }
}

/// Its output; the files that it was in are removed, or there would be tens of thousands.
fn call(args: &[&str]) -> String {
    let done = berth(args).done().ok();
    let text = done.stdout();
    for file in [&done.stdout_file, &done.stderr_file] {
        fs::remove_file(file).expect("remove the output");
    }
    text
}

fn names(directory: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Units of that name that systemd still has, in any state.
fn scopes(word: &str) -> Vec<String> {
    if !std::path::Path::new("/run/systemd/private").exists() {
        return Vec::new();
    }
    let mut units = Vec::new();
    // systemd forgets a unit when it has nothing else to do.
    await_condition(|| {
        let mut list = Command::new("systemctl");
        list.args(["list-units", "--all", "--plain", "--no-legend", &format!("*{word}*")]);
        units = list.done().ok().stdout().lines().map(str::to_owned).collect();
        units.is_empty()
    });
    units
}

/// The ids of all device filters that the kernel has.
fn device_filters() -> BTreeSet<u32> {
    const PROG_GET_NEXT_ID: libc::c_int = 11;
    const PROG_GET_FD_BY_ID: libc::c_int = 13;
    const CGROUP_DEVICE: &str = "prog_type:\t15";
    let mut ids = BTreeSet::new();
    let mut last = 0;
    // start_id, next_id, flags
    while let attributes = [last, 0_u32, 0, 0]
        && let Some((_, [_, id, ..])) = bpf(PROG_GET_NEXT_ID, attributes)
    {
        last = id;
        let Some((fd, _)) = bpf(PROG_GET_FD_BY_ID, [id, 0, 0, 0]) else { continue };
        // SAFETY: bpf(2) has just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).expect("fdinfo");
        if info.contains(CGROUP_DEVICE) {
            ids.insert(id);
        }
    }
    ids
}

/// bpf(2) with attributes of four words; the result and what the kernel wrote; [`None`] when it refuses,
/// as it does after the last program.
fn bpf(command: libc::c_int, mut attributes: [u32; 4]) -> Option<(i32, [u32; 4])> {
    // SAFETY: the kernel reads and writes 16 bytes of attributes, which live until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), 16) };
    i32::try_from(result).ok().filter(|result| *result >= 0).map(|result| (result, attributes))
}
