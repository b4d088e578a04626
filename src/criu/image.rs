//! What berth has to know of an image before CRIU is asked to restore it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::wire::{Value, fields};
use crate::error::{Call, Context, Error, Result};

/// The head of a table of mounts (`IMG_COMMON_MAGIC` and `MNTS_MAGIC` of CRIU's magic.h, little-endian).
const MAGIC: [u8; 8] = [0x19, 0x43, 0x56, 0x54, 0x28, 0x39, 0x56, 0x55];

/// A `mnt_entry` of CRIU's images/mnt.proto, as far as it matters here.
#[derive(Debug, Default)]
struct Mount {
    id: i32,
    parent: i32,
    point: PathBuf,
    external: bool,
}

/// Where CRIU is going to mount something on files of the host, by path: on the rootfs and on mounts that
/// show the host. What an image's own file systems hold comes with the image.
///
/// # Errors
/// A table of mounts cannot be read, or is none.
pub fn mount_points(image: &Path) -> Result<Vec<PathBuf>> {
    let intent = || format!("read the image {}", image.display());
    let mut points = Vec::new();
    let list = std::fs::read_dir(image).call(|| format!("opendir({})", image.display()));
    for entry in list.with_context(intent)? {
        // One for each mount namespace: `mountpoints-12.img`.
        let name = entry.call(|| format!("readdir({})", image.display())).with_context(intent)?.file_name();
        if name.as_bytes().starts_with(b"mountpoints-") && name.as_bytes().ends_with(b".img") {
            let path = image.join(name);
            let text =
                std::fs::read(&path).call(|| format!("read({})", path.display())).with_context(intent)?;
            let mounts = parse(&text).map_err(|error| error.context(path.display().to_string()));
            points.extend(on_the_host(mounts.with_context(intent)?));
        }
    }
    points.sort();
    points.dedup();
    Ok(points)
}

fn parse(text: &[u8]) -> Result<Vec<Mount>> {
    let malformed = || Error::invalid("no table of mounts of CRIU");
    let mut rest = text.strip_prefix(&MAGIC).ok_or_else(malformed)?;
    let mut mounts = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| malformed())?;
        let (message, after) = after.split_at_checked(length).ok_or_else(malformed)?;
        mounts.push(mount(message)?);
        rest = after;
    }
    match rest {
        [] => Ok(mounts),
        _ => Err(malformed()),
    }
}

fn mount(message: &[u8]) -> Result<Mount> {
    let number = |value: Value| value.int32().unwrap_or_default();
    let mut mount = Mount::default();
    for (field, value) in fields(message)? {
        match field {
            2 => mount.id = number(value),
            4 => mount.parent = number(value),
            7 => mount.point = PathBuf::from(OsStr::from_bytes(value.bytes())),
            13 => mount.external = value.flag(),
            _ => {}
        }
    }
    Ok(mount)
}

fn on_the_host(mounts: Vec<Mount>) -> Vec<PathBuf> {
    let by_id: BTreeMap<i32, &Mount> = mounts.iter().map(|mount| (mount.id, mount)).collect();
    let shows_the_host = |mount: &Mount| mount.external || !by_id.contains_key(&mount.parent);
    let lies_there = |mount: &&Mount| by_id.get(&mount.parent).is_some_and(|parent| shows_the_host(parent));
    mounts.iter().filter(lies_there).map(|mount| mount.point.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::wire::Message;

    fn table(mounts: &[(i64, i64, &[u8], bool)]) -> Vec<u8> {
        let mut table = MAGIC.to_vec();
        for (id, parent, point, external) in mounts {
            let mut message = Message::default();
            message.number(1, 5).number(2, *id).number(4, *parent).text(6, "/").text(7, point);
            if *external {
                message.flag(13, true).text(18, "/name");
            }
            table.extend(u32::try_from(message.as_bytes().len()).unwrap().to_le_bytes());
            table.extend(message.as_bytes());
        }
        table
    }

    #[test]
    fn finds_what_is_mounted_on_files_of_the_host() {
        let text = table(&[
            (9, 8, b"/dev/pts", false),
            (8, 1, b"/dev", false),
            (7, 6, b"/vol/in\xff", false),
            (6, 1, b"/vol", true),
            (1, 0, b"/", false),
        ]);
        let points = on_the_host(parse(&text).unwrap());
        let points: Vec<&[u8]> = points.iter().map(|point| point.as_os_str().as_bytes()).collect();
        assert_eq!(points, [&b"/dev"[..], b"/vol/in\xff", b"/vol"]);
    }

    #[test]
    fn takes_nothing_else_for_a_table() {
        let good = table(&[(1, 0, b"/", false)]);
        for bad in [&b""[..], b"mountpoints", &good[..good.len() - 1], &good[..10]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(mount_points(Path::new("/nonexistent")).is_err());
        assert_eq!(mount_points(Path::new("/proc/self/ns")).unwrap(), [""; 0].map(PathBuf::from));
    }
}
