//! Queues that are full, files that are moved, receivers that hang and come back.

use std::path::Path;

use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::{sleep, timeout};

use super::*;
use crate::config::LogFormat;
use crate::log::ClientPrefix;
use crate::tap::wire::{Control, Kind as ControlKind};
use crate::tap::{Kind, Receiver, Settings, Tap, dnstap, tests as told};

fn line() -> Seen {
    told::seen(ClientPrefix::new(24, 56))
}

/// A long message, as TCP has them.
fn long(octets: usize) -> Seen {
    Seen { message: vec![0; octets].into(), ..line() }
}

#[tokio::test]
async fn a_full_queue_drops_what_comes_and_counts_it() {
    let metrics = told::metrics();
    let (queue, mut inlet) = Queue::new(&metrics, TapOutlet::QueryLog);
    for _ in 0..QUEUE_MAX + 5 {
        queue.put(line());
    }
    let dropped = metrics.tap_dropped(TapOutlet::QueryLog, TapDropped::Full);
    assert_eq!(dropped.get(), 5);
    let mut batch = Vec::new();
    assert!(inlet.take(&mut batch).await);
    assert_eq!(batch.len(), BATCH);
    // There is room again.
    queue.put(line());
    assert_eq!(dropped.get(), 5);
}

#[tokio::test]
async fn a_queue_is_bounded_in_octets_too_and_forgets_what_was_taken() {
    let metrics = told::metrics();
    let (queue, mut inlet) = Queue::new(&metrics, TapOutlet::Dnstap);
    let dropped = metrics.tap_dropped(TapOutlet::Dnstap, TapDropped::Full);
    let mut put = 0;
    while dropped.get() == 0 {
        queue.put(long(60_000));
        put += 1;
    }
    assert!((QUEUE_OCTETS_MAX / 61_000..QUEUE_OCTETS_MAX / 60_000 + 2).contains(&put), "{put}");
    let (mut batch, mut taken) = (Vec::new(), 0);
    while taken < put - 1 {
        batch.clear();
        assert!(inlet.take(&mut batch).await);
        taken += batch.len();
    }
    assert_eq!(queue.octets.load(Ordering::Relaxed), 0);
    drop(queue);
    assert!(!inlet.take(&mut batch).await, "nobody fills it any more");
}

fn logging(file: &Path) -> Settings {
    let file = Some(file.to_owned());
    Settings {
        query_log: Some(QueryLog { sample: 1, format: LogFormat::Json, file }),
        ..Settings::off()
    }
}

async fn until(what: &str, mut look: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if look() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not in ten seconds");
}

fn lines(file: &Path) -> usize {
    std::fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

fn answer(tap: &Tap) {
    let reply = b"\0\0\x80\x01\0\0\0\0\0\0\0\0";
    let answered = crate::tap::Answered {
        way: told::way(),
        authentic_data: false,
        reply,
        by: crate::metrics::AnsweredBy::Cache,
        upstream: None,
        took: Duration::ZERO,
    };
    tap.answer(&answered, std::time::UNIX_EPOCH);
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_begun_anew_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let (file, moved) = (dir.path().join("queries"), dir.path().join("queries.1"));
    let metrics = told::metrics();
    let tap = Tap::new(logging(&file), Arc::clone(&metrics));
    answer(&tap);
    until("the first line", || lines(&file) == 1).await;
    std::fs::rename(&file, &moved).unwrap();
    answer(&tap);
    until("a line in the file that was moved", || lines(&moved) == 2).await;
    tap.reopen();
    until("a new file", || file.exists()).await;
    answer(&tap);
    until("a line in the new file", || lines(&file) == 1).await;
    assert_eq!(lines(&moved), 2);
    assert_eq!(metrics.tap_records(TapOutlet::QueryLog).get(), 3);
    // For its owner and his group.
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o137, 0, "{mode:o}");
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_loses_lines_and_they_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("missing/queries");
    let metrics = told::metrics();
    let tap = Tap::new(logging(&file), Arc::clone(&metrics));
    answer(&tap);
    let failed = metrics.tap_dropped(TapOutlet::QueryLog, TapDropped::Failed);
    until("the line to be lost", || failed.get() == 1).await;
    std::fs::create_dir(dir.path().join("missing")).unwrap();
    tap.reopen();
    until("the file", || file.exists()).await;
    answer(&tap);
    until("a line", || lines(&file) == 1).await;
}

#[tokio::test]
async fn other_settings_take_over_and_the_old_file_has_what_was_before() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let tap = Tap::new(logging(&one), told::metrics());
    for _ in 0..100 {
        answer(&tap);
    }
    tap.reconfigure(logging(&two));
    answer(&tap);
    tap.stop().await;
    assert_eq!((lines(&one), lines(&two)), (100, 1));
    assert!(!tap.hears_answers(), "nobody listens after the stop");
}

fn dnstap_to(to: Receiver) -> Settings {
    let messages = vec![Kind::ClientQuery, Kind::ClientResponse];
    let dnstap = Dnstap { to, messages, identity: Some("host".to_owned()), version: None };
    Settings { dnstap: Some(dnstap), ..Settings::off() }
}

async fn control(stream: &mut (impl AsyncRead + Unpin)) -> Control {
    let mut input = Vec::new();
    loop {
        if let Some((control, _)) = Control::read(&input).unwrap() {
            return control;
        }
        input.push(stream.read_u8().await.unwrap());
    }
}

/// Takes the handshake.
async fn accept(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    assert_eq!(control(stream).await, Control::of_dnstap(ControlKind::Ready));
    let mut out = Vec::new();
    Control::of_dnstap(ControlKind::Accept).write(&mut out);
    stream.write_all(&out).await.unwrap();
    assert_eq!(control(stream).await, Control::of_dnstap(ControlKind::Start));
}

