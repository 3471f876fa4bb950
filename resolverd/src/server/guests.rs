//! Which TCP connections are open, and who leaves when there is no room.
//!
//! A connection is quiet while we owe it nothing that is being worked on: it
//! may be idle, in the middle of sending a query, or slow to read. The one
//! quiet for longest leaves for a newcomer; a busy one never does.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// All open connections.
pub struct Guests {
    total_max: usize,
    per_client_max: usize,
    /// Counts on with every turn to quiet: orders them without a clock.
    turns: AtomicU64,
    seats: Mutex<Seats>,
    /// Rung when a seat becomes free.
    left: Notify,
}

#[derive(Default)]
struct Seats {
    next_id: u64,
    by_id: HashMap<u64, Arc<Guest>>,
    by_client: HashMap<IpAddr, usize>,
}

struct Guest {
    client: IpAddr,
    /// The turn at which it became quiet; 0 while it is busy.
    quiet_since: AtomicU64,
    shed: Notify,
}

/// A connection's place; given back when dropped.
pub struct Seat {
    id: u64,
    guest: Arc<Guest>,
    guests: Arc<Guests>,
}

impl Guests {
    pub fn new(total_max: usize, per_client_max: usize) -> Arc<Guests> {
        Arc::new(Guests {
            total_max,
            per_client_max,
            turns: AtomicU64::new(1),
            seats: Mutex::default(),
            left: Notify::new(),
        })
    }

    /// A seat for a newcomer, if need be that of the connection that was quiet
    /// for longest: among its own client's when that has its share, else among
    /// all. `None` when those are all busy.
    pub fn admit(self: &Arc<Guests>, client: IpAddr) -> Option<Seat> {
        let mut seats = self.seats.lock();
        let of_client = seats.by_client.get(&client).copied().unwrap_or(0);
        if of_client >= self.per_client_max {
            seats.shed_quietest(|guest| guest.client == client)?;
        } else if seats.by_id.len() >= self.total_max {
            seats.shed_quietest(|_| true)?;
        }
        let id = seats.next_id;
        seats.next_id += 1;
        let quiet_since = AtomicU64::new(self.turn());
        let guest = Arc::new(Guest { client, quiet_since, shed: Notify::new() });
        seats.by_id.insert(id, Arc::clone(&guest));
        *seats.by_client.entry(client).or_default() += 1;
        Some(Seat { id, guest, guests: Arc::clone(self) })
    }

    pub fn len(&self) -> usize {
        self.seats.lock().by_id.len()
    }

    /// Whether half of all places is taken, or half of a client's share: past it one who only
    /// says that he is this client could push others out.
    pub fn is_half_full(&self, client: IpAddr) -> bool {
        let seats = self.seats.lock();
        let of_client = seats.by_client.get(&client).copied().unwrap_or(0);
        seats.by_id.len() * 2 >= self.total_max || of_client * 2 >= self.per_client_max
    }

    /// Waits until all have left.
    pub async fn empty(&self) {
        loop {
            let left = self.left.notified();
            if self.len() == 0 {
                return;
            }
            left.await;
        }
    }

    /// Sends all away at once.
    pub fn shed_all(&self) {
        self.seats.lock().by_id.values().for_each(|guest| guest.shed.notify_one());
    }

    fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }
}

impl Seats {
    /// Looks at every candidate: it happens only at the limit, and costs less
    /// than the newcomer's handshake did.
    fn shed_quietest(&mut self, may: impl Fn(&Guest) -> bool) -> Option<()> {
        let (_, id) = (self.by_id.iter())
            .filter(|(_, guest)| may(guest))
            .map(|(id, guest)| (guest.quiet_since.load(Ordering::Relaxed), *id))
            .filter(|(since, _)| *since != 0)
            .min()?;
        self.remove(id)?.shed.notify_one();
        Some(())
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Guest>> {
        let guest = self.by_id.remove(&id)?;
        if let Some(count) = self.by_client.get_mut(&guest.client) {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&guest.client);
            }
        }
        Some(guest)
    }
}

impl Seat {
    /// It asked something that is being worked on, and may stay.
    pub fn busy(&self) {
        self.guest.quiet_since.store(0, Ordering::Relaxed);
    }

    /// It is owed nothing, from now on.
    pub fn quiet(&self) {
        self.guest.quiet_since.store(self.guests.turn(), Ordering::Relaxed);
    }

    /// Waits until it must leave for another.
    pub async fn shed(&self) {
        self.guest.shed.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.guests.seats.lock().remove(self.id);
        self.guests.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const BOB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn the_one_quiet_for_longest_leaves_for_a_newcomer() {
        let guests = Guests::new(3, 3);
        let [first, second, third] = [ALICE, ALICE, BOB].map(|who| guests.admit(who).unwrap());
        first.quiet();
        let _fourth = guests.admit(BOB).unwrap();
        assert_eq!([&first, &second, &third].map(is_shed), [false, true, false]);
        assert_eq!(guests.len(), 3);
    }

    #[test]
    fn busy_ones_stay_and_the_newcomer_is_refused() {
        let guests = Guests::new(2, 2);
        let [first, second] = [ALICE, BOB].map(|who| guests.admit(who).unwrap());
        first.busy();
        second.busy();
        assert!(guests.admit(BOB).is_none());
        second.quiet();
        assert!(guests.admit(BOB).is_some());
        assert_eq!([&first, &second].map(is_shed), [false, true]);
    }

    #[test]
    fn a_client_with_its_share_loses_its_own() {
        let guests = Guests::new(10, 2);
        let other = guests.admit(BOB).unwrap();
        let [first, second] = [ALICE, ALICE].map(|who| guests.admit(who).unwrap());
        let third = guests.admit(ALICE).unwrap();
        assert_eq!([&other, &first, &second, &third].map(is_shed), [false, true, false, false]);
    }

    #[test]
    fn half_of_all_and_half_of_a_share_are_told() {
        let guests = Guests::new(6, 4);
        let first = guests.admit(ALICE).unwrap();
        assert!(!guests.is_half_full(ALICE));
        let second = guests.admit(ALICE).unwrap();
        assert!(guests.is_half_full(ALICE) && !guests.is_half_full(BOB));
        let third = guests.admit(ALICE).unwrap();
        assert!(guests.is_half_full(BOB));
        drop((first, second, third));
        assert!(!guests.is_half_full(ALICE));
    }

    #[test]
    fn a_seat_given_back_is_free_and_counted_once() {
        let guests = Guests::new(1, 1);
        let first = guests.admit(ALICE).unwrap();
        let second = guests.admit(ALICE).unwrap();
        // The one that was shed leaves after its seat was given away.
        drop(first);
        assert_eq!(guests.len(), 1);
        drop(second);
        assert_eq!(guests.len(), 0);
        assert!(guests.seats.lock().by_client.is_empty());
    }

    fn is_shed(seat: &Seat) -> bool {
        use std::future::Future;
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(seat.shed()).poll(&mut context).is_ready()
    }
}
