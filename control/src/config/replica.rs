//! `[replica]`: which of two or more nodes this one is, and where the others are.

use super::check::{check_name, check_unique};
use crate::idle::Idle;
use dataplane::limits::LOG_TICKS_MAX;
use dataplane::replica::PrimaryLimits;
use dataplane::time::NS_PER_MS;
use drivers::tcp_link::Identity;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Other nodes of one group.
pub const PEERS_MAX: usize = 8;
const VALID_FOR_MS_DEFAULT: u64 = 100;
const WINDOW_TICKS_DEFAULT: u64 = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaRole {
    /// Takes the feeds in, and sends what it publishes to its standbys; unless one of its peers is the primary already.
    Primary,
    /// Has what its primary has, and serves it. With `listen` it takes the feeds in as well, to be able to take over.
    Standby,
    /// Either of the two, as the group's lease in etcd says.
    Elected,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaConfig {
    pub role: ReplicaRole,
    /// Where standbys connect to while this node is the primary; a standby without it is a copy that never takes over.
    pub listen: Option<SocketAddr>,
    /// The other nodes of the group: who may connect, and where the primary is looked for.
    #[serde(default)]
    pub peers: Vec<PeerConfig>,
    /// The folder in which the node keeps its term; it must outlast a restart.
    pub state: PathBuf,
    /// As the primary: for how long a standby's rows may be believed after it was last heard.
    pub valid_for_ms: Option<u64>,
    /// As the primary: updates that may be on their way to a standby; at most half of the log.
    pub window_ticks: Option<u64>,
    /// What the replication's thread does when there is nothing to do.
    #[serde(default)]
    pub idle: Idle,
    /// Encrypts what goes between nodes, and lets them prove who they are.
    pub tls: Option<TlsConfig>,
    /// Ticks go by this device, where the other end has one, too (feature `rdma`).
    pub rdma: Option<RdmaConfig>,
    /// Addresses beyond this machine are allowed although nothing is encrypted: for a network that only the group reaches.
    #[serde(default)]
    pub plaintext: bool,
    /// elected: where the group's lease is.
    pub etcd: Option<EtcdConfig>,
}

/// Another node of the group.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// Its `node`.
    pub name: String,
    /// Its `listen`, as this node reaches it, `HOST:PORT`; without it the peer can't be this node's primary.
    pub address: Option<String>,
}

/// An RDMA device.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RdmaConfig {
    /// Its name, as `rdma link` shows it.
    pub device: String,
    #[serde(default = "default_rdma_port")]
    pub port: u8,
    /// Which of the port's addresses [default: on Ethernet the IPv4 one of RoCE v2, the first on InfiniBand]
    pub gid_index: Option<u8>,
}

fn default_rdma_port() -> u8 {
    1
}

/// What a node shows to its peers; all are PEM files.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// A certificate that names this node (its `node`) as a DNS name, good for both ends of a connection.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The certificate of who signed those of all nodes.
    pub ca: PathBuf,
}

/// The service in which a group elects its primary.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdConfig {
    /// Such as `http://10.0.0.1:2379`.
    pub endpoints: Vec<String>,
    /// What the nodes of a group have in common, and no other group has.
    pub group: String,
    /// How long the group waits for a primary that is not heard.
    #[serde(default = "default_lease_ttl_s")]
    pub lease_ttl_s: u32,
    /// Where the others reach this node's `listen`, `HOST:PORT` [default: `listen` itself]
    pub advertise: Option<String>,
}

fn default_lease_ttl_s() -> u32 {
    2
}

impl ReplicaConfig {
    pub fn limits(&self) -> PrimaryLimits {
        PrimaryLimits {
            window_ticks: self.window_ticks.unwrap_or(WINDOW_TICKS_DEFAULT),
            valid_for_ns: self.valid_for_ms.unwrap_or(VALID_FOR_MS_DEFAULT) * NS_PER_MS,
        }
    }

