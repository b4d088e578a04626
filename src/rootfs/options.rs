//! Mount options: fstab words of runc, crun and mount(8) → flags. Pure.

use crate::error::{Error, Result};
use crate::sys::mount::{Clone, attr};

/// Attributes to set and to clear, `MOUNT_ATTR_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub set: u64,
    pub clear: u64,
}

impl Change {
    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// The later word wins. The atime setting is one field of the kernel's: whatever touches it
    /// replaces it, and clearing alone gives relatime, the kernel's default since 2.6.30.
    fn apply(&mut self, word: Word) {
        let (mask, set) = match word {
            Word::Set(flag) if flag & !attr::ATIME == 0 => (attr::ATIME, flag),
            Word::Clear(flag) if flag & !attr::ATIME == 0 => (attr::ATIME, 0),
            Word::Set(flag) => (flag, flag),
            Word::Clear(flag) => (flag, 0),
        };
        self.set = self.set & !mask | set;
        // mount_setattr(2) wants the atime field cleared before it is set; other bits are either.
        self.clear = self.clear & !mask | if mask == attr::ATIME { mask } else { mask & !set };
    }
}

/// One change of propagation: `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Propagation {
    pub flag: u64,
    pub recursive: bool,
}

impl Propagation {
    /// A word of `rootfsPropagation` or a mount option: `rslave`, `private`, …
    pub(super) fn parse(word: &str) -> Option<Self> {
        let named = |name| look_up(&PROPAGATIONS, name);
        let plain = named(word).map(|flag| Self { flag, recursive: false });
        plain.or_else(|| Some(Self { flag: named(word.strip_prefix('r')?)?, recursive: true }))
    }
}

/// `idmap`, `ridmap` and crun's `idmap=uids=…;gids=…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct IdmapOption {
    pub recursive: bool,
    /// The maps that the option itself gives.
    pub maps: Option<IdmapWords>,
}

/// The maps of crun's option, in the order written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct IdmapWords {
    pub uids: Vec<IdmapRange>,
    pub gids: Vec<IdmapRange>,
}

/// `first-second-size`: ids on the filesystem, ids on the host, how many. With `@` the second is an id
/// of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdmapRange {
    pub filesystem: u32,
    pub host: u32,
    pub size: u32,
    pub of_container: bool,
}

/// The options of one mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Superblock flags of a new filesystem (`MS_SYNCHRONOUS` …); no bind can change them.
    pub superblock: u64,
    /// For the mount alone.
    pub attributes: Change,
    /// For the mount and all below it: `rro`, `rnosuid`, …
    pub recursive: Change,
    /// In the order given; `slave` then `shared` is not the same as either.
    pub propagation: Vec<Propagation>,
    /// `bind` or `rbind`.
    pub bind: Option<Clone>,
    /// Everything else, for the filesystem.
    pub data: Vec<String>,
    /// `tmpcopyup`: the tmpfs starts with a copy of what it covers.
    pub copy_up: bool,
    /// `copy-symlink`: a source that is a symlink is made again instead of mounted.
    pub copy_symlink: bool,
    /// `src-nofollow`: a source that is a symlink is mounted itself.
    pub source_nofollow: bool,
    /// `dest-nofollow`: a destination that is a symlink is itself the mount point.
    pub destination_nofollow: bool,
    pub idmap: Option<IdmapOption>,
}

impl Options {
    /// Reads the words; those that can have no effect are named in `warnings`.
    pub(super) fn parse(words: &[String], warnings: &mut Vec<String>) -> Result<Self> {
        let mut options = Self::default();
        for word in words {
            options.word(word, warnings)?;
        }
        Ok(options)
    }

