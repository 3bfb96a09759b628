//! Generates the bindings from the DPDK that this machine has, and compiles the shim over its inline functions.

use std::env;
use std::path::PathBuf;

const FUNCTIONS: &str = "rte_eal_(init|cleanup)|rte_version|rte_strerror|rte_socket_id\
    |rte_dev_(probe|remove)|rte_thread_(register|unregister)\
    |rte_eth_dev_(get_port_by_name|info_get|configure|start|stop|close|adjust_nb_rx_tx_desc|set_mc_addr_list|socket_id)\
    |rte_eth_(rx_queue_setup|tx_queue_setup|stats_get|macaddr_get|promiscuous_enable|allmulticast_enable|read_clock)\
    |rte_eth_(link_get_nowait|dev_get_mtu|dev_get_name_by_port)\
    |rte_mbuf_dyn_rx_timestamp_register\
    |rte_pktmbuf_pool_create|rte_mempool_(free|avail_count)";

fn main() {
    println!("cargo::rerun-if-changed=src/shim.c");
    println!("cargo::rerun-if-changed=src/shim.h");
    let library = match pkg_config::Config::new().atleast_version("22.11").probe("libdpdk") {
        Ok(library) => library,
        Err(error) => {
            eprintln!("dpdk-sys: no DPDK 22.11 or newer here: {error}");
            eprintln!(
                "dpdk-sys: install it with its headers (Debian: apt-get install libdpdk-dev libclang-dev clang)"
            );
            eprintln!(
                "dpdk-sys: or build without the feature `dpdk`: ports over kernel UDP need none of this"
            );
            std::process::exit(1);
        }
    };
    let includes = library.include_paths.iter().map(|path| format!("-I{}", path.display()));
    let flags = ["-march=corei7", "-D_GNU_SOURCE"].map(str::to_owned);
    let bindings = bindgen::Builder::default()
        .header("src/shim.h")
        .clang_args(flags.iter().cloned().chain(includes))
        .allowlist_function(FUNCTIONS)
        .allowlist_function("tickplane_.*")
        .allowlist_var("TICKPLANE_.*|RTE_ETH_(RX_OFFLOAD_TIMESTAMP|MQ_RX_.*|RSS_.*|TX_OFFLOAD_MBUF_FAST_FREE)|RTE_PKTMBUF_HEADROOM|RTE_MBUF_DEFAULT_BUF_SIZE")
        .opaque_type("rte_mbuf|rte_mempool|rte_device")
        .derive_default(true)
        .layout_tests(false)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .generate()
        .expect("libclang reads DPDK's headers (Debian: apt-get install libclang-dev clang)");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindings.write_to_file(out.join("bindings.rs")).expect("OUT_DIR can be written");
    let mut shim = cc::Build::new();
    shim.file("src/shim.c").opt_level(3).warnings(false);
    flags.iter().for_each(|flag| {
        shim.flag(flag);
    });
    shim.includes(&library.include_paths).compile("tickplane_dpdk_shim");
}
