//! The folder: what is made in it, what is refused, and what a restart finds.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use resolverd_common::key::{Key, SECRET_WORDS};

use super::super::Settings;
use super::super::kept::key_of;
use super::*;
use crate::dns::records::{Record, compose};
use crate::dns::{Answer, Query, Source, rcode};
use crate::metrics::{Build, Metrics};

const POLICY: u64 = 77;
const SECRET: [u32; SECRET_WORDS] = [5; SECRET_WORDS];

fn cache(memory_max: u64) -> Cache {
    let metrics = Arc::new(Metrics::new(Build { version: "0", abi: 0, kernel_path: false }));
    Cache::new(Settings { memory_max, ..Settings::default() }, metrics)
}

fn query(n: u32) -> Query {
    Query {
        name: format!("n{n:07}.bench.test").parse().unwrap(),
        qtype: 1,
        dnssec_ok: false,
        checking_disabled: false,
        view: 0,
    }
}

fn key(query: &Query) -> Key {
    key_of(&SECRET, query)
}

/// Stores an address of a name with this TTL.
fn store(cache: &Cache, n: u32, ttl: u32) {
    let query = query(n);
    let rdata = n.to_be_bytes().to_vec();
    let record = Record { owner: query.name.clone(), rtype: 1, class: 1, ttl, rdata };
    let body = compose(&query.name, [&[record], &[], &[]]).unwrap();
    let answer = Answer {
        counts: body.counts,
        body: body.octets,
        ttl_offsets: body.ttl_offsets,
        source: Source::Upstream("one".into()),
        ..Answer::empty(rcode::NOERROR, Duration::from_secs(ttl.into()), None)
    };
    let mut words = Vec::new();
    let now = boot_now().0;
    cache.build(&query, &answer, now, &mut words).unwrap();
    assert!(cache.insert(key(&query), &words, "", now).is_ok());
}

fn load(shelf: &Shelf, cache: &Cache) -> Result<Option<Loaded>, ShelfError> {
    let mut desk = Desk::default();
    shelf.load(POLICY, |kept, origin, now| {
        let query = kept.query().map_err(|_| NotTaken::Malformed)?;
        cache.take_back(key(&query), kept, origin, now, &mut desk)
    })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_cache_goes_to_disk_and_comes_back_with_who_said_what() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::in_folder(&dir.path().join("state"));
    let (before, after) = (cache(4 << 20), cache(4 << 20));
    assert_eq!(load(&shelf, &after).unwrap(), None);
    (0..100).for_each(|n| store(&before, n, 300));
    // What was flushed, and what is no more than a second, stays here.
    before.flush(&super::super::Scope::Name(query(7).name), || boot_now().0);
    assert_eq!(shelf.save(&before, POLICY, || true).unwrap(), 99);
    assert_eq!(mode(&shelf.path()), 0o600);
    assert_eq!(mode(&dir.path().join("state/cache.key")), 0o600);
    assert_eq!(mode(&dir.path().join("state")) & 0o077, 0);
    let loaded = load(&shelf, &after).unwrap().unwrap();
    assert_eq!(loaded, Loaded { taken: 99, expired: 0, left: 0 });
    let mut entry = vec![0; 64];
    for held in after.all() {
        let head = held.head();
        entry.resize(head.len_words(), 0);
        held.copy_to(&mut entry);
        assert_eq!(&*after.origin_name(head.origin), "upstream one");
        let name = resolverd_common::entry::name_of(&entry, &head).to_vec();
        let n: u32 = str::from_utf8(&name[2..9]).unwrap().parse().unwrap();
        assert_eq!(resolverd_common::entry::body_of(&entry, &head)[12..], n.to_be_bytes());
    }
    // What is there is as good: nothing is taken twice.
    let again = load(&shelf, &after).unwrap().unwrap();
    assert_eq!(again, Loaded { taken: 0, expired: 0, left: 99 });
    // Names of the folder: nothing is left over.
    let mut names: Vec<_> = fs::read_dir(dir.path().join("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["cache.bin", "cache.key"]);
}

#[test]
fn what_ended_meanwhile_is_dropped_and_the_rest_is_older() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::in_folder(dir.path());
    let (before, after) = (cache(4 << 20), cache(4 << 20));
    store(&before, 1, 1);
    store(&before, 2, 300);
    shelf.save(&before, POLICY, || true).unwrap();
    std::thread::sleep(Duration::from_millis(1_100));
    let loaded = load(&shelf, &after).unwrap().unwrap();
    assert_eq!(loaded, Loaded { taken: 1, expired: 1, left: 0 });
    let head = after.all().next().unwrap().head();
    let left = head.expires_at() - boot_now().0;
    assert!(left <= 298_900_000_000 && left > 290_000_000_000, "{left}");
}

#[test]
fn what_is_loaded_a_moment_after_a_flush_is_not_taken_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::in_folder(dir.path());
    let cache = cache(4 << 20);
    (0..5).for_each(|n| store(&cache, n, 300));
    shelf.save(&cache, POLICY, || true).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    cache.flush(&super::super::Scope::All, || boot_now().0);
    assert_eq!(load(&shelf, &cache).unwrap().unwrap().taken, 5);
    // Judged once more, as after any other flush.
    cache.next_round();
    for held in cache.all() {
        assert!(cache.spares(&held, &held.head()));
    }
    assert_eq!(load(&shelf, &cache).unwrap().unwrap().left, 5, "they are known");
}