    fn word(&mut self, word: &str, warnings: &mut Vec<String>) -> Result<()> {
        match word {
            // "remount" of a bind says what setting attributes always does here: keep the others.
            "" | "defaults" | "remount" | "loud" => {}
            "bind" => self.bind = self.bind.or(Some(Clone::One)),
            "rbind" => self.bind = Some(Clone::Recursive),
            "tmpcopyup" => self.copy_up = true,
            "copy-symlink" => self.copy_symlink = true,
            "src-nofollow" => self.source_nofollow = true,
            "dest-nofollow" => self.destination_nofollow = true,
            "idmap" => self.idmap = Some(IdmapOption::default()),
            "ridmap" => self.idmap = Some(IdmapOption { recursive: true, maps: None }),
            // crun's list: these belong to the superblock, which no recursion reaches.
            "rsync" | "rasync" | "rdirsync" | "rmand" | "rnomand" => {
                warnings
                    .push(format!("mount option {word:?} has no effect: it is not an attribute of mounts"));
            }
            _ => {
                if let Some(maps) = word.strip_prefix("idmap=") {
                    self.idmap = Some(IdmapOption { recursive: false, maps: Some(parse_maps(maps)?) });
                } else if let Some(maps) = word.strip_prefix("ridmap=") {
                    self.idmap = Some(IdmapOption { recursive: true, maps: Some(parse_maps(maps)?) });
                } else if let Some(change) = attribute(word) {
                    self.attributes.apply(change);
                } else if let Some(change) = word.strip_prefix('r').and_then(attribute) {
                    self.recursive.apply(change);
                } else if let Some(propagation) = Propagation::parse(word) {
                    self.propagation.push(propagation);
                } else if let Some(change) = look_up(&SUPERBLOCK, word) {
                    match change {
                        Word::Set(flag) => self.superblock |= flag,
                        Word::Clear(flag) => self.superblock &= !flag,
                    }
                } else {
                    self.data.push(word.to_owned());
                }
            }
        }
        Ok(())
    }

    /// The `MS_*` flags with which mount(2) makes a new filesystem.
    pub(super) fn mount_flags(&self) -> u64 {
        let set = self.attributes.set;
        let mut flags = self.superblock;
        for (attribute, flag) in [
            (attr::RDONLY, libc::MS_RDONLY),
            (attr::NOSUID, libc::MS_NOSUID),
            (attr::NODEV, libc::MS_NODEV),
            (attr::NOEXEC, libc::MS_NOEXEC),
            (attr::NODIRATIME, libc::MS_NODIRATIME),
            (attr::NOATIME, libc::MS_NOATIME),
            (attr::STRICTATIME, libc::MS_STRICTATIME),
            (attr::NOSYMFOLLOW, libc::MS_NOSYMFOLLOW),
        ] {
            if set & attribute != 0 {
                flags |= flag;
            }
        }
        flags
    }
}

/// What an option does to a flag.
#[derive(Clone, Copy)]
enum Word {
    Set(u64),
    Clear(u64),
}

/// Options that are attributes of a mount; with a leading `r` they are recursive.
const ATTRIBUTES: [(&str, Word); 18] = [
    ("ro", Word::Set(attr::RDONLY)),
    ("rw", Word::Clear(attr::RDONLY)),
    ("nosuid", Word::Set(attr::NOSUID)),
    ("suid", Word::Clear(attr::NOSUID)),
    ("nodev", Word::Set(attr::NODEV)),
    ("dev", Word::Clear(attr::NODEV)),
    ("noexec", Word::Set(attr::NOEXEC)),
    ("exec", Word::Clear(attr::NOEXEC)),
    ("nodiratime", Word::Set(attr::NODIRATIME)),
    ("diratime", Word::Clear(attr::NODIRATIME)),
    ("noatime", Word::Set(attr::NOATIME)),
    ("atime", Word::Clear(attr::NOATIME)),
    ("relatime", Word::Set(attr::RELATIME)),
    ("norelatime", Word::Clear(attr::RELATIME)),
    ("strictatime", Word::Set(attr::STRICTATIME)),
    ("nostrictatime", Word::Clear(attr::STRICTATIME)),
    ("nosymfollow", Word::Set(attr::NOSYMFOLLOW)),
    ("symfollow", Word::Clear(attr::NOSYMFOLLOW)),
];

