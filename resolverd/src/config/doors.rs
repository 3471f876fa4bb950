//! `[server]`: from the doors as they are written to the doors as they are meant.
//!
//! Pure. Names the files of the certificate and does not look into them: that is `server`'s,
//! which tells of trouble with the places that are kept here.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use super::reader::Reader;
use super::spec::{self, Text};
use super::values::{self, Refusal};
use super::{Clock, Listen, Server, Tls};

/// What `[server]` means. `state_dir` takes the place of the default one, not of a written one.
pub fn server(r: &mut Reader<'_>, spec: &spec::Server, state_dir: Option<&Path>) -> Server {
    let state_dir_written = r.source.is_written(&spec.state_dir.span());
    let idle = r.duration("server.tcp-idle-timeout", &spec.tcp_idle_timeout, SECOND..=10 * MINUTE);
    let lifetime = r.duration("server.tcp-lifetime-max", &spec.tcp_lifetime_max, SECOND..=DAY);
    if idle > lifetime {
        let span = r.written(&[&spec.tcp_idle_timeout, &spec.tcp_lifetime_max]);
        let (idle, lifetime) = (values::show_duration(idle), values::show_duration(lifetime));
        r.refuse(
            span,
            format!(
                "`server.tcp-idle-timeout` ({idle}) is longer than `tcp-lifetime-max` \
                 ({lifetime}); write `tcp-idle-timeout = \"{lifetime}\"` or less instead"
            ),
        );
    }
    let proxies = &spec.proxy_protocol_from;
    r.at_most("server.proxy-protocol-from", proxies, PROXIES_MAX);
    let proxies = r.each_once("server.proxy-protocol-from", proxies.get_ref(), values::prefix);
    r.not_empty("server.listen", &spec.listen, "[\"127.0.0.1:53\"]");
    let tls = tls(r, spec);
    let name = spec.name.as_ref().and_then(|name| r.value("server.name", name, values::zone));
    each_once_a_protocol(r, spec);
    Server {
        listen: listens(r, "server.listen", &spec.listen, 53),
        edns_size: r.number("server.edns-size", &spec.edns_size, 512..=4096) as u16,
        state_dir: match state_dir {
            Some(dir) if !state_dir_written => dir.to_owned(),
            _ => r.path("server.state-dir", &spec.state_dir),
        },
        clock: r.one_of(
            "server.clock",
            &spec.clock,
            &[("boot", Clock::Boot), ("realtime", Clock::Realtime)],
        ),
        udp_workers: r.number("server.udp-workers", &spec.udp_workers, 0..=1024) as usize,
        tcp_clients_max: r.number("server.tcp-clients-max", &spec.tcp_clients_max, 1..=1_000_000)
            as usize,
        tcp_idle_timeout: idle,
        tcp_lifetime_max: lifetime,
        tcp_queries_in_flight_max: r.number(
            "server.tcp-queries-in-flight-max",
            &spec.tcp_queries_in_flight_max,
            1..=4096,
        ) as usize,
        tls_listen: listens(r, "server.tls-listen", &spec.tls_listen, 853),
        https_listen: listens(r, "server.https-listen", &spec.https_listen, 443),
        quic_listen: listens(r, "server.quic-listen", &spec.quic_listen, 853),
        h3_listen: listens(r, "server.h3-listen", &spec.h3_listen, 443),
        tls,
        name,
        tls_handshake_timeout: r.duration(
            "server.tls-handshake-timeout",
            &spec.tls_handshake_timeout,
            SECOND..=MINUTE,
        ),
        tls_clients_max: r.number("server.tls-clients-max", &spec.tls_clients_max, 1..=1_000_000)
            as usize,
        quic_clients_max: r.number("server.quic-clients-max", &spec.quic_clients_max, 1..=1_000_000)
            as usize,
        connections_per_client_max: r.number(
            "server.connections-per-client-max",
            &spec.connections_per_client_max,
            1..=1_000_000,
        ) as usize,
        streams_per_connection_max: r.number(
            "server.streams-per-connection-max",
            &spec.streams_per_connection_max,
            1..=4096,
        ) as usize,
        proxy_protocol_from: proxies,
    }
}

