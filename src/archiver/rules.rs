//! Which addresses a recording may be fetched from. Pure.

use std::net::IpAddr;

use url::{Host, Url};

/// The longest host name that is repeated in a message (RFC 1035, section 2.3.4).
const MAX_NAME_CHARS: usize = 253;

/// The configured rules.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    hosts: Vec<Pattern>,
    allow_private: bool,
}

#[derive(Clone, Debug)]
struct Pattern {
    /// Lower case; for `*.x` what follows the star, with its dot.
    name: String,
    sub_domains: bool,
    port: Option<u16>,
}

/// Why an address may not be fetched from; holds nothing of the URL but its host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the recording URL is no URL")]
    NoUrl,
    #[error("the recording URL has the scheme {0:?}: only https is fetched")]
    Scheme(String),
    #[error("the recording URL is not encrypted: plain http is fetched only where private addresses are allowed")]
    Plain,
    #[error("the sender redirects from an encrypted address to an unencrypted one")]
    Downgrade,
    #[error("the recording URL carries credentials")]
    Credentials,
    #[error("the recording URL names no host")]
    NoHost,
    #[error("the host {0} is not in recordings.hosts")]
    Host(String),
    #[error("the address {0} is private, and recordings.allow_private_addresses is off")]
    Private(IpAddr),
}

impl Rules {
    pub(super) fn new(hosts: &[String], allow_private: bool) -> Self {
        Self { hosts: hosts.iter().map(|host| Pattern::parse(host)).collect(), allow_private }
    }

    /// Reads a URL that may be fetched.
    pub(super) fn check(&self, text: &str) -> Result<Url, Refusal> {
        let url = Url::parse(text).map_err(|_| Refusal::NoUrl)?;
        self.check_url(&url)?;
        Ok(url)
    }

    /// The same rules for every hop of a redirect.
    pub(super) fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        if !matches!(url.scheme(), "https" | "http") {
            return Err(Refusal::Scheme(url.scheme().chars().take(20).collect()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::Credentials);
        }
        let host = url.host().ok_or(Refusal::NoHost)?;
        let port = url.port_or_known_default().ok_or(Refusal::NoHost)?;
        if !self.hosts.iter().any(|pattern| pattern.matches(&host, port, url.port().is_none())) {
            let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
            // A name has at most 253 characters; what is longer is not repeated in full.
            let name: String = host.to_string().chars().take(MAX_NAME_CHARS).collect();
            return Err(Refusal::Host(format!("{name}{port}")));
        }
        // The parser has read every spelling of a number (0x7f.1, 2130706433) into the address it means.
        let literal = match host {
            Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
            Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
            Host::Domain(_) => None,
        };
        if let Some(ip) = literal {
            self.check_address(ip)?;
        }
        if url.scheme() == "http" && !self.allow_private {
            return Err(Refusal::Plain);
        }
        Ok(())
    }

    /// Where a redirect leads: by the same rules, and never out of an encrypted connection, which would show the key.
    pub(super) fn check_hop(&self, from: &Url, to: &Url) -> Result<(), Refusal> {
        self.check_url(to)?;
        if from.scheme() == "https" && to.scheme() != "https" { Err(Refusal::Downgrade) } else { Ok(()) }
    }

    /// Checks the address that is about to be dialled.
    pub(super) fn check_address(&self, ip: IpAddr) -> Result<(), Refusal> {
        if !self.allow_private && is_private(ip) { Err(Refusal::Private(ip)) } else { Ok(()) }
    }
}

impl Pattern {
    fn parse(text: &str) -> Self {
        let text = text.trim().to_ascii_lowercase();
        // A colon inside square brackets belongs to an IPv6 address.
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !name.is_empty() && (!name.contains(':') || name.ends_with(']')) => {
                (name.to_owned(), port.parse().ok())
            }
            _ => (text.clone(), None),
        };
        match name.strip_prefix('*') {
            Some(rest) if rest.starts_with('.') => Self { name: rest.to_owned(), sub_domains: true, port },
            _ => Self { name, sub_domains: false, port },
        }
    }

    /// A pattern without a port means the scheme's own port; a bare loopback host, which only a test set-up names, any.
    fn matches(&self, host: &Host<&str>, port: u16, default_port: bool) -> bool {
        let name = host.to_string().to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let named = if self.sub_domains {
            matches!(host, Host::Domain(_)) && name.len() > self.name.len() && name.ends_with(&self.name)
        } else {
            name == self.name
        };
        let loopback = match host {
            Host::Domain(domain) => *domain == "localhost",
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        };
        named && self.port.map_or(default_port || loopback, |wanted| wanted == port)
    }
}

