//! The server as a whole: addresses that come and go, that are taken, and the end.

use super::*;

#[test]
fn a_stream_of_queries_does_not_notice_that_other_addresses_come_and_go() {
    let house = House::on(&["127.0.0.1", "127.0.0.2"], 2);
    let ends = AtomicBool::new(false);
    let mut connection = house.connect();
    std::thread::scope(|scope| {
        // Also when an assertion below fails: the scope waits for the asker.
        let _end = OnDrop(|| ends.store(true, Ordering::Relaxed));
        let asker = scope.spawn(|| {
            let client = client("127.0.0.1");
            let mut asked = 0_u32;
            while !ends.load(Ordering::Relaxed) {
                let message = [&b"E"[..], &asked.to_be_bytes()].concat();
                client.send_to(&message, house.at("127.0.0.1")).unwrap();
                assert_eq!(ask_back(&client), message, "query {asked} was lost");
                asked += 1;
            }
            asked
        });
        for round in 0..30 {
            let other = ["127.0.0.3", "127.0.0.4", "::1", "0.0.0.0"][round % 4];
            house.relisten(&["127.0.0.1", other]).unwrap();
            let asked = if other == "0.0.0.0" { "127.9.9.9" } else { other };
            let client = client(if other == "::1" { "::1" } else { "127.0.0.1" });
            client.send_to(b"L", house.at(asked)).unwrap();
            assert_eq!(ask_back(&client), format!("L{asked}").as_bytes());
        }
        ends.store(true, Ordering::Relaxed);
        assert!(asker.join().unwrap() > 30);
    });
    house.relisten(&["127.0.0.5"]).unwrap();
    // Connections outlive their address; the listener does not.
    connection.write_all(&frame(b"L")).unwrap();
    assert_eq!(read_frame(&mut connection).unwrap(), b"L127.0.0.1");
    wait_until(|| TcpStream::connect(house.at("127.0.0.1")).is_err());
    assert_eq!(house.server.listening().len(), 2);
}

#[test]
fn what_waits_in_a_door_that_closes_is_answered() {
    let house = House::on(&["127.0.0.1", "127.0.0.2"], 1);
    let client = client("127.0.0.1");
    client.send_to(&[b'S', 30], house.at("127.0.0.1")).unwrap();
    sleep(Duration::from_millis(50));
    for n in 0..100 {
        client.send_to(&[b'E', n], house.at("127.0.0.2")).unwrap();
    }
    sleep(Duration::from_millis(100));
    house.relisten(&["127.0.0.1"]).unwrap();
    assert_eq!(ask_back(&client)[0], b'S');
    for n in 0..100 {
        assert_eq!(ask_back(&client), [b'E', n]);
    }
}

#[test]
fn a_list_with_one_bad_address_changes_nothing() {
    let house = House::on(&["127.0.0.1"], 1);
    let taken = UdpSocket::bind(house.at("127.0.0.9")).unwrap();
    drop(taken);
    let foreign = Foreign::hold(house.at("127.0.0.9"), Transport::Tcp);
    let error = house.relisten(&["127.0.0.2", "127.0.0.9"]).unwrap_err();
    assert!(matches!(error, ServerError::InUse { transport: Transport::Tcp, .. }), "{error}");
    let client = client("127.0.0.1");
    client.send_to(b"E", house.at("127.0.0.1")).unwrap();
    assert_eq!(ask_back(&client), b"E");
    let served: Vec<SocketAddr> = house.server.listening().iter().map(|l| l.0).collect();
    assert_eq!(served, [house.at("127.0.0.1"); 2]);
    drop(foreign);
    house.relisten(&["127.0.0.2", "127.0.0.9"]).unwrap();
}

