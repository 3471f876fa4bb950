//! The cache as text for operators, and back.
//!
//! Threads: one for each dump, which ends with it, or when nobody reads it any more.

use std::sync::Arc;
use std::thread;

use hickory_proto::rr::RecordType;
use resolverd_common::entry::Flags;
use ring::hmac;
use tokio::sync::mpsc;
use tracing::warn;

use super::Joined;
use crate::cache::NotTaken;
use crate::cache::driver::{AHEAD_MAX_NANOS, moment};
use crate::cache::kept::{Desk, Kept, Moment};
use crate::control::Refused;
use crate::control::api::qtype;
use crate::control::dump::{Dump, End, Head, Line, VERSION, hex, line, unhex};
use crate::control::reports::{EdeReport, LoadReport};
use crate::dns::{Name, Query};
use crate::metrics::Rcode;
use crate::pipeline::shelf::{Dumped, Shelf};

/// Pieces of a dump that wait for who reads it: with [`PIECE_OCTETS`] each, half a megabyte.
const PIECES_WAIT: usize = 8;
const PIECE_OCTETS: usize = 64 << 10;
const MILLI: u64 = 1_000_000;

/// Begins a dump.
pub fn dump(joined: &Arc<Joined>, zone: Option<Name>, limit: u64) -> mpsc::Receiver<String> {
    let (pieces, reader) = mpsc::channel(PIECES_WAIT);
    let joined = Arc::clone(joined);
    let started = thread::Builder::new().name("cache-dump".to_owned()).spawn(move || {
        // None: whoever wanted it is gone.
        let _ = write(&joined, zone.as_ref(), limit, &pieces);
    });
    if let Err(error) = started {
        // A dump without an end is one that was cut short.
        warn!(%error, "no thread for a dump of the cache");
    }
    reader
}

fn write(
    joined: &Joined,
    zone: Option<&Name>,
    limit: u64,
    pieces: &mpsc::Sender<String>,
) -> Option<()> {
    let now = moment();
    // Where there is no state directory, a dump has no MAC.
    let mut mac = joined.shelf.key().ok().map(|key| hmac::Context::with_key(&key));
    let mut piece = String::with_capacity(PIECE_OCTETS + (4 << 10));
    let (mut entries, mut more) = (0, false);
    piece.push_str(&line(&Head { version: VERSION, written_at_ms: now.wall / MILLI }));
    for held in joined.pipeline.cache().all() {
        let Some(dumped) = joined.pipeline.dumped(&held, zone, now) else { continue };
        if entries == limit {
            more = true;
            break;
        }
        entries += 1;
        piece.push_str(&line(&of(dumped)));
        if piece.len() >= PIECE_OCTETS {
            let full = std::mem::take(&mut piece);
            mac.iter_mut().for_each(|mac| mac.update(full.as_bytes()));
            pieces.blocking_send(full).ok()?;
        }
    }
    mac.iter_mut().for_each(|mac| mac.update(piece.as_bytes()));
    let mac = mac.map(|mac| hex(mac.sign().as_ref()));
    piece.push_str(&line(&End { end: true, entries, more, mac }));
    pieces.blocking_send(piece).ok()
}

fn of(dumped: Dumped) -> Line {
    Line {
        name: dumped.query.name.to_string(),
        qtype: RecordType::from(dumped.query.qtype).to_string(),
        view: dumped.query.view,
        dnssec_ok: dumped.query.dnssec_ok,
        checking_disabled: dumped.query.checking_disabled,
        rcode: Rcode::from_wire(dumped.rcode.into()).as_str().to_owned(),
        secure: dumped.secure,
        expires_in_ms: dumped.left_millis,
        stale_secs_max: Some(dumped.stale_secs_max).filter(|secs| *secs < u32::MAX),
        ede: dumped.ede.map(|ede| EdeReport { code: ede.code, text: ede.text }),
        source: dumped.source.to_string(),
        counts: dumped.counts,
        wire: hex(&dumped.body),
        records: dumped.records,
    }
}

/// Loads a dump: checks all of it, and then uses it.
///
/// # Errors
///
/// [`Refused`], and nothing of it was used.
pub fn load(joined: &Joined, octets: &[u8], foreign: bool) -> Result<LoadReport, Refused> {
    let dump = Dump::read(octets)?;
    if !foreign {
        let key = joined.shelf.key().map_err(|error| Refused::Failed(error.to_string()))?;
        let mac = dump.end.mac.as_deref().and_then(unhex).unwrap_or_default();
        hmac::verify(&key, dump.before_end.as_bytes(), &mac).map_err(|_| {
            Refused::Invalid(
                "the dump's MAC is not this node's: it comes from another one, or was edited; \
                 load it with `--foreign` if you trust it"
                    .to_owned(),
            )
        })?;
    }
    let now = moment();
    let written_at = dump.head.written_at_ms.saturating_mul(MILLI);
    if written_at.saturating_sub(now.wall) > AHEAD_MAX_NANOS {
        return Err(Refused::Invalid(
            "the dump was written in the future: nobody knows how old its answers are".to_owned(),
        ));
    }
    for line in dump.lines() {
        line?;
    }
    let (mut report, mut desk) = (LoadReport::default(), Desk::default());
    for line in dump.lines().flatten() {
        let count = match take(joined, &line, written_at, now, &mut desk) {
            Ok(()) => &mut report.taken,
            Err(NotTaken::Expired) => &mut report.expired,
            Err(NotTaken::Newer) => &mut report.known,
            Err(NotTaken::NotForFiles) => &mut report.kept_out,
            Err(NotTaken::Malformed) => &mut report.malformed,
        };
        *count += 1;
    }
    // What others were told by their rules is held against ours.
    joined.pipeline.cache().next_round();
    joined.metrics.cache_loaded.inc_by(report.taken);
    Ok(report)
}

fn take(
    joined: &Joined,
    line: &Line,
    written_at: u64,
    now: Moment,
    desk: &mut Desk,
) -> Result<(), NotTaken> {
    let query = Query {
        name: line.name.parse().map_err(|_| NotTaken::Malformed)?,
        qtype: qtype(&line.qtype).map_err(|_| NotTaken::Malformed)?,
        dnssec_ok: line.dnssec_ok,
        checking_disabled: line.checking_disabled,
        view: line.view,
    };
    let body = unhex(&line.wire).ok_or(NotTaken::Malformed)?;
    let flag = |is: bool, flag: u16| if is { flag } else { 0 };
    let rcode = match &*line.rcode {
        "NOERROR" => crate::dns::rcode::NOERROR,
        "NXDOMAIN" => crate::dns::rcode::NXDOMAIN,
        _ => return Err(NotTaken::NotForFiles),
    };
    let text = line.ede.as_ref().map_or("", |ede| &ede.text);
    // With an extended error it stays with the daemon: it may be one that the kernel cannot say.
    let flags = u16::from(rcode)
        | flag(line.secure, Flags::SECURE)
        | flag(line.ede.is_some(), Flags::EDE | Flags::DAEMON_ONLY);
    let kept = Kept {
        stored_at: written_at,
        meta: query.meta(),
        life_millis: line.expires_in_ms,
        stale_secs_max: line.stale_secs_max.unwrap_or(u32::MAX),
        counts: line.counts,
        flags: Flags(flags),
        ede: line.ede.as_ref().map_or(0, |ede| ede.code),
        origin: 0,
        name: query.name.as_wire(),
        body: &body,
        text,
    };
    joined.pipeline.take_back(Shelf::Given, &kept, &line.source, now, desk)
}
