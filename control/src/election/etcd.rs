//! How etcd is reached, and how the keys of a group begin.

use super::ElectionError;
use crate::config::EtcdConfig;
use etcd_client::Client;
use std::time::Duration;
use tokio::time::timeout;

/// The longest that anything but a stream is waited for.
pub const ANSWER_MAX: Duration = Duration::from_secs(1);

/// A connection, and the endpoints as errors name them.
pub async fn connect(config: &EtcdConfig) -> Result<(Client, String), ElectionError> {
    let endpoints = config.endpoints.join(", ");
    let client = answer(&endpoints, Client::connect(&config.endpoints, None)).await?;
    Ok((client, endpoints))
}

pub fn key(group: &str, name: &str) -> String {
    format!("tickplane/{group}/{name}")
}

pub fn failed(endpoints: &str, error: &etcd_client::Error) -> ElectionError {
    ElectionError::Etcd { endpoints: endpoints.to_owned(), cause: error.to_string() }
}

/// An answer of etcd's, in time.
pub async fn answer<T>(
    endpoints: &str,
    asked: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, ElectionError> {
    match timeout(ANSWER_MAX, asked).await {
        Ok(answer) => answer.map_err(|error| failed(endpoints, &error)),
        Err(_) => Err(ElectionError::Silent { endpoints: endpoints.to_owned() }),
    }
}
