//! An append-only journal of numbered records in segment files.
//!
//! A segment is filled with zeros when it is made, so that a commit only overwrites blocks that the
//! file system already knows: one `fdatasync`, no metadata. A record is a 20-byte head (magic, kind,
//! length, number, CRC-32 of the head's first 16 bytes and the payload), then the payload. Numbers
//! start at 1 and grow by 1 for ever.
//!
//! Opening reads the last segment only, so it takes the same time whatever is kept. It cuts a torn
//! tail (bytes behind the last valid record, wiped so that they cannot come back to life) and steps
//! over damage in front of valid records: the numbers lost that way read as `None`, and are never
//! used again. An older segment is looked through when something is read from it. What a process
//! wrote that was killed before the disk had it is there all the same until the power goes, so
//! opening waits for the disk before anybody can rely on it.
//!
//! A disk may refuse at any time. What was staged stays staged then, and the next commit tries
//! again; where there is no room for a new segment a spare one is taken, see [`Journal::reserve`].

mod record;
mod segment;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use self::record::{is_valid, parse_head, records, HEAD_BYTES};
use self::segment::{open_file, Offsets, Segment};
use crate::error::Error;

pub use self::record::PAYLOAD_MAX;

/// Old segments whose records are known where they are: more readers than there are destinations.
const KNOWN_SEGMENTS: usize = 4;

/// A record: its kind and its payload.
pub type Record = (u8, Vec<u8>);

/// A record with its number in front.
pub type Numbered = (u64, u8, Vec<u8>);

/// What opening found wrong in the last segment and put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Bytes wiped behind the last valid record.
    pub torn_bytes: u64,
    /// Numbers that no record answers to: damaged beyond reading.
    pub lost_records: u64,
}

/// The journal in one directory. One process may have it open at a time; the caller sees to that.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    segment_bytes: u64,
    /// How many spare segments there should be.
    spares: usize,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    /// Where the records of the last segment start.
    offsets: Offsets,
    /// The same for some older segments, by their first numbers.
    known: VecDeque<(u64, Offsets)>,
    file: File,
    /// Where the next record goes in the last segment.
    tail: u64,
    /// Records appended since the last commit, as they will stand at `tail`.
    staged: Vec<u8>,
    staged_offsets: Offsets,
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
        segment::tidy(directory);
        let mut segments = VecDeque::from(segment::list(directory)?);
        if segments.is_empty() {
            segments.push_back(segment::create(directory, 1, segment_bytes)?);
        }
        let Some(last) = segments.back() else {
            return Err(Error::InvalidArgument("BUG: a journal without segments"));
        };
        let file = open_file(&last.path)?;
        let (offsets, tail, repairs) = repair(&file, last)?;
        // whoever was killed has perhaps not waited for the disk, and what is read here is built on
        file.sync_data().map_err(Error::io("sync the journal"))?;
        segment::sync_names(directory)?;
        Ok(Journal {
            directory: directory.to_owned(),
            segment_bytes,
            spares: 0,
            segments,
            offsets,
            known: VecDeque::new(),
            file,
            tail,
            staged: Vec::new(),
            staged_offsets: Offsets::new(),
            repairs,
        })
    }

    /// Keep `count` segments of zeros ready for when the disk has no room for a new one.
    ///
    /// # Errors
    /// `Io` when there is no room for them now; a segment that is freed becomes one then.
    pub fn reserve(&mut self, count: usize) -> Result<(), Error> {
        self.spares = count;
        segment::reserve(&self.directory, count, self.segment_bytes)
    }

    /// The number the next record gets.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.committed() + self.staged_offsets.len() as u64
    }

    /// One behind the last number that is safe on the disk.
    #[must_use]
    pub fn committed(&self) -> u64 {
        let first = self.segments.back().map_or(1, |segment| segment.first);
        first + self.offsets.len() as u64
    }

    /// The oldest number still kept.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.segments.front().map_or(1, |segment| segment.first)
    }

    /// Bytes of all segments on the disk, spare ones left out.
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
    /// `TooLarge`; `Io` when the record opens a new segment. Then it is not staged.
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
        let at = self.tail + self.staged.len() as u64;
        self.staged_offsets.push(Some(at));
        record::write(&mut self.staged, kind, number, payload);
        Ok(number)
    }

    /// Write what is staged and wait until the disk has it.
    ///
    /// # Errors
    /// `Io`: nothing of what is staged may then be taken as safe. It stays staged and is written
    /// whole again by the next commit, as after a failed sync nobody knows what the disk has.
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
        self.offsets.append(&mut self.staged_offsets);
        Ok(())
    }

    /// Read a committed record; `None` when it is no longer kept, or was lost.
    ///
    /// # Errors
    /// `Io`. A record that no longer matches its checksum is lost, not an error.
    pub fn read(&mut self, number: u64) -> Result<Option<Record>, Error> {
        let index = self
            .segments
            .partition_point(|segment| segment.first <= number);
        let Some(at) = index.checked_sub(1) else {
            return Ok(None);
        };
        let is_last = index == self.segments.len();
        if !is_last {
            self.know(at)?;
        }
        let Some(segment) = self.segments.get(at) else {
            return Ok(None);
        };
        let offsets = match self.known.front() {
            Some((_, offsets)) if !is_last => offsets,
            _ => &self.offsets,
        };
        let Some(Some(offset)) = offsets.get((number - segment.first) as usize) else {
            return Ok(None);
        };
        let other = if is_last {
            None
        } else {
            Some(File::open(&segment.path).map_err(Error::io("open a journal segment"))?)
        };
        read_record(other.as_ref().unwrap_or(&self.file), *offset)
    }

    /// Let go of the segments that hold only numbers before `number`; never of the last one.
    ///
    /// # Errors
    /// `Io`.
    pub fn free_before(&mut self, number: u64) -> Result<(), Error> {
        while self.segments.get(1).is_some_and(|s| s.first <= number) && self.free_oldest(None)? {}
        Ok(())
    }

    /// Let go of the oldest segment unless it is the only one; return whether there was one. It
    /// becomes a spare segment of the journal in `give_to`, or of this one when that has too few,
    /// or else is removed.
    ///
    /// # Errors
    /// `Io`.
    pub fn free_oldest(&mut self, give_to: Option<&Path>) -> Result<bool, Error> {
        if self.segments.len() < 2 {
            return Ok(false);
        }
        let is_short = || segment::spares(&self.directory).is_ok_and(|s| s.len() < self.spares);
        let keep_in = give_to.or_else(|| is_short().then_some(self.directory.as_path()));
        if let Some(segment) = self.segments.front() {
            if let Some(directory) = keep_in {
                segment::recycle(segment, directory)?;
            } else {
                fs::remove_file(&segment.path).map_err(Error::io("remove a journal segment"))?;
            }
            self.known.retain(|(first, _)| *first != segment.first);
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
        let segment = segment::create(&self.directory, first, bytes)?;
        self.file = open_file(&segment.path)?;
        self.tail = 0;
        let offsets = std::mem::take(&mut self.offsets);
        match self.segments.back() {
            // it held nothing, and its file is the new one's
            Some(former) if former.first == first => {
                self.segments.pop_back();
            }
            Some(former) => {
                self.known.push_front((former.first, offsets));
                self.known.truncate(KNOWN_SEGMENTS);
            }
            None => {}
        }
        self.segments.push_back(segment);
        Ok(())
    }

    /// Bring an older segment to the front of those that are known.
    fn know(&mut self, at: usize) -> Result<(), Error> {
        let Some(segment) = self.segments.get(at) else {
            return Ok(());
        };
        let known = self
            .known
            .iter()
            .position(|(first, _)| *first == segment.first);
        let offsets = if let Some((_, offsets)) = known.and_then(|place| self.known.remove(place)) {
            offsets
        } else {
            let bytes = fs::read(&segment.path).map_err(Error::io("read a journal segment"))?;
            segment::scan(&bytes, segment.first).0
        };
        self.known.push_front((segment.first, offsets));
        self.known.truncate(KNOWN_SEGMENTS);
        Ok(())
    }
}