/// True for addresses that lead into a private network, to the machine itself or to nowhere (RFC 6890).
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_documentation()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 192 && b == 88 && c == 99)
                || (a == 198 && (b == 18 || b == 19))
        }
        IpAddr::V6(ip) => {
            let segments = ip.segments();
            let embedded =
                |high: u16, low: u16| IpAddr::from([(high >> 8) as u8, high as u8, (low >> 8) as u8, low as u8]);
            if let Some(mapped) = ip.to_ipv4_mapped() {
                return is_private(IpAddr::V4(mapped));
            }
            match segments {
                // Translation prefixes carry an IPv4 address: NAT64, 6to4, and the deprecated compatible form.
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] | [0, 0, 0, 0, 0, 0, high, low]
                    if high != 0 || low > 1 =>
                {
                    is_private(embedded(high, low))
                }
                [first, second, ..] => {
                    ip.is_loopback()
                        || ip.is_unspecified()
                        || ip.is_multicast()
                        || first & 0xfe00 == 0xfc00
                        || first & 0xffc0 == 0xfe80
                        || first & 0xffc0 == 0xfec0
                        || (first == 0x2001 && second < 0x200)
                        || (first == 0x2001 && second == 0xdb8)
                        || (first == 0x64 && second == 0xff9b)
                        || first == 0x100
                        || first == 0x5f00
                        || (first == 0x3fff && second < 0x1000)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(hosts: &[&str], allow_private: bool) -> Rules {
        Rules::new(&hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>(), allow_private)
    }

    #[test]
    fn only_listed_hosts() {
        let rules = rules(&["*.doubletick.io", "media.example.com:8443", "10.0.0.7", "[::1]:9000"], false);
        for good in [
            "https://recordings.doubletick.io/a.mp3?v=2",
            "https://A.B.DoubleTick.io./a",
            "https://media.example.com:8443/a",
            "https://recordings.doubletick.io:443/a",
        ] {
            assert!(rules.check(good).is_ok(), "{good}: {:?}", rules.check(good));
        }
        for bad in [
            "https://doubletick.io/a",
            "https://evildoubletick.io/a",
            "https://recordings.doubletick.io.evil.com/a",
            "https://recordings.doubletick.io:8443/a",
            "https://media.example.com/a",
            "https://recordings.doubletick.io@evil.com/a",
            "https://user:pw@recordings.doubletick.io/a",
            "http://recordings.doubletick.io/a",
            "ftp://recordings.doubletick.io/a",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "https://10.0.0.7/a",
            "https://127.0.0.1/a",
            "not a url",
            "",
        ] {
            assert!(rules.check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_spelling_of_loopback_is_loopback() {
        let allowed = rules(&["127.0.0.1"], true);
        let refused = rules(&["127.0.0.1"], false);
        for host in [
            "127.0.0.1:4711",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "017700000001",
            "0x7f000001:80",
            "127.0.0.1.",
            "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
            "%31%32%37.0.0.1",
        ] {
            let url = format!("http://{host}/a.mp3");
            assert!(allowed.check(&url).is_ok(), "{url}: {:?}", allowed.check(&url));
            assert!(matches!(refused.check(&url), Err(Refusal::Private(_))), "{url}");
        }
    }

    #[test]
    fn a_redirect_stays_encrypted_and_on_the_list() {
        let rules = rules(&["*.doubletick.io", "127.0.0.1"], true);
        let url = |text: &str| Url::parse(text).unwrap();
        let hop = |from: &str, to: &str| rules.check_hop(&url(from), &url(to));
        assert_eq!(hop("https://a.doubletick.io/1", "https://b.doubletick.io/2"), Ok(()));
        assert_eq!(hop("http://127.0.0.1:1/1", "http://127.0.0.1:2/2"), Ok(()));
        assert_eq!(hop("https://a.doubletick.io/1", "http://a.doubletick.io/1"), Err(Refusal::Downgrade));
        for bad in [
            "https://evil.example/",
            "https://u:p@a.doubletick.io/",
            "https://a.doubletick.io:22/",
            "ftp://a.doubletick.io/",
        ] {
            assert!(hop("https://a.doubletick.io/1", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_of_any_length_makes_a_short_message() {
        let refused = rules(&["*.doubletick.io"], false).check(&format!("https://{}/", "a".repeat(100_000)));
        assert!(refused.unwrap_err().to_string().len() < 400);
    }

    #[test]
    fn private_addresses_of_all_kinds() {
        for ip in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "192.0.0.8",
            "192.88.99.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::7f00:1",
            "2001::1",
            "5f00::1",
            "3fff::1",
            "2002:7f00:1::",
            "::127.0.0.1",
            "2001:db8::1",
        ] {
            assert!(is_private(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "172.32.0.1", "100.128.0.1"] {
            assert!(!is_private(ip.parse().unwrap()), "{ip}");
        }
    }
}