#[test]
fn an_address_in_use_names_who_holds_it_and_the_mend() {
    let port = free_port();
    let address = SocketAddr::new([127, 0, 0, 1].into(), port);
    for transport in [Transport::Udp, Transport::Tcp] {
        let foreign = Foreign::hold(address, transport);
        let error = House::try_on(port, &["127.0.0.1"], 1, Limits::default()).err().unwrap();
        let text = error.to_string();
        let kind = name(transport);
        let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
        let comm = comm.trim();
        assert_eq!(
            text,
            format!(
                "127.0.0.1:{port}/{kind} is held by {comm} (pid {}): stop it, or choose \
                 another address in [server] listen",
                foreign.0.id()
            )
        );
    }
    // A process of the same user that shares its port would get a part of
    // our queries.
    let foreign = Foreign::hold_shared(address);
    assert!(House::try_on(port, &["127.0.0.1"], 1, Limits::default()).is_err());
    drop(foreign);
}

#[test]
fn stopping_answers_what_is_in_flight_and_then_is_deaf() {
    let house = House::on(&["127.0.0.1"], 1);
    let client = client("127.0.0.1");
    let mut stream = house.connect();
    let mut idle = house.connect();
    stream.write_all(&[frame(&[b'P', 40]), frame(b"E")].concat()).unwrap();
    assert_eq!(read_frame(&mut stream).unwrap(), b"E");
    client.send_to(&[b'P', 60], house.at("127.0.0.1")).unwrap();
    client.send_to(&[b'S', 20], house.at("127.0.0.1")).unwrap();
    for n in 0..60 {
        client.send_to(&[b'E', n], house.at("127.0.0.1")).unwrap();
    }
    sleep(Duration::from_millis(100));
    let began = Instant::now();
    house.runtime.block_on(house.server.stop());
    assert!((300..4_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let mut replies: Vec<Vec<u8>> = (0..62).map(|_| ask_back(&client)).collect();
    assert_eq!(replies.pop().unwrap(), [b'P', 60]);
    replies.retain(|reply| reply[0] == b'E');
    assert_eq!(replies.len(), 60);
    assert_eq!(read_frame(&mut stream).unwrap(), [b'P', 40]);
    assert!(read_frame(&mut stream).is_none());
    assert!(read_frame(&mut idle).is_none());
    assert!(TcpStream::connect(house.at("127.0.0.1")).is_err());
    assert!(matches!(house.relisten(&["127.0.0.1"]), Err(ServerError::Stopping)));
    // Every socket is closed: the port is free for anybody.
    UdpSocket::bind(house.at("127.0.0.1")).unwrap();
}

#[test]
fn stopping_does_not_wait_for_ever() {
    let house = House::on(&["127.0.0.1"], 1);
    let mut stream = house.connect();
    stream.write_all(&frame(&[b'P', 255])).unwrap();
    client("127.0.0.1").send_to(&[b'P', 255], house.at("127.0.0.1")).unwrap();
    sleep(Duration::from_millis(50));
    let began = Instant::now();
    house.runtime.block_on(house.server.stop());
    assert!((1_400..5_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert!(read_frame(&mut stream).is_none());
}

#[test]
fn too_many_addresses_are_refused() {
    let house = House::on(&["127.0.0.1"], 1);
    let many = (0..=ADDRESSES_MAX as u32)
        .map(|n| SocketAddr::new(std::net::Ipv4Addr::from(0x7f01_0000 + n).into(), house.port));
    let error = house.server.relisten(many.collect::<Vec<_>>()).unwrap_err();
    assert!(matches!(error, ServerError::TooMany { .. }));
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

/// Not a test of its own: the other process in those about addresses that
/// are taken. It holds one until its input ends.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn hold() {
    let Ok(what) = std::env::var(HOLD) else { return };
    let (kind, address) = what.split_once(' ').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let _held: Box<dyn std::any::Any> = match kind {
        "udp" => Box::new(UdpSocket::bind(address).unwrap()),
        "tcp" => Box::new(TcpListener::bind(address).unwrap()),
        _ => Box::new(sockets::udp(address).unwrap()),
    };
    eprintln!("held");
    let _ = io::stdin().read(&mut [0]);
}
