//! What carries the bytes of a connection: TCP as it is, or TLS 1.3 over it, with which both ends know each other by name.

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned, version,
};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A node's certificate that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{file:?}: {cause}: name a PEM file that this node may read")]
    Pem { file: PathBuf, cause: rustls::pki_types::pem::Error },
    #[error("{file:?} holds no certificate: name a PEM file with one")]
    Empty { file: PathBuf },
    #[error("{certificate:?} with {key:?}: {cause}: do the two belong together?")]
    Pair { certificate: PathBuf, key: PathBuf, cause: rustls::Error },
    #[error("{ca:?}: {cause}: name the certificate of who signed those of all nodes")]
    Ca { ca: PathBuf, cause: String },
    #[error("`{0}` can't be the name in a certificate: give the node a name of letters, digits, `-` and `.`")]
    Name(String),
}

/// Who a node is to its peers: a certificate with its name, and whose signature it trusts.
#[derive(Clone, Debug)]
pub struct Identity {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Identity {
    /// Reads PEM files: the node's certificate (with those between it and the CA's), its key, and the CA's certificate. The
    /// certificate must be good for both ends of a connection, and name the node as a DNS name (RFC 6125).
    pub fn read(certificate: &Path, key: &Path, ca: &Path) -> Result<Identity, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            let bad =
                |cause: rustls::Error| IdentityError::Ca { ca: ca.to_owned(), cause: cause.to_string() };
            roots.add(root).map_err(bad)?;
        }
        let (roots, chain) = (Arc::new(roots), certificates(certificate)?);
        let pem = |cause| IdentityError::Pem { file: key.to_owned(), cause };
        let secret = PrivateKeyDer::from_pem_file(key).map_err(pem)?;
        let bad_ca = |cause: &dyn ToString| IdentityError::Ca { ca: ca.to_owned(), cause: cause.to_string() };
        let bad_pair =
            |cause| IdentityError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), cause };
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|cause| bad_ca(&cause))?;
        let servers = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|cause| bad_ca(&cause))?;
        let only_1_3 = &[&version::TLS13];
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(only_1_3)
            .map_err(bad_pair)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), secret.clone_key())
            .map_err(bad_pair)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(only_1_3)
            .map_err(bad_pair)?
            .with_webpki_verifier(servers)
            .with_client_auth_cert(chain, secret)
            .map_err(bad_pair)?;
        Ok(Identity { server: Arc::new(server), client: Arc::new(client) })
    }

    /// Whether a certificate can name a node so.
    pub fn can_name(node: &str) -> bool {
        matches!(ServerName::try_from(node), Ok(ServerName::DnsName(_)))
    }

    /// The end of a connection that was accepted. Who is at the other one is known once something was read.
    pub fn accept(&self, stream: TcpStream) -> io::Result<Channel> {
        let connection = ServerConnection::new(self.server.clone()).map_err(io::Error::other)?;
        Ok(Channel::Accepted(Box::new(StreamOwned::new(connection, stream))))
    }

    /// The end of a connection to the node of that name.
    pub fn connect(&self, stream: TcpStream, node: &str) -> io::Result<Channel> {
        let name = ServerName::try_from(node.to_owned())
            .map_err(|_| io::Error::other(IdentityError::Name(node.to_owned())))?;
        let connection = ClientConnection::new(self.client.clone(), name).map_err(io::Error::other)?;
        Ok(Channel::Connected(Box::new(StreamOwned::new(connection, stream))))
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = |cause| IdentityError::Pem { file: file.to_owned(), cause };
    let found: Vec<_> =
        CertificateDer::pem_file_iter(file).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)?;
    if found.is_empty() { Err(IdentityError::Empty { file: file.to_owned() }) } else { Ok(found) }
}

#[derive(Debug)]
pub enum Channel {
    Plain(TcpStream),
    Accepted(Box<StreamOwned<ServerConnection, TcpStream>>),
    Connected(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl From<TcpStream> for Channel {
    fn from(stream: TcpStream) -> Channel {
        Channel::Plain(stream)
    }
}

impl Channel {
    pub(super) fn stream(&self) -> &TcpStream {
        match self {
            Channel::Plain(stream) => stream,
            Channel::Accepted(tls) => &tls.sock,
            Channel::Connected(tls) => &tls.sock,
        }
    }

    /// Whether the other end has shown that it is that node; without TLS anybody may say so.
    pub fn is_from(&self, node: &str) -> bool {
        let certificates = match self {
            Channel::Plain(_) => return true,
            Channel::Accepted(tls) => tls.conn.peer_certificates(),
            Channel::Connected(tls) => tls.conn.peer_certificates(),
        };
        let Some(certificate) = certificates.and_then(|certificates| certificates.first()) else {
            return false;
        };
        let Ok(name) = ServerName::try_from(node) else { return false };
        ParsedCertificate::try_from(certificate)
            .is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, &name).is_ok())
    }
}

impl Read for Channel {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Channel::Plain(stream) => return stream.read(room),
            Channel::Accepted(tls) => tls.read(room),
            Channel::Connected(tls) => tls.read(room),
        };
        match read {
            // A connection that ends without a word of TLS: frames have checksums, so nothing can be cut unseen.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Channel::Plain(stream) => stream.write(bytes),
            Channel::Accepted(tls) => tls.write(bytes),
            Channel::Connected(tls) => tls.write(bytes),
        }
    }

    /// Hands what is encrypted already to the kernel.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Channel::Plain(_) => Ok(()),
            Channel::Accepted(tls) => tls.flush(),
            Channel::Connected(tls) => tls.flush(),
        }
    }
}