async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> dnstap::Dnstap {
    let len = timeout(Duration::from_secs(10), stream.read_u32()).await.unwrap().unwrap();
    assert_ne!(len, 0, "a control frame");
    let mut frame = vec![0; len as usize];
    stream.read_exact(&mut frame).await.unwrap();
    dnstap::Dnstap::decode(&frame[..]).unwrap()
}

#[tokio::test]
async fn a_receiver_gets_frames_and_a_last_word_over_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dnstap.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let metrics = told::metrics();
    let tap = Tap::new(dnstap_to(Receiver::Unix(path)), Arc::clone(&metrics));
    let (mut stream, _) = listener.accept().await.unwrap();
    accept(&mut stream).await;
    tap.query(told::way(), b"\0\x01\x01\0\0\0\0\0\0\0\0\0", std::time::UNIX_EPOCH);
    answer(&tap);
    let (query, response) = (frame(&mut stream).await, frame(&mut stream).await);
    assert_eq!(query.message.unwrap().kind, 5);
    assert_eq!(response.message.unwrap().kind, 6);
    assert_eq!(metrics.tap_dnstap_connected.get(), 1);
    let stopping = tokio::spawn(async move { tap.stop().await });
    assert_eq!(control(&mut stream).await, Control::bare(ControlKind::Stop));
    let mut out = Vec::new();
    Control::bare(ControlKind::Finish).write(&mut out);
    stream.write_all(&out).await.unwrap();
    stopping.await.unwrap();
    assert_eq!(metrics.tap_records(TapOutlet::Dnstap).get(), 2);
}

#[tokio::test]
async fn a_receiver_over_tcp_that_went_away_is_found_again_and_gets_what_waited() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = Receiver::Tcp(listener.local_addr().unwrap());
    let metrics = told::metrics();
    let tap = Tap::new(dnstap_to(to), Arc::clone(&metrics));
    let (mut stream, _) = listener.accept().await.unwrap();
    accept(&mut stream).await;
    answer(&tap);
    assert_eq!(frame(&mut stream).await.message.unwrap().kind, 6);
    drop(stream);
    until("the loss to be noticed", || metrics.tap_dnstap_connected.get() == 0).await;
    answer(&tap);
    answer(&tap);
    let (mut stream, _) = listener.accept().await.unwrap();
    accept(&mut stream).await;
    for _ in 0..2 {
        assert_eq!(frame(&mut stream).await.identity.as_deref(), Some(&b"host"[..]));
    }
    assert_eq!(metrics.tap_dropped(TapOutlet::Dnstap, TapDropped::Failed).get(), 0);
}

#[tokio::test]
async fn other_settings_connect_anew_and_the_old_connection_ends_in_order() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = Receiver::Tcp(listener.local_addr().unwrap());
    let metrics = told::metrics();
    let tap = Tap::new(dnstap_to(to.clone()), Arc::clone(&metrics));
    let (mut old, _) = listener.accept().await.unwrap();
    accept(&mut old).await;
    until("the first connection", || metrics.tap_dnstap_connected.get() == 1).await;
    let mut settings = dnstap_to(to);
    settings.dnstap.as_mut().unwrap().identity = None;
    tap.reconfigure(settings.clone());
    // The same once more changes nothing.
    tap.reconfigure(settings);
    let (mut new, _) = listener.accept().await.unwrap();
    accept(&mut new).await;
    assert_eq!(control(&mut old).await, Control::bare(ControlKind::Stop));
    let mut out = Vec::new();
    Control::bare(ControlKind::Finish).write(&mut out);
    old.write_all(&out).await.unwrap();
    answer(&tap);
    assert_eq!(frame(&mut new).await.identity, None);
    until("one connection to be left", || metrics.tap_dnstap_connected.get() == 1).await;
    let third = timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(third.is_err(), "a third connection");
}

#[tokio::test]
async fn a_receiver_that_hangs_costs_messages_and_nobody_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = Receiver::Tcp(listener.local_addr().unwrap());
    let metrics = told::metrics();
    let tap = Tap::new(dnstap_to(to), Arc::clone(&metrics));
    let (mut stream, _) = listener.accept().await.unwrap();
    accept(&mut stream).await;
    // It reads no further. More than its socket and the queue hold together.
    let full = metrics.tap_dropped(TapOutlet::Dnstap, TapDropped::Full);
    let started = std::time::Instant::now();
    let mut told_of = 0_u64;
    while full.get() == 0 && told_of < 2_000_000 {
        for _ in 0..1_000 {
            answer(&tap);
        }
        told_of += 1_000;
        tokio::task::yield_now().await;
    }
    assert!(full.get() > 0, "{told_of} messages all had room");
    assert!(started.elapsed() < Duration::from_secs(60));
    // And the stop does not wait for it either.
    let started = std::time::Instant::now();
    tap.stop().await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn who_does_not_take_dnstap_is_left_and_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = Receiver::Tcp(listener.local_addr().unwrap());
    let metrics = told::metrics();
    let _tap = Tap::new(dnstap_to(to), Arc::clone(&metrics));
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\0\0\0\0\0\0\0\x04\0\0\0\x05"] {
        let (mut stream, _) = listener.accept().await.unwrap();
        control(&mut stream).await;
        stream.write_all(answer).await.unwrap();
        // It closes, or resets because of what it did not read.
        let mut rest = Vec::new();
        let end = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.unwrap();
        assert!(end.is_err() || rest.is_empty(), "nothing was started: {rest:?}");
        assert_eq!(metrics.tap_dnstap_connected.get(), 0);
    }
    let (mut stream, _) = listener.accept().await.unwrap();
    accept(&mut stream).await;
    until("the third to be taken", || metrics.tap_dnstap_connected.get() == 1).await;
}
