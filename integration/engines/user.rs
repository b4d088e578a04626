//! An ordinary user of the machine, for engines that run without root.
//!
//! It is known in a mount namespace of its own alone, which has other files over `/etc/passwd`, `/etc/subuid` and
//! their kin; a process that sleeps holds the namespace until `stop`. Where engines use systemd's cgroups the machine
//! knows the user too, who has a systemd of its own, as after a login.

use crate::cgroups::by_systemd;
use crate::site::{Bounded, Daemon, Site};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Its uid and gid.
pub const ID: u32 = 7788;
/// A further group of it.
pub const GROUP: u32 = 7789;
/// The first of its 65,536 granted ids.
pub const RANGE: u32 = 800_000;
const NAME: &str = "berth-engines";

/// The user, at home.
pub struct User {
    holder: Daemon,
    pub home: PathBuf,
    /// XDG_RUNTIME_DIR.
    runtime: PathBuf,
}

impl User {
    pub fn new(site: &Site) -> Self {
        let home = site.path("home");
        for directory in [home.clone(), home.join("run")] {
            fs::create_dir(&directory).expect("a directory of the user");
            chown(&directory, Some(ID), Some(ID)).expect("owner of it");
        }
        fs::set_permissions(home.join("run"), PermissionsExt::from_mode(0o700)).expect("its mode");
        let runtime = if by_systemd() { log_in(&home) } else { home.join("run") };
        let etc = site.path("etc");
        fs::create_dir(&etc).expect("a directory");
        let add = |file: &str, line: String| {
            let text = fs::read_to_string(Path::new("/etc").join(file)).expect("a file of /etc");
            let others = text.lines().filter(|known| !known.starts_with(&format!("{NAME}:")));
            let lines: String = others.chain([line.as_str()]).map(|line| format!("{line}\n")).collect();
            fs::write(etc.join(file), lines).expect("a copy of it");
        };
        add("passwd", format!("{NAME}:x:{ID}:{ID}::{}:/bin/sh", home.display()));
        add("group", format!("{NAME}:x:{ID}:\n{NAME}-too:x:{GROUP}:{NAME}"));
        for file in ["subuid", "subgid"] {
            fs::write(etc.join(file), format!("{NAME}:{RANGE}:65536\n")).expect("granted ids");
        }
        let ready = site.path("ready");
        let script =
            "for file in passwd group subuid subgid; do mount --bind $1/$file /etc/$file || exit; done
            touch $2; exec sleep infinity";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(&etc).arg(&ready);
        let mut holder = Daemon::start(&mut command, &site.path("holder.log"));
        holder.await_ready(|| ready.exists());
        Self { holder, home, runtime }
    }

    /// A command of this user in its home, with its own groups and with nothing of our environment but PATH.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.pid()));
        let (id, groups) = (ID.to_string(), format!("--groups={ID},{GROUP}"));
        command.args(["setpriv", "--reuid", &id, "--regid", &id, &groups, "--"]);
        command.args(["sh", "-c", "cd && exec \"$@\"", "sh", program]);
        command.env_clear().env("PATH", std::env::var_os("PATH").expect("PATH"));
        command.env("HOME", &self.home).env("USER", NAME).env("XDG_RUNTIME_DIR", &self.runtime);
        command
    }

    pub fn stop(&mut self) {
        self.holder.stop();
        if by_systemd() {
            let user = format!("user-{ID}.slice");
            Command::new("systemctl").args(["stop", &format!("user@{ID}.service"), &user]).done().ok();
            Command::new("userdel").arg(NAME).done().ok();
        }
    }
}

/// Makes the user one of the machine and starts its systemd; XDG_RUNTIME_DIR.
fn log_in(home: &Path) -> PathBuf {
    let mut useradd = Command::new("useradd");
    useradd.args(["--uid", &ID.to_string(), "--user-group", "--no-create-home", "--home-dir"]);
    useradd.arg(home).arg(NAME).done().ok();
    Command::new("systemctl").args(["start", &format!("user@{ID}.service")]).done().ok();
    PathBuf::from(format!("/run/user/{ID}"))
}
