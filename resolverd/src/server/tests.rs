//! The doors over real loopback sockets, with a handler that echoes.
//!
//! A message is its own reply, but for its first octet: `P` is answered after
//! a while (the octet after it, in units of 10 ms), `D` not at all, `X` is a
//! panic, `B` is answered with the octet after it, in KiB, and `L` is followed
//! in the reply by the address that was asked.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::*;
use crate::metrics::{Build, Dropped};
use crate::pipeline::Client;

mod udp {
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
}

mod tcp {
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
        let house = House::with(&["127.0.0.1"], 1, TcpLimits { idle, ..TcpLimits::default() });
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
        let house = House::with(&["127.0.0.1"], 1, TcpLimits { query, ..TcpLimits::default() });
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
        let house = House::with(&["127.0.0.1"], 1, TcpLimits { write, ..TcpLimits::default() });
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
        let write = Duration::from_millis(500);
        let house = House::with(&["127.0.0.1"], 1, TcpLimits { write, ..TcpLimits::default() });
        let mut stream = house.connect();
        let mut writer = stream.try_clone().unwrap();
        let sender =
            std::thread::spawn(move || writer.write_all(&frame(&[b'B', 60]).repeat(200)).unwrap());
        for _ in 0..200 {
            assert_eq!(read_frame(&mut stream).unwrap().len(), 60 << 10);
            sleep(Duration::from_millis(5));
        }
        sender.join().unwrap();
    }

    #[test]
    fn at_the_limit_the_one_quiet_for_longest_is_shed() {
        let limits = TcpLimits { connections_max: 3, ..TcpLimits::default() };
        let house = House::with(&["127.0.0.1"], 1, limits);
        let mut busy = house.connect();
        busy.write_all(&frame(&[b'P', 60])).unwrap();
        sleep(Duration::from_millis(50));
        let mut first = house.connect();
        sleep(Duration::from_millis(50));
        let mut second = house.connect();
        sleep(Duration::from_millis(50));
        first.write_all(&frame(b"E")).unwrap();
        assert_eq!(read_frame(&mut first).unwrap(), b"E");
        let mut third = house.connect();
        third.write_all(&frame(b"E")).unwrap();
        assert_eq!(read_frame(&mut third).unwrap(), b"E");
        assert!(read_frame(&mut second).is_none());
        first.write_all(&frame(b"E")).unwrap();
        assert_eq!(read_frame(&mut first).unwrap(), b"E");
        assert_eq!(read_frame(&mut busy).unwrap(), [b'P', 60]);
    }

    #[test]
    fn when_all_are_busy_the_newcomer_is_refused_and_counted() {
        let limits = TcpLimits { per_client_max: 1, ..TcpLimits::default() };
        let house = House::with(&["127.0.0.1"], 1, limits);
        let mut busy = house.connect();
        busy.write_all(&frame(&[b'P', 40])).unwrap();
        sleep(Duration::from_millis(50));
        assert!(read_frame(&mut house.connect()).is_none());
        assert_eq!(house.metrics.server_tcp_refused.get(), 1);
        assert_eq!(read_frame(&mut busy).unwrap(), [b'P', 40]);
    }

    #[test]
    fn no_more_queries_are_taken_than_may_be_in_flight() {
        let limits = TcpLimits { queries_in_flight_max: 2, ..TcpLimits::default() };
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
        let house = House::with(&["127.0.0.1"], 1, TcpLimits { lifetime, ..TcpLimits::default() });
        let mut stream = house.connect();
        stream.write_all(&frame(&[b'P', 60])).unwrap();
        assert_eq!(read_frame(&mut stream).unwrap(), [b'P', 60]);
        assert!(read_frame(&mut stream).is_none());
    }
}

mod whole {
    use super::*;

