//! The TCP doors: order, limits, and who is shown out.

use super::*;

#[test]
fn pipelined_queries_are_answered_in_the_order_they_are_ready() {
    let house = House::on(&["127.0.0.1"], 1);
    let mut stream = house.connect();
    let slow = [b'P', 30, b's'];
    let quick = [b'P', 5, b'q'];
    stream.write_all(&[frame(&slow), frame(&quick), frame(b"Enow")].concat()).unwrap();
    assert_eq!(read_frame(&mut stream).unwrap(), b"Enow");
    assert_eq!(read_frame(&mut stream).unwrap(), quick);
    assert_eq!(read_frame(&mut stream).unwrap(), slow);
}

#[test]
fn a_query_may_come_octet_by_octet_and_many_may_come_at_once() {
    let house = House::on(&["::1"], 1);
    let mut stream = TcpStream::connect(house.at("::1")).unwrap();
    stream.set_nodelay(true).unwrap();
    for octet in frame(b"L") {
        stream.write_all(&[octet]).unwrap();
        sleep(Duration::from_millis(2));
    }
    assert_eq!(read_frame(&mut stream).unwrap(), b"L::1");
    let many: Vec<u8> = (0..1_000_u16)
        .flat_map(|n| frame(&[b'E', n.to_be_bytes()[0], n.to_be_bytes()[1]]))
        .collect();
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&many).unwrap());
    for n in 0..1_000_u16 {
        assert_eq!(read_frame(&mut stream).unwrap()[1..], n.to_be_bytes());
    }
    sender.join().unwrap();
}

#[test]
fn a_half_closed_client_still_gets_its_answers() {
    let house = House::on(&["127.0.0.1"], 1);
    let mut stream = house.connect();
    stream.write_all(&[frame(b"P\x10"), frame(b"E"), b"\0\x09half".to_vec()].concat()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_frame(&mut stream).unwrap(), b"E");
    assert_eq!(read_frame(&mut stream).unwrap(), b"P\x10");
    assert!(read_frame(&mut stream).is_none());
}

#[test]
fn an_idle_connection_is_closed_and_an_asking_one_is_not() {
    let idle = Duration::from_millis(300);
    let house = House::with(&["127.0.0.1"], 1, Limits { idle, ..Limits::default() });
    let mut asking = house.connect();
    let mut waiting = house.connect();
    let mut silent = house.connect();
    waiting.write_all(&frame(&[b'P', 90])).unwrap();
    let began = Instant::now();
    let closed = std::thread::spawn(move || {
        assert!(read_frame(&mut silent).is_none());
        began.elapsed().as_millis()
    });
    while began.elapsed() < Duration::from_millis(800) {
        asking.write_all(&frame(b"E")).unwrap();
        assert_eq!(read_frame(&mut asking).unwrap(), b"E");
        sleep(Duration::from_millis(50));
    }
    assert!((250..2_000).contains(&closed.join().unwrap()));
    // Owed an answer for longer than the time-out.
    assert_eq!(read_frame(&mut waiting).unwrap(), [b'P', 90]);
}

