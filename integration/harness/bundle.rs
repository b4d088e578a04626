//! Builds bundles: a minimal config.json or an engine's, changed by edits that name what they change.

use super::program::directory;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the payload is inside of every rootfs.
pub const PAYLOAD: &str = "/bin/payload";

/// The payload on the host, for hooks.
pub fn host_payload() -> PathBuf {
    directory().parent().expect("the runner's directory").join("payload")
}

/// A bundle in the making: a directory with a rootfs, and a config.json that is written when it is used.
pub struct Bundle {
    pub path: PathBuf,
    pub config: Value,
}

impl Default for Bundle {
    fn default() -> Self {
        Self::new()
    }
}

impl Bundle {
    /// What `spec` of the runtimes describes, without a terminal, in the test's own cgroup.
    pub fn new() -> Self {
        let bundle = Self::from_config(minimal());
        let cgroup = bundle.cgroup_path();
        bundle.set("/linux/cgroupsPath", cgroup)
    }

    /// The same directory around any config.
    pub fn from_config(config: Value) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let path = directory().join(format!("bundle.{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let rootfs = path.join("rootfs");
        for name in ["bin", "dev", "etc", "proc", "run", "sys", "tmp"] {
            fs::create_dir_all(rootfs.join(name)).expect("rootfs directory");
        }
        fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("mode of /tmp");
        for name in ["payload", "sleep", "true"] {
            fs::hard_link(host_payload(), rootfs.join("bin").join(name)).expect("payload in rootfs");
        }
        Self { path, config }
    }

    /// A bundle that an engine wrote, its placeholders filled.
    pub fn engine(text: &str, sandbox_namespaces: &str) -> Self {
        let binds = directory().join("binds");
        fs::create_dir_all(binds.join("shm")).expect("binds");
        for name in ["resolv.conf", "hostname", "hosts", ".containerenv"] {
            fs::write(binds.join(name), format!("the host's {name}\n")).expect("bind source");
        }
        let engine = directory().join("engine");
        fs::create_dir_all(&engine).expect("engine directory");
        let filled = text
            .replace("@BINDS@", &binds.to_string_lossy())
            .replace("@SANDBOX_NS@", sandbox_namespaces)
            .replace("@HOOK@", &host_payload().to_string_lossy())
            .replace("@ENGINE@", &engine.to_string_lossy());
        let bundle = Self::from_config(serde_json::from_str(&filled).expect("an engine's config.json"));
        let cgroup = bundle.cgroup_path();
        bundle.set("/linux/cgroupsPath", cgroup)
    }

    /// `/berth-test/TEST/bundle.N`: its own, and recognised at the end.
    pub fn cgroup_path(&self) -> String {
        let name = self.path.file_name().expect("bundle name").to_string_lossy();
        format!("/berth-test/{}/{name}", tag())
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    /// Puts a value at a JSON pointer and makes the objects on the way.
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        set(&mut self.config, pointer, value.into());
        self
    }

    /// Appends to an array at a JSON pointer.
    pub fn push(mut self, pointer: &str, value: Value) -> Self {
        if self.config.pointer(pointer).is_none() {
            set(&mut self.config, pointer, json!([]));
        }
        self.config.pointer_mut(pointer).and_then(Value::as_array_mut).expect("an array").push(value);
        self
    }

    /// Removes a key.
    pub fn remove(mut self, pointer: &str) -> Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        if let Some(object) = self.config.pointer_mut(parent).and_then(Value::as_object_mut) {
            object.remove(key);
        }
        self
    }

    pub fn args<S: AsRef<str>>(self, args: &[S]) -> Self {
        let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
        self.set("/process/args", json!(args))
    }

    /// The payload with these steps.
    pub fn steps(self, steps: &[&str]) -> Self {
        let mut args = vec![PAYLOAD];
        args.extend(steps);
        self.args(&args)
    }

