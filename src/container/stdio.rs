//! The descriptors of a container that lead out of it, which an image holds by name only: the engine's
//! pipes and files on its stdio. The names are kept beside the image, in the file that runc keeps them in,
//! and a restore gives its own descriptors of the same numbers for them.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::RawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::error::{Call, Code, Context, Error, Result};
use crate::json;
use crate::sys::{mountinfo, procfs};

/// The file in the image's directory.
const FILE: &str = "descriptors.json";

/// No container is given more descriptors than this from outside.
const MOST: usize = 1024;

/// The descriptors of a container's first process by their numbers; those that lead out of the container
/// by the names that CRIU has for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptors(Vec<String>);

impl Descriptors {
    /// Those of process `init`. `pids` are all processes of the container and `mountinfo` is init's.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of(init: i32, pids: &[i32], mountinfo: &[u8]) -> Result<Self> {
        let mounts: BTreeSet<&[u8]> = mountinfo::mounts(mountinfo).map(|mount| mount.id).collect();
        let mut names = vec![String::new(); 3];
        let mut end = 3;
        for open in open_files(init)? {
            let Some(number) = usize::try_from(open.number).ok().filter(|number| *number < MOST) else {
                continue;
            };
            let name = match () {
                () if open.is_pipe() && !has_other_end(&open, pids)? => Some(open.link.clone()),
                () if !open.is_nameless() && !mounts.contains(open.mount.as_bytes()) => {
                    open.external_file(init)?
                }
                () => None,
            };
            if names.len() <= number {
                names.resize(number + 1, String::new());
            }
            if name.is_some() {
                end = end.max(number + 1);
            }
            // A restore takes each pipe in the list for one that leads out.
            names[number] = name.unwrap_or_else(|| if open.is_pipe() { String::new() } else { open.link });
        }
        names.truncate(end);
        Ok(Self(names))
    }

    /// The external resources that a dump has to be told of; a pipe need not be named.
    pub fn external_files(&self) -> Vec<String> {
        let files: BTreeSet<&String> = self.0.iter().filter(|name| name.starts_with("file[")).collect();
        files.into_iter().cloned().collect()
    }

    /// What a restore inherits: the name, and the number of our own descriptor for it. Numbers from `end` on
    /// are not the container's to have.
    pub fn inherited(&self, end: usize) -> Vec<(String, RawFd)> {
        let numbered = self.0.iter().take(end.min(MOST)).zip(0..);
        let external = numbered.filter(|(name, _)| name.starts_with("pipe:[") || name.starts_with("file["));
        external.map(|(name, number)| (name.clone(), number)).collect()
    }

    /// Keeps them with an image.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write(&self, image: &Path) -> Result<()> {
        use std::io::Write;
        let path = image.join(FILE);
        let text = serde_json::to_vec(&self.0)
            .map_err(|error| Error::new(Code::State, format!("encode {FILE}: {error}")))?;
        let open = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        open.and_then(|mut file| file.write_all(&text)).call(|| format!("write({})", path.display()))
    }

    /// Those of an image.
    ///
    /// # Errors
    /// The file is missing or no list of names: it is not the image of a container.
    pub fn read(image: &Path) -> Result<Self> {
        let path = image.join(FILE);
        let intent = "read the image (--image-path)";
        let text = fs::read(&path).call(|| format!("read({})", path.display())).context(intent)?;
        json::read(&text)
            .map(Self)
            .map_err(|error| Error::invalid(format!("{}: {error}", path.display())).context(intent))
    }
}

/// One open file of a process.
struct Open {
    number: RawFd,
    /// What `/proc/PID/fd/N` leads to.
    link: String,
    /// `mnt_id` of proc_pid_fdinfo(5).
    mount: String,
    /// O_RDONLY, O_WRONLY or O_RDWR.
    access: i32,
}

impl Open {
    fn is_pipe(&self) -> bool {
        self.link.starts_with("pipe:[")
    }

    /// A socket, an eventfd and the like: it is on no mount that anybody sees.
    fn is_nameless(&self) -> bool {
        !self.link.starts_with('/')
    }

