//! Where requests may go: the last check before a connection is made.
//!
//! Hosts stand in the configuration, never in an event, and most targets are internal; so loopback and private
//! addresses are allowed. Refused is what is never a target and always a prize: the metadata services of clouds, which
//! hand out credentials to whoever asks, and with them everything link-local, unspecified and multicast, also when
//! wrapped into IPv6. A name is looked up once, each of its addresses is checked, and the connection goes to the
//! addresses that were checked, so that a name that changes between check and connection gains nothing. If one address
//! of a name is forbidden the whole name is refused: nobody publishes such a pair by accident.
//!
//! Proxies from the environment are ignored (they would do the looking up for us, unchecked), redirects are not
//! followed, and nothing is sent twice by the client itself.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

/// Why a request was refused before anything was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} leads to {address}, {what}; no request goes there")]
pub struct Forbidden {
    host: String,
    address: IpAddr,
    what: &'static str,
}

/// Metadata services outside of 169.254.0.0/16: AWS over IPv6, Alibaba, Azure's host, Oracle's older one.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// What makes an address forbidden, if anything.
fn forbidden(address: IpAddr) -> Option<&'static str> {
    if METADATA.contains(&address) {
        return Some("the metadata service of a cloud");
    }
    match address {
        IpAddr::V4(v4) if v4.is_link_local() => Some("a link-local address (metadata services live there)"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("an address of no host"),
        IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => Some("an address of many hosts"),
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => match wrapped(v6) {
            Some(v4) => forbidden(IpAddr::V4(v4)),
            None if v6.is_unicast_link_local() => Some("a link-local address"),
            None if v6.is_unspecified() => Some("an address of no host"),
            None if v6.is_multicast() => Some("an address of many hosts"),
            None => None,
        },
    }
}

/// The IPv4 address inside of an IPv6 address: mapped, compatible, NAT64 (64:ff9b::/96) or 6to4 (2002::/16).
fn wrapped(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => from(high, low),
        [0x2002, high, low, ..] => from(high, low),
        _ => None,
    }
}

fn check(host: &str, address: IpAddr) -> Result<(), Forbidden> {
    match forbidden(address) {
        Some(what) => Err(Forbidden { host: host.chars().take(253).collect(), address, what }),
        None => Ok(()),
    }
}

/// Checks an address whose host is a literal IP address; names are checked when they are looked up. The URL type has
/// already read decimal, octal and hexadecimal ways of writing IPv4.
pub(crate) fn check_url(url: &reqwest::Url) -> Result<(), Forbidden> {
    let host = url.host_str().unwrap_or_default();
    match host.trim_matches(['[', ']']).parse() {
        Ok(address) => check(host, address),
        Err(_) => Ok(()),
    }
}

/// How names become addresses.
pub(crate) type Lookup = fn(String) -> Pin<Box<dyn Future<Output = std::io::Result<Vec<SocketAddr>>> + Send>>;

/// The system's own way: `/etc/hosts` and DNS.
pub(crate) fn system_lookup(
    host: String,
) -> Pin<Box<dyn Future<Output = std::io::Result<Vec<SocketAddr>>> + Send>> {
    Box::pin(async move { Ok(tokio::net::lookup_host((host.as_str(), 0)).await?.collect()) })
}

struct Checked(Lookup);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let looked_up = (self.0)(name.as_str().to_owned());
        Box::pin(async move {
            let addresses = looked_up.await?;
            for address in &addresses {
                check(name.as_str(), address.ip())?;
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// A client for one target that keeps to this module's promises. Errors: in words.
pub(crate) fn client(lookup: Lookup, connect_within: Duration) -> Result<reqwest::Client, String> {
    // reqwest panics without one. The process installs it once at start.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err("the process has no TLS provider; install one before the first request".into());
    }
    reqwest::Client::builder()
        .user_agent(concat!("turnback/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // A kept connection that the target just closed would be tried again silently; without any there is no doubt.
        .pool_max_idle_per_host(0)
        .no_proxy()
        .gzip(false)
        .referer(false)
        .connect_timeout(connect_within)
        .dns_resolver(Checked(lookup))
        .build()
        .map_err(|error| super::chain(&error))
}

/// The refusal inside of an error, if that is what it is.
pub(crate) fn refusal<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Forbidden> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prizes_are_refused_in_every_disguise_and_targets_are_not() {
        for bad in [
            "http://169.254.169.254/latest/meta-data",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0251.0376.0251.0376/",
            "http://169.254.1/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[::169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::1]/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://100.100.100.200/",
            "http://168.63.129.16/",
            "http://0.0.0.0/",
            "http://0/",
            "http://[::]/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://[ff02::1]/",
            "http://user:pass@169.254.169.254/",
        ] {
            assert!(check_url(&bad.parse().unwrap()).is_err(), "{bad}");
        }
        for good in [
            "http://127.0.0.1/",
            "http://[::1]/",
            "http://10.0.0.1/",
            "http://192.168.1.1/",
            "https://a.example/",
            "http://[fd00::1]/",
            "http://8.8.8.8/",
        ] {
            assert!(check_url(&good.parse().unwrap()).is_ok(), "{good}");
        }
    }

    #[test]
    fn the_refusal_says_what_is_wrong() {
        let refused = check("metadata", IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200))).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "metadata leads to 100.100.100.200, the metadata service of a cloud; no request goes there"
        );
        assert_eq!(refusal(&refused), Some(&refused));
    }
}
