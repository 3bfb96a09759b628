//! The log: what the node says of itself, on the standard error.

use crate::config::LogConfig;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

type Set = dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync;

/// The log of this process, once it has begun.
#[derive(Clone)]
pub struct Log {
    set: Arc<Set>,
}

/// What RUST_LOG says goes before the configuration.
fn told_by_environment() -> Option<String> {
    std::env::var("RUST_LOG").ok().filter(|told| !told.is_empty())
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level).map_err(|error| error.to_string())
}

impl Log {
    pub fn start(config: &LogConfig) -> Result<Log, String> {
        let filter = filter(&told_by_environment().unwrap_or_else(|| config.level.clone()))?;
        let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(colours)
            .with_filter_reloading();
        let handle = log.reload_handle();
        // A second start in one process (tests) keeps the first one's log.
        let _ = log.try_init();
        Ok(Log { set: Arc::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())) })
    }

    /// Says more or less from now on.
    pub fn set(&self, config: &LogConfig) -> Result<(), String> {
        match told_by_environment() {
            Some(told) => Err(format!("RUST_LOG={told} goes before it: restart the node without")),
            None => (self.set)(filter(&config.level)?),
        }
    }
}