/// Options of the superblock, `MS_*`.
const SUPERBLOCK: [(&str, Word); 12] = [
    ("sync", Word::Set(libc::MS_SYNCHRONOUS)),
    ("async", Word::Clear(libc::MS_SYNCHRONOUS)),
    ("dirsync", Word::Set(libc::MS_DIRSYNC)),
    ("mand", Word::Set(libc::MS_MANDLOCK)),
    ("nomand", Word::Clear(libc::MS_MANDLOCK)),
    ("iversion", Word::Set(libc::MS_I_VERSION)),
    ("noiversion", Word::Clear(libc::MS_I_VERSION)),
    ("lazytime", Word::Set(libc::MS_LAZYTIME)),
    ("nolazytime", Word::Clear(libc::MS_LAZYTIME)),
    ("acl", Word::Set(libc::MS_POSIXACL)),
    ("noacl", Word::Clear(libc::MS_POSIXACL)),
    ("silent", Word::Set(libc::MS_SILENT)),
];

/// Changes of propagation; with a leading `r` they are recursive.
const PROPAGATIONS: [(&str, u64); 4] = [
    ("private", libc::MS_PRIVATE),
    ("slave", libc::MS_SLAVE),
    ("shared", libc::MS_SHARED),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// Options with a meaning of their own, see [`Options::word`].
const OTHERS: [&str; 11] = [
    "defaults",
    "remount",
    "loud",
    "bind",
    "rbind",
    "idmap",
    "ridmap",
    "tmpcopyup",
    "copy-symlink",
    "src-nofollow",
    "dest-nofollow",
];

/// Every option that is not left to the filesystem, sorted (features.md, Mount Options).
pub fn mount_options() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().map(|(name, _)| *name);
    let propagations = PROPAGATIONS.iter().map(|(name, _)| *name);
    let recursive = attributes.clone().chain(propagations.clone()).map(|name| format!("r{name}"));
    let plain = attributes.chain(propagations).chain(SUPERBLOCK.iter().map(|(name, _)| *name)).chain(OTHERS);
    let mut names: Vec<String> = recursive.chain(plain.map(str::to_owned)).collect();
    names.sort();
    names
}

fn look_up<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
}

fn attribute(word: &str) -> Option<Word> {
    look_up(&ATTRIBUTES, word)
}

/// crun's `uids=0-1-10#10-11-10;gids=@0-100-10`.
fn parse_maps(text: &str) -> Result<IdmapWords> {
    let mut maps = IdmapWords::default();
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (ranges, text) = match part.split_once('=') {
            Some(("uids", text)) => (&mut maps.uids, text),
            Some(("gids", text)) => (&mut maps.gids, text),
            _ => return Err(Error::invalid(format!("idmap option {part:?}: neither uids= nor gids="))),
        };
        for range in text.split('#') {
            ranges.push(parse_range(range)?);
        }
    }
    if maps.uids.is_empty() || maps.gids.is_empty() {
        return Err(Error::invalid(format!("idmap option {text:?}: it needs both uids= and gids=")));
    }
    Ok(maps)
}

