//! Brings a batch to the receiver, whichever of the protocol's two transports its address asks for.

use super::{
    address::Address,
    batch::{Batch, Rejected},
    grpc::Grpc,
    http::Http,
};
use crate::export::remote::{End, Header};

/// The way to one receiver.
#[derive(Debug)]
pub(super) enum Transport {
    Http(Http),
    Grpc(Box<Grpc>),
}

impl Transport {
    /// To `address`, with these headers in each request, until the session's end.
    pub(super) fn new(address: &Address, headers: Vec<Header>, end: End) -> Self {
        match address {
            Address::Http(url) => Self::Http(Http::new(url.clone(), headers, end)),
            Address::Grpc { authority, tls } => {
                Self::Grpc(Box::new(Grpc::new(authority.clone(), *tls, headers, end)))
            }
        }
    }

    /// Sends one, again where it may go well later on; returns what was not taken of it.
    ///
    /// # Errors
    ///
    /// Why nothing was taken: a sentence for people, with the address.
    pub(super) fn export(&mut self, batch: &Batch) -> Result<Rejected, String> {
        match self {
            Self::Http(http) => http.export(batch),
            Self::Grpc(grpc) => grpc.export(batch),
        }
    }
}
