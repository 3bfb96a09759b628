//! Generates the bindings that capsule names: `dpdk-sys` has them too, but its buffers and pools are opaque, and capsule reads
//! their fields. dpdk-sys links DPDK; here come only libnuma and what exists in DPDK's headers alone.

use std::env;
use std::path::PathBuf;

const FUNCTIONS: &str = "rte_eal_(init|cleanup)|rte_strerror|rte_socket_(id|count|id_by_idx)|rte_thread_set_affinity\
    |rte_eth_dev_(get_port_by_name|info_get|configure|start|stop|close|adjust_nb_rx_tx_desc|socket_id)\
    |rte_eth_(rx_queue_setup|tx_queue_setup|stats_get|macaddr_get)\
    |rte_eth_(promiscuous|allmulticast)_(enable|disable)\
    |rte_pktmbuf_pool_create|rte_mempool_(free|in_use_count)|numa_node_of_cpu";
/// What polling uses, all of it inline.
const INLINE_FUNCTIONS: &str =
    "rte_eth_(rx|tx)_burst|rte_pktmbuf_(alloc|free|alloc_bulk)|rte_mempool_put_bulk";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/capsule.h");
    let library = pkg_config::Config::new()
        .atleast_version("22.11")
        .cargo_metadata(false)
        .probe("libdpdk")
        .expect("dpdk-sys, which is built first, has found it");
    // libdpdk-dev depends on libnuma-dev.
    println!("cargo::rustc-link-lib=numa");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let includes = library.include_paths.iter().map(|path| format!("-I{}", path.display()));
    let flags = ["-march=corei7", "-D_GNU_SOURCE"].map(str::to_owned);
    let inline = out.join("inline.c");
    bindgen::Builder::default()
        .header("src/capsule.h")
        .clang_args(flags.iter().cloned().chain(includes))
        .allowlist_function(FUNCTIONS)
        .allowlist_function(INLINE_FUNCTIONS)
        .allowlist_var("RTE_MBUF_DEFAULT_BUF_SIZE|CAPSULE_.*")
        .wrap_static_fns(true)
        .wrap_static_fns_path(&inline)
        .derive_default(true)
        .layout_tests(false)
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .generate()
        .expect("libclang reads DPDK's headers (Debian: apt-get install libclang-dev clang)")
        .write_to_file(out.join("bindings.rs"))
        .expect("OUT_DIR can be written");
    let mut shim = cc::Build::new();
    // The C that was written there names the header as it was named here.
    shim.file(&inline).include(&root).includes(&library.include_paths).opt_level(3).warnings(false);
    flags.iter().for_each(|flag| _ = shim.flag(flag));
    shim.compile("capsule_ffi_inline");
}
