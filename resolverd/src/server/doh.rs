//! DNS as HTTP has it (RFC 8484): requests in, messages out, and back.
//!
//! Pure. Knows no connection and no version of HTTP: `https.rs` and `h3.rs` move what is made
//! here. Names and clients stay out of what it says.

use data_encoding::BASE64URL_NOPAD;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};

use super::QUERY_OCTETS_MAX;
use super::wire::{Records, Section};
use crate::metrics::HttpStatus;

/// A request that asks us something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The message was in the path: GET, and HEAD, whose answer has no content.
    Message { query: Vec<u8>, head: bool },
    /// The message is the content: POST.
    Content,
}

/// Reads the head of a request.
///
/// # Errors
///
/// What to answer instead.
pub fn read(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Asked, HttpStatus> {
    if uri.path() != PATH {
        return Err(HttpStatus::NotFound);
    }
    match *method {
        Method::GET | Method::HEAD => {
            let query = parameter(uri.query().unwrap_or_default())?;
            Ok(Asked::Message { query, head: *method == Method::HEAD })
        }
        Method::POST => {
            let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            // Parameters mean nothing here (RFC 8484 section 6 defines none).
            let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
            if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case(DNS_MESSAGE)) {
                return Err(HttpStatus::UnsupportedMediaType);
            }
            let told = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
            if told.and_then(|told| told.parse().ok()).is_some_and(|len: u64| len > CONTENT_MAX) {
                return Err(HttpStatus::ContentTooLarge);
            }
            Ok(Asked::Content)
        }
        _ => Err(HttpStatus::MethodNotAllowed),
    }
}

/// The message in `dns=`, which is there once: base64url without padding (RFC 8484 section 6).
pub fn parameter(query: &str) -> Result<Vec<u8>, HttpStatus> {
    let mut found = query.split('&').filter_map(|pair| pair.strip_prefix("dns="));
    let (Some(text), None) = (found.next(), found.next()) else {
        return Err(HttpStatus::BadRequest);
    };
    if text.len() > TEXT_MAX {
        return Err(HttpStatus::UriTooLong);
    }
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| HttpStatus::BadRequest)
}

/// The head of the response that carries `reply`.
pub fn found(reply: &[u8]) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(DNS_MESSAGE));
    headers.insert(CONTENT_LENGTH, reply.len().into());
    // Digits and letters are a value of a header.
    if let Ok(value) = HeaderValue::try_from(format!("max-age={}", fresh_secs(reply))) {
        headers.insert(CACHE_CONTROL, value);
    }
    response
}

/// The head and the content of a response that carries no reply.
pub fn refused(status: HttpStatus) -> (Response<()>, &'static str) {
    let (code, text) = match status {
        // Not for this: a reply goes with it.
        HttpStatus::Ok => (StatusCode::OK, ""),
        HttpStatus::BadRequest => {
            (StatusCode::BAD_REQUEST, "no DNS query; see RFC 8484 section 4.1\n")
        }
        HttpStatus::NotFound => (StatusCode::NOT_FOUND, "DNS is asked at /dns-query\n"),
        HttpStatus::MethodNotAllowed => {
            (StatusCode::METHOD_NOT_ALLOWED, "DNS is asked by GET, HEAD or POST\n")
        }
        HttpStatus::Timeout => (StatusCode::REQUEST_TIMEOUT, "the content did not come\n"),
        HttpStatus::ContentTooLarge => {
            (StatusCode::PAYLOAD_TOO_LARGE, "no query has more than 4096 octets\n")
        }
        HttpStatus::UriTooLong => {
            (StatusCode::URI_TOO_LONG, "no query has more than 4096 octets\n")
        }
        HttpStatus::UnsupportedMediaType => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "a query has the type application/dns-message\n")
        }
        HttpStatus::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "the query made us stumble\n"),
        HttpStatus::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too much is asked at once\n"),
    };
    let mut response = Response::new(());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_LENGTH, text.len().into());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == HttpStatus::MethodNotAllowed {
        // RFC 9110 section 15.5.6: it says which are.
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    }
    (response, text)
}

