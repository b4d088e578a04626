//! What `checkpoint` and `restore` share: the image's directories, the flags that mean the same to both,
//! CRIU's configuration file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::criu::{CgroupsMode, Options, Switch};
use crate::error::{Call, Context, Result};
use crate::namespaces::Kind;

/// The annotation that names CRIU's configuration file for a container (runc and crun have it too).
pub const CONFIG_ANNOTATION: &str = "org.criu.config";

/// Where an administrator puts options for all containers, best first; CRIU passes over a file that is
/// not there.
const CONFIG_FILES: [&str; 2] = ["/etc/criu/berth.conf", "/etc/criu/runc.conf"];

/// The flags that mean the same to `checkpoint` and `restore`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// `--image-path`, absolute.
    pub path: PathBuf,
    /// `--work-path`, absolute; the image's directory when None.
    pub work: Option<PathBuf>,
    /// `--tcp-established`.
    pub tcp_established: bool,
    /// `--tcp-close`.
    pub tcp_close: bool,
    /// `--ext-unix-sk`.
    pub external_unix_sockets: bool,
    /// `--shell-job`.
    pub shell_job: bool,
    /// `--file-locks`.
    pub file_locks: bool,
    /// `--manage-cgroups-mode`.
    pub cgroups_mode: CgroupsMode,
    /// `--auto-dedup`.
    pub auto_dedup: bool,
    /// `--lazy-pages`.
    pub lazy_pages: bool,
}

/// The directories of an image, open: CRIU reaches them through our descriptors.
#[derive(Debug)]
pub struct Directories {
    image: File,
    work: Option<File>,
    log: PathBuf,
}

impl ImageOptions {
    /// Opens the directories; for a dump they are made if missing. `log` is the name of CRIU's log.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(&self, make: bool, log: &str) -> Result<Directories> {
        let open = |path: &Path, make: bool| -> Result<File> {
            if make {
                make_directory(path)?;
            }
            File::open(path).call(|| format!("open({})", path.display()))
        };
        let image = open(&self.path, make).context("open the image's directory (--image-path)")?;
        // Also a restore may be given a directory for its log that is not there yet.
        let work = self.work.as_deref().map(|work| open(work, true));
        let work = work.transpose().context("open the work directory (--work-path)")?;
        let log = self.work.as_ref().unwrap_or(&self.path).join(log);
        Ok(Directories { image, work, log })
    }

    /// The options that follow from the flags alone.
    pub fn criu(&self, directories: &Directories, annotations: &BTreeMap<String, String>) -> Options {
        let mut options = Options {
            images: directories.image.as_raw_fd(),
            work: directories.work.as_ref().map(AsRawFd::as_raw_fd),
            cgroups_mode: self.cgroups_mode,
            // berth does not configure network devices, so there is nothing that CRIU should make again; an
            // engine has done it by the time of a restore.
            empty_namespaces: Kind::Network.flag(),
            config_file: config_file(annotations, |path| path.exists()),
            ..Options::default()
        };
        options.set(Switch::Notify, true);
        options.set(Switch::OrphanPtsMaster, true);
        options.set(Switch::TcpEstablished, self.tcp_established);
        options.set(Switch::TcpClose, self.tcp_close);
        options.set(Switch::ExternalUnixSockets, self.external_unix_sockets);
        options.set(Switch::ShellJob, self.shell_job);
        options.set(Switch::FileLocks, self.file_locks);
        options.set(Switch::AutoDedup, self.auto_dedup);
        options.set(Switch::LazyPages, self.lazy_pages);
        options
    }
}

impl Directories {
    /// Where CRIU's log is.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

fn make_directory(path: &Path) -> Result<()> {
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).call(|| format!("mkdir({})", path.display()))
        }
        _ => Ok(()),
    }
}

/// The annotation's file; none when it is there and empty; else the first of the administrator's.
fn config_file(annotations: &BTreeMap<String, String>, exists: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    match annotations.get(CONFIG_ANNOTATION) {
        Some(file) => (!file.is_empty()).then(|| file.into()),
        None => CONFIG_FILES.into_iter().map(PathBuf::from).find(|path| exists(path)),
    }
}

/// How an image names a namespace that is not in it.
pub fn external_namespace_key(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Network => Some("extRootNetNS"),
        Kind::Pid => Some("extRootPidNS"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_names_the_configuration() {
        let annotation = |file: &str| BTreeMap::from([(CONFIG_ANNOTATION.to_owned(), file.to_owned())]);
        let nothing = BTreeMap::new();
        assert_eq!(config_file(&annotation("/c"), |_| true), Some("/c".into()));
        assert_eq!(config_file(&annotation(""), |_| true), None);
        assert_eq!(config_file(&nothing, |_| true), Some("/etc/criu/berth.conf".into()));
        assert_eq!(
            config_file(&nothing, |path| path.ends_with("runc.conf")),
            Some("/etc/criu/runc.conf".into())
        );
        assert_eq!(config_file(&nothing, |_| false), None);
    }
}
