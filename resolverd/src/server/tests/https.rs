//! DNS over HTTP/2: requests, room and time.

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use h2::client::{Builder, SendRequest};
use http::{Method, Request, StatusCode};
use tokio::io::AsyncWriteExt;

use super::encrypted::{believer, connect, query};
use super::*;
use crate::metrics::{Ended, HttpStatus};

type Sender = SendRequest<Bytes>;

/// A connection, driven by a task of its own.
async fn client_of(house: &House, builder: &Builder) -> (Sender, tokio::task::JoinHandle<()>) {
    let config = Arc::new(believer(&[b"h2"]));
    let stream = connect(house.door(Transport::Https), &config).await.unwrap();
    let (sender, connection) = builder.handshake(stream).await.unwrap();
    let driver = tokio::spawn(async move {
        let _ = connection.await;
    });
    (sender.ready().await.unwrap(), driver)
}

fn request(method: &str, path: &str, kind: Option<&str>) -> Request<()> {
    let mut request =
        Request::builder().method(method).uri(format!("https://resolverd.test{path}"));
    if let Some(kind) = kind {
        request = request.header("content-type", kind);
    }
    request.body(()).unwrap()
}

/// Status, `cache-control`, `content-length`, content.
type Told = (StatusCode, String, u64, Vec<u8>);

