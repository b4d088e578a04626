//! `cgroup.subtree_control`: gives controllers to the children, from the root down to the container.

use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::errno::Errno;

use super::record::Directory;
use super::write::{Write, read_at, write_at};
use crate::error::{Error, Result};

/// Enables for `directory` every controller that its parents have to give, as runc does: what is
/// not limited is still counted, and engines read the counts. Only those of `wanted` must be there.
///
/// Costs two small reads when all is as it was left by the last container.
///
/// # Errors
/// A wanted controller that the kernel lacks, that is still on cgroup v1, or that a parent cannot
/// enable: because it has processes of its own (EBUSY) or is threaded (EOPNOTSUPP).
pub(super) fn enable<'a>(
    root: BorrowedFd<'_>,
    directory: &Directory,
    wanted: impl Iterator<Item = &'a Write>,
) -> Result<()> {
    let parent = directory.path.parent().unwrap_or(Path::new(""));
    let available = words(root, Path::new("cgroup.controllers"))?;
    let mut given = words(root, &parent.join("cgroup.subtree_control"))?;
    let mut refusals = Vec::new();
    if !available.iter().all(|controller| given.contains(controller)) {
        let mut line: Vec<&Path> = parent.ancestors().collect();
        line.reverse();
        for level in line {
            enable_at(root, level, &directory.mountpoint, &mut refusals)?;
        }
        given = words(root, &parent.join("cgroup.subtree_control"))?;
    }
    for write in wanted {
        // Files of the core (cgroup.*) and the pressure files need no controller.
        let needless = write.controller == "cgroup" || write.file.ends_with(".pressure");
        if !needless && !given.iter().any(|controller| *controller == write.controller) {
            return Err(missing(write, &directory.mountpoint.join(parent), refusals));
        }
    }
    if !given.iter().any(|controller| controller == "memory" || controller == "io") {
        refuse_threaded(root, parent, directory)?;
    }
    Ok(())
}

/// Gives the controllers that the cgroup `root` has to all that lie on the way to `below`, and to that. One that
/// is refused is not had: nobody has asked for it by name.
///
/// # Errors
/// A level is not there.
pub(super) fn hand_down(root: BorrowedFd<'_>, below: &Path, shown: &Path) -> Result<()> {
    let mut line: Vec<&Path> = below.ancestors().skip(1).collect();
    line.reverse();
    line.into_iter().try_for_each(|level| enable_at(root, level, shown, &mut Vec::new()))
}

/// A controller that one level would not give.
struct Refusal {
    controller: String,
    error: Error,
}

fn enable_at(
    root: BorrowedFd<'_>,
    level: &Path,
    mountpoint: &Path,
    refusals: &mut Vec<Refusal>,
) -> Result<()> {
    let given = words(root, &level.join("cgroup.subtree_control"))?;
    let mut missing = words(root, &level.join("cgroup.controllers"))?;
    missing.retain(|controller| !given.contains(controller));
    if missing.is_empty() {
        return Ok(());
    }
    let file = level.join("cgroup.subtree_control").display().to_string();
    let all: Vec<String> = missing.iter().map(|controller| format!("+{controller}")).collect();
    if write_at(root, &file, &all.join(" ")).is_ok() {
        return Ok(());
    }
    // The kernel takes all or none: find out which it does not want.
    for controller in missing {
        if let Err((call, errno)) = write_at(root, &file, &format!("+{controller}")) {
            let shown = mountpoint.join(&file);
            let error = Error::syscall(format!("{call}({shown:?}, \"+{controller}\")"), errno);
            refusals.push(Refusal { error: explain(error, errno, &mountpoint.join(level)), controller });
        }
    }
    Ok(())
}

fn explain(error: Error, errno: Errno, level: &Path) -> Error {
    let level = level.display();
    match errno {
        Errno::EBUSY => error.remedy(format!(
            "{level} has processes of its own, and such a cgroup cannot limit its children; \
             move them into a child of it, or choose a linux.cgroupsPath elsewhere"
        )),
        Errno::EOPNOTSUPP => error.remedy(format!(
            "{level} is threaded (see its cgroup.type), and such a cgroup has no such controllers; \
             choose a linux.cgroupsPath outside of it"
        )),
        Errno::EACCES | Errno::EPERM | Errno::EROFS => error
            .remedy(format!("{level} is not delegated to you; use --systemd-cgroup, or leave the limit out")),
        _ => error,
    }
}

fn missing(write: &Write, parent: &Path, refusals: Vec<Refusal>) -> Error {
    let intent = format!("enable the cgroup controller {} for {}", write.controller, write.field);
    match refusals.into_iter().find(|refusal| refusal.controller == write.controller) {
        Some(refusal) => refusal.error.context(intent),
        None => {
            Error::unsupported(format!("{} does not have it", parent.join("cgroup.controllers").display()))
                .remedy(
                    "the kernel may lack it, keep it on a cgroup v1 mount, or a parent does not delegate it",
                )
                .context(intent)
        }
    }
}

/// A child of a threaded cgroup is "domain invalid": no process can enter it.
fn refuse_threaded(root: BorrowedFd<'_>, parent: &Path, directory: &Directory) -> Result<()> {
    let file = parent.join("cgroup.type").display().to_string();
    match read_at(root, &file) {
        Ok(kind) if kind.trim() != "domain" => {
            let parent = directory.mountpoint.join(parent);
            Err(Error::unsupported(format!("{} is a {} cgroup", parent.display(), kind.trim()))
                .remedy("a container needs a cgroup below a domain; choose another linux.cgroupsPath"))
        }
        // The root has no type; it is a domain.
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Error::syscall(format!("read(cgroup, {file:?})"), errno)),
    }
}

fn words(root: BorrowedFd<'_>, file: &Path) -> Result<Vec<String>> {
    let file = file.display().to_string();
    let text =
        read_at(root, &file).map_err(|errno| Error::syscall(format!("read(cgroup, {file:?})"), errno))?;
    Ok(text.split_ascii_whitespace().map(Into::into).collect())
}
