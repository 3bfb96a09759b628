//! Compiles the interface definition in pure Rust, so that no `protoc` is needed.

use std::path::Path;

/// Beside this crate, where those look for it who generate code for other languages.
const PROTO: &str = "../proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(Path::new(PROTO).join("tickplane/v1"))? {
        files.push(entry?.path());
    }
    files.sort();
    let descriptors = protox::compile(&files, [PROTO])?;
    tonic_prost_build::configure()
        .build_server(false)
        .disable_comments(["."])
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
