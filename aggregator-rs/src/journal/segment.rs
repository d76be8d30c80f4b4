//! Segment files: their names, how they are made whole or not at all, and the spare ones.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::record::records;
use crate::error::Error;

const SUFFIX: &str = "journal";
const SPARE_SUFFIX: &str = "spare";
/// Files under these names are half made, or half undone, and nothing.
const UNFINISHED: &str = "new";
const FREED: &str = "freed";

/// A file of the journal. Its first number is its name; its last one is the next segment's first.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) first: u64,
}

/// Where each record of a segment starts, from its first number on; `None` where it was lost.
pub(super) type Offsets = Vec<Option<u64>>;

/// All segments in `directory`, oldest first; nothing of them is read.
pub(super) fn list(directory: &Path) -> Result<Vec<Segment>, Error> {
    let mut segments = Vec::new();
    for path in files(directory, SUFFIX)? {
        let bytes = fs::metadata(&path)
            .map_err(Error::io("look at a journal segment"))?
            .len();
        if let Some(first) = number_of(&path) {
            segments.push(Segment { path, bytes, first });
        }
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

/// Remove what a former process did not finish.
pub(super) fn tidy(directory: &Path) {
    for name in [UNFINISHED, FREED] {
        // where it cannot be removed it takes room and does no harm
        fs::remove_file(directory.join(name)).ok();
    }
}

/// The spare segments in `directory`: zeros, for when the disk has no room for a new one.
pub(super) fn spares(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    files(directory, SPARE_SUFFIX)
}

fn files(directory: &Path, suffix: &str) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(directory).map_err(Error::io("list the journal"))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("list the journal"))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == suffix)
        {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// The first number of a segment, which is its name.
pub(super) fn number_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

fn path_of(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.{SUFFIX}"))
}

/// Open a segment's file for reading and writing.
pub(super) fn open_file(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(Error::io("open a journal segment"))
}

/// Where the records are in the bytes of a segment, and where the last valid one ends.
pub(super) fn scan(bytes: &[u8], first: u64) -> (Offsets, usize) {
    let mut offsets = Offsets::new();
    let mut end = 0;
    for found in records(bytes, first) {
        offsets.resize((found.number - first) as usize, None);
        offsets.push(Some(found.at as u64));
        end = found.end;
    }
    (offsets, end)
}

/// Make a segment of zeros. Where the disk has no room for one, a spare becomes it by its name
/// alone, which takes no room.
pub(super) fn create(directory: &Path, first: u64, bytes: u64) -> Result<Segment, Error> {
    let path = path_of(directory, first);
    if let Err(refused) = create_file(directory, &path, bytes) {
        let spare = spares(directory)
            .unwrap_or_default()
            .into_iter()
            .find(|spare| fs::metadata(spare).is_ok_and(|file| file.len() >= bytes));
        fs::rename(spare.ok_or(refused)?, &path).map_err(Error::io("name a journal segment"))?;
        sync_directory(directory)?;
    }
    let bytes = fs::metadata(&path)
        .map_err(Error::io("look at a journal segment"))?
        .len();
    Ok(Segment { path, bytes, first })
}

/// Make spare segments of these bytes until there are `count`.
pub(super) fn reserve(directory: &Path, count: usize, bytes: u64) -> Result<(), Error> {
    let mut number = 0;
    while spares(directory)?.len() < count {
        let path = spare_path(directory, number);
        if !path.exists() {
            create_file(directory, &path, bytes)?;
        }
        number += 1;
    }
    Ok(())
}

/// Turn a segment that is no longer needed into a spare in `directory`: no room is given away.
pub(super) fn recycle(segment: &Segment, directory: &Path) -> Result<(), Error> {
    let freed = directory.join(FREED);
    fs::rename(&segment.path, &freed).map_err(Error::io("rename a journal segment"))?;
    let mut number = 0;
    while spare_path(directory, number).exists() {
        number += 1;
    }
    let spare = spare_path(directory, number);
    let made = open_file(&freed)
        .and_then(|file| fill(&file, segment.bytes))
        .and_then(|()| fs::rename(&freed, spare).map_err(Error::io("name a spare segment")))
        .and_then(|()| sync_directory(directory));
    if made.is_err() {
        // its records are gone already, so there is nothing to go back to
        fs::remove_file(&freed).ok();
    }
    Ok(())
}

fn spare_path(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("{number}.{SPARE_SUFFIX}"))
}

/// Fill a file under a temporary name, then give it its own: it exists whole or not.
fn create_file(directory: &Path, path: &Path, bytes: u64) -> Result<(), Error> {
    let unfinished = directory.join(UNFINISHED);
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&unfinished)
        .map_err(Error::io("create a journal segment"))
        .and_then(|file| fill(&file, bytes))
        .and_then(|()| fs::rename(&unfinished, path).map_err(Error::io("name a journal segment")));
    if made.is_err() {
        // what was filled of it must not keep the room that others need
        fs::remove_file(&unfinished).ok();
    }
    made?;
    sync_directory(directory)
}

/// Overwrite a file with zeros and wait until the disk has them.
fn fill(file: &File, bytes: u64) -> Result<(), Error> {
    let zeros = vec![0; 1 << 16];
    let mut at = 0;
    while at < bytes {
        let length = (bytes - at).min(zeros.len() as u64) as usize;
        let part = zeros.get(..length).unwrap_or(&zeros);
        file.write_all_at(part, at)
            .map_err(Error::io("fill a journal segment"))?;
        at += length as u64;
    }
    file.sync_all().map_err(Error::io("sync a journal segment"))
}

fn sync_directory(directory: &Path) -> Result<(), Error> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io("sync the journal's directory"))
}

/// Wait until the disk knows the names in `directory`, and its own.
pub(super) fn sync_names(directory: &Path) -> Result<(), Error> {
    sync_directory(directory)?;
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => Ok(()),
    }
}
