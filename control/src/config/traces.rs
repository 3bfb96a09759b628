//! `[traces]`: where traces of calls go.

use super::Config;
use serde::{Deserialize, Serialize};
use tonic::codegen::http::Uri;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// The collector, which takes OTLP by gRPC: `http://HOST:4317`, or https:// with a certificate that the machine trusts.
    pub otlp: String,
}

impl Config {
    pub(super) fn check_traces(&self) -> Result<(), String> {
        let Some(TracesConfig { otlp }) = &self.traces else { return Ok(()) };
        let is_url = |url: Uri| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some();
        if !otlp.parse().is_ok_and(is_url) {
            return Err(format!(
                "[traces] otlp = {otlp:?}: give the collector's URL, as in http://127.0.0.1:4317"
            ));
        }
        Ok(())
    }
}