/// How long a cache of HTTP may keep a reply: the smallest TTL of its answer; of a denial, what
/// its SOA says (RFC 8484 section 5.1, RFC 2308 section 5). 0 where there is neither.
fn fresh_secs(reply: &[u8]) -> u32 {
    let Some(records) = Records::of(reply) else { return 0 };
    let lives = records.filter_map(|record| match (record.section, record.rtype) {
        (Section::Answer, _) => Some(record.ttl),
        // MINIMUM is the last field (RFC 1035 section 3.3.13).
        (Section::Authority, SOA) => {
            let minimum = u32::from_be_bytes(*reply[record.rdata].last_chunk()?);
            Some(record.ttl.min(minimum))
        }
        _ => None,
    });
    lives.min().unwrap_or(0)
}

/// Where DNS is asked (RFC 8484 section 4.1.1 leaves it to the server; all call it so).
pub const PATH: &str = "/dns-query";

const DNS_MESSAGE: &str = "application/dns-message";

/// Octets of content, of which the longest query takes all.
const CONTENT_MAX: u64 = QUERY_OCTETS_MAX as u64;

/// The longest query in base64url.
const TEXT_MAX: usize = (QUERY_OCTETS_MAX * 4).div_ceil(3);

const SOA: u16 = 6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(method: &str, uri: &str, headers: &[(&'static str, &str)]) -> Result<Asked, HttpStatus> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        read(&method.parse().unwrap(), &uri.parse().unwrap(), &map)
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 8484 section 4.1.1.
        let uri = "https://dnsserver.example.net/dns-query?\
                   dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB";
        let mut query = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(b"\x03www\x07example\x03com\x00\x00\x01\x00\x01");
        let got = Asked::Message { query: query.clone(), head: false };
        assert_eq!(ask("GET", uri, &[]), Ok(got));
        assert_eq!(ask("HEAD", uri, &[]), Ok(Asked::Message { query, head: true }));
        let headers = [("content-type", "application/dns-message"), ("content-length", "33")];
        assert_eq!(ask("POST", "https://a/dns-query", &headers), Ok(Asked::Content));
    }

    #[test]
    fn each_wrong_request_has_its_status() {
        let dns = [("content-type", "application/dns-message")];
        let long = [dns[0], ("content-length", "4097")];
        let text = format!("https://a/dns-query?dns={}", "A".repeat(TEXT_MAX + 1));
        for (method, uri, headers, expected) in [
            ("GET", "https://a/", &[][..], HttpStatus::NotFound),
            ("GET", "https://a/dns-query/?dns=AAAA", &[], HttpStatus::NotFound),
            ("POST", "https://a/resolve", &dns, HttpStatus::NotFound),
            ("PUT", "https://a/dns-query", &dns, HttpStatus::MethodNotAllowed),
            ("OPTIONS", "https://a/dns-query", &[], HttpStatus::MethodNotAllowed),
            ("GET", "https://a/dns-query", &[], HttpStatus::BadRequest),
            ("GET", "https://a/dns-query?name=a&type=A", &[], HttpStatus::BadRequest),
            ("GET", "https://a/dns-query?dns=AAAA&dns=AAAA", &[], HttpStatus::BadRequest),
            ("GET", "https://a/dns-query?dns=AAAA==", &[], HttpStatus::BadRequest),
            ("GET", "https://a/dns-query?dns=AA+/", &[], HttpStatus::BadRequest),
            ("GET", "https://a/dns-query?dns=A", &[], HttpStatus::BadRequest),
            ("GET", &text, &[], HttpStatus::UriTooLong),
            ("POST", "https://a/dns-query", &[], HttpStatus::UnsupportedMediaType),
            (
                "POST",
                "https://a/dns-query",
                &[("content-type", "application/dns-json")],
                HttpStatus::UnsupportedMediaType,
            ),
            ("POST", "https://a/dns-query", &long, HttpStatus::ContentTooLarge),
        ] {
            assert_eq!(ask(method, uri, headers), Err(expected), "{method} {uri} {headers:?}");
        }
    }

    #[test]
    fn types_are_read_whatever_their_case_and_parameters() {
        for kind in ["Application/DNS-Message", "application/dns-message; charset=binary"] {
            let headers = [("content-type", kind)];
            assert_eq!(ask("POST", "https://a/dns-query", &headers), Ok(Asked::Content), "{kind}");
        }
    }

    #[test]
    fn other_parameters_do_not_matter() {
        let query = vec![0, 0, 0];
        for uri in ["/dns-query?ct=x&dns=AAAA", "/dns-query?dns=AAAA&a=b", "/dns-query?&dns=AAAA"] {
            let expected = Asked::Message { query: query.clone(), head: false };
            assert_eq!(ask("GET", uri, &[]), Ok(expected), "{uri}");
        }
    }

    /// A reply with records: section counts, then type and TTL and data of each.
    fn reply(counts: [u8; 3], records: &[(u16, u32, &[u8])]) -> Vec<u8> {
        let mut message = vec![0, 0, 0x81, 0x80, 0, 1];
        counts.iter().for_each(|count| message.extend([0, *count]));
        message.extend([1, b'a', 0, 0, 1, 0, 1]);
        for (rtype, ttl, data) in records {
            message.extend([0xc0, 12]);
            message.extend(rtype.to_be_bytes());
            message.extend([0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend((data.len() as u16).to_be_bytes());
            message.extend(*data);
        }
        message
    }

    #[test]
    fn a_reply_is_fresh_as_long_as_its_shortest_record() {
        let age = |counts, records: &[(u16, u32, &[u8])]| {
            let response = found(&reply(counts, records));
            response.headers()[CACHE_CONTROL].to_str().unwrap().to_owned()
        };
        let four = [192, 0, 2, 1];
        assert_eq!(age([2, 0, 0], &[(1, 300, &four), (1, 60, &four)]), "max-age=60");
        // Other sections do not count.
        assert_eq!(age([1, 1, 1], &[(1, 300, &four), (2, 5, &[0]), (1, 7, &four)]), "max-age=300");
        assert_eq!(age([0, 0, 0], &[]), "max-age=0");
        let mut soa = vec![0; 22];
        soa[18..].copy_from_slice(&90_u32.to_be_bytes());
        assert_eq!(age([0, 1, 0], &[(6, 3_600, &soa)]), "max-age=90");
        assert_eq!(age([0, 1, 0], &[(6, 30, &soa)]), "max-age=30");
        assert_eq!(age([1, 1, 0], &[(5, 20, &[0]), (6, 3_600, &soa)]), "max-age=20");
        assert_eq!(age([0, 1, 0], &[(6, 30, &[0])]), "max-age=0");
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        for status in HttpStatus::ALL.iter().filter(|status| **status != HttpStatus::Ok) {
            let (response, text) = refused(*status);
            assert_eq!(response.status().as_str(), status.as_str());
            assert!(!text.is_empty());
            assert_eq!(response.headers()[CONTENT_LENGTH], text.len().to_string());
        }
        let (response, _) = refused(HttpStatus::MethodNotAllowed);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD, POST");
    }

    proptest! {
        #[test]
        fn no_parameter_panics(text in ".{0,60}") {
            let _ = parameter(&text);
            let _ = parameter(&format!("dns={text}"));
        }

        #[test]
        fn what_is_written_is_read(
            query in prop::collection::vec(any::<u8>(), 0..=QUERY_OCTETS_MAX),
        ) {
            let text = BASE64URL_NOPAD.encode(&query);
            prop_assert_eq!(parameter(&format!("dns={text}")), Ok(query));
        }
    }
}
