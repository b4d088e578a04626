//! Links berth with its own entry point (src/sys/early.rs) where there is one.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        // -u: nothing else refers to the symbol, so the linker would leave its object in the archive.
        println!("cargo::rustc-link-arg-bin=berth=-Wl,-u,berth_start,-e,berth_start");
    }
}
