//! Compiles the protocol definitions in pure Rust, so that no `protoc` is needed.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "admin",
        "audit",
        "client",
        "market_data",
        "subscription",
        "telemetry",
        "feeds",
        "node",
        "cluster",
        "quota",
    ];
    let paths = files.map(|file| format!("proto/tickplane/v1/{file}.proto"));
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(&paths, ["proto"])?;
    // The reflection service serves these bytes.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("tickplane.v1.bin"), descriptors.encode_to_vec())?;
    // What servers deliver is encoded already; messages and clients are of the client library.
    let servers = out.join("servers");
    std::fs::create_dir_all(&servers)?;
    tonic_prost_build::configure()
        .disable_comments(["."])
        .build_client(false)
        .codec_path("crate::codec::Codec")
        .extern_path(".tickplane.v1", "crate::proto")
        .extern_path(".tickplane.v1.SubscribeResponse", "crate::delivery::Response")
        .out_dir(servers)
        .compile_fds(descriptors)?;
    Ok(())
}