    /// CRIU's name of a file on a mount that the container does not have: `file[MOUNT:INODE]`, hexadecimal.
    fn external_file(&self, pid: i32) -> Result<Option<String>> {
        let path = format!("/proc/{pid}/fd/{}", self.number);
        let inode = match fs::metadata(&path) {
            Ok(file) => file.ino(),
            // Closed since.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).call(|| format!("stat({path})")),
        };
        Ok(self.mount.parse::<u64>().ok().map(|mount| format!("file[{mount:x}:{inode:x}]")))
    }
}

/// The open files of a process, by number; none when it has ended.
fn open_files(pid: i32) -> Result<Vec<Open>> {
    let directory = format!("/proc/{pid}/fd");
    let Some(entries) = unless_closed(fs::read_dir(&directory)).call(|| format!("opendir({directory})"))?
    else {
        return Ok(Vec::new());
    };
    let mut open = Vec::new();
    for entry in entries {
        let name = entry.call(|| format!("readdir({directory})"))?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else { continue };
        let path = format!("{directory}/{number}");
        let Some(link) = unless_closed(fs::read_link(&path)).call(|| format!("readlink({path})"))? else {
            continue;
        };
        let path = format!("/proc/{pid}/fdinfo/{number}");
        let Some(info) = unless_closed(procfs::read(&path)).call(|| format!("read({path})"))? else {
            continue;
        };
        // The name of a file says no more than that it has one, so it need not be UTF-8.
        open.push(parse(number, link.to_string_lossy().into_owned(), &String::from_utf8_lossy(&info)));
    }
    open.sort_by_key(|open| open.number);
    Ok(open)
}

/// None for a descriptor, or a process, that is gone since.
fn unless_closed<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        result => result.map(Some),
    }
}

fn parse(number: RawFd, link: String, info: &str) -> Open {
    let value = |key: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.map(str::trim).unwrap_or_default()
    };
    let flags = i32::from_str_radix(value("flags"), 8).unwrap_or(0);
    Open { number, link, mount: value("mnt_id").to_owned(), access: flags & libc::O_ACCMODE }
}

/// Whether a process of the container has the other end of the pipe: then it does not lead out of it.
fn has_other_end(pipe: &Open, pids: &[i32]) -> Result<bool> {
    for pid in pids {
        if open_files(*pid)?.iter().any(|open| open.link == pipe.link && open.access != pipe.access) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn tells_what_leads_out_from_what_does_not() {
        let (reader, writer) = std::io::pipe().unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let own = fs::read("/proc/self/mountinfo").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", reader.as_raw_fd())).unwrap();
        let link = link.to_str().unwrap().to_owned();
        // Both ends in the container: its own business.
        let inside = Descriptors::of(me, &[me], &own).unwrap();
        assert!(!inside.inherited(MOST).iter().any(|(name, _)| *name == link));
        // Nobody else of the container has the other end.
        let outside = Descriptors::of(me, &[], &own).unwrap();
        assert!(outside.inherited(MOST).contains(&(link, reader.as_raw_fd())));
        drop(writer);
    }

    #[test]
    fn names_files_of_mounts_that_the_container_lacks() {
        let file = fs::File::open("/dev/null").unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let descriptors = Descriptors::of(me, &[me], b"").unwrap();
        let names = descriptors.external_files();
        let inode = file.metadata().unwrap().ino();
        assert!(names.iter().any(|name| name.ends_with(&format!(":{inode:x}]"))), "{names:?}");
        let number = usize::try_from(file.as_raw_fd()).unwrap();
        assert!(descriptors.inherited(number).iter().all(|(_, fd)| *fd < file.as_raw_fd()));
    }

    #[test]
    fn reads_runcs_file() {
        let image = std::env::temp_dir().join(format!("berth-descriptors-{}", std::process::id()));
        fs::create_dir_all(&image).unwrap();
        fs::write(image.join(FILE), r#"["/dev/null","pipe:[12]","pipe:[12]"]"#).unwrap();
        let descriptors = Descriptors::read(&image).unwrap();
        assert_eq!(descriptors.inherited(3), [("pipe:[12]".into(), 1), ("pipe:[12]".into(), 2)]);
        assert!(descriptors.external_files().is_empty());
        descriptors.write(&image).unwrap();
        assert_eq!(Descriptors::read(&image).unwrap(), descriptors);
        fs::remove_dir_all(&image).unwrap();
        assert!(
            Descriptors::read(&image).unwrap_err().to_string().starts_with("read the image (--image-path): ")
        );
    }
}
