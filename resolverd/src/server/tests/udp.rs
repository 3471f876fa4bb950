//! The UDP doors, one query and many at a time.

use std::net::SocketAddrV6;

use socket2::{Domain, Protocol, Socket, Type};

use super::*;

#[test]
fn every_query_of_many_batches_is_answered() {
    let house = House::on(&["127.0.0.1"], 2);
    let client = client("127.0.0.1");
    for round in 0..20_u8 {
        for n in 0..50 {
            client.send_to(&[b'E', round, n], house.at("127.0.0.1")).unwrap();
        }
        let mut answered: Vec<u8> = (0..50).map(|_| ask_back(&client)[2]).collect();
        answered.sort_unstable();
        assert_eq!(answered, (0..50).collect::<Vec<u8>>());
    }
}

#[test]
fn a_wildcard_answers_from_the_address_that_was_asked() {
    let house = House::on(&["0.0.0.0", "::"], 1);
    let client = client("127.0.0.1");
    for asked in ["127.0.0.2", "127.0.0.1", "127.1.2.3"] {
        // Once answered by the worker, once by a task.
        for message in [b"L", b"P"] {
            client.send_to(message, house.at(asked)).unwrap();
            let mut buffer = [0; 64];
            let (len, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!(from, house.at(asked));
            if message == b"L" {
                assert_eq!(&buffer[1..len], asked.as_bytes());
            }
        }
    }
    let client = super::client("::1");
    client.send_to(b"L", house.at("::1")).unwrap();
    assert_eq!(ask_back(&client), b"L::1");
}

#[test]
fn several_addresses_are_served_by_one_worker() {
    let house = House::on(&["127.0.0.1", "127.0.0.2", "::1"], 1);
    for asked in ["127.0.0.1", "127.0.0.2", "::1", "127.0.0.1"] {
        let client = client(asked);
        client.send_to(b"L", house.at(asked)).unwrap();
        assert_eq!(ask_back(&client), format!("L{asked}").as_bytes());
    }
}

#[test]
fn a_miss_holds_nobody_up_and_is_answered_when_it_is_ready() {
    let house = House::on(&["127.0.0.1"], 1);
    let client = client("127.0.0.1");
    client.send_to(b"P\x14", house.at("127.0.0.1")).unwrap();
    client.send_to(b"E", house.at("127.0.0.1")).unwrap();
    assert_eq!(ask_back(&client), b"E");
    assert_eq!(ask_back(&client), b"P\x14");
}

#[test]
fn what_is_too_long_or_meant_for_nobody_is_dropped_and_counted() {
    let house = House::on(&["127.0.0.1"], 1);
    let client = client("127.0.0.1");
    client.send_to(&[b'E'; 4_097], house.at("127.0.0.1")).unwrap();
    client.send_to(b"D", house.at("127.0.0.1")).unwrap();
    client.send_to(&[b'E'; 4_096], house.at("127.0.0.1")).unwrap();
    assert_eq!(ask_back(&client).len(), 4_096);
    assert_eq!(house.metrics.packets_dropped(Dropped::Oversize).get(), 1);
}

#[test]
fn a_query_that_makes_the_handler_stumble_costs_only_its_own_reply() {
    let house = House::on(&["127.0.0.1"], 1);
    let client = client("127.0.0.1");
    for message in [b"E1", b"X2", b"E3", b"X4", b"E5"] {
        client.send_to(message, house.at("127.0.0.1")).unwrap();
    }
    assert_eq!([(); 3].map(|()| ask_back(&client)[1]), *b"135");
}

#[test]
fn an_address_that_is_not_there_yet_is_bound_ahead() {
    // TEST-NET-1 is nobody's.
    let house = House::on(&["127.0.0.1", "192.0.2.77"], 1);
    let states = house.server.listening();
    let state = |ip: &str, transport| {
        let found = states.iter().find(|(a, t, _)| *a == house.at(ip) && *t == transport);
        found.unwrap().2.clone()
    };
    assert_eq!(state("127.0.0.1", Transport::Udp), State::Serving);
    assert_eq!(state("127.0.0.1", Transport::Tcp), State::Serving);
    assert_eq!(state("192.0.2.77", Transport::Udp), State::Waiting);
    assert_eq!(state("192.0.2.77", Transport::Tcp), State::Waiting);
    assert_eq!(house.metrics.addresses(AddressState::Waiting).get(), 1);
}

#[test]
fn a_query_from_port_0_is_dropped_and_counted() {
    let house = House::on(&["127.0.0.1"], 1);
    let Ok(raw) = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)) else {
        eprintln!("not run: no privilege for a raw socket");
        return;
    };
    // Source port, destination port, length, no checksum; then the message.
    let [high, low] = house.port.to_be_bytes();
    let datagram = [0, 0, high, low, 0, 9, 0, 0, b'E'];
    raw.send_to(&datagram, &house.at("127.0.0.1").into()).unwrap();
    wait_until(|| house.metrics.packets_dropped(Dropped::Source).get() == 1);
}

