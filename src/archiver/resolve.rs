//! Name resolution that hands out only addresses that may be dialled: what was checked is what is connected to.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::rules::{Refusal, Rules};

/// The resolver of the fetching client.
pub(super) struct CheckedResolver(pub(super) Rules);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let refused = found.iter().find_map(|address| rules.check_address(address.ip()).err());
            match refused {
                // One private address among others is enough: the name is not to be trusted.
                Some(refusal) => Err(Box::new(refusal) as Box<dyn std::error::Error + Send + Sync>),
                None => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

/// The refusal inside a client error, if that is what it was.
pub(super) fn refusal_in(error: &reqwest::Error) -> Option<Refusal> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(refusal) = inner.downcast_ref::<Refusal>() {
            return Some(refusal.clone());
        }
        source = inner.source();
    }
    None
}
