//! An ordinary user of one test, and the containers that this user makes.
//!
//! The user is known in a mount namespace of the test alone, which has files of its own over `/etc/passwd`,
//! `/etc/subuid` and their kin: newuidmap(1) reads those, and there is nothing to take away afterwards.

use super::bundle::{Bundle, PAYLOAD, host_payload, set, tag};
use super::program::{Bounded, Done, await_condition, directory, path};
use super::{Report, Value, host, json};
use crate::require;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Its uid and gid.
pub const ID: u32 = 7777;
/// The first of the ids that are granted to it where it has any.
pub const RANGE: u32 = 700_000;
/// How many.
pub const RANGE_SIZE: u32 = 65_536;
const NAME: &str = "berth-user";

/// The user, at home.
pub struct User {
    pub home: PathBuf,
    /// XDG_RUNTIME_DIR.
    runtime: PathBuf,
    /// Where it may make cgroups, in every hierarchy; it runs in a cgroup below.
    delegated: Option<String>,
    /// The machine itself knows it, and a systemd of its own runs.
    session: bool,
}

impl User {
    /// One without granted ids: it can map its own and no other.
    pub fn without_ranges() -> Self {
        Self::new("")
    }

    /// One to whom /etc/subuid and /etc/subgid grant ids.
    pub fn with_ranges() -> Self {
        Self::new(&format!("{NAME}:{RANGE}:{RANGE_SIZE}\n"))
    }

    fn new(grants: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .expect("private mounts");
        let home = make_home();
        cover("/etc/passwd", |text| format!("{text}{NAME}:x:{ID}:{ID}::{}:/bin/sh\n", home.display()));
        cover("/etc/group", |text| format!("{text}{NAME}:x:{ID}:\n"));
        cover("/etc/subuid", |_| grants.to_owned());
        cover("/etc/subgid", |_| grants.to_owned());
        bring_the_program();
        Self { runtime: home.join("run"), home, delegated: None, session: false }
    }

    /// One of the machine, with a session: systemd and its helpers read the machine's own files.
    pub fn with_session() -> Self {
        require!(Path::new("/run/systemd/private").exists(), "no systemd runs here");
        let id = ID.to_string();
        let mut useradd = Command::new("useradd");
        useradd.args(["--uid", &id, "--user-group", "--no-create-home", "--home-dir", "/nonexistent", NAME]);
        useradd.done().ok();
        // From here on the drop takes it away again.
        let runtime = PathBuf::from(format!("/run/user/{ID}"));
        let user = Self { home: make_home(), runtime, delegated: None, session: true };
        let mut start = Command::new("systemctl");
        start.args(["start", &format!("user@{ID}.service")]);
        start.done().ok();
        // The namespace only so that nothing has to be unmounted.
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
            .expect("no mounts to the outside");
        bring_the_program();
        user
    }

    /// The cgroup of the user's systemd.
    pub fn manager_cgroup(&self) -> String {
        format!("/user.slice/user-{ID}.slice/user@{ID}.service")
    }

