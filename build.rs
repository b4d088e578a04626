//! Links berth with its own entry point (src/sys/early.rs) where there is one, and with what its start needs
//! side by side (link/order.ld).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
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
    }
}
