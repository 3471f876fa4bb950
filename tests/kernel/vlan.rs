//! Frames with tags: the same answer, under the same tags.
//!
//! A packet socket hands out the outer tag apart from the frame; tcpdump puts it back, so what it
//! writes to a file is the frame as it was on the wire.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Process, Scratch, wait};
use resolverd_common::counters::Reason;

use crate::frame::{Datagram, QINQ, VLAN};
use crate::life::warm;
use crate::message::{compare, hex};
use crate::site::{CLIENT, Family, Site, needs_the_kernel};
use crate::tap::Tap;

#[test]
fn tagged_frames_get_the_untagged_answer_and_keep_their_tags() -> Result<()> {
    needs_the_kernel!("tagged frames");
    for mode in ["xdp", "xdp-generic", "tc"] {
        let site = Site::new(mode)?;
        site.link.client.enter(|| tagged(&site, mode))??;
    }
    Ok(())
}

fn tagged(site: &Site, mode: &str) -> Result<()> {
    let mut tap = Tap::open(CLIENT)?;
    let wire = Wire::watch(site)?;
    let mut id = 0x7000_u16;
    for family in [Family::V4, Family::V6] {
        for (name, qtype) in [("www.lab.test.", "A"), ("nothing.lab.test.", "AAAA")] {
            let mut query = site.link.ends.query(family, &Ask::new(name, qtype).bytes());
            // XDP has no room on a veth for a longer answer, unless the frame brings it.
            query.padding = PADDING;
            let untagged = warm(site, &query, &mut tap)?;
            for tags in [vec![[VLAN, 100]], vec![[QINQ, 200], [VLAN, 0x6030]], vec![[QINQ, 7]]] {
                id += 1;
                let case = format!("{mode}, {family:?}, {name}, {tags:04x?}");
                let mut query = Datagram { tags, ..query.clone() };
                query.payload[..2].copy_from_slice(&id.to_be_bytes());
                check(site, &wire, &mut tap, &query, &untagged).context(case)?;
            }
        }
    }
    Ok(())
}

fn check(site: &Site, wire: &Wire, tap: &mut Tap, query: &Datagram, untagged: &[u8]) -> Result<()> {
    let before = site.operator.counts()?;
    tap.send(&query.bytes())?;
    let mut back = None;
    let waited = wait::until("an answer on the wire", wait::STOP, || {
        let frames = wire.frames().unwrap_or_default();
        back = frames.into_iter().find_map(|frame| Some((answer(query, &frame)?, frame)));
        back.is_some()
    });
    let counted = site.operator.counts()?.since(&before).of_dns();
    waited.with_context(|| counted.to_string())?;
    ensure!(counted.is_one_hit(Reason::Answered), "{counted}");
    let (message, frame) = back.context("an answer was seen")?;
    let tags = 12..12 + 4 * query.tags.len();
    ensure!(frame[tags.clone()] == query.bytes()[tags.clone()], "tags: {}", hex(&frame));
    let untagged_frame = [&frame[..12], &frame[tags.end..]].concat();
    query.check_answer(&untagged_frame)?;
    compare(&query.payload, untagged, &message, wait::READY)
}

/// The message in `frame`, wherever under its tags it is.
fn answer(query: &Datagram, frame: &[u8]) -> Option<Vec<u8>> {
    let id = u16::from_be_bytes([query.payload[0], query.payload[1]]);
    (0..3).find_map(|tags| {
        let plain = [frame.get(..12)?, frame.get(12 + 4 * tags..)?].concat();
        query.answer(&plain, id).map(<[u8]>::to_vec)
    })
}

/// All that passes the client's end.
struct Wire {
    file: PathBuf,
    _tcpdump: Process,
    _scratch: Scratch,
}

impl Wire {
    fn watch(site: &Site) -> Result<Self> {
        let scratch = Scratch::new("wire")?;
        let file = scratch.path().join("frames");
        let mut tcpdump = site.link.client.command("tcpdump");
        tcpdump.args(["-i", CLIENT, "-n", "-U", "--immediate-mode", "-Z", "root", "-w"]).arg(&file);
        let mut tcpdump = Process::start("tcpdump", tcpdump, &scratch.path().join("log"))?;
        let log = scratch.path().join("log");
        tcpdump.ready("tcpdump listens", || {
            fs::read_to_string(&log).is_ok_and(|log| log.contains("listening on"))
        })?;
        Ok(Self { file, _tcpdump: tcpdump, _scratch: scratch })
    }

    fn frames(&self) -> Result<Vec<Vec<u8>>> {
        read_pcap(&self.file)
    }
}

/// The frames of a capture that may still be written to (pcap 2.4 of this machine's order).
fn read_pcap(file: &Path) -> Result<Vec<Vec<u8>>> {
    let octets = fs::read(file)?;
    let mut rest = octets.get(PCAP_HEADER..).context("no header")?;
    let mut frames = Vec::new();
    while let Some((head, after)) = rest.split_at_checked(PCAP_RECORD) {
        let len = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let Some((frame, after)) = after.split_at_checked(len) else { break };
        frames.push(frame.to_vec());
        rest = after;
    }
    Ok(frames)
}

const PADDING: usize = 256;

const PCAP_HEADER: usize = 24;
const PCAP_RECORD: usize = 16;
