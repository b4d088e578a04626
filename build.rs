//! Links berth with its own entry point (src/sys/early.rs) where there is one, and with what its start needs
//! side by side (link/order.ld).

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(glibc_2_36)");
    println!("cargo::rerun-if-changed=link/order.ld");
    let is = |variable, value| std::env::var(variable).as_deref() == Ok(value);
    // Functions that are inlined elsewhere are laid out elsewhere: it is the order of the optimised build.
    if is("PROFILE", "release") {
        let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bin=berth=-Wl,-T,{root}/link/order.ld");
    }
    if is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        // -u: nothing else refers to the symbol, so the linker would leave its object in the archive.
        println!("cargo::rustc-link-arg-bin=berth=-Wl,-u,berth_start,-e,berth_start");
        if is_linked_at_its_addresses() && is_glibc_2_36() {
            println!("cargo::rustc-cfg=glibc_2_36");
        }
    }
}

/// Whether the program is static and not position-independent, as .cargo/config.toml has it.
fn is_linked_at_its_addresses() -> bool {
    let contains = |variable, what: &str| std::env::var(variable).is_ok_and(|value| value.contains(what));
    contains("CARGO_CFG_TARGET_ENV", "gnu")
        && contains("CARGO_CFG_TARGET_FEATURE", "crt-static")
        && contains("CARGO_ENCODED_RUSTFLAGS", "relocation-model=static")
}

/// Whether the C library that will be linked is the one whose start src/sys/start.rs knows. It names itself in its text.
fn is_glibc_2_36() -> bool {
    let linker = std::env::var("RUSTC_LINKER").unwrap_or_else(|_| "cc".to_owned());
    let Ok(answer) = Command::new(linker).arg("-print-file-name=libc.a").output() else { return false };
    let path = String::from_utf8_lossy(&answer.stdout);
    let path = Path::new(path.trim());
    println!("cargo::rerun-if-changed={}", path.display());
    let name = b"GNU C Library";
    let release = b"stable release version 2.36.";
    let Ok(library) = std::fs::read(path) else { return false };
    library.windows(name.len()).enumerate().filter(|(_, found)| found == name).any(|(at, _)| {
        let banner = &library[at..library.len().min(at + 200)];
        banner.windows(release.len()).any(|found| found == release)
    })
}
