//! Frame Streams: how dnstap's messages stand one behind the other on a connection.
//!
//! Pure. Each frame is its length in four octets and its data; a length of zero says that a
//! control frame follows, with a length of its own. On a connection both sides speak:
//!
//! ```text
//!   us ── READY ─▶    ◀─ ACCEPT ── receiver        what is sent, and whether that is taken
//!   us ── START ─▶
//!   us ── data ─▶ …
//!   us ── STOP ─▶     ◀─ FINISH ── receiver        all was received
//! ```
//!
//! After the description of fstrm, the library that dnstap's receivers are made with
//! (`fstrm/control.h`). Integers are in network order.

/// What dnstap's frames are called.
pub const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Accept,
    Start,
    Stop,
    Ready,
    Finish,
}

/// What a control frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    pub kind: Kind,
    /// None: any will do.
    pub content_types: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a data frame where a control frame belongs")]
    Data,
    #[error("a control frame of {0} octets, and {CONTROL_OCTETS_MAX} are the most")]
    Length(usize),
    #[error("a control frame of the unknown kind {0}")]
    Kind(u32),
    #[error("a field of a control frame that is none, or not whole")]
    Field,
}

impl Control {
    /// One that names dnstap's content.
    #[must_use]
    pub fn of_dnstap(kind: Kind) -> Self {
        Self { kind, content_types: vec![CONTENT_TYPE.to_vec()] }
    }

    /// One without fields.
    #[must_use]
    pub fn bare(kind: Kind) -> Self {
        Self { kind, content_types: Vec::new() }
    }

    /// Whether its sender takes dnstap.
    #[must_use]
    pub fn takes_dnstap(&self) -> bool {
        self.content_types.is_empty() || self.content_types.iter().any(|it| it == CONTENT_TYPE)
    }

    /// Appends the frame, its escape included.
    pub fn write(&self, out: &mut Vec<u8>) {
        let fields: usize = self.content_types.iter().map(|it| 8 + it.len()).sum();
        out.extend(ESCAPE);
        out.extend(((4 + fields) as u32).to_be_bytes());
        out.extend(self.kind.number().to_be_bytes());
        for content_type in &self.content_types {
            out.extend(FIELD_CONTENT_TYPE.to_be_bytes());
            out.extend((content_type.len() as u32).to_be_bytes());
            out.extend(content_type);
        }
    }

    /// Reads the frame at the front of `input`, and says how long it is. `None`: it is not all
    /// there yet.
    ///
    /// # Errors
    ///
    /// When it never will be one.
    pub fn read(input: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let Some((escape, rest)) = input.split_first_chunk() else { return Ok(None) };
        if *escape != ESCAPE {
            return Err(Malformed::Data);
        }
        let Some((len, rest)) = number(rest) else { return Ok(None) };
        let len = len as usize;
        if !(4..=CONTROL_OCTETS_MAX).contains(&len) {
            return Err(Malformed::Length(len));
        }
        let Some(frame) = rest.get(..len) else { return Ok(None) };
        let (kind, mut fields) = number(frame).ok_or(Malformed::Field)?;
        let kind = Kind::of(kind).ok_or(Malformed::Kind(kind))?;
        let mut content_types = Vec::new();
        while !fields.is_empty() {
            let (field, rest) = number(fields).ok_or(Malformed::Field)?;
            let (len, rest) = number(rest).ok_or(Malformed::Field)?;
            let value = rest.get(..len as usize).ok_or(Malformed::Field)?;
            if field != FIELD_CONTENT_TYPE {
                return Err(Malformed::Field);
            }
            content_types.push(value.to_vec());
            fields = &rest[value.len()..];
        }
        Ok(Some((Self { kind, content_types }, 8 + len)))
    }
}

/// Appends a frame of data. One without octets would be an escape, and is left out.
pub fn data(frame: &[u8], out: &mut Vec<u8>) {
    if let Ok(len @ 1..) = u32::try_from(frame.len()) {
        out.extend(len.to_be_bytes());
        out.extend(frame);
    }
}

impl Kind {
    const ALL: [Self; 5] = [Self::Accept, Self::Start, Self::Stop, Self::Ready, Self::Finish];

    const fn number(self) -> u32 {
        match self {
            Self::Accept => 1,
            Self::Start => 2,
            Self::Stop => 3,
            Self::Ready => 4,
            Self::Finish => 5,
        }
    }

    fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

fn number(octets: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = octets.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

const ESCAPE: [u8; 4] = [0; 4];
const FIELD_CONTENT_TYPE: u32 = 1;
/// fstrm's own bound on a control frame.
pub const CONTROL_OCTETS_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_written_as_fstrm_describes_them() {
        let mut out = Vec::new();
        Control::of_dnstap(Kind::Ready).write(&mut out);
        data(b"abc", &mut out);
        data(b"", &mut out);
        Control::bare(Kind::Stop).write(&mut out);
        let mut expected = b"\0\0\0\0\0\0\0\x22\0\0\0\x04\0\0\0\x01\0\0\0\x16".to_vec();
        expected.extend(b"protobuf:dnstap.Dnstap");
        expected.extend(b"\0\0\0\x03abc\0\0\0\0\0\0\0\x04\0\0\0\x03");
        assert_eq!(out, expected);
    }

    #[test]
    fn a_control_frame_is_read_back_when_it_is_all_there() {
        for kind in Kind::ALL {
            for control in [Control::of_dnstap(kind), Control::bare(kind)] {
                let mut octets = Vec::new();
                control.write(&mut octets);
                for cut in 0..octets.len() {
                    assert_eq!(Control::read(&octets[..cut]), Ok(None), "{kind:?} {cut}");
                }
                let len = octets.len();
                octets.extend(b"what follows");
                assert_eq!(Control::read(&octets), Ok(Some((control, len))));
            }
        }
    }

    #[test]
    fn who_takes_dnstap_says_so_or_takes_anything() {
        assert!(Control::bare(Kind::Accept).takes_dnstap());
        assert!(Control::of_dnstap(Kind::Accept).takes_dnstap());
        let other = vec![b"text".to_vec()];
        assert!(!Control { kind: Kind::Accept, content_types: other }.takes_dnstap());
    }

    #[test]
    fn what_is_no_control_frame_is_refused() {
        let read = |octets: &[u8]| Control::read(octets).unwrap_err();
        assert_eq!(read(b"\0\0\0\x05hello"), Malformed::Data);
        assert_eq!(read(b"\0\0\0\0\0\0\0\x03"), Malformed::Length(3));
        assert_eq!(read(b"\0\0\0\0\0\0\x02\x01"), Malformed::Length(513));
        assert_eq!(read(b"\0\0\0\0\0\0\0\x04\0\0\0\x09"), Malformed::Kind(9));
        let field = b"\0\0\0\0\0\0\0\x0c\0\0\0\x01\0\0\0\x01\0\0\0\x05";
        assert_eq!(read(field), Malformed::Field);
        let unknown = b"\0\0\0\0\0\0\0\x0c\0\0\0\x01\0\0\0\x02\0\0\0\0";
        assert_eq!(read(unknown), Malformed::Field);
    }

    proptest! {
        #[test]
        fn no_octets_panic(octets in prop::collection::vec(any::<u8>(), 0..64), escaped: bool) {
            let octets = if escaped { [&ESCAPE[..], &[0; 3], &octets].concat() } else { octets };
            let _ = Control::read(&octets);
        }
    }
}
