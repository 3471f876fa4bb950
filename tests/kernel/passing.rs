//! An XDP program of somebody else's, that lets everything pass.

use std::process::Command;

use anyhow::{Context as _, Result};
use lab::{Namespace, Scratch, find, run};

/// What the kernel calls it.
pub const NAME: &str = "lab_passing";

const SOURCE: &str = r#"
__attribute__((section("xdp"), used)) int lab_passing(void *ctx) { return 2; }
char _license[] __attribute__((section("license"), used)) = "GPL";
"#;

/// Attaches it to a device: `xdpdrv` or `xdpgeneric`.
pub fn attach(inside: &Namespace, device: &str, mode: &str) -> Result<()> {
    let scratch = Scratch::new("passing")?;
    let source = scratch.write("passing.c", SOURCE)?;
    let object = scratch.path().join("passing.o");
    let mut compile = Command::new(find("clang").context("needs clang")?);
    compile.args(["-O2", "-g", "-target", "bpf", "-c"]).arg(&source).arg("-o").arg(&object);
    run(&mut compile)?;
    let object = object.to_str().context("a path")?;
    inside.ip(&["link", "set", "dev", device, mode, "obj", object, "sec", "xdp"]).map(drop)
}
