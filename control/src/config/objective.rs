//! Objectives: how fast the node is to be.

use super::Config;
use super::check::check_unique;
use crate::proto::Stage;
use crate::window::SAMPLES_MAX;
use serde::{Deserialize, Serialize};

/// Objectives of one node.
const OBJECTIVES_MAX: usize = 32;

/// So much of what a stage measured over some seconds must be within a limit.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveConfig {
    pub name: String,
    pub stage: StageName,
    /// Only this feed's updates.
    pub feed: Option<String>,
    /// The part of the updates that must be within the limit: 0.99 = all but one of a hundred.
    pub quantile: f64,
    pub limit_us: u64,
    /// The seconds that are looked at: the last, as of each second.
    pub over_s: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StageName {
    ExchangeToReceived,
    ReceivedToPublished,
    PublishedToDelivered,
    PublishedToAcknowledged,
}

impl From<StageName> for Stage {
    fn from(name: StageName) -> Stage {
        match name {
            StageName::ExchangeToReceived => Stage::ExchangeToReceived,
            StageName::ReceivedToPublished => Stage::ReceivedToPublished,
            StageName::PublishedToDelivered => Stage::PublishedToDelivered,
            StageName::PublishedToAcknowledged => Stage::PublishedToAcknowledged,
        }
    }
}

pub(super) fn check(config: &Config) -> Result<(), String> {
    let objectives = &config.objectives;
    if objectives.len() > OBJECTIVES_MAX {
        return Err(format!("{} [[objectives]]: at most {OBJECTIVES_MAX}", objectives.len()));
    }
    check_unique("objective", objectives.iter().map(|objective| objective.name.as_str()))?;
    objectives.iter().try_for_each(|objective| objective.check(config))
}

impl ObjectiveConfig {
    fn check(&self, config: &Config) -> Result<(), String> {
        let refused = |text: &str| Err(format!("objective `{}`: {text}", self.name));
        if !(self.quantile > 0.0 && self.quantile < 1.0) {
            return refused("quantile must be above 0 and below 1, as 0.99");
        }
        if !(1..=60_000_000).contains(&self.limit_us) {
            return refused("limit_us must be 1 to 60000000");
        }
        if !(1..=SAMPLES_MAX as u64).contains(&self.over_s) {
            return refused(&format!("over_s must be 1 to {SAMPLES_MAX}: longer is not kept"));
        }
        if let Some(feed) = &self.feed {
            if !config.feeds.iter().any(|known| known.name == *feed) {
                return refused(&format!("no feed is called `{feed}`"));
            }
            if !matches!(self.stage, StageName::ExchangeToReceived | StageName::ReceivedToPublished) {
                return refused("its stage is not measured by feed: take `feed` out");
            }
        }
        if self.stage == StageName::PublishedToAcknowledged && config.replica.is_none() {
            return refused(
                "a node that is alone has no standby to acknowledge: add [replica], or take it out",
            );
        }
        Ok(())
    }
}
