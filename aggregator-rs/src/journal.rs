//! An append-only journal of numbered records in segment files.
//!
//! A segment is filled with zeros when it is made, so that a commit only overwrites blocks that the
//! file system already knows: one `fdatasync`, no metadata. A record is a 20-byte head (magic, kind,
//! length, number, CRC-32 of the head's first 16 bytes and the payload), then the payload. Numbers
//! start at 1 and grow by 1 for ever.
//!
//! Opening cuts a torn tail (bytes behind the last valid record, wiped so that they cannot come back
//! to life) and steps over damage in front of valid records: the numbers lost that way read as
//! `None`, and are never used again.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

const MAGIC: [u8; 2] = *b"EJ";
const HEAD_BYTES: usize = 20;
const CHECKED_BYTES: usize = 16;
const SUFFIX: &str = "journal";

/// Longest payload of a record.
pub const PAYLOAD_MAX: usize = 16 << 20;

/// A record: its kind and its payload.
pub type Record = (u8, Vec<u8>);

/// What opening found wrong and put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Bytes wiped behind the last valid record.
    pub torn_bytes: u64,
    /// Numbers that no record answers to: damaged beyond reading, or given up.
    pub lost_records: u64,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    bytes: u64,
    first: u64,
    /// Where each record starts, from `first` on; `None` where it was lost.
    offsets: Vec<Option<u64>>,
}

/// The journal in one directory. One process may have it open at a time; the caller sees to that.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    file: File,
    /// Where the next record goes in the last segment.
    tail: u64,
    /// Records appended since the last commit, as they will stand at `tail`.
    staged: Vec<u8>,
    staged_offsets: Vec<Option<u64>>,
    repairs: Repairs,
}

impl Journal {
    /// Open or create the journal in `directory`; new segments get `segment_bytes`.
    ///
    /// # Errors
    /// `Io`, or `InvalidArgument` for segments under 4 KiB.
    pub fn open(directory: &Path, segment_bytes: u64) -> Result<Journal, Error> {
        if segment_bytes < 4096 {
            return Err(Error::InvalidArgument("segments have at least 4096 bytes"));
        }
        fs::create_dir_all(directory).map_err(Error::io("create the journal's directory"))?;
        let mut repairs = Repairs::default();
        let mut segments = VecDeque::new();
        let paths = list(directory)?;
        let mut next = 1;
        let mut tail = 0;
        for (index, path) in paths.iter().enumerate() {
            let first = number_of(path).unwrap_or(next);
            repairs.lost_records += if index == 0 {
                0
            } else {
                first.saturating_sub(next)
            };
            let last = index + 1 == paths.len();
            let (segment, end) = scan(path, first, last, &mut repairs)?;
            next = segment.next();
            tail = end;
            segments.push_back(segment);
        }
        if segments.is_empty() {
            segments.push_back(create(directory, 1, segment_bytes)?);
        }
        let file = match segments.back() {
            Some(segment) => open_file(&segment.path)?,
            None => return Err(Error::InvalidArgument("BUG: a journal without segments")),
        };
        Ok(Journal {
            directory: directory.to_owned(),
            segment_bytes,
            segments,
            file,
            tail,
            staged: Vec::new(),
            staged_offsets: Vec::new(),
            repairs,
        })
    }

