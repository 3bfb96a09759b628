//! A node in a process of its own, with TLS and clients of all kinds, which may be killed and started again.

use super::process::{Process, field, start_node, token};
use control::client::{Connection, ServerArgs};
use control::proto::AuditRecord;
use control::proto::clients_client::ClientsClient;
use control::store::Store;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A node with TLS, an admin by certificate, and readers by token.
pub struct Rig {
    pub folder: tempfile::TempDir,
    pub node: Process,
    pub server: String,
    pub reader: String,
    pub narrow: String,
    /// Of a client that sees everything late.
    pub late: String,
    pub group: String,
}

/// Of this node alone, so that several may run at once.
fn group() -> String {
    static NODES: AtomicU32 = AtomicU32::new(0);
    let (process, node) = (std::process::id(), NODES.fetch_add(1, Ordering::Relaxed));
    format!("239.{}.{}.{}", 200 + node % 50, process >> 8 & 0xff, process & 0xff)
}

/// Region, feeds and store of a node.
fn node(folder: &tempfile::TempDir, group: &str) -> String {
    let file = |name: &str| folder.path().join(name);
    format!(
        "node = \"access\"\n[region]\npath = {:?}\ninstruments_max = 64\nlog_ticks = 65536\n[store]\nfolder = {:?}\n\
         [[ports]]\nname = \"lo\"\nkind = \"udp\"\ninterface = \"127.0.0.1\"\n\
         [[feeds]]\nname = \"one\"\nprotocol = \"itch50\"\norders_max = 100\n[[feeds.lines]]\nname = \"A\"\nport = \"lo\"\n\
         group = \"{group}:26477\"\n\
         [[feeds]]\nname = \"two\"\nprotocol = \"itch50\"\norders_max = 100\n[[feeds.lines]]\nname = \"A\"\nport = \"lo\"\n\
         group = \"{group}:26478\"\n[grpc]\nlisten = \"127.0.0.1:0\"\n",
        file("region"),
        file("store"),
    )
}

impl Rig {
    pub fn start() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("ca.pem"), ca.pem()).unwrap();
        for name in ["localhost", "ann.example", "stranger.example"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &ca).unwrap();
            std::fs::write(file(&format!("{name}.pem")), certificate.pem()).unwrap();
            std::fs::write(file(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        let ((reader, reader_hash), (narrow, narrow_hash), (late, late_hash)) = (token(), token(), token());
        let group = group();
        let text = format!(
            "{}[grpc.tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n\
             [[clients]]\nname = \"ann\"\nrole = \"admin\"\ncertificate = \"ann.example\"\n\
             [[clients]]\nname = \"rob\"\nrole = \"reader\"\ntoken_sha256 = \"{reader_hash}\"\n\
             [[clients]]\nname = \"nat\"\nrole = \"reader\"\ntoken_sha256 = \"{narrow_hash}\"\nfeeds = [\"two\"]\npatterns = [\"A*\"]\n\
             [[clients]]\nname = \"lou\"\nrole = \"reader\"\ntoken_sha256 = \"{late_hash}\"\ndelay_ms = 400\n",
            node(&folder, &group),
            file("localhost.pem"),
            file("localhost.key"),
            file("ca.pem"),
        );
        let (node, line) = start_node(folder.path(), &text);
        let server = format!("https://localhost:{}", port(&line));
        Rig { folder, node, server, reader, narrow, late, group }
    }

    /// One that asks nobody who calls.
    pub fn anonymous() -> Rig {
        let (folder, group) = (tempfile::tempdir().unwrap(), group());
        let (node, line) = start_node(folder.path(), &node(&folder, &group));
        let server = format!("http://127.0.0.1:{}", port(&line));
        Rig { folder, node, server, reader: String::new(), narrow: String::new(), late: String::new(), group }
    }

    pub fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.path().join(name))
    }

    /// The configuration's file.
    pub fn text(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("appliance.toml")).unwrap()
    }

    pub fn nobody(&self) -> ServerArgs {
        let tls_ca = self.file("ca.pem").filter(|_| self.server.starts_with("https"));
        ServerArgs { tls_ca, ..ServerArgs::at(&self.server) }
    }

    pub fn bearer(&self, token: &str) -> ServerArgs {
        ServerArgs { token: Some(token.to_owned()), ..self.nobody() }
    }

    pub fn certificate(&self, name: &str) -> ServerArgs {
        let (tls_cert, tls_key) = (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")));
        ServerArgs { tls_cert, tls_key, ..self.nobody() }
    }

    /// The admin of the file.
    pub async fn admin(&self) -> ClientsClient<Connection> {
        clients(self.certificate("ann.example")).await
    }

    /// Changes the file, and tells the node.
    pub fn reload(&self, from: &str, to: &str) {
        let text = self.text();
        assert!(text.contains(from), "{from}");
        std::fs::write(self.folder.path().join("appliance.toml"), text.replace(from, to)).unwrap();
        let pid = rustix::process::Pid::from_child(&self.node.0);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    }

    /// Kills the node where it stands (SIGKILL).
    pub fn kill(&mut self) {
        self.node.0.kill().unwrap();
        self.node.0.wait().unwrap();
    }

    /// Starts the node that was killed, on another configuration.
    pub fn restart(&mut self, text: &str) {
        let (node, line) = start_node(self.folder.path(), text);
        self.node = node;
        let (address, _) = self.server.rsplit_once(':').unwrap();
        self.server = format!("{address}:{}", port(&line));
    }

    /// The store of the node, which was killed.
    pub fn store(&self) -> Store {
        Store::open(&self.folder.path().join("store")).unwrap()
    }
}

fn port(line: &str) -> String {
    field(line, "grpc").unwrap().rsplit_once(':').unwrap().1.to_owned()
}

pub async fn clients(args: ServerArgs) -> ClientsClient<Connection> {
    ClientsClient::new(args.connect().await.unwrap())
}

/// All that was recorded, in order.
pub fn records(store: &Store) -> Vec<AuditRecord> {
    let records = store.audit(1..=u64::MAX, false, usize::MAX).unwrap();
    assert!(records.iter().zip(1..).all(|(record, expected)| record.number == expected));
    records
}
