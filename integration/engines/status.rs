//! What a container's process says of its rights.

/// For the container's shell: prints those lines of `/proc/self/status`.
pub const PRINT: &str = "awk '/^(CapEff|CapBnd|NoNewPrivs|Seccomp):/ { print $1, $2 }' /proc/self/status";

/// One of the lines.
#[track_caller]
pub fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// A set of capabilities as a number.
#[track_caller]
pub fn set(text: &str, name: &str) -> u64 {
    u64::from_str_radix(field(text, name), 16).expect("a set in hex")
}