    /// Gives the user a cgroup in every hierarchy, as systemd does with Delegate=yes, and puts it below.
    pub fn delegated(mut self) -> Self {
        let top = format!("/berth-test/{}/delegated", tag());
        for hierarchy in host::hierarchies() {
            let mut level = hierarchy.mountpoint.clone();
            for name in top.trim_start_matches('/').split('/').chain(["session"]) {
                offer_controllers(&level, &hierarchy);
                level.push(name);
                fs::create_dir_all(&level).expect("cgroup");
                if !hierarchy.controllers.is_empty() {
                    inherit_cpuset(&level);
                }
            }
            for cgroup in [level.parent().expect("the delegated one"), &level] {
                chown(cgroup, Some(ID), Some(ID)).expect("owner of the cgroup");
                for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks"] {
                    if cgroup.join(file).exists() {
                        chown(cgroup.join(file), Some(ID), Some(ID)).expect("owner of a cgroup's file");
                    }
                }
            }
        }
        self.delegated = Some(top);
        self
    }

    /// In the hierarchies where it has any, its cgroups as directories of the host.
    fn cgroups(&self) -> Vec<PathBuf> {
        self.delegated.iter().flat_map(|top| host::cgroups_with(top)).collect()
    }

    /// The path of the delegated cgroup.
    pub fn cgroup(&self) -> &str {
        self.delegated.as_deref().expect("a delegated cgroup")
    }

    pub fn runtime_directory(&self) -> &Path {
        &self.runtime
    }

    /// A command of this user, in a session like one of a login.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("/bin/sh");
        // The parent process moves itself: only root may leave the runner's cgroup.
        let enter = "for procs in $1; do echo 0 > $procs || exit 125; done; shift; exec \"$@\"";
        command.args(["-c", enter, "sh", &self.session()]);
        let id = ID.to_string();
        command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").expect("PATH"));
        command.env("HOME", &self.home).env("USER", NAME).env("LOGNAME", NAME);
        command.env("XDG_RUNTIME_DIR", self.runtime_directory());
        command.current_dir(&self.home).stdin(Stdio::null());
        command
    }

    /// The files through which the session's cgroups are entered.
    fn session(&self) -> String {
        let Some(top) = &self.delegated else { return String::new() };
        let enter = |hierarchy: host::Hierarchy| {
            let session = hierarchy.mountpoint.join(top.trim_start_matches('/')).join("session");
            session.join("cgroup.procs").to_string_lossy().into_owned()
        };
        host::hierarchies().into_iter().map(enter).collect::<Vec<_>>().join(" ")
    }

    /// `berth ARGS`, with its state where a user's is.
    pub fn berth(&self, args: &[&str]) -> Command {
        let mut command = self.command(&directory().join("berth"));
        command.args(args);
        command
    }

    /// What `spec --rootless` writes, with the payload and its rootfs.
    pub fn spec(&self) -> Bundle {
        let bundle = Bundle::from_config(Value::Null);
        chown(&bundle.path, Some(ID), Some(ID)).expect("owner of the bundle");
        self.berth(&["spec", "--rootless", "--bundle", &bundle.path.to_string_lossy()]).done().ok();
        let text = fs::read_to_string(bundle.path.join("config.json")).expect("config.json");
        let config = serde_json::from_str(&text).expect("a config.json");
        self.own(Bundle { config, ..bundle })
            .set("/process/terminal", false)
            .set("/root/readonly", false)
            .args(&[PAYLOAD, "report"])
    }

    /// Gives the bundle to the user: not the payload, which all tests share.
    pub fn own(&self, bundle: Bundle) -> Bundle {
        let rootfs = bundle.rootfs();
        chown(&bundle.path, Some(ID), Some(ID)).expect("owner of the bundle");
        for directory in ["", "bin", "dev", "etc", "proc", "run", "sys", "tmp"] {
            chown(rootfs.join(directory), Some(ID), Some(ID)).expect("owner of the rootfs");
        }
        bundle
    }

    /// A container that this user makes of the bundle.
    pub fn container(&self, bundle: Bundle) -> UsersContainer<'_> {
        let name = bundle.path.file_name().expect("bundle name").to_string_lossy().into_owned();
        UsersContainer { user: self, id: format!("{}-{name}", tag()), bundle, created: None }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let stay = host::remove_cgroups(self.cgroups());
        assert!(stay.is_empty() || std::thread::panicking(), "cgroups of the user stay: {stay:?}");
        if self.session {
            for (program, words) in
                [("systemctl", format!("stop user@{ID}.service")), ("userdel", NAME.into())]
            {
                let mut command = Command::new(program);
                command.args(words.split(' '));
                let done = command.done();
                assert!(done.status.success() || std::thread::panicking(), "{}", done.describe());
            }
        }
    }
}

fn make_home() -> PathBuf {
    let home = directory().join("home");
    fs::create_dir_all(home.join("run")).expect("home");
    // As XDG_RUNTIME_DIR has to be, and as careful people have their homes.
    for directory in [&home.join("run"), &home] {
        chown(directory, Some(ID), Some(ID)).expect("owner of the home");
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).expect("mode of the home");
    }
    home
}

/// The program may have been built where only root can go.
fn bring_the_program() {
    let program = directory().join("berth");
    fs::write(&program, "").expect("a place for the program");
    let bind = mount(Some(&path()), &program, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    bind.expect("the program within the user's reach");
}

/// Lets the children of a v2 cgroup have all controllers.
fn offer_controllers(cgroup: &Path, hierarchy: &host::Hierarchy) {
    if !hierarchy.controllers.is_empty() {
        return;
    }
    let available = fs::read_to_string(cgroup.join("cgroup.controllers")).expect("cgroup.controllers");
    for controller in available.split_whitespace() {
        // One that needs more (cpu with realtime processes about) is what the test then does without.
        if let Err(error) = fs::write(cgroup.join("cgroup.subtree_control"), format!("+{controller}")) {
            eprintln!("{controller} is not delegated: {error}");
        }
    }
}

/// A v1 cpuset takes nobody in before it has CPUs and nodes.
fn inherit_cpuset(cgroup: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = cgroup.join(file);
        if own.exists() && fs::read_to_string(&own).is_ok_and(|text| text.trim().is_empty()) {
            let parent = cgroup.parent().expect("a parent").join(file);
            fs::write(&own, fs::read_to_string(parent).expect("a parent's cpuset")).expect("cpuset");
        }
    }
}

