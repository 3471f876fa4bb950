//! What is said over HTTP, whatever its version (RFC 8484): a question as a request, and what of
//! a response is an answer.
//!
//! Pure. Questions are sent by POST: a GET has the question in its path, where it is logged and
//! cached, and no cache is asked for by who keeps one.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{ACCEPT, AGE, CONTENT_LENGTH, CONTENT_TYPE};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, Request, StatusCode};

use crate::resolver::trust::Identity;

use super::Failure;

/// The head of every request to one server.
pub(super) struct Head {
    uri: Uri,
}

impl Head {
    pub(super) fn new(identity: &Identity, server: SocketAddr) -> Result<Self, Failure> {
        let port = server.port();
        let authority = match &identity.server_name {
            Some(rustls::pki_types::ServerName::DnsName(name)) if port == HTTPS_PORT => {
                name.as_ref().to_owned()
            }
            Some(rustls::pki_types::ServerName::DnsName(name)) => {
                format!("{}:{port}", name.as_ref())
            }
            // The scope of a link-local address is our own affair (RFC 4007 section 11).
            _ => SocketAddr::new(server.ip(), port).to_string(),
        };
        let wrong = |_| Failure::Protocol("its name cannot be said over HTTP".into());
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(Authority::try_from(authority).map_err(wrong)?);
        parts.path_and_query = Some(PathAndQuery::try_from(&*identity.path).map_err(wrong)?);
        let uri = Uri::from_parts(parts);
        uri.map(|uri| Self { uri })
            .map_err(|_| Failure::Protocol("its path cannot be said over HTTP".into()))
    }

    pub(super) fn request(&self, question: &[u8]) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, MESSAGE_TYPE);
        headers.insert(CONTENT_TYPE, MESSAGE_TYPE);
        headers.insert(CONTENT_LENGTH, question.len().into());
        request
    }
}

/// The age of an answer in seconds, if a response is one.
pub(super) fn accept(status: StatusCode, headers: &HeaderMap) -> Result<u32, Failure> {
    if status != StatusCode::OK {
        return Err(Failure::Status(status.as_u16()));
    }
    if headers.get(CONTENT_TYPE) != Some(&MESSAGE_TYPE) {
        return Err(Failure::Protocol("a response that is no DNS message".into()));
    }
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse().ok());
    Ok(age.unwrap_or(0))
}

/// Adds to what came of an answer.
pub(super) fn gather(message: &mut Vec<u8>, octets: &[u8]) -> Result<(), Failure> {
    if message.len() + octets.len() > MESSAGE_OCTETS_MAX {
        return Err(Failure::Protocol("a response that is longer than any DNS message".into()));
    }
    message.extend_from_slice(octets);
    Ok(())
}

pub(super) fn content(question: &[u8]) -> Bytes {
    Bytes::copy_from_slice(question)
}

const MESSAGE_TYPE: http::HeaderValue = http::HeaderValue::from_static("application/dns-message");
const HTTPS_PORT: u16 = 443;

/// RFC 8484 section 6: as over TCP.
const MESSAGE_OCTETS_MAX: usize = 65_535;

/// Of the headers of a response.
pub(super) const HEADERS_OCTETS_MAX: u32 = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn head(name: Option<&str>, server: &str) -> Request<()> {
        let identity = Identity {
            server_name: name.map(|name| name.to_owned().try_into().unwrap()),
            pins: Vec::new(),
            roots: None,
            path: "/q".into(),
        };
        Head::new(&identity, server.parse().unwrap()).unwrap().request(b"abc")
    }

    #[test]
    fn a_server_is_called_what_its_certificate_calls_it() {
        for (name, server, uri) in [
            (Some("dns.test"), "192.0.2.1:443", "https://dns.test/q"),
            (Some("dns.test"), "192.0.2.1:8443", "https://dns.test:8443/q"),
            (Some("192.0.2.1"), "192.0.2.1:443", "https://192.0.2.1:443/q"),
            (None, "[2001:db8::1]:443", "https://[2001:db8::1]:443/q"),
            (None, "[fe80::1%2]:443", "https://[fe80::1]:443/q"),
        ] {
            let request = head(name, server);
            assert_eq!(request.uri().to_string(), uri);
            assert_eq!(request.headers()[CONTENT_LENGTH], "3");
        }
    }

    #[test]
    fn only_a_dns_message_is_an_answer_and_its_age_is_heard() {
        let mut headers = HeaderMap::new();
        assert!(matches!(accept(StatusCode::OK, &headers), Err(Failure::Protocol(_))));
        headers.insert(CONTENT_TYPE, MESSAGE_TYPE);
        assert_eq!(accept(StatusCode::OK, &headers).unwrap(), 0);
        headers.insert(AGE, http::HeaderValue::from_static("17"));
        assert_eq!(accept(StatusCode::OK, &headers).unwrap(), 17);
        headers.insert(AGE, http::HeaderValue::from_static("-1"));
        assert_eq!(accept(StatusCode::OK, &headers).unwrap(), 0);
        for status in [301, 403, 500, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(matches!(accept(status, &headers), Err(Failure::Status(_))));
        }
        let mut message = vec![0; MESSAGE_OCTETS_MAX - 1];
        assert!(gather(&mut message, &[0]).is_ok() && gather(&mut message, &[0]).is_err());
    }
}