#[test]
fn a_query_that_is_not_completed_ends_the_connection() {
    let query = Duration::from_millis(200);
    let house = House::with(&["127.0.0.1"], 1, Limits { query, ..Limits::default() });
    let mut stream = house.connect();
    let began = Instant::now();
    // One octet now and then is no excuse.
    for octet in [0, 9, b'E', b'E', b'E', b'E'] {
        if stream.write_all(&[octet]).is_err() {
            break;
        }
        sleep(Duration::from_millis(70));
    }
    assert!(read_frame(&mut stream).is_none());
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_length_that_no_query_has_ends_the_connection() {
    let house = House::on(&["127.0.0.1"], 1);
    for length in [0_u16, 4_097, 65_535] {
        let mut stream = house.connect();
        stream.write_all(&length.to_be_bytes()).unwrap();
        assert!(read_frame(&mut stream).is_none(), "{length}");
    }
}

#[test]
fn a_client_that_does_not_read_is_cut_off_and_holds_little() {
    let write = Duration::from_millis(300);
    let house = House::with(&["127.0.0.1"], 1, Limits { write, ..Limits::default() });
    let mut stream = house.connect();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let began = Instant::now();
    // Each is answered with 60 KiB, which nobody reads. The server stops
    // taking queries, our writes stall, and then it ends the connection.
    let many = frame(&[b'B', 60]).repeat(10_000);
    while stream.write_all(&many).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    wait_until(|| house.metrics.server_tcp_connections.get() == 0);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_slow_reader_that_reads_gets_everything() {
    let write = Duration::from_secs(1);
    let house = House::with(&["127.0.0.1"], 1, Limits { write, ..Limits::default() });
    let mut stream = house.connect();
    let mut writer = stream.try_clone().unwrap();
    let sender =
        std::thread::spawn(move || writer.write_all(&frame(&[b'B', 60]).repeat(300)).unwrap());
    for _ in 0..300 {
        assert_eq!(read_frame(&mut stream).unwrap().len(), 60 << 10);
        sleep(Duration::from_millis(5));
    }
    sender.join().unwrap();
}

#[test]
fn at_the_limit_the_one_quiet_for_longest_is_shed() {
    let limits = Limits { tcp_max: 3, ..Limits::default() };
    let house = House::with(&["127.0.0.1"], 1, limits);
    let mut busy = house.connect();
    busy.write_all(&[frame(&[b'P', 60]), frame(b"E")].concat()).unwrap();
    assert_eq!(read_frame(&mut busy).unwrap(), b"E");
    let mut first = house.connect();
    let mut second = house.connect();
    let echo = |stream: &mut TcpStream| {
        stream.write_all(&frame(b"E")).unwrap();
        assert_eq!(read_frame(stream).unwrap(), b"E");
    };
    echo(&mut first);
    echo(&mut second);
    echo(&mut first);
    let mut third = house.connect();
    echo(&mut third);
    assert!(read_frame(&mut second).is_none());
    echo(&mut first);
    assert_eq!(read_frame(&mut busy).unwrap(), [b'P', 60]);
}

#[test]
fn when_all_are_busy_the_newcomer_is_refused_and_counted() {
    let limits = Limits { per_client_max: 1, ..Limits::default() };
    let house = House::with(&["127.0.0.1"], 1, limits);
    let mut busy = house.connect();
    busy.write_all(&[frame(&[b'P', 200]), frame(b"E")].concat()).unwrap();
    assert_eq!(read_frame(&mut busy).unwrap(), b"E");
    assert!(read_frame(&mut house.connect()).is_none());
    assert_eq!(house.metrics.server_tcp_refused.get(), 1);
    assert_eq!(read_frame(&mut busy).unwrap(), [b'P', 200]);
}

#[test]
fn no_more_queries_are_taken_than_may_be_in_flight() {
    let limits = Limits { queries_in_flight_max: 2, ..Limits::default() };
    let house = House::with(&["127.0.0.1"], 1, limits);
    let mut stream = house.connect();
    let began = Instant::now();
    stream.write_all(&frame(&[b'P', 20]).repeat(6)).unwrap();
    for _ in 0..6 {
        assert_eq!(read_frame(&mut stream).unwrap(), [b'P', 20]);
    }
    assert!(began.elapsed() >= Duration::from_millis(590));
}

#[test]
fn an_old_connection_is_closed_after_what_it_is_owed() {
    let lifetime = Duration::from_millis(300);
    let house = House::with(&["127.0.0.1"], 1, Limits { lifetime, ..Limits::default() });
    let mut stream = house.connect();
    stream.write_all(&frame(&[b'P', 60])).unwrap();
    assert_eq!(read_frame(&mut stream).unwrap(), [b'P', 60]);
    assert!(read_frame(&mut stream).is_none());
}
