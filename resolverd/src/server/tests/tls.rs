//! The certificate, and DNS over TLS: what is other than over plain TCP.

use std::fs;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream as Stream;

use super::encrypted::{believer, certificate, connect, query};
use super::*;
use crate::metrics::Ended;

async fn next_frame(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Vec<u8>> {
    let len = stream.read_u16().await.ok()?;
    let mut message = vec![0; usize::from(len)];
    stream.read_exact(&mut message).await.ok()?;
    Some(message)
}

#[test]
fn pipelined_queries_are_answered_in_the_order_they_are_ready() {
    let house = House::encrypted(Limits::default());
    house.runtime.block_on(async {
        for alpn in [&[&b"dot"[..]][..], &[]] {
            let config = Arc::new(believer(alpn));
            let mut stream = connect(house.door(Transport::Tls), &config).await.unwrap();
            let slow = [b'P', 30, b's'];
            let quick = [b'P', 5, b'q'];
            let all = [frame(&slow), frame(&quick), frame(b"L")].concat();
            stream.write_all(&all).await.unwrap();
            assert_eq!(next_frame(&mut stream).await.unwrap(), b"L127.0.0.2");
            assert_eq!(next_frame(&mut stream).await.unwrap(), quick);
            assert_eq!(next_frame(&mut stream).await.unwrap(), slow);
        }
    });
}

#[test]
fn who_wants_another_protocol_or_speaks_no_tls_is_turned_away() {
    let house = House::encrypted(Limits::default());
    house.runtime.block_on(async {
        let config = Arc::new(believer(&[b"h2"]));
        let error = connect(house.door(Transport::Tls), &config).await.unwrap_err();
        assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
        let mut plain = Stream::connect(house.door(Transport::Tls)).await.unwrap();
        plain.write_all(&frame(b"Eeeee")).await.unwrap();
        let mut rest = Vec::new();
        // An alert, then the end; or a reset, for there was more to read.
        let _ = plain.read_to_end(&mut rest).await;
        assert!(rest.len() < 20);
    });
    wait_until(|| house.ended(Transport::Tls, Ended::Handshake) == 2);
    assert_eq!(house.open(Transport::Tls), 0);
}

#[test]
fn handshakes_that_do_not_go_on_are_ended_in_time_and_udp_does_not_notice() {
    let handshake = Duration::from_millis(400);
    let limits = Limits { handshake, per_client_max: 500, ..Limits::default() };
    let house = House::encrypted(limits);
    house.runtime.block_on(async {
        let mut halves = Vec::new();
        for n in 0..300 {
            let transport = if n % 2 == 0 { Transport::Tls } else { Transport::Https };
            let mut half = Stream::connect(house.door(transport)).await.unwrap();
            // The beginning of a hello of 512 octets, or nothing.
            if n % 3 == 0 {
                half.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
            }
            halves.push(half);
        }
        house.udp_answers();
        for mut half in halves {
            let mut rest = Vec::new();
            let _ = half.read_to_end(&mut rest).await;
        }
    });
    for transport in [Transport::Tls, Transport::Https] {
        wait_until(|| house.ended(transport, Ended::HandshakeTimeout) == 150);
        wait_until(|| house.open(transport) == 0);
    }
    house.udp_answers();
}

#[test]
fn a_client_that_does_not_read_is_cut_off_and_holds_little() {
    let write = Duration::from_millis(300);
    let house = House::encrypted(Limits { write, ..Limits::default() });
    house.runtime.block_on(async {
        let config = Arc::new(believer(&[]));
        let mut stream = connect(house.door(Transport::Tls), &config).await.unwrap();
        let many = frame(&[b'B', 60]).repeat(1_000);
        let writing = async { while stream.write_all(&many).await.is_ok() {} };
        // Our writes stall as the server takes no more, and then it ends the connection.
        tokio::time::timeout(PATIENCE, writing).await.unwrap();
    });
    wait_until(|| house.open(Transport::Tls) == 0);
    assert_eq!(house.ended(Transport::Tls, Ended::Unread), 1);
}

#[test]
fn a_slow_reader_that_reads_gets_everything() {
    let write = Duration::from_secs(1);
    let house = House::encrypted(Limits { write, ..Limits::default() });
    house.runtime.block_on(async {
        let config = Arc::new(believer(&[]));
        let stream = connect(house.door(Transport::Tls), &config).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let sender = tokio::spawn(async move {
            writer.write_all(&frame(&[b'B', 60]).repeat(200)).await.unwrap();
            writer
        });
        for _ in 0..200 {
            assert_eq!(next_frame(&mut reader).await.unwrap().len(), 60 << 10);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sender.await.unwrap();
    });
}

#[test]
fn a_session_is_resumed_by_its_ticket() {
    let house = House::encrypted(Limits::default());
    house.runtime.block_on(async {
        let config = Arc::new(believer(&[b"dot"]));
        for round in 0..3 {
            let mut stream = connect(house.door(Transport::Tls), &config).await.unwrap();
            stream.write_all(&frame(b"E")).await.unwrap();
            // The tickets come with it.
            assert_eq!(next_frame(&mut stream).await.unwrap(), b"E");
            let kind = stream.get_ref().1.handshake_kind().unwrap();
            let resumed = kind == rustls::HandshakeKind::Resumed;
            assert_eq!(resumed, round > 0, "{kind:?}");
            assert!(!stream.get_ref().1.is_early_data_accepted());
        }
    });
}

#[test]
fn another_certificate_is_shown_to_newcomers_and_open_connections_go_on() {
    let house = House::encrypted(Limits::default());
    let shown = |stream: &tokio_rustls::client::TlsStream<Stream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    house.runtime.block_on(async {
        // Sessions are not kept: a resumed one shows nothing.
        let believer = || Arc::new(believer(&[]));
        let mut before = connect(house.door(Transport::Tls), &believer()).await.unwrap();
        house.server.present(Some(&certificate("two")));
        let after = connect(house.door(Transport::Tls), &believer()).await.unwrap();
        assert_ne!(shown(&before), shown(&after));
        before.write_all(&frame(b"E")).await.unwrap();
        assert_eq!(next_frame(&mut before).await.unwrap(), b"E");
        house.server.present(None);
        assert!(connect(house.door(Transport::Tls), &believer()).await.is_err());
    });
}

#[test]
fn a_client_with_its_share_loses_its_own_and_it_is_counted() {
    let house = House::encrypted(Limits { per_client_max: 2, ..Limits::default() });
    house.runtime.block_on(async {
        let config = Arc::new(believer(&[]));
        let mut first = connect(house.door(Transport::Tls), &config).await.unwrap();
        let mut second = connect(house.door(Transport::Tls), &config).await.unwrap();
        first.write_all(&frame(&[b'P', 60])).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        // Over HTTP/2: they share their places.
        let third = Stream::connect(house.door(Transport::Https)).await.unwrap();
        assert_eq!(next_frame(&mut second).await, None);
        assert_eq!(next_frame(&mut first).await.unwrap(), [b'P', 60]);
        drop(third);
    });
    assert_eq!(house.ended(Transport::Tls, Ended::Shed), 1);
}

#[test]
fn answers_are_padded_where_nobody_reads_along_and_the_time_out_is_told() {
    let idle = Duration::from_secs(7);
    let house = House::encrypted(Limits { idle, ..Limits::default() });
    let both = query(&[0, 11, 0, 0, 0, 12, 0, 0]);
    house.runtime.block_on(async {
        let mut plain = Stream::connect(house.door(Transport::Tcp)).await.unwrap();
        plain.write_all(&frame(&both)).await.unwrap();
        let reply = next_frame(&mut plain).await.unwrap();
        assert_eq!(reply[both.len()..], [0, 11, 0, 2, 0, 70]);
        let config = Arc::new(believer(&[]));
        let mut stream = connect(house.door(Transport::Tls), &config).await.unwrap();
        stream.write_all(&frame(&both)).await.unwrap();
        let reply = next_frame(&mut stream).await.unwrap();
        assert_eq!(reply.len(), 468);
        assert_eq!(reply[both.len()..both.len() + 8], [0, 11, 0, 2, 0, 70, 0, 12]);
        // What nobody asked for is not there.
        stream.write_all(&frame(&query(&[]))).await.unwrap();
        assert_eq!(next_frame(&mut stream).await.unwrap(), query(&[]));
    });
}

/// From an address of its own.
async fn from(ip: &str, to: SocketAddr) -> Stream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((ip.parse::<IpAddr>().unwrap(), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

#[test]
fn a_balancer_tells_whom_a_connection_is_from_and_nobody_else_does() {
    let query = Duration::from_millis(300);
    let limits = Limits { query, per_client_max: 1, ..Limits::default() };
    let house = House::encrypted(limits);
    house.server.believe(vec!["127.0.0.9/32".parse().unwrap()]);
    let header = |last: u8| {
        let mut octets = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        octets.extend([192, 0, 2, last, 10, 0, 0, 1, 0x30, 0x39, 0, 53]);
        octets
    };
    house.runtime.block_on(async {
        // Two clients behind one balancer, which has no share of its own.
        let mut first = from("127.0.0.9", house.door(Transport::Tcp)).await;
        first.write_all(&[header(1), frame(b"L")].concat()).await.unwrap();
        assert_eq!(next_frame(&mut first).await.unwrap(), b"L10.0.0.1");
        let mut second = from("127.0.0.9", house.door(Transport::Tcp)).await;
        second.write_all(&[header(2), frame(b"L")].concat()).await.unwrap();
        assert_eq!(next_frame(&mut second).await.unwrap(), b"L10.0.0.1");
        // A second connection of the first client takes the place of its first one.
        let mut third = from("127.0.0.9", house.door(Transport::Tcp)).await;
        third.write_all(&[header(1), frame(b"L")].concat()).await.unwrap();
        assert_eq!(next_frame(&mut third).await.unwrap(), b"L10.0.0.1");
        assert_eq!(next_frame(&mut first).await, None);

        // Before TLS.
        let mut stream = from("127.0.0.9", house.door(Transport::Tls)).await;
        stream.write_all(&header(1)).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("resolverd.test").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(believer(&[])));
        let mut stream = connector.connect(name, stream).await.unwrap();
        stream.write_all(&frame(b"L")).await.unwrap();
        assert_eq!(next_frame(&mut stream).await.unwrap(), b"L10.0.0.1");

        // Without a header, or with half of one, a balancer is not served.
        let mut without = from("127.0.0.9", house.door(Transport::Tcp)).await;
        without.write_all(&frame(&[b'E'; 20])).await.unwrap();
        assert_eq!(next_frame(&mut without).await, None);
        let mut half = from("127.0.0.9", house.door(Transport::Tcp)).await;
        half.write_all(&header(1)[..20]).await.unwrap();
        assert_eq!(next_frame(&mut half).await, None);
        // From anybody else it is what it looks like: a length that no query has.
        let mut liar = from("127.0.0.8", house.door(Transport::Tcp)).await;
        liar.write_all(&[header(7), frame(b"L")].concat()).await.unwrap();
        assert_eq!(next_frame(&mut liar).await, None);
    });
    assert_eq!(house.ended(Transport::Tcp, Ended::Proxy), 2);
    wait_until(|| {
        house.ended(Transport::Tcp, Ended::Unfinished) == 1
            || house.ended(Transport::Tcp, Ended::Protocol) == 1
    });
}

#[test]
fn stopping_answers_what_is_owed_and_says_that_it_is_over() {
    let house = House::encrypted(Limits::default());
    house.runtime.block_on(async {
        let config = Arc::new(believer(&[]));
        let mut stream = connect(house.door(Transport::Tls), &config).await.unwrap();
        let mut half = Stream::connect(house.door(Transport::Tls)).await.unwrap();
        stream.write_all(&frame(&[b'P', 30])).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let began = Instant::now();
        house.server.stop().await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(next_frame(&mut stream).await.unwrap(), [b'P', 30]);
        // Not cut off: `close_notify` came first.
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(matches!(half.read(&mut [0; 8]).await, Ok(0) | Err(_)));
        assert!(Stream::connect(house.door(Transport::Tls)).await.is_err());
    });
}

#[test]
fn doors_come_and_go_one_by_one() {
    let house = House::encrypted(Limits::default());
    assert_eq!(house.server.listening().len(), 6);
    house.runtime.block_on(async {
        let config = Arc::new(believer(&[]));
        let mut open = connect(house.door(Transport::Tls), &config).await.unwrap();
        let mut fewer = encrypted::all_doors(house.port);
        fewer.tls.clear();
        fewer.quic.clear();
        house.server.relisten(fewer).unwrap();
        assert_eq!(house.server.listening().len(), 4);
        open.write_all(&frame(b"E")).await.unwrap();
        assert_eq!(next_frame(&mut open).await.unwrap(), b"E");
        let gone = house.door(Transport::Tls);
        while Stream::connect(gone).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        house.server.relisten(encrypted::all_doors(house.port)).unwrap();
        connect(gone, &config).await.unwrap();
    });
}

#[test]
fn trouble_with_the_files_is_told_by_the_file_it_is_in() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (one, two) = (include_str!("certificates/one.pem"), include_str!("certificates/two.pem"));
    let cert = put("cert", one);
    let key = put("key", include_str!("certificates/one.key"));
    let chain = put("chain", &format!("{one}\n{}", encrypted::CA));
    let good = Certificate::load(&cert, &key).unwrap();
    assert_eq!(good, Certificate::load(&cert, &key).unwrap());
    assert_ne!(good, Certificate::load(&chain, &key).unwrap());
    // 27 October 2126.
    assert_eq!(good.validity().unwrap().until, 4_948_783_417);

    let torn = put("torn", &one[..one.len() - 30]);
    let noise = put("noise", &one.replace("MI", "!!"));
    let empty = put("empty", "");
    let locked = put("locked", LOCKED);
    let other = put("other", two);
    let missing = dir.path().join("missing");
    let said =
        |cert: &std::path::Path, key: &std::path::Path| Certificate::load(cert, key).unwrap_err();
    for (cert_file, text) in [
        (&missing, "it can't be read: No such file"),
        (&dir.path().to_owned(), "it can't be read: Is a directory"),
        (&empty, "there is no certificate in it"),
        (&key, "there is no certificate in it"),
        (&torn, "it is not PEM: an END line is missing"),
        (&noise, "it is not PEM: its base64 is malformed"),
    ] {
        let error = said(cert_file, &key);
        assert!(matches!(error, TlsError::Cert { .. }), "{error}");
        assert!(error.to_string().starts_with(&cert_file.display().to_string()), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    for (key_file, text) in [
        (&missing, "it can't be read"),
        (&empty, "there is no private key in it"),
        (&cert, "there is no private key in it"),
        (&locked, "there is no private key in it"),
    ] {
        let error = said(&cert, key_file);
        assert!(matches!(error, TlsError::Key { .. }), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    let error = said(&other, &key).to_string();
    assert!(error.contains("is not the key of the first certificate"), "{error}");
    let huge = put("huge", &"x".repeat((1 << 20) + 1));
    assert!(said(&huge, &key).to_string().contains("more than 1048576 octets"));
}

/// One that a passphrase protects, as `openssl` writes it; what it holds does not matter.
const LOCKED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n\
                      -----END ENCRYPTED PRIVATE KEY-----\n";
