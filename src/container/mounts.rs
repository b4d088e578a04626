//! `mounts add` and `mounts remove` (crun): what is mounted in a container that is there.
//!
//! berth itself joins the container's namespaces for it, but for the pid namespace: no process of the
//! container sees it, or can do anything to it. Sources on the host are opened before.

use std::path::Path;
use std::time::Duration;

use nix::unistd::Pid;
use oci_spec::runtime::Spec;

use super::freeze::live_record;
use super::state::{Record, StateDir};
use super::{Host, exec, plan};
use crate::cgroups::Layout;
use crate::error::{Call, Code, Context, Error, Result};
use crate::namespaces::{Kind, Target};
use crate::spec::annotations;
use crate::sys::process;
use crate::sys::procfs::Procfs;
use crate::{init, log, rootfs, spec};

/// How long another command on the container may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be done with the mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Mount them, in their order.
    Add,
    /// Unmount what is at their destinations, in reverse order.
    Remove,
}

/// Changes the container's mounts. `file` holds an array of mounts as config.json has it; a source that is
/// not absolute is relative to the bundle.
///
/// # Errors
/// The container has no processes; a mount is wrong, or the kernel refuses it. Those before it stay.
pub fn mounts(host: &Host, id: &str, change: Change, file: &Path) -> Result<()> {
    let text = std::fs::read(file).call(|| format!("read({})", file.display())).context("read the mounts")?;
    let dir = host.root.open(id)?;
    let _lock = dir.lock(PATIENCE)?;
    let record = live_record(&dir)?;
    let gone = || Error::new(Code::State, "container not running");
    let init = record.init.ok_or_else(gone)?;
    let pidfd = init.open()?.ok_or_else(gone)?;
    let pid = Pid::from_raw(init.pid);
    let root = exec::root_of(pid)?;
    // It looks whether the process is still there, so the root was its.
    let target = Target::of(pid, pidfd, &[])?;
    let plan = compile(&dir, &record, &target, &text);
    let mut plan = plan.with_context(|| format!("the mounts of {}", file.display()))?;
    if change == Change::Add {
        plan.open_all_sources()?;
    }
    let procfs = Procfs::host()?;

    // From here on in the container, with the rights that its own root has there.
    process::set_undumpable()?;
    target.enter()?;
    if target.has(Kind::User) {
        init::become_root()?;
    }
    match change {
        Change::Add => plan.mount_into(root),
        Change::Remove => plan.unmount_from(&root, &procfs),
    }
}

fn compile(dir: &StateDir, record: &Record, target: &Target, mounts: &[u8]) -> Result<rootfs::Plan> {
    if !target.has(Kind::Mount) {
        return Err(Error::unsupported(
            "mounts: the container has no mount namespace, they would be the host's",
        ));
    }
    let mut warnings = Vec::new();
    let mut spec = spec::parse_with_mounts(&dir.config()?, mounts, &mut warnings)?;
    // What is said of the mounts that the container was made with is not about these.
    if let Some(annotations) = spec.annotations_mut() {
        annotations.remove(annotations::FORCE_CGROUP_V1);
    }
    // The mounts are what is checked here; the container's terminal is none of our business.
    if let Some(process) = spec.process_mut() {
        process.set_terminal(None).set_console_size(None);
    }
    spec::check(
        &spec,
        &spec::ValidateOptions {
            rootless: !nix::unistd::geteuid().is_root(),
            detached: true,
            console_socket: false,
        },
    )?;
    refuse_types(&spec)?;
    let request = rootfs::Request {
        spec: &spec,
        bundle: &record.bundle,
        rootfs: &record.rootfs,
        cgroups: plan::cgroup_view(&record.cgroup, &Layout::detect()?),
        user_namespace: target.has(Kind::User),
        cgroup_namespace: target.has(Kind::Cgroup),
        network_namespace: target.has(Kind::Network),
        mount_namespace: target.has(Kind::Mount),
        cgroup_v1: None,
        label_option: annotations::ContextType::of(&spec).name(),
        no_pivot: false,
        uid_gid_of_root: (0, 0),
    };
    let plan = rootfs::plan(&request, &mut warnings);
    warnings.iter().for_each(|warning| log::warning(warning));
    plan
}

/// A procfs is of the pid namespace of whoever mounts it, which is the host's here; and the host's cgroups
/// are not to be found by a path in the container.
fn refuse_types(spec: &Spec) -> Result<()> {
    for mount in spec.mounts().iter().flatten() {
        let kind = mount.typ().as_deref().unwrap_or_default();
        if ["proc", "cgroup", "cgroup2"].contains(&kind) {
            return Err(Error::unsupported(format!(
                "mounts: a mount of type {kind} cannot be added to a container that is there"
            )));
        }
    }
    Ok(())
}
