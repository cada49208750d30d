//! Tells the linker which functions to put together: `link/hot.ld`.

#![allow(clippy::print_stdout, reason = "how a build script speaks to cargo")]

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link/hot.ld");
    println!("cargo:rerun-if-env-changed=LINKSPAN_MAP");
    // What scripts/hot looks addresses up in.
    if let Ok(map) = env::var("LINKSPAN_MAP") {
        println!("cargo:rustc-link-arg-bin=linkspan=-Wl,-Map={map}");
    }
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    // Only where the linker is GNU's or understands its scripts, and where nobody waits for the compiler.
    if is("CARGO_CFG_TARGET_OS", "linux")
        && is("PROFILE", "release")
        && let Ok(root) = env::var("CARGO_MANIFEST_DIR")
    {
        println!("cargo:rustc-link-arg-bin=linkspan=-Wl,-T,{root}/link/hot.ld");
    }
}