    /// The number the next record gets.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.committed() + self.staged_offsets.len() as u64
    }

    /// One behind the last number that is safe on the disk.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.segments.back().map_or(1, Segment::next)
    }

    /// The oldest number still kept.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.segments.front().map_or(1, |segment| segment.first)
    }

    /// Bytes of all segments on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// What opening put right.
    #[must_use]
    pub fn repairs(&self) -> Repairs {
        self.repairs
    }

    /// Stage a record and return its number. It is safe only after [`Journal::commit`].
    ///
    /// # Errors
    /// `TooLarge`; `Io` when the record opens a new segment.
    pub fn append(&mut self, kind: u8, payload: &[u8]) -> Result<u64, Error> {
        if payload.len() > PAYLOAD_MAX {
            return Err(Error::TooLarge {
                what: "bytes in a record",
                found: payload.len() as u64,
                max: PAYLOAD_MAX as u64,
            });
        }
        let needed = (HEAD_BYTES + payload.len()) as u64;
        let size = self.segments.back().map_or(0, |segment| segment.bytes);
        if self.tail + self.staged.len() as u64 + needed > size {
            self.commit()?;
            self.add_segment(self.next(), needed)?;
        }
        let number = self.next();
        self.staged_offsets
            .push(Some(self.tail + self.staged.len() as u64));
        let mut head = [0; HEAD_BYTES];
        let fields: [&[u8]; 4] = [
            &MAGIC,
            &[kind, 0],
            &(payload.len() as u32).to_le_bytes(),
            &number.to_le_bytes(),
        ];
        for (to, from) in head.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        let (checked, sum) = head.split_at_mut(CHECKED_BYTES);
        sum.copy_from_slice(&checksum(checked, payload).to_le_bytes());
        self.staged.extend_from_slice(&head);
        self.staged.extend_from_slice(payload);
        Ok(number)
    }

    /// Write what is staged and wait until the disk has it.
    ///
    /// # Errors
    /// `Io`: nothing of what was staged may then be taken as safe.
    pub fn commit(&mut self) -> Result<(), Error> {
        if self.staged.is_empty() {
            return Ok(());
        }
        self.file
            .write_all_at(&self.staged, self.tail)
            .map_err(Error::io("write the journal"))?;
        self.file
            .sync_data()
            .map_err(Error::io("sync the journal"))?;
        self.tail += self.staged.len() as u64;
        self.staged.clear();
        if let Some(segment) = self.segments.back_mut() {
            segment.offsets.append(&mut self.staged_offsets);
        }
        Ok(())
    }

    /// Read a committed record; `None` when it is no longer kept, or was lost.
    ///
    /// # Errors
    /// `Io`. A record that no longer matches its checksum is lost, not an error.
    pub fn read(&self, number: u64) -> Result<Option<Record>, Error> {
        let index = self
            .segments
            .partition_point(|segment| segment.first <= number);
        let Some(segment) = index.checked_sub(1).and_then(|at| self.segments.get(at)) else {
            return Ok(None);
        };
        let Some(Some(offset)) = segment.offsets.get((number - segment.first) as usize) else {
            return Ok(None);
        };
        let last = index == self.segments.len();
        let other = if last {
            None
        } else {
            Some(File::open(&segment.path).map_err(Error::io("open a journal segment"))?)
        };
        let file = other.as_ref().unwrap_or(&self.file);
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, *offset)
            .map_err(Error::io("read the journal"))?;
        let Some((kind, length, _)) = parse_head(&head) else {
            return Ok(None);
        };
        let mut payload = vec![0; length];
        file.read_exact_at(&mut payload, offset + HEAD_BYTES as u64)
            .map_err(Error::io("read the journal"))?;
        Ok(is_valid(&head, &payload).then_some((kind, payload)))
    }

    /// Remove the segments that hold only numbers before `number`; never the last one.
    ///
    /// # Errors
    /// `Io`.
    pub fn free_before(&mut self, number: u64) -> Result<(), Error> {
        while self.segments.front().is_some_and(|s| s.next() <= number) && self.free_oldest()? {}
        Ok(())
    }

    /// Remove the oldest segment unless it is the only one; return whether there was one to remove.
    ///
    /// # Errors
    /// `Io`.
    pub fn free_oldest(&mut self) -> Result<bool, Error> {
        if self.segments.len() < 2 {
            return Ok(false);
        }
        if let Some(segment) = self.segments.front() {
            fs::remove_file(&segment.path).map_err(Error::io("remove a journal segment"))?;
        }
        self.segments.pop_front();
        Ok(true)
    }

    /// Give up numbers so that the next record gets at least `number`.
    ///
    /// # Errors
    /// `InvalidArgument` while records are staged; `Io`.
    pub fn skip_to(&mut self, number: u64) -> Result<(), Error> {
        if !self.staged.is_empty() {
            return Err(Error::InvalidArgument("commit before skipping numbers"));
        }
        if number <= self.next() {
            return Ok(());
        }
        self.add_segment(number, 0)
    }

    fn add_segment(&mut self, first: u64, needed: u64) -> Result<(), Error> {
        let bytes = self.segment_bytes.max(needed);
        let segment = create(&self.directory, first, bytes)?;
        self.file = open_file(&segment.path)?;
        self.tail = 0;
        self.segments.push_back(segment);
        Ok(())
    }
}