    pub(super) fn check(&self, node: &str) -> Result<(), String> {
        let role = match self.role {
            ReplicaRole::Primary => "primary",
            ReplicaRole::Standby => "standby",
            ReplicaRole::Elected => "elected",
        };
        let needs = |key: &str| Err(format!("[replica] of role = \"{role}\" needs `{key}`"));
        match (self.role, &self.etcd) {
            (ReplicaRole::Primary | ReplicaRole::Elected, _) if self.listen.is_none() => {
                return needs("listen");
            }
            (ReplicaRole::Elected, None) => return needs("etcd"),
            (ReplicaRole::Elected, Some(etcd)) => etcd.check()?,
            (_, Some(_)) => {
                return Err(format!(
                    "[replica] `etcd` is not for role = \"{role}\": take it out, or say \"elected\""
                ));
            }
            (ReplicaRole::Standby, None) if self.peers.iter().all(|peer| peer.address.is_none()) => {
                return needs("peers` with an `address");
            }
            _ => {}
        }
        if self.listen.is_none() && (self.valid_for_ms.is_some() || self.window_ticks.is_some()) {
            return Err(
                "[replica] `valid_for_ms` and `window_ticks` are for nodes with `listen`: take them out"
                    .to_owned(),
            );
        }
        self.check_peers(node)?;
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

    /// Whether the peers can be these: also when they change at run time.
    pub(crate) fn check_peers(&self, node: &str) -> Result<(), String> {
        check_unique("[replica] peers:", self.peers.iter().map(|peer| peer.name.as_str()))?;
        if self.peers.iter().any(|peer| peer.name == node) {
            return Err(format!("[replica] peers: `{node}` is this node itself: name only the others"));
        }
        let names = self.peers.iter().map(|peer| peer.name.as_str()).chain([node]);
        if let Some(name) = names.filter(|_| self.tls.is_some()).find(|name| !Identity::can_name(name)) {
            return Err(format!(
                "[replica.tls] `{name}` can't be the name in a certificate: use letters, digits, `-` and `.`"
            ));
        }
        if self.peers.len() > PEERS_MAX {
            return Err(format!("[replica] peers: {} of them, at most {PEERS_MAX} can be", self.peers.len()));
        }
        let mut addresses = self.peers.iter().filter_map(|peer| peer.address.as_deref());
        let beyond = match self.listen {
            Some(listen) if !listen.ip().is_loopback() => Some(listen.to_string()),
            _ => None,
        };
        let beyond = addresses.try_fold(beyond, |beyond, address| {
            Ok::<_, String>(if is_loopback(address)? { beyond } else { Some(address.to_owned()) })
        })?;
        if let Some(address) = beyond.filter(|_| !self.plaintext && self.tls.is_none()) {
            return Err(format!(
                "[replica] {address}: without [replica.tls] only loopback is allowed: name certificates there, or use \
                 127.0.0.1, [::1] or localhost, or, where only nodes of the group reach the network, plaintext = true"
            ));
        }
        Ok(())
    }
}

impl EtcdConfig {
    fn check(&self) -> Result<(), String> {
        if self.endpoints.is_empty() {
            return Err("[replica.etcd] endpoints: name one, such as \"http://127.0.0.1:2379\"".to_owned());
        }
        check_name("[replica.etcd] group", &self.group)?;
        if !(1..=60).contains(&self.lease_ttl_s) {
            return Err("[replica.etcd] lease_ttl_s: must be 1 to 60".to_owned());
        }
        Ok(())
    }
}

/// Whether `HOST:PORT` is this machine. Names but `localhost` are not asked for: what they mean may change.
fn is_loopback(address: &str) -> Result<bool, String> {
    if let Ok(address) = address.parse::<SocketAddr>() {
        return Ok(address.ip().is_loopback() && address.port() != 0);
    }
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0) => {
            Ok(host == "localhost")
        }
        _ => Err(format!("[replica] peers: address = \"{address}\": give it as HOST:PORT")),
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
    fn all_roles_are_filled_up_with_defaults() {
        let primary = parse("role = \"primary\"\nlisten = \"127.0.0.1:0\"\nstate = \"s\"").unwrap();
        let primary = primary.replica.unwrap();
        assert_eq!((primary.role, primary.limits().valid_for_ns), (ReplicaRole::Primary, 100_000_000));
        for address in ["127.0.0.1:7400", "[::1]:7400", "localhost:7400"] {
            let peers = format!("peers = [{{ name = \"a\", address = \"{address}\" }}, {{ name = \"c\" }}]");
            parse(&format!("role = \"standby\"\nstate = \"s\"\n{peers}")).unwrap();
        }
        let elected = parse(ELECTED).unwrap().replica.unwrap();
        assert_eq!(elected.etcd.unwrap().lease_ttl_s, 2);
    }

