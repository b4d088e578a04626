//! The session keyring (session-keyring(7)).

use std::ffi::CString;

use nix::errno::Errno;

use super::labels;
use crate::error::{Call, Context, Error, Result};
use crate::sys::credentials;
use crate::sys::procfs::Procfs;

/// Joins a session keyring of the container's own, named `_ses.ID` as runc names it, so that the
/// caller's keys are out of reach; a later exec joins the same by its name. Not called with
/// `--no-new-keyring`.
///
/// The keyring gets the search right that the container's users need to find it: by its owner's uid,
/// or by others where a user namespace gives the container other uids. `label` is its SELinux
/// context. A kernel without keyrings (ENOSYS) has no keys to protect and passes; any other refusal
/// is an error, and so is a permission that cannot be set: a keyring with the wrong one is worse than none.
pub fn join_session_keyring(
    id: &str,
    label: Option<&str>,
    user_namespace: bool,
    procfs: &Procfs,
) -> Result<()> {
    join(id, label, user_namespace, procfs).context("join the container's session keyring")
}

fn join(id: &str, label: Option<&str>, user_namespace: bool, procfs: &Procfs) -> Result<()> {
    const OTHERS_SEARCH: u32 = 0x8;
    const OWNER_SEARCH: u32 = 0x8_0000;
    let name = CString::new(format!("_ses.{id}"))
        .map_err(|_| Error::invalid(format!("the id {id:?} contains a NUL byte")))?;
    if let Some(label) = label {
        labels::write_attribute(procfs, "keycreate", label.as_bytes())?;
    }
    let joined = credentials::join_session_keyring(&name);
    if label.is_some() {
        // Keys that the container makes are labelled by the policy, not by us.
        labels::write_attribute(procfs, "keycreate", b"")?;
    }
    let serial = match joined {
        Err(Errno::ENOSYS) => return Ok(()),
        joined => joined.call(|| format!("keyctl(JOIN_SESSION_KEYRING, {name:?})")).map_err(explain)?,
    };
    let description = credentials::describe_key(serial).call(|| format!("keyctl(DESCRIBE, {serial})"))?;
    let permissions = permissions(&description)
        .ok_or_else(|| Error::unsupported(format!("unexpected description of a key: {description:?}")))?;
    let wanted = permissions | if user_namespace { OTHERS_SEARCH } else { OWNER_SEARCH };
    if wanted == permissions {
        return Ok(());
    }
    credentials::set_key_permissions(serial, wanted)
        .call(|| format!("keyctl(SETPERM, {serial}, {wanted:#x})"))
}

fn explain(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EDQUOT) => error.remedy("raise /proc/sys/kernel/keys/maxkeys, or use --no-new-keyring"),
        Some(Errno::EPERM | Errno::EACCES) => {
            error.remedy("keyctl is forbidden here (seccomp of an outer container?); use --no-new-keyring")
        }
        _ => error,
    }
}

/// The mask in `type;uid;gid;permissions;description`.
fn permissions(description: &str) -> Option<u32> {
    u32::from_str_radix(description.split(';').nth(3)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_permissions() {
        assert_eq!(permissions("keyring;0;0;3f130000;_ses.a;b"), Some(0x3f13_0000));
        assert_eq!(permissions("keyring;0"), None);
    }
}