async fn ask(
    sender: &mut Sender,
    request: Request<()>,
    body: Option<&[u8]>,
) -> Result<Told, h2::Error> {
    let (response, mut stream) = sender.send_request(request, body.is_none())?;
    if let Some(body) = body {
        // One that is refused early may be reset in the middle.
        let _ = stream.send_data(Bytes::copy_from_slice(body), true);
    }
    let response = response.await?;
    let header = |name: &str| {
        response.headers().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    let told = (header("cache-control"), header("content-length").parse().unwrap_or(0));
    let status = response.status();
    let mut content = Vec::new();
    let mut body = response.into_body();
    while let Some(octets) = body.data().await {
        let octets = octets?;
        let _ = body.flow_control().release_capacity(octets.len());
        content.extend_from_slice(&octets);
    }
    Ok((status, told.0, told.1, content))
}

fn get(query: &[u8]) -> Request<()> {
    let path = format!("/dns-query?dns={}", BASE64URL_NOPAD.encode(query));
    request("GET", &path, None)
}

fn post() -> Request<()> {
    request("POST", "/dns-query", Some("application/dns-message"))
}

#[test]
fn get_post_and_head_are_answered() {
    let house = House::encrypted(Limits::default());
    house.runtime.block_on(async {
        let (mut sender, _driver) = client_of(&house, &Builder::new()).await;
        let message = query(&[]);
        let len = message.len() as u64;
        let age = "max-age=0".to_owned();
        let whole = (StatusCode::OK, age.clone(), len, message.clone());
        assert_eq!(ask(&mut sender, get(&message), None).await.unwrap(), whole);
        assert_eq!(ask(&mut sender, post(), Some(&message)).await.unwrap(), whole);
        let mut head = get(&message);
        *head.method_mut() = Method::HEAD;
        let told = ask(&mut sender, head, None).await.unwrap();
        assert_eq!(told, (StatusCode::OK, age, len, Vec::new()));
        // Over the address that was asked.
        let told = ask(&mut sender, get(b"L"), None).await.unwrap();
        assert_eq!(told.3, b"L127.0.0.3");
        let padded = ask(&mut sender, get(&query(&[0, 12, 0, 0])), None).await.unwrap();
        assert_eq!(padded.3.len(), 468);
        // RFC 7828 section 3.2: no time-out here.
        let keepalive = query(&[0, 11, 0, 0]);
        assert_eq!(ask(&mut sender, get(&keepalive), None).await.unwrap().3, keepalive);
    });
    let counted = house.metrics.server_http_responses(Transport::Https.label(), HttpStatus::Ok);
    assert_eq!(counted.get(), 6);
}

#[test]
fn every_wrong_request_is_told_what_is_wrong_and_the_connection_goes_on() {
    let house = House::encrypted(Limits::default());
    let message = query(&[]);
    let long = vec![b'E'; QUERY_OCTETS_MAX + 1];
    house.runtime.block_on(async {
        let (mut sender, _driver) = client_of(&house, &Builder::new()).await;
        let dns = Some("application/dns-message");
        for (request, body, expected) in [
            (request("GET", "/other", None), None, 404),
            (request("DELETE", "/dns-query", None), None, 405),
            (request("GET", "/dns-query", None), None, 400),
            (request("GET", "/dns-query?dns=@@@", None), None, 400),
            (get(b"D"), None, 400),
            (request("POST", "/dns-query", Some("text/plain")), Some(&message[..]), 415),
            (request("POST", "/dns-query", None), Some(&message), 415),
            (post(), Some(&long), 413),
            (request("POST", "/", dns), Some(&message), 404),
            (get(&long), None, 414),
        ] {
            let shown = format!("{request:?}");
            let told = ask(&mut sender, request, body).await.unwrap();
            assert_eq!(told.0.as_u16(), expected, "{shown}");
            assert_eq!(told.2, told.3.len() as u64);
            assert!(told.3.ends_with(b"\n"), "words that say why");
        }
        assert_eq!(ask(&mut sender, get(&message), None).await.unwrap().3, message);
        // A stumble costs its sender the reply and nobody else theirs.
        let longest = vec![b'E'; QUERY_OCTETS_MAX];
        assert_eq!(ask(&mut sender, post(), Some(&longest)).await.unwrap().3, longest);
    });
    for (status, times) in [(HttpStatus::BadRequest, 3), (HttpStatus::NotFound, 2)] {
        let counted = house.metrics.server_http_responses(Transport::Https.label(), status);
        assert_eq!(counted.get(), times);
    }
}

#[test]
fn streams_are_answered_in_the_order_they_are_ready() {
    let house = House::encrypted(Limits::default());
    house.runtime.block_on(async {
        let (mut sender, _driver) = client_of(&house, &Builder::new()).await;
        let (slow, _) = sender.send_request(get(&[b'P', 30]), true).unwrap();
        let began = Instant::now();
        assert_eq!(ask(&mut sender, get(b"E"), None).await.unwrap().3, b"E");
        assert!(began.elapsed() < Duration::from_millis(250));
        assert_eq!(slow.await.unwrap().status(), StatusCode::OK);
        assert!(began.elapsed() >= Duration::from_millis(290));
    });
}

#[test]
fn no_more_streams_are_worked_on_than_may_be() {
    let house = House::encrypted(Limits { streams_max: 2, ..Limits::default() });
    house.runtime.block_on(async {
        let (mut sender, _driver) = client_of(&house, &Builder::new()).await;
        ask(&mut sender, get(b"E"), None).await.unwrap();
        let began = Instant::now();
        let mut all = Vec::new();
        for _ in 0..6 {
            sender = sender.ready().await.unwrap();
            all.push(sender.send_request(get(&[b'P', 20]), true).unwrap().0);
        }
        for response in all {
            assert_eq!(response.await.unwrap().status(), StatusCode::OK);
        }
        assert!(began.elapsed() >= Duration::from_millis(590), "{:?}", began.elapsed());
    });
}

#[test]
fn a_client_that_makes_no_room_loses_its_streams_and_one_that_takes_nothing_its_connection() {
    let write = Duration::from_millis(300);
    let house = House::encrypted(Limits { write, ..Limits::default() });
    house.runtime.block_on(async {
        // No room in streams: nothing of an answer may be sent.
        let mut builder = Builder::new();
        builder.initial_window_size(0);
        let (mut sender, _driver) = client_of(&house, &builder).await;
        let (response, _) = sender.send_request(get(&[b'B', 9]), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let error = response.into_body().data().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
        assert_eq!(house.ended(Transport::Https, Ended::Unread), 1);

        // Room in streams, and a socket that is not read: frames by hand, for a client of h2
        // reads as it writes.
        let config = Arc::new(believer(&[b"h2"]));
        let mut stream = connect(house.door(Transport::Https), &config).await.unwrap();
        let mut octets = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // SETTINGS_INITIAL_WINDOW_SIZE, then as much for the connection.
        octets.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]);
        octets.extend([0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0]);
        for n in 0..90_u32 {
            let path = format!("/dns-query?dns={}", BASE64URL_NOPAD.encode(&[b'B', 200]));
            // GET, https, `:path` and `:authority` literally (RFC 7541 section 6.2.2).
            let mut block = vec![0x82, 0x87, 0x04, path.len() as u8];
            block.extend(path.bytes());
            block.extend([0x01, 1, b'a']);
            octets.extend([0, 0, block.len() as u8, 1, 5]);
            octets.extend((2 * n + 1).to_be_bytes());
            octets.extend(block);
        }
        stream.write_all(&octets).await.unwrap();
        let began = Instant::now();
        while house.ended(Transport::Https, Ended::Unread) < 2 {
            assert!(began.elapsed() < PATIENCE, "it is still there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        house.udp_answers();
    });
}

#[test]
fn a_content_that_does_not_come_is_waited_for_in_bounds() {
    let query = Duration::from_millis(200);
    let house = House::encrypted(Limits { query, ..Limits::default() });
    house.runtime.block_on(async {
        let (mut sender, _driver) = client_of(&house, &Builder::new()).await;
        let (response, _stream) = sender.send_request(post(), false).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(ask(&mut sender, get(b"E"), None).await.unwrap().3, b"E");
    });
}

#[test]
fn headers_without_end_are_refused() {
    let house = House::encrypted(Limits::default());
    house.runtime.block_on(async {
        let (mut sender, _driver) = client_of(&house, &Builder::new()).await;
        let mut huge = get(b"E");
        for n in 0..40 {
            let name = http::HeaderName::try_from(format!("x-{n}")).unwrap();
            huge.headers_mut().insert(name, "y".repeat(1_000).parse().unwrap());
        }
        let answered = ask(&mut sender, huge, None).await;
        let refused = match answered {
            Ok(told) => told.0 == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Err(_) => true,
        };
        assert!(refused);
    });
    house.udp_answers();
}

#[test]
fn an_idle_connection_is_told_that_it_is_over() {
    let idle = Duration::from_millis(300);
    let house = House::encrypted(Limits { idle, ..Limits::default() });
    house.runtime.block_on(async {
        let (mut sender, driver) = client_of(&house, &Builder::new()).await;
        ask(&mut sender, get(b"E"), None).await.unwrap();
        let began = Instant::now();
        driver.await.unwrap();
        assert!((200..3_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    });
    wait_until(|| house.open(Transport::Https) == 0);
    for why in Ended::ALL {
        assert_eq!(house.ended(Transport::Https, *why), 0, "{why:?}");
    }
}

#[test]
fn stopping_answers_what_is_owed() {
    let house = House::encrypted(Limits::default());
    house.runtime.block_on(async {
        let (mut sender, driver) = client_of(&house, &Builder::new()).await;
        ask(&mut sender, get(b"E"), None).await.unwrap();
        let (slow, _) = sender.send_request(get(&[b'P', 30]), true).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        house.server.stop().await;
        assert_eq!(slow.await.unwrap().status(), StatusCode::OK);
        driver.await.unwrap();
    });
}
