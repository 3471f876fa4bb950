//! The file of answers: its first line, its chunks, and how each proves that we wrote it.
//!
//! Pure: over whatever reads and writes octets.
//!
//! ```text
//! "resolverd-cache 1\n"                          magic and version
//! nonce (16) · written at (8) · policy (8)       wall time in nanoseconds; the policy's digest
//! chunk, chunk, …, last chunk                    and nothing after it
//!
//! chunk:  octets (4) · last (1) · MAC (32) · items
//! item:   1 · number (2) · octets (2) · text     an origin: "upstream NAME"
//!         2 · an answer, see `kept`
//! ```
//!
//! The MAC is HMAC-SHA256 (RFC 2104) under a key that only this node has, of the first line, the
//! header, the chunk's number, whether it is the last, and its items: no chunk can be changed,
//! moved, left out, or taken from another file.

use std::io::{self, Read, Write};

use ring::hmac;

use super::kept::{KEPT_MAX, Kept};

/// The first words of the file, without the version.
pub const MAGIC: &str = "resolverd-cache";
/// What is written. A newer one is refused; there is no older one yet.
pub const VERSION: u32 = 1;

/// Items of one chunk, in octets: what is in memory of a file at once.
pub const CHUNK_OCTETS_MAX: usize = 1 << 20;

const HEADER_OCTETS: usize = 32;
const MAC_OCTETS: usize = 32;
/// Magic, a blank, a number of ten digits, the end of the line.
const LINE_MAX: usize = MAGIC.len() + 12;
const ORIGIN: u8 = 1;
const ANSWER: u8 = 2;
/// Of an origin's text; names of upstreams and zones are shorter.
const ORIGIN_OCTETS_MAX: usize = 1_024;

/// What stands before the chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Makes each file another one.
    pub nonce: [u8; 16],
    /// Nanoseconds of wall time.
    pub written_at: u64,
    /// A digest of the policy that the answers were made under.
    pub policy: u64,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("it can't be read or written: {0}")]
    System(#[from] io::Error),
    #[error("it does not begin with `{MAGIC}` and a number; it is no file of resolverd's cache")]
    NotOurs,
    #[error(
        "it is of version {0}, and this resolverd knows {VERSION}: it was written by a newer one"
    )]
    Newer(u32),
    #[error("it is of version {0}, which no resolverd writes")]
    Older(u32),
    #[error("it ends in the middle")]
    Short,
    #[error("its MAC is wrong: somebody else wrote or changed it, or the key is another one")]
    Mac,
    #[error("something stands behind its end")]
    Trailing,
    #[error("what it says makes no sense")]
    Malformed,
}

/// What a chunk is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Origin(u16, &'a str),
    Answer(Kept<'a>),
}

/// Reads the items of one chunk.
#[derive(Clone, Debug)]
pub struct Items<'a>(pub &'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, rest) = self.0.split_first()?;
        let read = match *kind {
            ORIGIN => origin(rest),
            ANSWER => Kept::read(rest).map(|(kept, rest)| (Item::Answer(kept), rest)),
            _ => None,
        };
        // Past what makes no sense nothing does.
        self.0 = read.map_or(&[], |(_, rest)| rest);
        Some(read.map(|(item, _)| item).ok_or(FileError::Malformed))
    }
}

fn origin(octets: &[u8]) -> Option<(Item<'_>, &[u8])> {
    let ([a, b, c, d], rest) = octets.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([*c, *d])))?;
    let text = str::from_utf8(text).ok()?;
    Some((Item::Origin(u16::from_le_bytes([*a, *b]), text), rest))
}

/// Writes a file, chunk by chunk.
pub struct Writer<W> {
    out: W,
    seal: Seal,
    /// The chunk that is being filled.
    items: Vec<u8>,
    chunks: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    ///
    /// [`FileError::System`], here and below.
    pub fn begin(mut out: W, key: &hmac::Key, header: &Header) -> Result<Self, FileError> {
        let seal = Seal::new(key, VERSION, header);
        out.write_all(&seal.first)?;
        Ok(Self { out, seal, items: Vec::with_capacity(CHUNK_OCTETS_MAX), chunks: 0 })
    }

    /// Adds an origin; a long text is cut.
    pub fn origin(&mut self, number: u16, text: &str) -> Result<(), FileError> {
        let text = &text[..text.floor_char_boundary(ORIGIN_OCTETS_MAX)];
        self.items.push(ORIGIN);
        self.items.extend_from_slice(&number.to_le_bytes());
        self.items.extend_from_slice(&(text.len() as u16).to_le_bytes());
        self.items.extend_from_slice(text.as_bytes());
        self.make_room().map(drop)
    }

    /// Adds what `write` appends, which is one answer. True: a chunk was full, and is written.
    pub fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<bool, FileError> {
        self.items.push(ANSWER);
        write(&mut self.items);
        self.make_room()
    }

