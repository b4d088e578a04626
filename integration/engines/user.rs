//! An ordinary user of the machine, for engines that run without root.
//!
//! It is known in a mount namespace of its own alone, which has other files over `/etc/passwd`, `/etc/subuid` and
//! their kin; a process that sleeps holds the namespace until `stop`.

use crate::site::{Daemon, Site};
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
}

impl User {
    pub fn new(site: &Site) -> Self {
        let home = site.path("home");
        for directory in [home.clone(), home.join("run")] {
            fs::create_dir(&directory).expect("a directory of the user");
            chown(&directory, Some(ID), Some(ID)).expect("owner of it");
        }
        fs::set_permissions(home.join("run"), PermissionsExt::from_mode(0o700)).expect("its mode");
        let etc = site.path("etc");
        fs::create_dir(&etc).expect("a directory");
        let add = |file: &str, line: String| {
            let text = fs::read_to_string(Path::new("/etc").join(file)).expect("a file of /etc");
            fs::write(etc.join(file), format!("{text}{line}\n")).expect("a copy of it");
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
        Self { holder, home }
    }

    /// A command of this user in its home, with its own groups and with nothing of our environment but PATH.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.pid()));
        let (id, groups) = (ID.to_string(), format!("--groups={ID},{GROUP}"));
        command.args(["setpriv", "--reuid", &id, "--regid", &id, &groups, "--"]);
        command.args(["sh", "-c", "cd && exec \"$@\"", "sh", program]);
        command.env_clear().env("PATH", std::env::var_os("PATH").expect("PATH"));
        command.env("HOME", &self.home).env("USER", NAME).env("XDG_RUNTIME_DIR", self.home.join("run"));
        command
    }

    pub fn stop(&mut self) {
        self.holder.stop();
    }
}