impl Segment {
    fn next(&self) -> u64 {
        self.first + self.offsets.len() as u64
    }
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

/// Kind, payload length and number of a head whose magic and length are possible.
fn parse_head(head: &[u8]) -> Option<(u8, usize, u64)> {
    let (magic, rest) = head.split_first_chunk::<2>()?;
    let (kind, rest) = rest.split_first_chunk::<2>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (number, _) = rest.split_first_chunk::<8>()?;
    let length = u32::from_le_bytes(*length) as usize;
    (*magic == MAGIC && length <= PAYLOAD_MAX)
        .then(|| (kind[0], length, u64::from_le_bytes(*number)))
}

fn is_valid(head: &[u8], payload: &[u8]) -> bool {
    match head.split_at_checked(CHECKED_BYTES) {
        Some((checked, sum)) => sum == checksum(checked, payload).to_le_bytes(),
        None => false,
    }
}

/// The whole record at the start of `bytes`, if it is valid: its length in bytes and its number.
fn valid_record(bytes: &[u8]) -> Option<(usize, u64)> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let (_, length, number) = parse_head(head)?;
    let payload = rest.get(..length)?;
    is_valid(head, payload).then_some((HEAD_BYTES + length, number))
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(directory).map_err(Error::io("list the journal"))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("list the journal"))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == SUFFIX)
            && number_of(&path).is_some()
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// Read a segment; return it and where its last valid record ends.
fn scan(
    path: &Path,
    first: u64,
    last: bool,
    repairs: &mut Repairs,
) -> Result<(Segment, u64), Error> {
    let mut bytes = Vec::new();
    let mut file = open_file(path)?;
    file.read_to_end(&mut bytes)
        .map_err(Error::io("read a journal segment"))?;
    let mut segment = Segment {
        path: path.to_owned(),
        bytes: bytes.len() as u64,
        first,
        offsets: Vec::new(),
    };
    let mut end = 0;
    while let Some((at, length, number)) = next_valid(&bytes, end, segment.next()) {
        let missing = number - segment.next();
        repairs.lost_records += missing;
        segment
            .offsets
            .resize(segment.offsets.len() + missing as usize, None);
        segment.offsets.push(Some(at as u64));
        end = at + length;
    }
    let stale = bytes
        .get(end..)
        .and_then(|rest| rest.iter().rposition(|&byte| byte != 0));
    if let (true, Some(stale)) = (last, stale) {
        let torn = vec![0; stale + 1];
        file.write_all_at(&torn, end as u64)
            .map_err(Error::io("wipe a torn tail"))?;
        file.sync_data().map_err(Error::io("sync the journal"))?;
        repairs.torn_bytes += torn.len() as u64;
    }
    Ok((segment, end as u64))
}

/// The first valid record at or behind `from` whose number is at least `expected`.
fn next_valid(bytes: &[u8], from: usize, expected: u64) -> Option<(usize, usize, u64)> {
    // a number further ahead than the bytes in between could hold is not ours
    let plausible = |at: usize, number: u64| {
        number >= expected && number - expected <= ((at - from) / HEAD_BYTES) as u64
    };
    let mut at = from;
    while let Some(rest) = bytes.get(at..) {
        match valid_record(rest) {
            Some((length, number)) if plausible(at, number) => return Some((at, length, number)),
            _ => {}
        }
        let ahead = rest.get(1..)?;
        let step = ahead.iter().position(|&byte| byte == MAGIC[0])?;
        at += 1 + step;
    }
    None
}

fn open_file(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(Error::io("open a journal segment"))
}

/// Make a segment of zeros under a temporary name, then give it its own: it exists whole or not.
fn create(directory: &Path, first: u64, bytes: u64) -> Result<Segment, Error> {
    let path = directory.join(format!("{first:020}.{SUFFIX}"));
    let temporary = directory.join("new");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&temporary)
        .map_err(Error::io("create a journal segment"))?;
    let zeros = vec![0; 1 << 16];
    let mut at = 0;
    while at < bytes {
        let length = (bytes - at).min(zeros.len() as u64) as usize;
        let part = zeros.get(..length).unwrap_or(&zeros);
        file.write_all_at(part, at)
            .map_err(Error::io("fill a journal segment"))?;
        at += length as u64;
    }
    file.sync_all()
        .map_err(Error::io("sync a journal segment"))?;
    fs::rename(&temporary, &path).map_err(Error::io("name a journal segment"))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io("sync the journal's directory"))?;
    Ok(Segment {
        path,
        bytes,
        first,
        offsets: Vec::new(),
    })
}