#[test]
fn a_bad_file_is_refused_whole_and_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::in_folder(dir.path());
    let before = cache(4 << 20);
    (0..10).for_each(|n| store(&before, n, 300));
    shelf.save(&before, POLICY, || true).unwrap();
    let good = fs::read(shelf.path()).unwrap();
    let refused = |octets: &[u8], words: &str| {
        fs::write(shelf.path(), octets).unwrap();
        let after = cache(4 << 20);
        let error = load(&shelf, &after).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("cache.bin"), "{error}");
        assert_eq!(after.stats().entries, 0, "nothing of it was used");
    };
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    refused(&changed, "MAC is wrong");
    refused(&good[..good.len() - 1], "ends in the middle");
    refused(b"", "does not begin with");
    refused(b"something else\n", "does not begin with");
    let newer = [b"resolverd-cache 9\n", &good[18..]].concat();
    refused(&newer, "version 9");
    // Another policy, another key.
    fs::write(shelf.path(), &good).unwrap();
    let other = shelf.load(POLICY + 1, |_, _, _| panic!("used"));
    assert!(matches!(other, Err(ShelfError::OtherPolicy { .. })));
    fs::remove_file(dir.path().join(KEY)).unwrap();
    refused(&good, "MAC is wrong");
}

#[test]
fn a_file_from_the_future_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::in_folder(dir.path());
    let key = shelf.key().unwrap();
    for (ahead, good) in [(0, true), (2, true), (60, false)] {
        let written_at = moment().wall + ahead * 1_000_000_000;
        let header = Header { nonce: [0; 16], written_at, policy: POLICY };
        let file = file::Writer::begin(Vec::new(), &key, &header).unwrap().end().unwrap();
        fs::write(shelf.path(), file).unwrap();
        let loaded = shelf.load(POLICY, |_, _, _| Ok(()));
        match loaded {
            Ok(_) => assert!(good, "{ahead}"),
            Err(error) => {
                assert!(!good && error.to_string().contains("clock was set back"), "{error}");
            }
        }
    }
}