/// The valid records of one segment file, whoever has its journal open; those after the last
/// commit of another process may be among them.
///
/// # Errors
/// `Io`; `InvalidArgument` for a file that is not named after its first number.
pub fn read_segment(path: &Path) -> Result<Vec<Numbered>, Error> {
    let first = segment::number_of(path)
        .ok_or(Error::InvalidArgument("a segment is named after a number"))?;
    let bytes = fs::read(path).map_err(Error::io("read a journal segment"))?;
    Ok(records(&bytes, first)
        .map(|found| (found.number, found.kind, found.payload.to_vec()))
        .collect())
}

/// The first valid record of one segment file, of which no more than that is read.
///
/// # Errors
/// As [`read_segment`].
pub fn read_first(path: &Path) -> Result<Option<Numbered>, Error> {
    let file = File::open(path).map_err(Error::io("open a journal segment"))?;
    let mut head = [0; HEAD_BYTES];
    if file.read_exact_at(&mut head, 0).is_ok() {
        let number = parse_head(&head).map(|(_, _, number)| number);
        if let (Some(number), Some((kind, payload))) = (number, read_record(&file, 0)?) {
            return Ok(Some((number, kind, payload)));
        }
    }
    Ok(read_segment(path)?.into_iter().next())
}

fn read_record(file: &File, offset: u64) -> Result<Option<Record>, Error> {
    let mut head = [0; HEAD_BYTES];
    file.read_exact_at(&mut head, offset)
        .map_err(Error::io("read the journal"))?;
    let Some((kind, length, _)) = parse_head(&head) else {
        return Ok(None);
    };
    let mut payload = vec![0; length];
    match file.read_exact_at(&mut payload, offset + HEAD_BYTES as u64) {
        // the head claims more than there is: it is damaged
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other.map_err(Error::io("read the journal"))?,
    }
    Ok(is_valid(&head, &payload).then_some((kind, payload)))
}

/// Look through the last segment, write what is valid in it once more, and wipe what stands behind.
fn repair(file: &File, last: &Segment) -> Result<(Offsets, u64, Repairs), Error> {
    let bytes = fs::read(&last.path).map_err(Error::io("read a journal segment"))?;
    let (offsets, end) = segment::scan(&bytes, last.first);
    let mut repairs = Repairs {
        torn_bytes: 0,
        lost_records: offsets.iter().filter(|offset| offset.is_none()).count() as u64,
    };
    let stale = bytes
        .get(end..)
        .and_then(|rest| rest.iter().rposition(|&byte| byte != 0));
    // as they were read: of what a failed sync has left in the memory of the kernel it says no more
    // that the disk lacks it
    if let Some(valid) = bytes.get(..end) {
        file.write_all_at(valid, 0)
            .map_err(Error::io("write the journal"))?;
    }
    if let Some(stale) = stale {
        let torn = vec![0; stale + 1];
        file.write_all_at(&torn, end as u64)
            .map_err(Error::io("wipe a torn tail"))?;
        repairs.torn_bytes = torn.len() as u64;
    }
    Ok((offsets, end as u64, repairs))
}