#[test]
fn a_wildcard_answers_link_local_clients_and_leaves_broadcasts_alone() {
    in_a_namespace(|| {
        ip("link add here type veth peer name there");
        ip("link set lo up");
        ip("link set here up");
        ip("link set there up");
        ip("addr add 192.0.2.1/24 brd 192.0.2.255 dev here");
        ip("addr add fe80::53/64 dev here nodad");
        let house = House::on(&["0.0.0.0", "::"], 1);
        let index = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
        let index = index.lines().find(|line| line.ends_with(" here")).unwrap();
        let index = u32::from_str_radix(index.split(' ').nth(1).unwrap(), 16).unwrap();
        let server = SocketAddrV6::new("fe80::53".parse().unwrap(), house.port, 0, index);
        for message in [b"L", b"P"] {
            let client = UdpSocket::bind(SocketAddrV6::new(*server.ip(), 0, 0, index)).unwrap();
            let (_, from) = ask_until_answered(&client, message, server.into());
            assert_eq!(from, server.into());
        }
        let client = UdpSocket::bind("192.0.2.1:0").unwrap();
        client.set_broadcast(true).unwrap();
        client.send_to(b"E", house.at("192.0.2.255")).unwrap();
        wait_until(|| house.metrics.packets_dropped(Dropped::Destination).get() == 1);
    });
}

#[test]
fn an_address_bound_ahead_is_served_when_it_comes() {
    in_a_namespace(|| {
        ip("link set lo up");
        let house = House::on(&["192.0.2.7", "2001:db8::7"], 1);
        let states = |house: &House| -> Vec<State> {
            house.server.listening().into_iter().map(|(_, _, state)| state).collect()
        };
        assert_eq!(states(&house), [const { State::Waiting }; 4]);
        ip("addr add 192.0.2.7/32 dev lo");
        ip("addr add 2001:db8::7/128 dev lo nodad");
        assert_eq!(states(&house), [const { State::Serving }; 4]);
        for asked in ["192.0.2.7", "2001:db8::7"] {
            let client = client(asked);
            let (reply, from) = ask_until_answered(&client, b"L", house.at(asked));
            assert_eq!((reply, from), (format!("L{asked}").into_bytes(), house.at(asked)));
        }
        ip("addr del 192.0.2.7/32 dev lo");
        assert!(states(&house).contains(&State::Waiting));
    });
}

/// Runs `test` in a network namespace of its own; without the privilege for
/// one it says so and passes.
fn in_a_namespace(test: impl FnOnce() + Send + 'static) {
    std::thread::spawn(|| {
        #[expect(deprecated, reason = "it is unsafe for memory and files, which are not unshared")]
        let unshared = rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET);
        if unshared.is_err() {
            eprintln!("not run: no privilege for a network namespace");
            return;
        }
        test();
    })
    .join()
    .unwrap();
}

/// Asks again as clients do: the kernel is still at work on the routes of an
/// IPv6 address when `ip` has returned.
fn ask_until_answered(client: &UdpSocket, message: &[u8], at: SocketAddr) -> (Vec<u8>, SocketAddr) {
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut answer = None;
    wait_until(|| {
        let mut buffer = [0; 64];
        let got = client.send_to(message, at).and_then(|_| client.recv_from(&mut buffer));
        answer = got.ok().map(|(len, from)| (buffer[..len].to_vec(), from));
        answer.is_some()
    });
    answer.unwrap()
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("iproute2 is installed").success(), "ip {arguments}");
}
