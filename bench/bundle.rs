//! The bundles that are run: config.json as an engine or `spec` wrote it, with /bin/true as its program,
//! and the floor's arguments made of the same mounts.

use crate::hierarchy::Hierarchy;
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// One bundle, shared by all runtimes but for the name of its cgroup.
pub struct Bundle {
    /// Absolute; config.json is in a directory per runtime below it, rootfs is shared.
    pub directory: PathBuf,
    config: Value,
}

impl Bundle {
    /// Makes the rootfs, the files to bind and the adapted configuration in `directory`.
    /// `stripped` gets the resources that this hierarchy has no controller for.
    pub fn make(
        directory: &Path,
        config: Value,
        hierarchy: &Hierarchy,
        stripped: &mut Vec<String>,
    ) -> Result<Bundle> {
        let rootfs = directory.join("rootfs");
        fs::create_dir_all(rootfs.join("bin"))?;
        for program in ["true", "pause"] {
            let source = Path::new("target/bench").join(program);
            fs::copy(&source, rootfs.join("bin").join(program))
                .with_context(|| format!("copy {}", source.display()))?;
        }
        let binds = directory.join("binds");
        fs::create_dir_all(&binds)?;
        let text = config.to_string().replace("@BINDS@", &binds.to_string_lossy());
        let mut config: Value = serde_json::from_str(&text)?;
        config["process"]["args"] = json!(["/bin/true"]);
        config["process"]["terminal"] = json!(false);
        config["root"]["path"] = json!(rootfs);
        strip(&mut config, hierarchy, stripped);
        let bundle = Bundle { directory: directory.to_owned(), config };
        bundle.make_mount_points(&rootfs)?;
        Ok(bundle)
    }

    /// Every mount point exists beforehand, as in an engine's rootfs: no runtime is measured creating it.
    fn make_mount_points(&self, rootfs: &Path) -> Result<()> {
        for mount in self.mounts()? {
            let inside = rootfs.join(mount.destination.trim_start_matches('/'));
            if mount.kind == "bind" {
                let source = Path::new(&mount.source);
                fs::write(source, "bench\n").with_context(|| format!("write {}", source.display()))?;
                fs::create_dir_all(inside.parent().ok_or_else(|| anyhow!("a bind on /"))?)?;
                fs::write(inside, "")?;
            } else {
                fs::create_dir_all(inside)?;
            }
        }
        Ok(())
    }

    /// Writes config.json for one runtime and returns the bundle's path.
    pub fn write(&self, name: &str, hierarchy: &Hierarchy, adapt: impl Fn(&mut Value)) -> Result<PathBuf> {
        let mut config = self.config.clone();
        config["linux"]["cgroupsPath"] = json!(hierarchy.cgroups_path(name));
        adapt(&mut config);
        let directory = self.directory.join(name);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("config.json"), serde_json::to_string_pretty(&config)?)?;
        Ok(directory)
    }

    /// The floor's command line for this bundle.
    pub fn floor_arguments(&self, hierarchy: &Hierarchy) -> Result<Vec<String>> {
        let mut arguments =
            vec!["--rootfs".to_owned(), self.directory.join("rootfs").to_string_lossy().into_owned()];
        let own: Vec<PathBuf> =
            hierarchy.mounts.iter().map(|mount| mount.join(&hierarchy.directory).join("floor")).collect();
        for directory in &own {
            arguments.push(if hierarchy.v2 { "--cgroup" } else { "--tasks" }.to_owned());
            arguments.push(directory.to_string_lossy().into_owned());
        }
        arguments.extend(["--namespaces".to_owned(), self.namespaces()?.to_string()]);
        if let Some(hostname) = self.config["hostname"].as_str() {
            arguments.extend(["--hostname".to_owned(), hostname.to_owned()]);
        }
        for mount in self.mounts()? {
            mount.floor_arguments(&own, hierarchy.v2, self.namespaces()?, &mut arguments)?;
        }
        arguments.extend(["--".to_owned(), "/bin/true".to_owned()]);
        Ok(arguments)
    }

    fn namespaces(&self) -> Result<libc::c_int> {
        let mut flags = 0;
        for namespace in self.config["linux"]["namespaces"].as_array().into_iter().flatten() {
            flags |= match namespace["type"].as_str() {
                Some("mount") => libc::CLONE_NEWNS,
                Some("network") => libc::CLONE_NEWNET,
                Some("uts") => libc::CLONE_NEWUTS,
                Some("pid") => libc::CLONE_NEWPID,
                Some("ipc") => libc::CLONE_NEWIPC,
                Some("cgroup") => libc::CLONE_NEWCGROUP,
                other => bail!("the floor knows no namespace {other:?}"),
            };
        }
        Ok(flags)
    }

    fn mounts(&self) -> Result<Vec<Mount>> {
        let mounts = self.config["mounts"].as_array().ok_or_else(|| anyhow!("config.json has no mounts"))?;
        mounts.iter().map(Mount::read).collect()
    }
}

