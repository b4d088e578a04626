//! The table of mounts that a process sees: `/proc/PID/mountinfo`, proc_pid_mountinfo(5).
//!
//! The names in it are bytes, whatever somebody has called a directory; the kernel writes space, tab, newline,
//! backslash and `#` as `\ooo`.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Its number in decimal.
    pub id: &'a [u8],
    /// `major:minor` of the file system.
    pub device: &'a [u8],
    /// The directory or file of that file system that is seen at the mount point.
    pub root: Cow<'a, Path>,
    /// Where it is mounted.
    pub point: Cow<'a, Path>,
    /// `ext4`, `fuse.sshfs`.
    pub fstype: &'a [u8],
    /// Of the file system, `rw,cpu,cpuacct`.
    pub options: &'a [u8],
}

impl<'a> Mount<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let (id, _parent, device) = (fields.next()?, fields.next()?, fields.next()?);
        let (root, point) = (path(fields.next()?), path(fields.next()?));
        // Options, then as many optional fields as there are.
        fields.find(|field| field == b"-")?;
        let (fstype, _source, options) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self { id, device, root, point, fstype, options })
    }
}

/// The mounts of a table, in its order: what covers another one comes after it.
pub fn mounts(table: &[u8]) -> impl DoubleEndedIterator<Item = Mount<'_>> {
    table.split(|byte| *byte == b'\n').filter_map(Mount::parse)
}

/// Undoes the escapes.
fn path(field: &[u8]) -> Cow<'_, Path> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(Path::new(OsStr::from_bytes(field)));
    }
    let octal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let escaped = after.get(..3).filter(|_| *byte == b'\\').and_then(octal);
        plain.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    Cow::Owned(PathBuf::from(OsString::from_vec(plain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bytes() {
        let table =
            b"22 27 0:21 / /a\\040b\\012\xff\\134040 rw shared:1 master:2 - ext4 /dev/vda rw\nnonsense\n\
                      23 27 0:22 /sub /c rw - fuse.x x rw\n";
        let mounts: Vec<Mount> = mounts(table).collect();
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].point.as_os_str().as_bytes(), b"/a b\n\xff\\040");
        assert_eq!(
            (mounts[0].id, mounts[0].device, mounts[0].fstype),
            (&b"22"[..], &b"0:21"[..], &b"ext4"[..])
        );
        assert_eq!((&*mounts[1].root, &*mounts[1].point), (Path::new("/sub"), Path::new("/c")));
        assert_eq!((mounts[1].fstype, mounts[1].options), (&b"fuse.x"[..], &b"rw"[..]));
    }

    #[test]
    fn what_is_no_escape_stays() {
        for (field, plain) in
            [("/a\\", "/a\\"), ("/a\\04", "/a\\04"), ("/\\999", "/\\999"), ("/\\134", "/\\")]
        {
            assert_eq!(&*path(field.as_bytes()), Path::new(plain), "{field}");
        }
    }
}