    pub fn mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        self.push(
            "/mounts",
            json!({ "destination": destination, "type": kind, "source": source, "options": options }),
        )
    }

    pub fn bind(self, source: &Path, destination: &str, options: &[&str]) -> Self {
        self.mount(destination, "bind", &source.to_string_lossy(), options)
    }

    /// Changes the options of the mount at a destination.
    pub fn mount_options(mut self, destination: &str, options: &[&str]) -> Self {
        let mounts = self.config["mounts"].as_array_mut().expect("mounts");
        let mount =
            mounts.iter_mut().find(|mount| mount["destination"] == destination).expect("a mount there");
        mount["options"] = json!(options);
        self
    }

    pub fn without_mount(mut self, destination: &str) -> Self {
        self.config["mounts"]
            .as_array_mut()
            .expect("mounts")
            .retain(|mount| mount["destination"] != destination);
        self
    }

    /// A new namespace of a kind, or one joined by path; takes the place of an entry of the same kind.
    pub fn namespace(mut self, kind: &str, path: Option<&str>) -> Self {
        self = self.without_namespace(kind);
        let entry =
            path.map_or_else(|| json!({ "type": kind }), |path| json!({ "type": kind, "path": path }));
        self.push("/linux/namespaces", entry)
    }

    pub fn without_namespace(mut self, kind: &str) -> Self {
        self.config["linux"]["namespaces"]
            .as_array_mut()
            .expect("namespaces")
            .retain(|entry| entry["type"] != kind);
        self
    }

    /// A user namespace with one mapping of ids, and the rootfs given to its root.
    pub fn user_namespace(self, host_id: u32, size: u32) -> Self {
        let map = json!([{ "containerID": 0, "hostID": host_id, "size": size }]);
        for directory in ["", "dev", "etc", "proc", "run", "sys", "tmp"] {
            std::os::unix::fs::chown(self.rootfs().join(directory), Some(host_id), Some(host_id))
                .expect("chown rootfs");
        }
        self.namespace("user", None).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map)
    }

    /// The same list in the given sets.
    pub fn capabilities(self, sets: &[&str], names: &[&str]) -> Self {
        sets.iter()
            .fold(self, |bundle, set| bundle.set(&format!("/process/capabilities/{set}"), json!(names)))
    }

    /// A hook that does steps of the payload with the host's file.
    pub fn hook(self, kind: &str, steps: &[&str]) -> Self {
        self.hook_at(kind, &host_payload().to_string_lossy(), steps)
    }

    pub fn hook_at(self, kind: &str, path: &str, steps: &[&str]) -> Self {
        let mut args = vec!["payload"];
        args.extend(steps);
        self.push(&format!("/hooks/{kind}"), json!({ "path": path, "args": args }))
    }

    pub fn seccomp(self, default: &str, rules: Value) -> Self {
        let architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
        let profile = json!({ "defaultAction": default, "architectures": architectures, "syscalls": rules });
        self.set("/linux/seccomp", profile)
    }

    /// A file in the rootfs.
    pub fn file(self, path: &str, text: &str, mode: u32) -> Self {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a parent")).expect("directory of a file");
        fs::write(&path, text).expect("file in rootfs");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
        self
    }

    pub fn directory(self, path: &str) -> Self {
        fs::create_dir_all(self.rootfs().join(path.trim_start_matches('/'))).expect("directory in rootfs");
        self
    }

    /// A symlink in the rootfs, in place of what is there.
    pub fn symlink(self, target: &str, path: &str) -> Self {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path).expect("make place for a symlink");
        }
        std::os::unix::fs::symlink(target, &path).expect("symlink in rootfs");
        self
    }

    pub fn write(&self) {
        // By rename: another command of the test may be reading it.
        let fresh = self.path.join("config.json.new");
        fs::write(&fresh, self.config.to_string()).expect("config.json");
        fs::rename(fresh, self.path.join("config.json")).expect("config.json");
    }
}

/// The name of this test's directory: `RUNNER-NUMBER`.
pub fn tag() -> String {
    let test = directory();
    let runner = test.parent().and_then(Path::file_name).expect("runner directory").to_string_lossy();
    let number = test.file_name().expect("test directory").to_string_lossy();
    format!("{}-{number}", runner.trim_start_matches("berth-test-"))
}

/// Puts a value at a JSON pointer and makes the objects on the way; a number indexes an array.
pub fn set(config: &mut Value, pointer: &str, value: Value) {
    let mut place = config;
    for key in pointer.split('/').skip(1) {
        place = match key.parse::<usize>() {
            Ok(index) if place.is_array() => &mut place[index],
            _ => {
                if place.is_null() {
                    *place = json!({});
                }
                &mut place[key.replace("~1", "/").replace("~0", "~").as_str()]
            }
        };
    }
    *place = value;
}

fn minimal() -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": [PAYLOAD, "report"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs" },
        "hostname": "berth-test",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [{ "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }],
        },
    })
}
