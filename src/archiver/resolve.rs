//! Name resolution that hands out only addresses that may be dialled: what was checked is what is connected to.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::rules::{Refusal, Rules};

/// The resolver of the fetching client. It looks a name up once for each connection, and the connection is made to what
/// that one answer held: a name that means something else a moment later changes nothing.
pub(super) struct CheckedResolver {
    rules: Rules,
    names: Arc<dyn Resolve>,
}

/// The names that the machine knows.
struct System;

impl CheckedResolver {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, names: Arc::new(System) }
    }
}

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (rules, answer) = (self.rules.clone(), self.names.resolve(name));
        Box::pin(async move {
            let found: Vec<SocketAddr> = answer.await?.collect();
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one after the other; the last one stays.
    struct Script(Mutex<Vec<Vec<IpAddr>>>, Mutex<usize>);

    impl Script {
        fn of(answers: &[&[&str]]) -> Arc<Self> {
            let ips = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
            Arc::new(Self(Mutex::new(answers.iter().map(ips).collect()), Mutex::new(0)))
        }
    }

    impl Resolve for Script {
        fn resolve(&self, _: Name) -> Resolving {
            *self.1.lock().unwrap() += 1;
            let mut answers = self.0.lock().unwrap();
            let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
            let found = answer.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Box::pin(async move { Ok(Box::new(found) as Addrs) })
        }
    }

    fn client(names: Arc<Script>, allow_private: bool) -> reqwest::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let rules = Rules::new(&["media.example".to_owned()], allow_private);
        let resolver = CheckedResolver { rules, names };
        reqwest::Client::builder().no_proxy().dns_resolver(resolver).build().unwrap()
    }

    /// A host on an address of this machine that tells which address it was reached at, and hangs up.
    async fn host(address: &str) -> u16 {
        let listener = TcpListener::bind(address).await.unwrap();
        let here = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let ip = here.ip().to_string();
                let answer =
                    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{ip}", ip.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        here.port()
    }

    #[tokio::test]
    async fn the_checked_address_is_the_one_that_is_dialled() {
        let port = host("127.0.0.1:0").await;
        host(&format!("127.0.0.2:{port}")).await;
        // A name that means another address each time it is asked for.
        let names = Script::of(&[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1"]]);
        let client = client(Arc::clone(&names), true);
        for (asked, expected) in [(1, "127.0.0.1"), (2, "127.0.0.2"), (3, "127.0.0.1")] {
            let answer = client.get(format!("http://media.example:{port}/")).send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), expected);
            assert_eq!(*names.1.lock().unwrap(), asked, "one look for each connection");
        }
    }

    #[tokio::test]
    async fn one_private_address_spoils_the_name() {
        let port = host("127.0.0.1:0").await;
        for answer in [
            &["127.0.0.1"][..],
            &["8.8.8.8", "127.0.0.1"],
            &["127.0.0.1", "8.8.8.8"],
            &["8.8.8.8", "::ffff:127.0.0.1"],
            &["2606:4700::1111", "fd00::1"],
            &["169.254.169.254"],
        ] {
            let client = client(Script::of(&[answer]), false);
            let error = client.get(format!("http://media.example:{port}/")).send().await.unwrap_err();
            assert!(matches!(refusal_in(&error), Some(Refusal::Private(_))), "{answer:?}: {error:?}");
        }
    }

    #[tokio::test]
    async fn a_name_is_checked_again_for_each_connection() {
        let port = host("127.0.0.1:0").await;
        let names = Script::of(&[&["8.8.8.8"], &["127.0.0.1"]]);
        let resolver = CheckedResolver { rules: Rules::new(&["media.example".to_owned()], false), names };
        // It was public when it was first asked for; what counts is the answer that would be dialled.
        assert!(resolver.resolve("media.example".parse().unwrap()).await.is_ok());
        assert!(resolver.resolve("media.example".parse().unwrap()).await.is_err());
        let client = client(Script::of(&[&["127.0.0.1"]]), false);
        assert!(client.get(format!("http://media.example:{port}/")).send().await.is_err());
    }
}
