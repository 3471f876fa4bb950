//! DNS over QUIC and over HTTP/3: streams, error codes, limits.

use std::future::poll_fn;

use ::h3::client::SendRequest;
use bytes::{Buf, Bytes};
use data_encoding::BASE64URL_NOPAD;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, ReadError};

use super::encrypted::{believer, query};
use super::*;
use crate::metrics::Ended;

fn endpoint(alpn: &[u8]) -> Endpoint {
    let config = QuicClientConfig::try_from(believer(&[alpn])).unwrap();
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(config)));
    endpoint
}

async fn doq(house: &House) -> (Endpoint, Connection) {
    let endpoint = endpoint(b"doq");
    let connecting = endpoint.connect(house.door(Transport::Quic), "resolverd.test").unwrap();
    (endpoint, connecting.await.unwrap())
}

/// Sends these octets on a stream of its own, and reads what comes.
async fn send(connection: &Connection, octets: &[u8]) -> Result<Vec<u8>, ReadError> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(octets).await.unwrap();
    send.finish().unwrap();
    match receive.read_to_end(70_000).await {
        Ok(octets) => Ok(octets),
        Err(quinn::ReadToEndError::Read(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

fn closed_with(error: &ConnectionError) -> u64 {
    match error {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        error => panic!("{error}"),
    }
}

/// With the identifier that QUIC takes.
fn zero(message: &[u8]) -> Vec<u8> {
    frame(&[&[0, 0], message].concat())
}

#[test]
fn each_stream_has_a_query_and_its_answer() {
    let house = House::encrypted(Limits::default());
    house.runtime.block_on(async {
        let (_endpoint, connection) = doq(&house).await;
        assert_eq!(send(&connection, &zero(b"E")).await.unwrap(), zero(b"E"));
        let began = Instant::now();
        let message = zero(&[b'P', 30]);
        let slow = send(&connection, &message);
        let quick = async {
            let reply = send(&connection, &zero(b"L")).await.unwrap();
            assert_eq!(&reply[2..], b"L127.0.0.4");
            assert!(began.elapsed() < Duration::from_millis(250));
        };
        let (slow, ()) = tokio::join!(slow, quick);
        assert_eq!(slow.unwrap(), zero(&[b'P', 30]));
        let long = send(&connection, &zero(&[b'B', 60])).await.unwrap();
        assert_eq!(long.len(), 2 + (60 << 10));
        let padded = send(&connection, &frame(&query(&[0, 12, 0, 0]))).await.unwrap();
        assert_eq!(padded.len(), 2 + 468);
    });
}

#[test]
fn what_is_against_the_protocol_ends_the_connection_with_its_code() {
    let house = House::encrypted(Limits::default());
    let cases: [(&str, Vec<u8>); 7] = [
        ("an identifier", frame(b"Eidentifier")),
        ("ends before its length", [&[0, 9][..], &[0, 0, b'E']].concat()),
        ("two queries", [zero(b"E"), zero(b"E")].concat()),
        ("no message", vec![0, 0]),
        ("nothing", Vec::new()),
        ("keepalive", frame(&query(&[0, 11, 0, 0]))),
        ("too long", frame(&vec![0; 5_000])),
    ];
    house.runtime.block_on(async {
        for (what, octets) in &cases {
            let (_endpoint, connection) = doq(&house).await;
            assert!(send(&connection, octets).await.is_err(), "{what}");
            assert_eq!(closed_with(&connection.closed().await), 2, "{what}");
        }
        // No query at all: an answer.
        let (_endpoint, connection) = doq(&house).await;
        assert!(send(&connection, &zero(b"D")).await.is_err());
        assert_eq!(closed_with(&connection.closed().await), 2);
        // Streams of one direction are not allowed at all.
        let (_endpoint, connection) = doq(&house).await;
        let opening = tokio::time::timeout(Duration::from_millis(200), connection.open_uni());
        assert!(opening.await.is_err());
    });
    wait_until(|| house.ended(Transport::Quic, Ended::Protocol) == cases.len() as u64 + 1);
}

#[test]
fn a_query_that_is_not_ended_or_taken_back_costs_its_stream_alone() {
    let query = Duration::from_millis(200);
    let house = House::encrypted(Limits { query, ..Limits::default() });
    house.runtime.block_on(async {
        let (_endpoint, connection) = doq(&house).await;
        let (mut open, mut never) = connection.open_bi().await.unwrap();
        open.write_all(&zero(b"E")).await.unwrap();
        let error = never.read_to_end(100).await.unwrap_err();
        let quinn::ReadToEndError::Read(ReadError::Reset(code)) = error else { panic!("{error}") };
        assert_eq!(code.into_inner(), 3);
        let (mut taken_back, _receive) = connection.open_bi().await.unwrap();
        taken_back.write_all(&[0]).await.unwrap();
        taken_back.reset(3_u32.into()).unwrap();
        assert_eq!(send(&connection, &zero(b"E")).await.unwrap(), zero(b"E"));
    });
    assert_eq!(house.ended(Transport::Quic, Ended::Unfinished), 1);
}

#[test]
fn another_protocol_and_early_data_are_not_taken() {
    let house = House::encrypted(Limits::default());
    house.runtime.block_on(async {
        let other = endpoint(b"h3");
        let connecting = other.connect(house.door(Transport::Quic), "resolverd.test").unwrap();
        assert!(connecting.await.is_err());
        let endpoint = endpoint(b"doq");
        for _ in 0..2 {
            let connecting =
                endpoint.connect(house.door(Transport::Quic), "resolverd.test").unwrap();
            // A second time there is a session, and still nothing may be sent early.
            let Err(connecting) = connecting.into_0rtt() else { panic!("0-RTT was offered") };
            let connection = connecting.await.unwrap();
            assert_eq!(send(&connection, &zero(b"E")).await.unwrap(), zero(b"E"));
        }
    });
}

#[test]
fn streams_and_connections_are_bounded_and_idle_ones_are_closed() {
    let limits = Limits {
        streams_max: 3,
        per_client_max: 2,
        idle: Duration::from_secs(2),
        ..Limits::default()
    };
    let house = House::encrypted(limits);
    house.runtime.block_on(async {
        let (_one, first) = doq(&house).await;
        let began = Instant::now();
        let slow = zero(&[b'P', 20]);
        let all = (0..7).map(|_| send(&first, &slow));
        for reply in join_all(all).await {
            assert_eq!(reply.unwrap(), slow);
        }
        assert!(began.elapsed() >= Duration::from_millis(590), "{:?}", began.elapsed());
        // It is quiet once it said that it has all of them.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (_two, second) = doq(&house).await;
        let (_three, third) = doq(&house).await;
        // The one that was quiet for longest went for the third.
        assert_eq!(closed_with(&first.closed().await), 4);
        let began = Instant::now();
        assert_eq!(closed_with(&second.closed().await), 0);
        assert_eq!(closed_with(&third.closed().await), 0);
        assert!((1_000..6_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    });
    assert_eq!(house.ended(Transport::Quic, Ended::Shed), 1);
}

#[test]
fn who_comes_when_it_is_crowded_shows_his_address_first_and_is_served() {
    // Half of two places is taken by one.
    let house = House::encrypted(Limits { quic_max: 2, ..Limits::default() });
    house.runtime.block_on(async {
        let (_one, first) = doq(&house).await;
        assert_eq!(send(&first, &zero(b"E")).await.unwrap(), zero(b"E"));
        let (_two, second) = doq(&house).await;
        assert_eq!(send(&second, &zero(b"E")).await.unwrap(), zero(b"E"));
    });
}

#[test]
fn a_reader_that_makes_no_room_loses_its_stream() {
    let write = Duration::from_millis(300);
    let house = House::encrypted(Limits { write, ..Limits::default() });
    house.runtime.block_on(async {
        let config = QuicClientConfig::try_from(believer(&[b"doq"])).unwrap();
        let mut config = ClientConfig::new(Arc::new(config));
        let mut windows = quinn::TransportConfig::default();
        windows.stream_receive_window(1_000_u32.into());
        config.transport_config(Arc::new(windows));
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(config);
        let connecting = endpoint.connect(house.door(Transport::Quic), "resolverd.test").unwrap();
        let connection = connecting.await.unwrap();
        let mut streams = Vec::new();
        for _ in 0..60 {
            let (mut send, receive) = connection.open_bi().await.unwrap();
            send.write_all(&zero(&[b'B', 60])).await.unwrap();
            send.finish().unwrap();
            streams.push((send, receive));
        }
        wait_until_async(|| house.ended(Transport::Quic, Ended::Unread) == 60).await;
        house.udp_answers();
    });
}

async fn wait_until_async(mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited in vain");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn stopping_answers_what_is_owed_and_closes_without_an_error() {
    let house = House::encrypted(Limits::default());
    house.runtime.block_on(async {
        let (_endpoint, connection) = doq(&house).await;
        let slow = async { send(&connection, &zero(&[b'P', 30])).await };
        let stop = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            house.server.stop().await;
        };
        let (reply, ()) = tokio::join!(slow, stop);
        assert_eq!(reply.unwrap(), zero(&[b'P', 30]));
        assert_eq!(closed_with(&connection.closed().await), 0);
    });
    // The socket is free for anybody, once late datagrams have been told so too.
    wait_until(|| UdpSocket::bind(house.door(Transport::Quic)).is_ok());
}

type Http = SendRequest<h3_quinn::OpenStreams, Bytes>;

async fn http3(house: &House) -> (Endpoint, Connection, Http) {
    let endpoint = endpoint(b"h3");
    let connecting = endpoint.connect(house.door(Transport::H3), "resolverd.test").unwrap();
    let connection = connecting.await.unwrap();
    let quic = h3_quinn::Connection::new(connection.clone());
    let (mut driver, sender) = ::h3::client::new(quic).await.unwrap();
    tokio::spawn(async move {
        let _ = poll_fn(|cx| driver.poll_close(cx)).await;
    });
    (endpoint, connection, sender)
}

async fn ask(
    http: &mut Http,
    method: &str,
    path: &str,
    content: Option<&[u8]>,
) -> Option<(u16, String, Vec<u8>)> {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("https://resolverd.test{path}"))
        .header("content-type", "application/dns-message")
        .body(())
        .unwrap();
    let mut stream = http.send_request(request).await.ok()?;
    if let Some(content) = content {
        let _ = stream.send_data(Bytes::copy_from_slice(content)).await;
    }
    let _ = stream.finish().await;
    let response = stream.recv_response().await.ok()?;
    let age = response.headers().get("cache-control");
    let age = age.map(|age| age.to_str().unwrap().to_owned()).unwrap_or_default();
    let mut body = Vec::new();
    while let Ok(Some(mut octets)) = stream.recv_data().await {
        body.extend_from_slice(&octets.copy_to_bytes(octets.remaining()));
    }
    Some((response.status().as_u16(), age, body))
}

fn path(query: &[u8]) -> String {
    format!("/dns-query?dns={}", BASE64URL_NOPAD.encode(query))
}

#[test]
fn http3_has_the_answers_and_the_errors_of_http2() {
    let house = House::encrypted(Limits::default());
    let message = query(&[]);
    let long = vec![b'E'; QUERY_OCTETS_MAX + 1];
    house.runtime.block_on(async {
        let (_endpoint, _connection, mut http) = http3(&house).await;
        let whole = Some((200, "max-age=0".to_owned(), message.clone()));
        assert_eq!(ask(&mut http, "GET", &path(&message), None).await, whole);
        assert_eq!(ask(&mut http, "POST", "/dns-query", Some(&message)).await, whole);
        let head = ask(&mut http, "HEAD", &path(&message), None).await.unwrap();
        assert_eq!((head.0, head.2.len()), (200, 0));
        assert_eq!(ask(&mut http, "GET", &path(b"L"), None).await.unwrap().2, b"L127.0.0.5");
        let padded = ask(&mut http, "GET", &path(&query(&[0, 12, 0, 0])), None).await.unwrap();
        assert_eq!(padded.2.len(), 468);
        for (method, path, content, expected) in [
            ("GET", "/", None, 404),
            ("PUT", "/dns-query", None, 405),
            ("GET", "/dns-query?dns=!", None, 400),
            ("GET", &path(b"D"), None, 400),
            ("POST", "/dns-query", Some(&long[..]), 413),
            ("GET", &path(&long), None, 414),
        ] {
            let told = ask(&mut http, method, path, content).await.unwrap();
            assert_eq!(told.0, expected, "{method} {path:.40}");
        }
        assert_eq!(ask(&mut http, "GET", &path(&message), None).await, whole);
        let big = ask(&mut http, "GET", &path(&[b'B', 60]), None).await.unwrap();
        assert_eq!(big.2.len(), 60 << 10);
    });
}

#[test]
fn a_frame_that_never_ends_is_not_gathered() {
    let house = House::encrypted(Limits::default());
    house.runtime.block_on(async {
        let (_endpoint, connection, mut http) = http3(&house).await;
        assert_eq!(ask(&mut http, "GET", &path(b"E"), None).await.unwrap().0, 200);
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        // HEADERS of a gigabyte, as it says.
        send.write_all(&[0x01, 0xc0, 0, 0, 0, 0x40, 0, 0, 0]).await.unwrap();
        let mut sent = 0;
        while sent < 64 << 20 {
            match send.write(&[0; 16_384]).await {
                Ok(octets) => sent += octets,
                Err(_) => break,
            }
        }
        assert!(sent < 1 << 20, "{sent} octets were taken");
    });
    house.udp_answers();
}

#[test]
fn http3_streams_without_a_request_are_given_up_and_idle_connections_closed() {
    let limits = Limits {
        query: Duration::from_millis(200),
        idle: Duration::from_millis(600),
        ..Limits::default()
    };
    let house = House::encrypted(limits);
    house.runtime.block_on(async {
        let (_endpoint, connection, mut http) = http3(&house).await;
        let (_open, mut receive) = connection.open_bi().await.unwrap();
        // A stream is there once something was sent on it.
        let (mut begun, _nothing) = connection.open_bi().await.unwrap();
        begun.write_all(&[0x01]).await.unwrap();
        // The one before it is then there too, with nothing on it.
        wait_until_async(|| house.ended(Transport::H3, Ended::Unfinished) == 2).await;
        assert_eq!(ask(&mut http, "GET", &path(b"E"), None).await.unwrap().0, 200);
        // H3_NO_ERROR.
        assert_eq!(closed_with(&connection.closed().await), 0x100);
        assert!(!matches!(receive.read(&mut [0; 8]).await, Ok(Some(_))));
    });
    wait_until(|| house.open(Transport::H3) == 0);
}