fn parse_range(text: &str) -> Result<IdmapRange> {
    let malformed = || Error::invalid(format!("idmap range {text:?}: not of the form [@]ID-ID-SIZE"));
    let (of_container, numbers) = match text.strip_prefix('@') {
        Some(numbers) => (true, numbers),
        None => (false, text),
    };
    let numbers: Vec<u32> =
        numbers.split('-').map(str::parse).collect::<Result<_, _>>().map_err(|_| malformed())?;
    let [filesystem, host, size] = numbers[..] else { return Err(malformed()) };
    Ok(IdmapRange { filesystem, host, size, of_container })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Options {
        let mut warnings = Vec::new();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let options = Options::parse(&words, &mut warnings).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        options
    }

    #[test]
    fn a_dockers_dev_is_flags_and_data() {
        let options = parse(&["nosuid", "strictatime", "mode=755", "size=65536k"]);
        assert_eq!(options.mount_flags(), libc::MS_NOSUID | libc::MS_STRICTATIME);
        assert_eq!(options.data, ["mode=755", "size=65536k"]);
        assert!(options.bind.is_none());
    }

    #[test]
    fn the_later_word_wins() {
        let options = parse(&["ro", "rw", "noexec", "nosuid", "suid"]);
        assert_eq!(options.attributes, Change { set: attr::NOEXEC, clear: attr::RDONLY | attr::NOSUID });
        assert_eq!(parse(&["rw", "ro"]).attributes, Change { set: attr::RDONLY, clear: 0 });
    }

    #[test]
    fn atime_is_one_field() {
        for (words, set) in [
            (&["noatime"][..], attr::NOATIME),
            (&["noatime", "strictatime"], attr::STRICTATIME),
            (&["noatime", "relatime"], 0),
            (&["strictatime", "nostrictatime"], 0),
            (&["noatime", "atime"], 0),
        ] {
            assert_eq!(parse(words).attributes, Change { set, clear: attr::ATIME }, "{words:?}");
        }
        assert_eq!(parse(&["nodiratime"]).attributes, Change { set: attr::NODIRATIME, clear: 0 });
    }

    #[test]
    fn an_r_makes_an_attribute_recursive_and_nothing_else() {
        let options = parse(&["rbind", "rro", "rnosuid", "rexec", "ratime", "rslave", "remount", "ro"]);
        assert_eq!(options.bind, Some(Clone::Recursive));
        assert_eq!(options.recursive.set, attr::RDONLY | attr::NOSUID);
        assert_eq!(options.recursive.clear, attr::NOEXEC | attr::ATIME);
        assert_eq!(options.attributes, Change { set: attr::RDONLY, clear: 0 });
        assert_eq!(options.propagation, [Propagation { flag: libc::MS_SLAVE, recursive: true }]);
        assert!(options.data.is_empty());
    }

    #[test]
    fn propagations_keep_their_order() {
        let flags: Vec<_> =
            parse(&["slave", "rshared", "private", "runbindable"]).propagation.into_iter().collect();
        assert_eq!(
            flags,
            [
                Propagation { flag: libc::MS_SLAVE, recursive: false },
                Propagation { flag: libc::MS_SHARED, recursive: true },
                Propagation { flag: libc::MS_PRIVATE, recursive: false },
                Propagation { flag: libc::MS_UNBINDABLE, recursive: true },
            ]
        );
    }

    #[test]
    fn a_bind_stays_recursive() {
        assert_eq!(parse(&["rbind", "bind"]).bind, Some(Clone::Recursive));
    }

    #[test]
    fn crun_extensions() {
        let options = parse(&["tmpcopyup", "copy-symlink", "src-nofollow", "dest-nofollow"]);
        assert!(options.copy_up && options.copy_symlink);
        assert!(options.source_nofollow && options.destination_nofollow);
        let maps = parse(&["idmap=uids=0-1-10#10-11-10;gids=@0-100-10"]).idmap.unwrap().maps.unwrap();
        assert_eq!(maps.uids.len(), 2);
        assert_eq!(maps.uids[1].host, 11);
        assert!(!maps.uids[1].of_container && maps.gids[0].of_container);
        assert!(parse(&["ridmap"]).idmap.unwrap().recursive);
    }

    #[test]
    fn malformed_maps_are_named() {
        for text in ["idmap=", "idmap=uids=0-1-10", "idmap=uids=0-1;gids=0-1-1", "idmap=users=0-0-1"] {
            let error = Options::parse(&[text.into()], &mut Vec::new()).unwrap_err();
            assert!(error.to_string().starts_with("idmap"), "{error}");
        }
    }

    #[test]
    fn every_listed_option_is_understood() {
        for name in mount_options() {
            let options = parse(&[&name]);
            assert_eq!(options.data, Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn a_word_without_effect_is_warned_of() {
        let mut warnings = Vec::new();
        Options::parse(&["rsync".into()], &mut warnings).unwrap();
        assert_eq!(warnings.len(), 1);
    }
}
