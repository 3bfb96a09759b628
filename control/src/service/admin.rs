//! `Admin`: the configuration of the node that runs.

use super::waited;
use crate::access::Caller;
use crate::audit;
use crate::node::Node;
use crate::proto::admin_server::Admin as Service;
use crate::proto::{ApplyRequest, ApplyResponse, ConfigDifference, GetConfigRequest, GetConfigResponse};
use crate::settings::{self, Difference, SettingsError};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// No configuration is as long.
const TOML_BYTES_MAX: usize = 1 << 20;

pub struct Admin {
    node: Arc<Node>,
}

impl Admin {
    pub fn new(node: Arc<Node>) -> Admin {
        Admin { node }
    }
}

fn refusal(error: &SettingsError) -> Status {
    let text = error.to_string();
    match error {
        SettingsError::Config(_) => Status::invalid_argument(text),
        SettingsError::Revision { .. } => Status::aborted(text),
        SettingsError::Unrecorded(_) => Status::unavailable(text),
        _ => Status::failed_precondition(text),
    }
}

impl From<Difference> for ConfigDifference {
    fn from(Difference { key, from, to, is_live }: Difference) -> ConfigDifference {
        ConfigDifference { key, from, to, is_live }
    }
}

#[tonic::async_trait]
impl Service for Admin {
    async fn get_config(
        &self,
        _request: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
        let settings = &self.node.settings;
        let (config, revision) = settings.current();
        Ok(Response::new(GetConfigResponse {
            toml: settings::text(&config),
            file: settings.file().map(|file| file.display().to_string()).unwrap_or_default(),
            live_keys: settings.live_keys(),
            revision,
        }))
    }

    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let ApplyRequest { toml, dry_run, revision } = request.into_inner();
        if toml.len() > TOML_BYTES_MAX {
            return Err(Status::invalid_argument(format!("toml: at most {TOML_BYTES_MAX} bytes")));
        }
        let node = self.node.clone();
        let changed = waited(move || {
            // Another change may follow before this one is answered.
            let mut applied = None;
            let differences = match dry_run {
                true => node.settings.compare(&toml),
                false => node.settings.apply(&toml, revision, |differences, revision| {
                    applied = Some(revision);
                    let (keys, now) = settings::words(differences);
                    let now = format!("revision {revision}: {now}");
                    let record = audit::record(&caller, node.unix_ns(), "config.apply", &keys, now);
                    node.ledger.record(record).map(drop).map_err(|error| error.to_string())
                }),
            };
            differences.map(|differences| (differences, applied.unwrap_or_else(|| node.settings.current().1)))
        });
        let (differences, revision) = changed.await?.map_err(|error| refusal(&error))?;
        Ok(Response::new(ApplyResponse {
            differences: differences.into_iter().map(Into::into).collect(),
            applied: !dry_run,
            revision,
        }))
    }
}
