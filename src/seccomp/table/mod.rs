//! The numbers of all system calls on all architectures that a profile may name.
//!
//! The table is plain data without pointers, so a start of the binary relocates nothing for it.
//! `generate.rs` beside this file says where it comes from and writes it anew.

mod data;

use data::{COUNT, NAMES, NUMBERS};

/// A row of the table: one system call's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Syscall(u16);

/// A column of the table: the architectures that number their calls alike share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Column {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
    Loongarch64,
    Ppc64,
    Ppc,
    S390x,
    S390,
}

/// Where each name begins in [`NAMES`], and where the one behind the last would.
static STARTS: [u16; COUNT + 1] = starts();

#[allow(clippy::cast_possible_truncation, reason = "the assertion bounds it")]
const fn starts() -> [u16; COUNT + 1] {
    let text = NAMES.as_bytes();
    assert!(text.len() <= u16::MAX as usize);
    let mut starts = [0; COUNT + 1];
    let (mut at, mut row) = (0, 0);
    while at < text.len() {
        if text[at] == b'\n' {
            row += 1;
            starts[row] = at as u16 + 1;
        }
        at += 1;
    }
    assert!(row == COUNT);
    starts
}

impl Syscall {
    /// The call of that name, if any architecture has one.
    pub fn named(name: &str) -> Option<Self> {
        let (mut low, mut high) = (0, COUNT);
        while low < high {
            let middle = low.midpoint(high);
            match name_of(middle).cmp(name) {
                std::cmp::Ordering::Equal => return u16::try_from(middle).ok().map(Self),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The call of that name, looked for first behind `previous`: the engines' profiles name their
    /// calls in alphabetical order, which makes most look-ups one or two comparisons.
    pub(super) fn named_after(previous: Option<Self>, name: &str) -> Option<Self> {
        const NEAR: usize = 4;
        let start = previous.map_or(0, |previous| usize::from(previous.0) + 1);
        for row in start..(start + NEAR).min(COUNT) {
            match name_of(row).cmp(name) {
                std::cmp::Ordering::Equal => return u16::try_from(row).ok().map(Self),
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Greater => break,
            }
        }
        Self::named(name)
    }

    /// The call with this number in a column.
    pub(super) fn numbered(column: Column, number: u32) -> Option<Self> {
        let row = NUMBERS.iter().position(|row| u32::try_from(row[column as usize]) == Ok(number))?;
        u16::try_from(row).ok().map(Self)
    }

    /// All calls, in the order of their names.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..COUNT).filter_map(|row| u16::try_from(row).ok().map(Self))
    }

    /// Its name, as man pages and profiles spell it.
    pub fn name(self) -> &'static str {
        name_of(usize::from(self.0))
    }

    /// Its number in a column, without the x32 bit.
    pub(super) fn number(self, column: Column) -> Option<u32> {
        u32::try_from(NUMBERS[usize::from(self.0)][column as usize]).ok()
    }
}

fn name_of(row: usize) -> &'static str {
    &NAMES[usize::from(STARTS[row])..usize::from(STARTS[row + 1]) - 1]
}

#[cfg(test)]
mod tests {
    use super::super::arch::{Architecture, NATIVE};
    use super::*;

    #[test]
    fn rows_are_sorted_and_found_by_name() {
        let all: Vec<_> = Syscall::all().collect();
        assert!(all.windows(2).all(|pair| pair[0].name() < pair[1].name()));
        for call in all {
            assert_eq!(Syscall::named(call.name()), Some(call));
            assert_eq!(Syscall::named_after(Some(call), call.name()), Some(call));
            assert_eq!(Syscall::named_after(None, call.name()), Some(call));
        }
        assert_eq!(Syscall::named("no_such_call"), None);
        assert_eq!(Syscall::named(""), None);
    }

    #[test]
    fn numbers_are_those_of_this_machine() {
        let number = |name: &str| Syscall::named(name).unwrap().number(NATIVE.column());
        assert_eq!(number("read"), u32::try_from(libc::SYS_read).ok());
        assert_eq!(number("execve"), u32::try_from(libc::SYS_execve).ok());
        assert_eq!(number("clone3"), u32::try_from(libc::SYS_clone3).ok());
        assert_eq!(number("mount_setattr"), u32::try_from(libc::SYS_mount_setattr).ok());
    }

    #[test]
    fn known_numbers_elsewhere() {
        for (name, column, number) in [
            ("socketcall", Column::X86, Some(102)),
            ("socketcall", Column::X86_64, None),
            ("ioctl", Column::X32, Some(514)),
            ("set_tls", Column::Arm, Some(0x0f_0005)),
            ("chown32", Column::S390, Some(212)),
            ("chown", Column::S390x, Some(212)),
            ("chown", Column::S390, Some(182)),
            ("setup", Column::S390, None),
            ("semtimedop", Column::S390, None),
            ("file_setattr", Column::Ppc64, Some(469)),
        ] {
            assert_eq!(
                Syscall::named(name).and_then(|call| call.number(column)),
                number,
                "{name} {column:?}"
            );
        }
    }

    #[test]
    fn no_number_is_given_twice() {
        for column in Architecture::all().map(Architecture::column) {
            let mut numbers: Vec<_> = Syscall::all()
                // Arm's header gives its own call the generic name too.
                .filter(|call| column != Column::Arm || call.name() != "sync_file_range2")
                .filter_map(|call| call.number(column))
                .collect();
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "{column:?}");
        }
    }
}