    const ELECTED: &str = "role = \"elected\"\nlisten = \"127.0.0.1:0\"\nstate = \"s\"\n[replica.etcd]\nendpoints = \
                           [\"http://127.0.0.1:2379\"]\ngroup = \"g\"";

    #[test]
    fn what_can_not_be_is_refused_with_a_cure() {
        let primary = "role = \"primary\"\nlisten = \"127.0.0.1:0\"\nstate = \"s\"\n";
        let peer = |peers: &str| format!("state = \"s\"\npeers = [{peers}]");
        let far = peer("{ name = \"b\", address = \"10.0.0.1:7400\" }");
        let refused = [
            (primary, "listen = \"127.0.0.1:0\"", "listen = \"10.0.0.1:7400\"", "only loopback"),
            (primary, "listen = \"127.0.0.1:0\"", "listen = \"0.0.0.0:7400\"", "only loopback"),
            (primary, "listen = \"127.0.0.1:0\"", "", "needs `listen`"),
            (primary, "listen = ", "listne = ", "did you mean `listen`?"),
            (primary, "role = \"primary\"", "role = \"primray\"", "did you mean `primary`?"),
            (primary, "role = \"primary\"", "role = \"standby\"", "needs `peers` with an `address`"),
            (primary, "role = \"primary\"", "role = \"elected\"", "needs `etcd`"),
            (primary, "state = \"s\"", "", "state"),
            (primary, "state = \"s\"", "state = \"\"", "folder"),
            (primary, "state = \"s\"", "state = \"s\"\nvalid_for_ms = 5", "20 to 60000"),
            (primary, "state = \"s\"", "state = \"s\"\nwindow_ticks = 0", "window_ticks"),
            (primary, "state = \"s\"", &far, "10.0.0.1:7400: without [replica.tls]"),
            (primary, "state = \"s\"", &peer("{ name = \"b\", address = \"x\" }"), "HOST:PORT"),
            (
                primary,
                "state = \"s\"",
                &peer("{ name = \"b\", address = \"x.example:1\" }"),
                "plaintext = true",
            ),
            (primary, "state = \"s\"", &peer("{ name = \"b\" }, { name = \"b\" }"), "there twice"),
            (primary, "state = \"s\"", &peer("{ name = \"embedded\" }"), "this node itself"),
            (ELECTED, "role = \"elected\"", "role = \"primary\"", "`etcd` is not for role = \"primary\""),
            (ELECTED, "[\"http://127.0.0.1:2379\"]", "[]", "endpoints: name one"),
            (ELECTED, "group = \"g\"", "group = \"g\"\nlease_ttl_s = 0", "1 to 60"),
            (ELECTED, "group = \"g\"", "group = \"a/b\"", "group"),
        ];
        for (good, from, to, expected) in refused {
            assert!(good.contains(from), "{from}");
            let error = parse(&good.replace(from, to)).unwrap_err();
            assert!(error.starts_with("x.toml: ") && error.contains(expected), "{error}, not {expected}");
        }
        let tls = "[replica.tls]\ncertificate = \"a\"\nkey = \"b\"\nca = \"c\"";
        parse(&format!("role = \"standby\"\n{far}\n{tls}")).unwrap();
        let odd = far.replace("\"b\"", "\"b..c\"");
        let error = parse(&format!("role = \"standby\"\n{odd}\n{tls}")).unwrap_err();
        assert!(error.contains("`b..c` can't be the name"), "{error}");
        let far = format!("plaintext = true\n{far}").replace("state", "role = \"standby\"\nstate");
        parse(&far).unwrap();
    }
}