    /// Writes the last chunk. Gives back what was written to, and how many octets that was.
    pub fn end(mut self) -> Result<W, FileError> {
        self.chunk(true)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn make_room(&mut self) -> Result<bool, FileError> {
        let full = self.items.len() + 1 + KEPT_MAX.max(ORIGIN_OCTETS_MAX + 4) > CHUNK_OCTETS_MAX;
        if full {
            self.chunk(false)?;
        }
        Ok(full)
    }

    fn chunk(&mut self, last: bool) -> Result<(), FileError> {
        // CHUNK_OCTETS_MAX is far below what the length can hold.
        let head = chunk_head(self.items.len() as u32, last);
        self.out.write_all(&head)?;
        self.out.write_all(self.seal.sign(self.chunks, head, &self.items).as_ref())?;
        self.out.write_all(&self.items)?;
        self.items.clear();
        self.chunks += 1;
        Ok(())
    }
}

/// Reads a file, chunk by chunk; none is given whose MAC is wrong.
pub struct Reader<R> {
    input: R,
    seal: Seal,
    header: Header,
    items: Vec<u8>,
    chunks: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads as far as the first chunk.
    ///
    /// # Errors
    ///
    /// See [`FileError`], here and below.
    pub fn begin(mut input: R, key: &hmac::Key) -> Result<Self, FileError> {
        let version = version(&mut input)?;
        let mut octets = [0; HEADER_OCTETS];
        read_exact(&mut input, &mut octets)?;
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| octets[at + i]));
        let header = Header {
            nonce: std::array::from_fn(|i| octets[i]),
            written_at: long(16),
            policy: long(24),
        };
        let seal = Seal::new(key, version, &header);
        Ok(Self { input, seal, header, items: Vec::new(), chunks: 0, ended: false })
    }

    /// What stands before the chunks. Believe it after the first of them.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The items of the next chunk; none after the last.
    pub fn chunk(&mut self) -> Result<Option<Items<'_>>, FileError> {
        if self.ended {
            return Ok(None);
        }
        let (mut head, mut mac) = ([0; 5], [0; MAC_OCTETS]);
        read_exact(&mut self.input, &mut head)?;
        read_exact(&mut self.input, &mut mac)?;
        let [a, b, c, d, last] = head;
        let octets = u32::from_le_bytes([a, b, c, d]) as usize;
        if octets > CHUNK_OCTETS_MAX || last > 1 {
            return Err(FileError::Malformed);
        }
        self.items.resize(octets, 0);
        read_exact(&mut self.input, &mut self.items)?;
        if !self.seal.holds(self.chunks, head, &self.items, &mac) {
            return Err(FileError::Mac);
        }
        self.chunks += 1;
        self.ended = last == 1;
        if self.ended && self.input.read(&mut [0])? > 0 {
            return Err(FileError::Trailing);
        }
        Ok(Some(Items(&self.items)))
    }
}

/// Reads a file to its end and checks every MAC of it. Nothing of it is used.
///
/// # Errors
///
/// See [`FileError`].
pub fn verify(input: impl Read, key: &hmac::Key) -> Result<Header, FileError> {
    let mut reader = Reader::begin(input, key)?;
    while reader.chunk()?.is_some() {}
    Ok(*reader.header())
}

/// Reads the first line.
fn version(input: &mut impl Read) -> Result<u32, FileError> {
    let mut line = Vec::with_capacity(LINE_MAX);
    let mut octet = [0];
    // One octet at a time: the readers of ours have a buffer.
    loop {
        if input.read(&mut octet)? == 0 || line.len() == LINE_MAX {
            return Err(FileError::NotOurs);
        }
        if octet[0] == b'\n' {
            break;
        }
        line.push(octet[0]);
    }
    let number = str::from_utf8(&line).ok().and_then(|line| line.strip_prefix(MAGIC));
    let number = number.and_then(|rest| rest.strip_prefix(' ')).and_then(|rest| rest.parse().ok());
    match number.ok_or(FileError::NotOurs)? {
        VERSION => Ok(VERSION),
        newer if newer > VERSION => Err(FileError::Newer(newer)),
        older => Err(FileError::Older(older)),
    }
}

fn read_exact(input: &mut impl Read, out: &mut [u8]) -> Result<(), FileError> {
    input.read_exact(out).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => FileError::Short,
        _ => FileError::System(error),
    })
}

fn chunk_head(octets: u32, last: bool) -> [u8; 5] {
    let [a, b, c, d] = octets.to_le_bytes();
    [a, b, c, d, u8::from(last)]
}

/// Makes and checks the MACs of one file.
struct Seal {
    key: hmac::Key,
    /// The first line and the header.
    first: Vec<u8>,
}

impl Seal {
    fn new(key: &hmac::Key, version: u32, header: &Header) -> Self {
        let mut first = format!("{MAGIC} {version}\n").into_bytes();
        first.extend_from_slice(&header.nonce);
        first.extend_from_slice(&header.written_at.to_le_bytes());
        first.extend_from_slice(&header.policy.to_le_bytes());
        Self { key: key.clone(), first }
    }

    fn sign(&self, chunk: u64, head: [u8; 5], items: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&self.first);
        context.update(&chunk.to_le_bytes());
        context.update(&head);
        context.update(items);
        context.sign()
    }

    fn holds(&self, chunk: u64, head: [u8; 5], items: &[u8], mac: &[u8; MAC_OCTETS]) -> bool {
        let ours = self.sign(chunk, head, items);
        // Somebody who can time this can read the key; it costs nothing to be careful.
        let differing = ours.as_ref().iter().zip(mac).fold(0, |all, (a, b)| all | a ^ b);
        differing == 0
    }
}

#[cfg(test)]
mod tests;
