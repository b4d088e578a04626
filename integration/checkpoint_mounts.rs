//! checkpoint and restore of mounts: those that show the host, by their names and by their places, and what an
//! image of a container or a volume may not make of either.

use crate::harness::checkpoint::Case;
use crate::harness::program::{Bounded, directory};
use crate::harness::*;
use crate::tests;
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

tests! {
    volumes_with_mounts_below, volumes_behind_symlinks, names_that_are_no_text, destination_that_ends_criu_s_key,
    destination_with_a_newline,
    link_in_the_place_of_a_mount_point, link_on_the_way_to_where_a_link_had_led, link_that_leads_to_another_volume_now,
    mount_that_shows_something_else,
}

/// A tmpfs of the host, until it is dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn at(path: &Path) -> Self {
        mount(Some("none"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("tmpfs");
        Self(path.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        umount(&self.0).expect("umount");
    }
}

/// What a step finds in the container.
#[track_caller]
fn inside(case: &Case, step: &str) -> Value {
    let done = case.container.verb("exec", &[], &["/bin/payload", step, "report"]).done().ok();
    Report::parse(&done.stdout()).probe(step).clone()
}

fn volumes_with_mounts_below() {
    let bundle = Bundle::new().steps(&["count:/vol/count"]);
    let host = directory().join("tree");
    fs::create_dir_all(host.join("below")).expect("tree");
    let mounted = Tmpfs::at(&host.join("below"));
    fs::write(host.join("below/file"), "of the host").expect("file");
    let mut case = Case::new(bundle.bind(&host, "/tree", &["rbind", "ro"]));
    case.up();
    case.checkpoint(&[]).ok();
    case.restore(&[]).ok();
    assert_eq!(inside(&case, "read:/tree/below/file"), "of the host");
    case.container.finish();
    drop(mounted);
}

/// A symlink of the rootfs as destination, and one on the way to it: both absolute, and inside the rootfs.
fn volumes_behind_symlinks() {
    let bundle = Bundle::new().steps(&["count:/vol/count"]);
    let rootfs = bundle.rootfs();
    fs::create_dir_all(rootfs.join("real/conf")).expect("directory");
    symlink("/real/conf", rootfs.join("conf")).expect("link");
    symlink("/real", rootfs.join("link")).expect("link");
    let host = bundle.path.join("host");
    for name in ["first", "second/inside"] {
        fs::create_dir_all(host.join(name)).expect("source");
        fs::write(host.join(name).join("name"), name).expect("name");
    }
    let mounted = Tmpfs::at(&host.join("second/inside"));
    fs::write(host.join("second/inside/name"), "of a mount").expect("name");
    let bundle = bundle.bind(&host.join("first"), "/conf", &["bind"]);
    let bundle = bundle.bind(&host.join("second"), "/link/made", &["rbind", "ro"]);
    // A file system of the container's own, which the image holds.
    let bundle =
        bundle.push("/mounts", json!({ "destination": "/link/own", "type": "tmpfs", "source": "tmpfs" }));
    let mut case = Case::new(bundle);
    case.up();
    case.checkpoint(&[]).ok();
    let counted = case.count();
    // A rootfs that is as new has the links and not what berth has made.
    fs::remove_dir(rootfs.join("real/made")).expect("the mount point");
    case.restore(&[]).ok();
    case.await_more(counted);
    assert_eq!(inside(&case, "read:/conf/name"), "first");
    assert_eq!(inside(&case, "read:/real/made/inside/name"), "of a mount");
    assert_eq!(inside(&case, "create:/conf/new:x"), "ok");
    assert!(host.join("first/new").exists());
    assert_eq!(inside(&case, "create:/link/own/new:x"), "ok");
    assert_eq!(inside(&case, "create:/link/made/new:x"), "EROFS");
    case.container.finish();
    drop(mounted);
}

/// Mount points whose names hold what JSON, a table of mounts or UTF-8 have to write otherwise, or cannot.
fn names_that_are_no_text() {
    // Of this test alone: others here take mount points for text.
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .expect("private");
    let bundle = Bundle::new().steps(&["count:/vol/count"]);
    let host = bundle.path.join("host");
    let odd = host.join(OsStr::from_bytes(b"in\xff \\040"));
    fs::create_dir_all(&odd).expect("source");
    let mounted = Tmpfs::at(&odd);
    fs::write(odd.join("name"), "odd").expect("name");
    let bundle = bundle.bind(&host, "/a b\\#", &["rbind"]);
    let mut case = Case::new(bundle);
    case.up();
    let points = || {
        let table = fs::read(format!("/proc/{}/mountinfo", case.container.pid())).expect("mountinfo");
        let names =
            table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
        names.filter(|name| name.starts_with(b"/a\\040b")).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let before = points();
    assert!(before.iter().any(|name| name.ends_with(b"in\xff\\040\\134040")), "{before:?}");
    case.checkpoint(&[]).ok();
    let counted = case.count();
    case.restore(&[]).ok();
    case.await_more(counted);
    let mut names = (before, points());
    names.0.sort();
    names.1.sort();
    assert_eq!(names.0, names.1);
    case.container.finish();
    drop(mounted);
}

/// The container counts, with a further volume at `destination`; its checkpoint is refused and it goes on.
fn refused_with_a_volume_at(bundle: Bundle, destination: &str, words: &str) {
    let other = bundle.path.join("other");
    fs::create_dir(&other).expect("other");
    let mut case = Case::new(bundle.steps(&["count:/vol/count"]).bind(&other, destination, &["bind"]));
    case.up();
    case.checkpoint(&[]).fails(words);
    case.await_more(case.count());
}

/// CRIU does not find such a mount; the container does not mind.
fn destination_with_a_newline() {
    refused_with_a_volume_at(Bundle::new(), "/x\ny", "\\n");
}

/// `]:` ends the key in the words that CRIU makes of a mount (CVE-2026-119101).
fn destination_that_ends_criu_s_key() {
    refused_with_a_volume_at(Bundle::new(), "/x]:/vol", "]:");
}

/// CVE-2026-115520: between dump and restore the image gets a symlink where a mount point was.
fn link_in_the_place_of_a_mount_point() {
    let mut case = Case::counting();
    case.up();
    case.checkpoint(&[]).ok();
    let target = directory().join("of the host");
    fs::create_dir(&target).expect("target");
    let point = case.container.bundle.rootfs().join("vol");
    fs::remove_dir(&point).expect("the mount point");
    symlink(&target, &point).expect("link");
    let done = case.restore(&[]).fails("/vol");
    assert!(done.stderr().contains("symlink"), "{}", done.describe());
    case.is_gone();
    assert_eq!(fs::read_dir(&target).expect("target").count(), 0, "the host's directory was touched");
}

/// The mount is where a symlink has led it, and no symlink may lead CRIU there (CVE-2026-115520).
fn link_on_the_way_to_where_a_link_had_led() {
    let mut case = behind_a_link();
    case.up();
    case.checkpoint(&[]).ok();
    let target = directory().join("of the host");
    fs::create_dir_all(target.join("conf")).expect("target");
    let rootfs = case.container.bundle.rootfs();
    for link in [false, true] {
        fs::remove_dir_all(rootfs.join("real")).expect("the directory");
        symlink(&target, rootfs.join("real")).expect("link");
        if link {
            // Nor does it help that the destination itself is no symlink any more.
            fs::remove_file(rootfs.join("conf")).expect("link");
            fs::create_dir(rootfs.join("conf")).expect("conf");
        }
        let done = case.restore(&[]).fails("mount point /real/conf of the image");
        assert!(done.stderr().contains("symlink"), "{}", done.describe());
        case.is_gone();
        assert_eq!(fs::read_dir(target.join("conf")).expect("target").count(), 0, "the host was touched");
        fs::remove_file(rootfs.join("real")).expect("link");
        fs::create_dir_all(rootfs.join("real/conf")).expect("as it was");
    }
    case.restore(&[]).ok();
    case.is_running();
}

/// A container with a volume at /conf, which leads to /real/conf, beside the one at /vol.
fn behind_a_link() -> Case {
    let mut case = Case::counting();
    let rootfs = case.container.bundle.rootfs();
    fs::create_dir_all(rootfs.join("real/conf")).expect("directory");
    symlink("/real/conf", rootfs.join("conf")).expect("link");
    let conf = case.container.bundle.path.join("confidential");
    fs::create_dir(&conf).expect("volume");
    fs::write(conf.join("secret"), "s").expect("secret");
    let mount = json!({ "destination": "/conf", "source": conf, "options": ["bind", "ro"] });
    case.container.bundle.config["mounts"].as_array_mut().expect("mounts").push(mount);
    case
}

/// CVE-2026-119101: what the container makes of the symlink does not give its mount another name, which would
/// show the one volume with the rights of the other.
fn link_that_leads_to_another_volume_now() {
    let mut case = behind_a_link();
    case.up();
    let rootfs = case.container.bundle.rootfs();
    fs::remove_file(rootfs.join("conf")).expect("link");
    symlink("/vol", rootfs.join("conf")).expect("link");
    case.checkpoint(&[]).ok();
    let counted = case.count();
    fs::remove_file(rootfs.join("conf")).expect("link");
    symlink("/real/conf", rootfs.join("conf")).expect("link");
    case.restore(&[]).ok();
    case.await_more(counted);
    assert_eq!(inside(&case, "read:/real/conf/secret"), "s");
    assert_eq!(inside(&case, "create:/real/conf/new:x"), "EROFS");
    assert_eq!(inside(&case, "list:/vol"), json!(["count"]));
}

/// Another directory has come to where the source was: a restore would show that one.
fn mount_that_shows_something_else() {
    let mut case = behind_a_link();
    case.up();
    let conf = case.container.bundle.path.join("confidential");
    fs::rename(&conf, conf.with_extension("old")).expect("rename");
    fs::create_dir(&conf).expect("volume");
    case.checkpoint(&[])
        .fails("the mount at /conf is not in the container any more, or shows something else");
    case.await_more(case.count());
}
