//! `[replica]`: which of two or more nodes this one is, and where the others are.

use crate::idle::Idle;
use dataplane::limits::LOG_TICKS_MAX;
use dataplane::replica::PrimaryLimits;
use dataplane::time::NS_PER_MS;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

const VALID_FOR_MS_DEFAULT: u64 = 100;
const WINDOW_TICKS_DEFAULT: u64 = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaRole {
    /// Takes the feeds in, and sends what it publishes to its standbys.
    Primary,
    /// Has what its primary has, and serves it. Opens no port.
    Standby,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaConfig {
    pub role: ReplicaRole,
    /// primary: where standbys connect to.
    pub listen: Option<SocketAddr>,
    /// standby: where its primary listens, `HOST:PORT`.
    pub primary: Option<String>,
    /// The folder in which the node keeps its term; it must outlast a restart.
    pub state: PathBuf,
    /// primary: for how long a standby's rows may be believed after it was last heard.
    pub valid_for_ms: Option<u64>,
    /// primary: updates that may be on their way to a standby; at most half of the log.
    pub window_ticks: Option<u64>,
    /// What the replication's thread does when there is nothing to do.
    #[serde(default)]
    pub idle: Idle,
}

impl ReplicaConfig {
    pub fn limits(&self) -> PrimaryLimits {
        PrimaryLimits {
            window_ticks: self.window_ticks.unwrap_or(WINDOW_TICKS_DEFAULT),
            valid_for_ns: self.valid_for_ms.unwrap_or(VALID_FOR_MS_DEFAULT) * NS_PER_MS,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let (own, role) = match self.role {
            ReplicaRole::Primary => ("listen", "primary"),
            ReplicaRole::Standby => ("primary", "standby"),
        };
        let given = [
            ("listen", self.listen.is_some(), ReplicaRole::Primary),
            ("primary", self.primary.is_some(), ReplicaRole::Standby),
            ("valid_for_ms", self.valid_for_ms.is_some(), ReplicaRole::Primary),
            ("window_ticks", self.window_ticks.is_some(), ReplicaRole::Primary),
        ];
        if let Some((key, ..)) = given.iter().find(|(_, given, of)| *given && *of != self.role) {
            return Err(format!("[replica] `{key}` is not for role = \"{role}\": take it out"));
        }
        if let Some((key, ..)) = given.iter().find(|(key, given, _)| !given && *key == own) {
            return Err(format!("[replica] of role = \"{role}\" needs `{key}`"));
        }
        let is_loopback = match (&self.listen, &self.primary) {
            (Some(listen), _) => listen.ip().is_loopback(),
            (_, Some(primary)) => is_loopback(primary)?,
            _ => true,
        };
        if !is_loopback {
            return Err(format!(
                "[replica] {own}: what goes between nodes is neither encrypted nor authenticated yet, so only \
                 loopback is allowed: use 127.0.0.1, [::1] or localhost"
            ));
        }
        if self.state.as_os_str().is_empty() {
            return Err("[replica] state: name a folder that outlasts a restart".to_owned());
        }
        if self.valid_for_ms.is_some_and(|valid_for_ms| !(20..=60_000).contains(&valid_for_ms)) {
            return Err("[replica] valid_for_ms: must be 20 to 60000".to_owned());
        }
        if self.window_ticks.is_some_and(|ticks| !(1..=LOG_TICKS_MAX as u64).contains(&ticks)) {
            return Err(format!("[replica] window_ticks: must be 1 to {LOG_TICKS_MAX}"));
        }
        Ok(())
    }
}

/// Whether `HOST:PORT` is this machine. Names but `localhost` are not asked for: what they mean may change.
fn is_loopback(primary: &str) -> Result<bool, String> {
    if let Ok(address) = primary.parse::<SocketAddr>() {
        return Ok(address.ip().is_loopback() && address.port() != 0);
    }
    match primary.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0) => {
            Ok(host == "localhost")
        }
        _ => Err(format!("[replica] primary = \"{primary}\": give it as HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ReplicaRole};
    use std::path::Path;

    fn parse(replica: &str) -> Result<Config, String> {
        let embedded = include_str!("../../../configs/embedded.toml");
        let text = format!("{embedded}\n[replica]\n{replica}");
        Config::parse(Path::new("x.toml"), &text).map_err(|error| error.to_string())
    }

    #[test]
    fn both_roles_are_filled_up_with_defaults() {
        let primary = parse("role = \"primary\"\nlisten = \"127.0.0.1:0\"\nstate = \"s\"").unwrap();
        let primary = primary.replica.unwrap();
        assert_eq!((primary.role, primary.limits().valid_for_ns), (ReplicaRole::Primary, 100_000_000));
        for address in ["127.0.0.1:7400", "[::1]:7400", "localhost:7400"] {
            parse(&format!("role = \"standby\"\nprimary = \"{address}\"\nstate = \"s\"")).unwrap();
        }
    }

    #[test]
    fn what_can_not_be_is_refused_with_a_cure() {
        let primary = "role = \"primary\"\nlisten = \"127.0.0.1:0\"\nstate = \"s\"\n";
        let refused = [
            ("listen = \"127.0.0.1:0\"", "listen = \"10.0.0.1:7400\"", "only loopback"),
            ("listen = \"127.0.0.1:0\"", "listen = \"0.0.0.0:7400\"", "only loopback"),
            ("listen = \"127.0.0.1:0\"", "", "needs `listen`"),
            ("listen = ", "listne = ", "did you mean `listen`?"),
            ("role = \"primary\"", "role = \"primray\"", "did you mean `primary`?"),
            ("role = \"primary\"", "role = \"standby\"", "`listen` is not for role = \"standby\""),
            ("state = \"s\"", "", "state"),
            ("state = \"s\"", "state = \"\"", "folder"),
            ("state = \"s\"", "state = \"s\"\nvalid_for_ms = 5", "20 to 60000"),
            ("state = \"s\"", "state = \"s\"\nwindow_ticks = 0", "window_ticks"),
            ("role = \"primary\"\nlisten = \"127.0.0.1:0\"", "role = \"standby\"", "needs `primary`"),
            (
                "role = \"primary\"\nlisten = \"127.0.0.1:0\"",
                "role = \"standby\"\nprimary = \"10.0.0.1:7400\"",
                "only loopback",
            ),
            (
                "role = \"primary\"\nlisten = \"127.0.0.1:0\"",
                "role = \"standby\"\nprimary = \"node-a.example.com:7400\"",
                "only loopback",
            ),
            (
                "role = \"primary\"\nlisten = \"127.0.0.1:0\"",
                "role = \"standby\"\nprimary = \"x\"",
                "HOST:PORT",
            ),
        ];
        for (from, to, expected) in refused {
            assert!(primary.contains(from));
            let error = parse(&primary.replace(from, to)).unwrap_err();
            assert!(error.starts_with("x.toml: ") && error.contains(expected), "{error}, not {expected}");
        }
    }
}
