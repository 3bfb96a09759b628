//! `Clients`: who may call, and what each may see.

use super::waited;
use crate::access::{self, ANONYMOUS, Caller, Change, ClientError, ClientsError, Token, told};
use crate::node::Node;
use crate::proto::clients_server::Clients as Service;
use crate::proto::{
    Client, ClientRequest, ClientToken, CreateClientRequest, ListClientsRequest, ListClientsResponse,
    UpdateClientRequest, WhoAmIRequest,
};
use prost::Message;
use std::sync::Arc;
use tonic::{Request, Response, Status};

const PAGE_DEFAULT: usize = 1_000;
const PAGE_MAX: usize = 10_000;
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Of what an error repeats of a name.
const NAME_CHARS_SHOWN: usize = 64;

pub struct Clients {
    node: Arc<Node>,
}

impl Clients {
    pub fn new(node: Arc<Node>) -> Clients {
        Clients { node }
    }

    /// One that is there.
    fn of(&self, name: &str) -> Result<Client, Status> {
        let clients = self.node.access.clients();
        let unknown = || self.refusal(ClientError::Unknown(name.chars().take(NAME_CHARS_SHOWN).collect()));
        clients.get(name).map(|client| told(client)).ok_or_else(unknown)
    }

    /// It is done to its end, whether who asked for it waits or not.
    async fn change(
        &self,
        caller: &Caller,
        name: String,
        change: Change,
    ) -> Result<(Client, Option<Token>), Status> {
        if !matches!(change, Change::Create { .. }) {
            self.of(&name)?;
        }
        let (node, caller) = (self.node.clone(), caller.clone());
        let changed = waited(move || node.access.change(&node.ledger, &caller, &name, change));
        changed.await?.map_err(|error| self.refusal(error))
    }

    fn refusal(&self, error: ClientError) -> Status {
        let text = error.to_string();
        match error {
            ClientError::Ledger(error) => error.into(),
            ClientError::Unknown(_) => Status::not_found(text),
            ClientError::Taken(_)
            | ClientError::Clients(ClientsError::Shared { .. } | ClientsError::Twice(_)) => {
                Status::already_exists(text)
            }
            ClientError::OfFile(_) => {
                let file = self.node.settings.file().map(|file| file.display().to_string());
                Status::failed_precondition(format!("{text} ({})", file.as_deref().unwrap_or("built in")))
            }
            ClientError::Own(_) | ClientError::FirstIsNoAdmin => Status::failed_precondition(text),
            ClientError::Over(_) => Status::permission_denied(text),
            ClientError::TooMany => Status::resource_exhausted(text),
            ClientError::Revision { .. } => Status::aborted(text),
            ClientError::Malformed(_) | ClientError::TooLong(_) => Status::invalid_argument(text),
            ClientError::Clients(_) => Status::unavailable(text),
        }
    }

    /// What an admin is to know of the client that it has made.
    fn warnings(&self, caller: &Caller) -> Vec<String> {
        let first = "from now on everybody must say who calls, by a token or a certificate, and what was open of those who did not \
                     has ended: keep the token";
        let store = "it is gone when the node ends, since [store] has no folder: name one";
        let is_first = caller.name() == ANONYMOUS;
        let is_gone = self.node.config.store.folder.is_none();
        let all = [(is_first, first), (is_gone, store)];
        all.into_iter().filter(|(is_so, _)| *is_so).map(|(_, text)| text.to_owned()).collect()
    }
}

/// With a token, if one was made.
fn with_token((client, token): (Client, Option<Token>), warnings: Vec<String>) -> Response<ClientToken> {
    let token = token.map(|token| token.text().to_owned()).unwrap_or_default();
    Response::new(ClientToken { client: Some(client), token, warnings })
}

#[tonic::async_trait]
impl Service for Clients {
    async fn create(&self, request: Request<CreateClientRequest>) -> Result<Response<ClientToken>, Status> {
        let caller = Caller::of(&request)?;
        let CreateClientRequest { name, role, certificate, entitlement, with_token: wants_token } =
            request.into_inner();
        let made_of = access::asked(name.clone(), role, certificate, entitlement);
        let made_of = made_of.map_err(Status::invalid_argument)?;
        let change = Change::Create { made_of, with_token: wants_token };
        let made = self.change(&caller, name, change).await?;
        Ok(with_token(made, self.warnings(&caller)))
    }

    async fn update(&self, request: Request<UpdateClientRequest>) -> Result<Response<Client>, Status> {
        let caller = Caller::of(&request)?;
        let UpdateClientRequest { name, role, certificate, entitlement, revision } = request.into_inner();
        let made_of = access::asked(name.clone(), role, certificate, entitlement);
        let change = Change::Update { made_of: made_of.map_err(Status::invalid_argument)?, revision };
        Ok(Response::new(self.change(&caller, name, change).await?.0))
    }

    async fn delete(&self, request: Request<ClientRequest>) -> Result<Response<Client>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.change(&caller, request.into_inner().name, Change::Delete).await?.0))
    }

    async fn renew_token(&self, request: Request<ClientRequest>) -> Result<Response<ClientToken>, Status> {
        let caller = Caller::of(&request)?;
        let renewed = self.change(&caller, request.into_inner().name, Change::RenewToken).await?;
        Ok(with_token(renewed, Vec::new()))
    }

    async fn get(&self, request: Request<ClientRequest>) -> Result<Response<Client>, Status> {
        self.of(&request.into_inner().name).map(Response::new)
    }

    async fn list(
        &self,
        request: Request<ListClientsRequest>,
    ) -> Result<Response<ListClientsResponse>, Status> {
        let ListClientsRequest { page_size, page_token } = request.into_inner();
        let page_size = super::page_size(page_size, PAGE_DEFAULT, PAGE_MAX)?;
        // The token is the name that the page before ended with: whoever comes meanwhile is in its place.
        let all = self.node.access.clients();
        let mut rest = all.all().filter(|client| client.name() > page_token.as_str()).peekable();
        let (mut clients, mut bytes) = (Vec::new(), 0);
        while let Some(client) = rest.next_if(|_| clients.len() < page_size && bytes < PAGE_BYTES_MAX) {
            let client = told(client);
            bytes += client.encoded_len();
            clients.push(client);
        }
        let has_more = rest.peek().is_some();
        let next_page_token =
            clients.last().filter(|_| has_more).map_or_else(String::new, |last| last.name.clone());
        Ok(Response::new(ListClientsResponse { clients, next_page_token }))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<Client>, Status> {
        self.of(Caller::of(&request)?.name()).map(Response::new)
    }
}
