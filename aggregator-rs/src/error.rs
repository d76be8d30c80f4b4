//! Everything that can go wrong in the core, without strings: positions and numbers only.

use std::fmt;

/// An error of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end inside a field that starts at `at`.
    Truncated {
        /// Offset of the field.
        at: usize,
    },
    /// The bytes at `at` cannot be what `what` names.
    Corrupt {
        /// Offset of the offending byte.
        at: usize,
        /// What was expected there.
        what: &'static str,
    },
    /// A payload codec this version does not have.
    UnknownCodec(u8),
    /// A payload that begins with what another one taught, so many sequences before its own.
    NeedsKeyframe(u8),
    /// More than a stated limit.
    TooLarge {
        /// What is limited.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many are allowed.
        max: u64,
    },
    /// The reply to read number `read` ends before what it was asked for.
    ShortReply {
        /// Which of the scan's reads.
        read: u32,
        /// Bytes there are.
        found: usize,
        /// Bytes the plan takes from it.
        needed: usize,
    },
    /// The caller's mistake.
    InvalidArgument(&'static str),
    /// The operating system refused `operation` with this error number (0 when it gave none).
    Io {
        /// What was tried.
        operation: &'static str,
        /// `errno`.
        code: i32,
    },
}

impl Error {
    /// Wrap an operating-system error, keeping its number.
    pub fn io(operation: &'static str) -> impl Fn(std::io::Error) -> Error {
        move |error| Error::Io {
            operation,
            code: error.raw_os_error().unwrap_or(0),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::Truncated { at } => write!(f, "the bytes end inside the field at offset {at}"),
            Error::Corrupt { at, what } => write!(f, "no valid {what} at offset {at}"),
            Error::UnknownCodec(id) => write!(f, "payload codec {id} is unknown to this version"),
            Error::NeedsKeyframe(back) => {
                write!(f, "the payload needs the one {back} sequences before it")
            }
            Error::TooLarge { what, found, max } => {
                write!(f, "{found} {what}, at most {max} are allowed")
            }
            Error::ShortReply {
                read,
                found,
                needed,
            } => write!(
                f,
                "the reply to read {read} has {found} bytes, the plan needs {needed}"
            ),
            Error::InvalidArgument(what) => f.write_str(what),
            Error::Io { operation, code } => write!(
                f,
                "{operation}: {}",
                std::io::Error::from_raw_os_error(code)
            ),
        }
    }
}

impl std::error::Error for Error {}