/// The certificate: both files, or none where nothing is encrypted.
fn tls(r: &mut Reader<'_>, spec: &spec::Server) -> Option<Tls> {
    match (&spec.tls_cert, &spec.tls_key) {
        (Some(cert), Some(key)) => Some(Tls {
            cert: r.path("server.tls-cert", cert),
            key: r.path("server.tls-key", key),
            cert_at: r.source.position(&cert.span()),
            key_at: r.source.position(&key.span()),
        }),
        (Some(cert), None) => {
            let text = "`server.tls-cert` has no key; write `tls-key = \
                        \"/etc/resolverd/tls/key.pem\"` beside it instead";
            r.refuse(cert.span(), text);
            None
        }
        (None, Some(key)) => {
            let text = "`server.tls-key` has no certificate; write `tls-cert = \
                        \"/etc/resolverd/tls/cert.pem\"` beside it instead";
            r.refuse(key.span(), text);
            None
        }
        (None, None) => {
            for (key, list) in encrypted(spec) {
                if !list.get_ref().is_empty() {
                    r.refuse(
                        list.span(),
                        format!(
                            "`{key}` needs a certificate; write `tls-cert = \
                             \"/etc/resolverd/tls/cert.pem\"` and `tls-key = \
                             \"/etc/resolverd/tls/key.pem\"` below `[server]`, or \
                             `{} = []`, instead",
                            key.trim_start_matches("server.")
                        ),
                    );
                }
            }
            None
        }
    }
}

/// A socket serves one protocol: what stands in two lists over TCP, or over UDP, is refused.
fn each_once_a_protocol(r: &mut Reader<'_>, spec: &spec::Server) {
    let plain = ("server.listen", &spec.listen);
    let [tls, https, quic, h3] = encrypted(spec);
    for lists in [[plain, tls, https], [plain, quic, h3]] {
        for (at, (key, list)) in lists.iter().enumerate().skip(1) {
            for text in list.get_ref() {
                let Ok(place) = values::listen(text.get_ref()) else { continue };
                let holds = |list: &Spanned<Vec<Text>>| {
                    list.get_ref().iter().any(|t| values::listen(t.get_ref()) == Ok(place.clone()))
                };
                if let Some((other, _)) = lists[..at].iter().find(|(_, list)| holds(list)) {
                    let span = text.span();
                    r.refuse(
                        span,
                        format!(
                            "`{key}` and `{other}` both have `{place}`; write another port in \
                             one of them instead"
                        ),
                    );
                }
            }
        }
    }
}

fn encrypted(spec: &spec::Server) -> [(&'static str, &Spanned<Vec<Text>>); 4] {
    [
        ("server.tls-listen", &spec.tls_listen),
        ("server.https-listen", &spec.https_listen),
        ("server.quic-listen", &spec.quic_listen),
        ("server.h3-listen", &spec.h3_listen),
    ]
}

/// `port` is the usual one, for who left it out.
fn listens(r: &mut Reader<'_>, key: &str, written: &Spanned<Vec<Text>>, port: u16) -> Vec<Listen> {
    r.at_most(key, written, LISTEN_MAX);
    r.each_once(key, written.get_ref(), |text| {
        values::listen(text).map_err(|refusal| Refusal {
            instead: refusal.instead.replace(":53\"", &format!(":{port}\"")),
            ..refusal
        })
    })
}

/// Whether a question to `address` would come in at `listen`.
pub fn is_listened(listen: &Listen, address: SocketAddr) -> bool {
    let Listen::Socket(socket) = listen else { return false };
    let same_family = socket.is_ipv4() == address.is_ipv4();
    let wildcard = match socket.ip() {
        IpAddr::V4(v4) => v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_unspecified(),
    };
    socket.port() == address.port()
        && same_family
        && (socket.ip() == address.ip() || wildcard && address.ip().is_loopback())
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// Looked through for each connection; balancers are few.
const PROXIES_MAX: usize = 256;

/// More addresses than a host has in practice; each takes sockets for every worker.
const LISTEN_MAX: usize = 256;
