//! `mounts add` and `mounts remove`: a container's mounts change while it runs.

use crate::harness::bundle::PAYLOAD;
use crate::harness::program::{Bounded, directory};
use crate::harness::*;
use crate::tests;
use std::fs;

tests! {
    a_bind_comes_and_goes, a_tmpfs_belongs_to_the_containers_root, no_symlink_leads_out_of_the_container,
    a_procfs_would_be_the_hosts, without_a_mount_namespace_they_would_be_the_hosts, what_is_wrong_is_named,
}

fn up(bundle: Bundle) -> Container {
    let mut container = bundle.steps(&["sleep:1000"]).container();
    container.up();
    container
}

fn mounts(container: &Container, verb: &str, list: Value) -> Done {
    let file = directory().join("mounts.json");
    fs::write(&file, list.to_string()).expect("mounts.json");
    program::berth(&["mounts", verb, &container.id, file.to_str().expect("path")]).done()
}

#[track_caller]
fn report(container: &Container, steps: &[&str]) -> Report {
    let words: Vec<&str> = [PAYLOAD].into_iter().chain(steps.iter().copied()).chain(["report"]).collect();
    Report::parse(&container.verb("exec", &[], &words).done().ok().stdout())
}

fn volume() -> Value {
    let source = directory().join("volume");
    fs::create_dir_all(&source).expect("volume");
    fs::write(source.join("file"), "of the host").expect("file");
    json!([{ "destination": "/new/volume", "type": "bind", "source": source, "options": ["rbind", "ro"] }])
}

fn a_bind_comes_and_goes() {
    let container = up(Bundle::new());
    let before = report(&container, &[]);
    mounts(&container, "add", volume()).ok();
    let with = report(&container, &["read:/new/volume/file", "create:/new/volume/x:text"]);
    assert_eq!(with.probe("read:/new/volume/file"), "of the host");
    assert_eq!(with.probe("create:/new/volume/x:text"), "EROFS");
    mounts(&container, "remove", volume()).ok();
    let without = report(&container, &["list:/new/volume"]);
    assert_eq!(without.probe("list:/new/volume"), &json!([]));
    assert_eq!(without["mounts"], before["mounts"]);
    assert!(directory().join("volume/file").exists());
    mounts(&container, "remove", volume()).fails("nothing is mounted there");
}

fn a_tmpfs_belongs_to_the_containers_root() {
    let list =
        json!([{ "destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["mode=700"] }]);
    let container = up(Bundle::new().user_namespace(100_000, 65536).directory("/scratch"));
    mounts(&container, "add", list.clone()).ok();
    let inside = report(&container, &["stat:/scratch", "create:/scratch/file:text"]);
    assert_eq!(inside.probe("create:/scratch/file:text"), "ok", "{}", inside.probe("stat:/scratch"));
    assert!(inside.mount("/scratch").is_some());
    mounts(&container, "remove", list).ok();
    assert!(report(&container, &[]).mount("/scratch").is_none());
}

fn no_symlink_leads_out_of_the_container() {
    let outside = directory().join("outside");
    fs::create_dir(&outside).expect("outside");
    let path = outside.to_string_lossy().into_owned();
    let container = up(Bundle::new().symlink(&path, "/link"));
    let mut list = volume();
    list[0]["destination"] = json!("/link");
    mounts(&container, "add", list).ok();
    // Where the link leads in the container, and nothing of it on the host.
    assert_eq!(
        report(&container, &[&format!("read:{path}/file")]).probe(&format!("read:{path}/file")),
        "of the host"
    );
    assert_eq!(fs::read_dir(&outside).expect("outside").count(), 0);
}

fn a_procfs_would_be_the_hosts() {
    let container = up(Bundle::new());
    for kind in ["proc", "cgroup", "cgroup2"] {
        let list = json!([{ "destination": "/tmp", "type": kind, "source": kind }]);
        mounts(&container, "add", list).fails("cannot be added to a container that is there");
    }
}

fn without_a_mount_namespace_they_would_be_the_hosts() {
    let container = up(Bundle::new().without_namespace("mount").set("/mounts", json!([])));
    for verb in ["add", "remove"] {
        mounts(&container, verb, volume()).fails("the container has no mount namespace");
    }
    container.finish();
}

fn what_is_wrong_is_named() {
    let container = up(Bundle::new());
    mounts(&container, "add", json!({})).fails("must be an array of mounts");
    mounts(&container, "add", json!([{ "destination": "/a", "type": "bind" }])).fails("mounts[0]");
    mounts(
        &container,
        "add",
        json!([{ "destination": "/a", "type": "bind", "source": "/no/such", "options": ["bind"] }]),
    )
    .fails("/no/such");
    mounts(&container, "remove", json!([{ "destination": "/no/such", "type": "tmpfs" }]))
        .fails("no such path");
    program::berth(&["mounts", "add", &container.id, "/no/such"]).done().fails("/no/such");
    program::berth(&["mounts", "add", "nobody", "/dev/null"]).done().fails("does not exist");
    container.kill("KILL");
    container.await_status("stopped");
    mounts(&container, "add", volume()).fails("container not running");
}