struct Mount {
    kind: String,
    source: String,
    destination: String,
    flags: libc::c_ulong,
    data: String,
}

impl Mount {
    fn read(mount: &Value) -> Result<Mount> {
        let text = |key: &str| mount[key].as_str().unwrap_or_default().to_owned();
        let mut flags = 0;
        let mut data = Vec::new();
        for option in mount["options"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            match option {
                "ro" => flags |= libc::MS_RDONLY,
                "nosuid" => flags |= libc::MS_NOSUID,
                "noexec" => flags |= libc::MS_NOEXEC,
                "nodev" => flags |= libc::MS_NODEV,
                "relatime" => flags |= libc::MS_RELATIME,
                "strictatime" => flags |= libc::MS_STRICTATIME,
                "bind" => flags |= libc::MS_BIND,
                "rbind" => flags |= libc::MS_BIND | libc::MS_REC,
                // Propagation: everything is private in the floor's namespace.
                "rprivate" => (),
                other => data.push(other),
            }
        }
        let (kind, source, destination) = (text("type"), text("source"), text("destination"));
        Ok(Mount { kind, source, destination, flags, data: data.join(",") })
    }

    /// A cgroup mount is cgroup2 in a cgroup namespace, else a bind of the container's directory; on v1 a
    /// tmpfs with one such bind per hierarchy, as runtimes do it.
    fn floor_arguments(
        &self,
        own: &[PathBuf],
        v2: bool,
        namespaces: libc::c_int,
        into: &mut Vec<String>,
    ) -> Result<()> {
        let target = self.destination.trim_start_matches('/');
        let mut push = |kind: &str, source: &str, target: &str, flags: libc::c_ulong, data: &str| {
            into.extend(["--mount", kind, source, target].map(str::to_owned));
            into.extend([flags.to_string(), data.to_owned()]);
        };
        match (self.kind.as_str(), v2) {
            ("cgroup", true) if namespaces & libc::CLONE_NEWCGROUP != 0 => {
                push("cgroup2", "cgroup", target, self.flags, "");
            }
            ("cgroup", true) => {
                push("bind", &own[0].to_string_lossy(), target, self.flags | libc::MS_BIND, "")
            }
            ("cgroup", false) => {
                push("tmpfs", "cgroup", target, self.flags & !libc::MS_RDONLY, "mode=755");
                for directory in own {
                    let hierarchy = directory.ancestors().nth(2).and_then(Path::file_name);
                    let name = hierarchy.ok_or_else(|| anyhow!("{} is no cgroup", directory.display()))?;
                    let inside = format!("{target}/{}", name.to_string_lossy());
                    push("bind", &directory.to_string_lossy(), &inside, self.flags | libc::MS_BIND, "");
                }
            }
            (kind, _) => push(kind, &self.source, target, self.flags, &self.data),
        }
        Ok(())
    }
}

/// Takes away limits that no controller of this hierarchy could set, for all runtimes alike.
fn strip(config: &mut Value, hierarchy: &Hierarchy, stripped: &mut Vec<String>) {
    let Some(resources) = config["linux"]["resources"].as_object_mut() else { return };
    for (resource, controllers) in [
        ("memory", ["memory", "memory"]),
        ("cpu", ["cpu", "cpu"]),
        ("pids", ["pids", "pids"]),
        ("blockIO", ["blkio", "io"]),
    ] {
        if !controllers.iter().any(|name| hierarchy.has(name)) && resources.remove(resource).is_some() {
            stripped.push(resource.to_owned());
        }
    }
}