#[test]
fn a_key_that_others_know_is_refused_and_so_is_one_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::in_folder(dir.path());
    shelf.key().unwrap();
    let path = dir.path().join(KEY);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("resolverd-cache-key 1\n"), "{text}");
    for bits in [0o640, 0o604, 0o620, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
        let error = shelf.key().unwrap_err();
        assert!(matches!(error, ShelfError::KeyOpen { mode, .. } if mode == bits), "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    for (text, newer) in [
        ("", false),
        ("resolverd-cache-key 1\n", false),
        ("resolverd-cache-key 1\nabc\n", false),
        (&*format!("resolverd-cache-key 1\n{}\n", "zz".repeat(32)), false),
        ("resolverd-cache-key 2\n", true),
    ] {
        fs::write(&path, text).unwrap();
        match shelf.key().unwrap_err() {
            ShelfError::KeyNewer { version: 2, .. } => assert!(newer),
            ShelfError::KeyMalformed { .. } => assert!(!newer, "{text}"),
            other => panic!("{other}"),
        }
    }
    // A link could lead to a file of somebody else's.
    fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
    assert!(matches!(shelf.key(), Err(ShelfError::Key { .. })));
}

#[test]
fn who_is_told_to_stop_leaves_the_file_that_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::in_folder(dir.path());
    let few = cache(4 << 20);
    store(&few, 1, 300);
    shelf.save(&few, POLICY, || true).unwrap();
    let before = fs::read(shelf.path()).unwrap();
    // More than one chunk.
    let many = cache(64 << 20);
    (0..20_000).for_each(|n| store(&many, n, 300));
    let stopped = shelf.save(&many, POLICY, || false);
    assert!(matches!(stopped, Err(ShelfError::TooSlow { .. })));
    assert!(fs::read(shelf.path()).unwrap() == before);
    assert!(!dir.path().join(BESIDE).exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let shelf = Shelf::in_folder(&dir.path().join("file"));
    let error = shelf.save(&cache(4 << 20), POLICY, || true).unwrap_err().to_string();
    assert!(error.contains("file/cache.key"), "{error}");
}

/// What a million answers cost: written while another thread asks the cache, and read.
/// `cargo xtask bench cache` prints it.
#[test]
#[ignore = "measures time"]
fn a_million_answers_are_written_beside_those_who_ask_and_read_in_two_seconds() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    const NAMES: u32 = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::in_folder(dir.path());
    let (before, after) = (cache(1 << 30), cache(1 << 30));
    (0..NAMES).for_each(|n| store(&before, n, 86_400));
    let entries = before.stats().entries;

    // The slowest look of each thousand, with the file being written and without.
    let looks = |until: &AtomicBool| {
        let asked: Vec<_> = (0..1_000).map(|n| query(n * 997)).collect();
        let asked: Vec<_> = asked
            .iter()
            .map(|query| {
                let mut octets = query.name.as_wire().to_vec();
                octets.resize(octets.len() / 8 * 8 + 8, 0);
                let words = octets.chunks(8).map(|w| u64::from_ne_bytes(w.try_into().unwrap()));
                (key(query), query.meta(), words.collect::<Vec<u64>>())
            })
            .collect();
        let (mut took, start) = (Vec::new(), Instant::now());
        while !until.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(20) {
            for (key, meta, name) in &asked {
                let now = Instant::now();
                assert!(before.find(*key, *meta, name, boot_now().0).is_some());
                took.push(now.elapsed());
            }
        }
        took.sort_unstable();
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        println!(
            "{} looks: p50 {:?}, p99.9 {:?}, most {:?}",
            took.len(),
            at(0.5),
            at(0.999),
            at(1.0)
        );
        at(0.999).as_secs_f64() * 1e6
    };
    let written = AtomicBool::new(false);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| looks(&written));
        let number = shelf.save(&before, POLICY, || true).unwrap();
        println!("{number} of {entries} written in {:?}", start.elapsed());
        println!("figure save-secs {}", start.elapsed().as_secs_f64());
        written.store(true, Ordering::Relaxed);
        println!("figure look-saving-p999-micros {}", asking.join().unwrap());
    });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| looks(&stop));
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        println!("figure look-quiet-p999-micros {}", asking.join().unwrap());
    });
    let octets = fs::metadata(shelf.path()).unwrap().len();

    let start = Instant::now();
    let loaded = load(&shelf, &after).unwrap().unwrap();
    let took = start.elapsed();
    println!("{} taken of {octets} octets in {took:?}", loaded.taken);
    println!("figure load-secs {}", took.as_secs_f64());
    assert_eq!(loaded.taken, entries);
}