/// Binds a changed copy over a file of the host.
fn cover(path: &str, change: impl FnOnce(String) -> String) {
    require!(Path::new(path).exists(), "no {path}: the package uidmap is missing");
    let copy = directory().join(path.trim_start_matches("/etc/"));
    fs::write(&copy, change(fs::read_to_string(path).expect("a file of the host"))).expect("a copy");
    mount(Some(&copy), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bind");
}

/// A container of an ordinary user; the drop deletes it by force.
pub struct UsersContainer<'a> {
    user: &'a User,
    pub id: String,
    pub bundle: Bundle,
    created: Option<Done>,
}

impl UsersContainer<'_> {
    /// `berth GLOBAL VERB FLAGS --bundle DIR ID`, config.json written.
    pub fn command(&self, global: &[&str], verb: &str, flags: &[&str]) -> Command {
        self.bundle.write();
        let mut command = self.user.berth(global);
        command.arg(verb).args(flags).arg("--bundle").arg(&self.bundle.path).arg(&self.id);
        command
    }

    /// `berth VERB FLAGS ID WORDS`
    pub fn verb(&self, verb: &str, flags: &[&str], words: &[&str]) -> Command {
        let mut command = self.user.berth(&[verb]);
        command.args(flags).arg(&self.id).args(words);
        command
    }

    #[track_caller]
    pub fn run(&self) -> Done {
        self.command(&[], "run", &[]).done()
    }

    #[track_caller]
    pub fn report_after(mut self, steps: &[&str]) -> Report {
        let mut args = vec![PAYLOAD];
        args.extend(steps);
        args.push("report");
        set(&mut self.bundle.config, "/process/args", json!(args));
        Report::parse(&self.run().ok().stdout())
    }

    /// `run` must fail with these words before the process starts, and leave no state.
    #[track_caller]
    pub fn refused(&self, words: &str) {
        let done = self.run().fails(words);
        assert!(Report::all(&done.stdout()).is_empty(), "the process ran; {}", done.describe());
        assert_eq!(done.stderr().lines().count(), 1, "{}", done.describe());
        self.verb("state", &[], &[]).done().fails("does not exist");
    }

    /// create with these global flags.
    #[track_caller]
    pub fn create(&mut self, global: &[&str]) -> &mut Self {
        let pid_file = self.bundle.path.join("pid").to_string_lossy().into_owned();
        self.created = Some(self.command(global, "create", &["--pid-file", &pid_file]).done().ok());
        self
    }

    /// The same, and start.
    #[track_caller]
    pub fn up(&mut self, global: &[&str]) -> &mut Self {
        self.create(global).verb("start", &[], &[]).done().ok();
        self
    }

    #[track_caller]
    pub fn pid(&self) -> i32 {
        fs::read_to_string(self.bundle.path.join("pid")).expect("pid file").parse().expect("a pid")
    }

    fn output(&self) -> String {
        self.created.as_ref().expect("created").stdout()
    }

    /// The report of a created and started payload.
    #[track_caller]
    pub fn started_report(&self) -> Report {
        let seen = await_condition(|| !Report::all(&self.output()).is_empty());
        assert!(seen, "no report in {:?}", self.output());
        Report::parse(&self.output())
    }

    #[track_caller]
    pub fn await_output(&self, words: &str) {
        assert!(await_condition(|| self.output().contains(words)), "{words:?}: {}", self.output());
    }

    #[track_caller]
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.verb("state", &[], &[]).done().ok().stdout()).expect("state JSON")
    }

    #[track_caller]
    pub fn await_status(&self, status: &str) {
        assert!(await_condition(|| self.state()["status"] == status), "{} is not {status}", self.state());
    }

    /// Kills, waits until it is stopped, deletes.
    #[track_caller]
    pub fn finish(&self) {
        self.verb("kill", &[], &["KILL"]).done().ok();
        self.await_status("stopped");
        self.verb("delete", &[], &[]).done().ok();
        self.verb("state", &[], &[]).done().fails("does not exist");
    }

    /// The payload as a hook's program.
    pub fn hook(mut self, kind: &str, steps: &[&str]) -> Self {
        let path = host_payload();
        let mut args = vec!["payload"];
        args.extend(steps);
        set(&mut self.bundle.config, &format!("/hooks/{kind}"), json!([{ "path": path, "args": args }]));
        self
    }
}

impl Drop for UsersContainer<'_> {
    fn drop(&mut self) {
        match self.verb("delete", &["--force"], &[]).start().try_wait() {
            Ok(done) if done.status.success() => {}
            Ok(done) if std::thread::panicking() => eprintln!("cleaning up: {}", done.describe()),
            Err(text) if std::thread::panicking() => eprintln!("cleaning up: {text}"),
            Ok(done) => panic!("cleaning up: {}", done.describe()),
            Err(text) => panic!("cleaning up: {text}"),
        }
    }
}