    #[test]
    fn a_stream_of_queries_does_not_notice_that_other_addresses_come_and_go() {
        let house = House::on(&["127.0.0.1", "127.0.0.2"], 2);
        let ends = AtomicBool::new(false);
        let mut connection = house.connect();
        std::thread::scope(|scope| {
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
        for n in 0..100 {
            client.send_to(&[b'E', n], house.at("127.0.0.2")).unwrap();
        }
        house.relisten(&["127.0.0.1"]).unwrap();
        for _ in 0..100 {
            assert_eq!(ask_back(&client)[0], b'E');
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
            let error = House::try_on(port, &["127.0.0.1"], 1, TcpLimits::default()).err().unwrap();
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
        assert!(House::try_on(port, &["127.0.0.1"], 1, TcpLimits::default()).is_err());
        drop(foreign);
    }

    #[test]
    fn stopping_answers_what_is_in_flight_and_then_is_deaf() {
        let house = House::on(&["127.0.0.1"], 2);
        let client = client("127.0.0.1");
        let mut stream = house.connect();
        let mut idle = house.connect();
        stream.write_all(&[frame(&[b'P', 40]), frame(b"E")].concat()).unwrap();
        assert_eq!(read_frame(&mut stream).unwrap(), b"E");
        client.send_to(&[b'P', 40], house.at("127.0.0.1")).unwrap();
        for n in 0..60 {
            client.send_to(&[b'E', n], house.at("127.0.0.1")).unwrap();
        }
        let began = Instant::now();
        house.runtime.block_on(house.server.stop());
        assert!((300..1_500).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        for _ in 0..60 {
            assert_eq!(ask_back(&client)[0], b'E');
        }
        assert_eq!(ask_back(&client), [b'P', 40]);
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
        assert!((1_400..2_200).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        assert!(read_frame(&mut stream).is_none());
    }

    #[test]
    fn too_many_addresses_are_refused() {
        let house = House::on(&["127.0.0.1"], 1);
        let many = (0..=ADDRESSES_MAX as u32)
            .map(|n| SocketAddr::new(std::net::Ipv4Addr::from(0x7f01_0000 + n).into(), house.port));
        let error = house.server.relisten(many.collect()).unwrap_err();
        assert!(matches!(error, ServerError::TooMany { .. }));
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
}

/// A process that holds an address until this is dropped.
struct Foreign(std::process::Child);

impl Foreign {
    fn hold(address: SocketAddr, transport: Transport) -> Foreign {
        Foreign::start(&format!("{} {address}", name(transport)))
    }

    fn hold_shared(address: SocketAddr) -> Foreign {
        Foreign::start(&format!("shared {address}"))
    }

    fn start(what: &str) -> Foreign {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server::tests::whole::hold", "--ignored", "--nocapture"])
            .env(HOLD, what)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 4];
        child.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"held");
        Foreign(child)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

const HOLD: &str = "RESOLVERD_TEST_HOLD";

struct Echo;

impl Handler for Echo {
    type Pending = Vec<u8>;

    fn begin(&self, message: &[u8], client: &Client, out: &mut Vec<u8>) -> Begun<Vec<u8>> {
        out.clear();
        match message.first() {
            Some(b'D') => return Begun::Drop,
            Some(b'P') => return Begun::Pending(message.to_vec()),
            Some(b'X') => std::panic::resume_unwind(Box::new("asked to")),
            Some(b'B') => out.resize(usize::from(message[1]) << 10, b'B'),
            Some(b'L') => out.extend(format!("L{}", client.local).bytes()),
            _ => out.extend_from_slice(message),
        }
        Begun::Reply
    }

    async fn finish(&self, pending: Vec<u8>, out: &mut Vec<u8>) {
        let tens = pending.get(1).copied().unwrap_or(1);
        tokio::time::sleep(Duration::from_millis(u64::from(tens) * 10)).await;
        out.clear();
        out.extend_from_slice(&pending);
    }
}

/// A server on a port of its own, with the runtime it runs in.
struct House {
    server: Server<Echo>,
    metrics: Arc<Metrics>,
    port: u16,
    runtime: tokio::runtime::Runtime,
}

impl House {
    fn on(ips: &[&str], workers: usize) -> House {
        House::with(ips, workers, TcpLimits::default())
    }

    fn with(ips: &[&str], workers: usize, tcp: TcpLimits) -> House {
        House::try_on(free_port(), ips, workers, tcp).unwrap()
    }

    fn try_on(
        port: u16,
        ips: &[&str],
        workers: usize,
        tcp: TcpLimits,
    ) -> Result<House, ServerError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let metrics = Arc::new(Metrics::new(Build { version: "test", abi: 0, kernel_path: false }));
        let listen = at_port(ips, port);
        let settings = Settings { listen, workers, tcp };
        let inside = runtime.enter();
        let server = Server::start(Arc::new(Echo), settings, Arc::clone(&metrics))?;
        drop(inside);
        Ok(House { server, metrics, port, runtime })
    }

    fn at(&self, ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), self.port)
    }

    fn relisten(&self, ips: &[&str]) -> Result<(), ServerError> {
        self.server.relisten(at_port(ips, self.port))
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.at("127.0.0.1")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

fn at_port(ips: &[&str], port: u16) -> Vec<SocketAddr> {
    ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect()
}

/// Below the ephemeral ports, so that no other test's client takes one; apart
/// for each process.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 200) as u16 * 100;
    loop {
        let port = 10_000 + start + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        let anywhere = |ip: &str| (ip.parse::<IpAddr>().unwrap(), port);
        if UdpSocket::bind(anywhere("0.0.0.0")).is_ok()
            && UdpSocket::bind(anywhere("::")).is_ok()
            && TcpListener::bind(anywhere("0.0.0.0")).is_ok()
            && TcpListener::bind(anywhere("::")).is_ok()
        {
            return port;
        }
    }
}

fn client(ip: &str) -> UdpSocket {
    let client = UdpSocket::bind((ip, 0)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

fn ask_back(client: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let (len, _) = client.recv_from(&mut buffer).expect("a reply in time");
    buffer.truncate(len);
    buffer
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// The next message; `None` when the server has closed.
fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("nothing in time"),
        Err(_) => return None,
    }
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    Some(message)
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited in vain");
        sleep(Duration::from_millis(5));
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
