//! Which node a client talks to, and as whom.

use super::ClientError;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tickplane_client::Bearer;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A connection on which each call says who makes it.
pub type Connection = InterceptedService<Channel, Bearer>;

/// Which node to talk to, and as whom
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServerArgs {
    /// The node's gRPC address; https:// for TLS
    #[arg(
        long,
        value_name = "URL",
        env = "TICKPLANE_SERVER",
        default_value = "http://127.0.0.1:50051",
        global = true
    )]
    pub server: String,

    /// The token that says who you are; others on this machine may see a command line: better in the environment, or a file
    #[arg(long, env = "TICKPLANE_TOKEN", hide_env_values = true, global = true)]
    pub token: Option<String>,

    /// A file that holds the token
    #[arg(long, value_name = "FILE", env = "TICKPLANE_TOKEN_FILE", conflicts_with = "token", global = true)]
    pub token_file: Option<PathBuf>,

    /// https: a PEM file of who signed the node's certificate [default: those that the system trusts]
    #[arg(long, value_name = "FILE", env = "TICKPLANE_TLS_CA", global = true)]
    pub tls_ca: Option<PathBuf>,

    /// https: a PEM file of your certificate, which says who you are
    #[arg(long, value_name = "FILE", env = "TICKPLANE_TLS_CERT", requires = "tls_key", global = true)]
    pub tls_cert: Option<PathBuf>,

    /// https: a PEM file of its key
    #[arg(long, value_name = "FILE", env = "TICKPLANE_TLS_KEY", requires = "tls_cert", global = true)]
    pub tls_key: Option<PathBuf>,
}

impl ServerArgs {
    /// A node that asks nobody who calls.
    pub fn at(server: impl Into<String>) -> ServerArgs {
        ServerArgs { server: server.into(), ..ServerArgs::default() }
    }

    pub async fn connect(&self) -> Result<Connection, ClientError> {
        let server = self.server.clone();
        let url = if server.contains("://") { server.clone() } else { format!("http://{server}") };
        let bad = |cause: String| ClientError::Url { server: self.server.clone(), cause };
        let is_tls = url.starts_with("https://");
        let mut endpoint = Endpoint::from_shared(url).map_err(|error| bad(error.to_string()))?;
        if is_tls {
            endpoint = endpoint.tls_config(self.tls()?).map_err(|error| bad(causes(&error)))?;
        } else if let Some(file) = [&self.tls_ca, &self.tls_cert].into_iter().flatten().next() {
            return Err(bad(format!("{} is for https", file.display())));
        }
        let bearer = self.bearer()?;
        let connected = endpoint.connect_timeout(CONNECT_MAX).tcp_nodelay(true).connect().await;
        let channel = connected.map_err(|error| ClientError::Connect { server, cause: causes(&error) })?;
        Ok(InterceptedService::new(channel, bearer))
    }

    fn tls(&self) -> Result<ClientTlsConfig, ClientError> {
        let mut tls = match &self.tls_ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(tls)
    }

    fn bearer(&self) -> Result<Bearer, ClientError> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(file)) => String::from_utf8_lossy(&read(file)?).into_owned(),
            (None, None) => return Ok(Bearer::default()),
        };
        Bearer::new(token.trim()).map_err(|error| ClientError::Differs(format!("--token: {error}")))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(file).map_err(|cause| {
        ClientError::Differs(format!("{}: {cause}: name a file that you may read", file.display()))
    })
}

/// All that led to an error; the first says only that there is one.
fn causes(error: &dyn std::error::Error) -> String {
    let mut all = Vec::new();
    let mut cause = error.source();
    while let Some(one) = cause {
        let text = one.to_string();
        if all.last().is_none_or(|last: &String| !last.contains(&text)) {
            all.push(text);
        }
        cause = one.source();
    }
    if all.is_empty() { error.to_string() } else { all.join(": ") }
}
