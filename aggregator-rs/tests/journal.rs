//! The journal under the hands of a power cut: torn tails, flipped bits, reopened directories.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use edgeagg_core::journal::Journal;

const SEGMENT_BYTES: u64 = 4096;

fn open(directory: &Path) -> Journal {
    Journal::open(directory, SEGMENT_BYTES).unwrap()
}

fn filled(directory: &Path, records: u64) -> Journal {
    let mut journal = open(directory);
    for number in 1..=records {
        assert_eq!(journal.append(7, &payload(number)).unwrap(), number);
    }
    journal.commit().unwrap();
    journal
}

fn payload(number: u64) -> Vec<u8> {
    vec![number as u8; 100 + (number as usize % 50)]
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn committed_records_come_back_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path(), 200));
    let mut journal = open(directory.path());
    assert_eq!((journal.first(), journal.next()), (1, 201));
    for number in 1..=200 {
        assert_eq!(journal.read(number).unwrap(), Some((7, payload(number))));
    }
    assert_eq!(journal.read(0).unwrap(), None);
    assert_eq!(journal.read(201).unwrap(), None);
    assert_eq!(journal.repairs().lost_records, 0);
}

#[test]
fn what_was_not_committed_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = filled(directory.path(), 3);
    journal.append(7, b"staged").unwrap();
    assert_eq!((journal.committed(), journal.next()), (4, 5));
    assert_eq!(journal.read(4).unwrap(), None);
    drop(journal);
    assert_eq!(open(directory.path()).next(), 4);
}

#[test]
fn a_torn_tail_is_cut_and_its_stale_records_never_come_back() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path(), 3));
    let path = &segments(directory.path())[0];
    let whole = fs::read(path).unwrap();
    // record 2 is torn, record 3 behind it too: as if the device had written neither fully
    let mut torn = whole.clone();
    torn[20 + 101 + 30] ^= 1;
    torn[20 + 101 + 20 + 102 + 25] ^= 1;
    fs::write(path, &torn).unwrap();
    let mut journal = open(directory.path());
    assert_eq!(journal.next(), 2);
    assert!(journal.repairs().torn_bytes > 0);
    journal.append(7, &payload(2)).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let mut journal = open(directory.path());
    assert_eq!(journal.next(), 3);
    assert_eq!(journal.read(2).unwrap(), Some((7, payload(2))));
}

#[test]
fn one_flipped_bit_costs_at_most_one_record_and_nobody_needs_to_act() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path(), 20));
    let path = segments(directory.path())[0].clone();
    let whole = fs::read(&path).unwrap();
    let used = whole.iter().rposition(|&byte| byte != 0).unwrap();
    for at in 0..=used {
        flip(&path, at);
        let mut journal = open(directory.path());
        let readable = (1..=20)
            .filter(|&number| journal.read(number).unwrap() == Some((7, payload(number))))
            .count();
        assert!(readable >= 19, "offset {at}: {readable} of 20 readable");
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_lost_number_is_not_used_again() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path(), 3));
    flip(&segments(directory.path())[0], 20 + 101 + 30);
    let mut journal = open(directory.path());
    assert_eq!(journal.repairs().lost_records, 1);
    assert_eq!(journal.read(2).unwrap(), None);
    assert_eq!(journal.append(7, b"next").unwrap(), 4);
}

#[test]
fn space_is_freed_by_whole_segments_and_numbers_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = filled(directory.path(), 200);
    let before = journal.bytes();
    journal.free_before(100).unwrap();
    assert!(journal.first() > 50 && journal.first() <= 100);
    assert!(journal.bytes() < before);
    assert_eq!(journal.read(1).unwrap(), None);
    assert_eq!(journal.read(100).unwrap(), Some((7, payload(100))));
    journal.free_before(u64::MAX).unwrap();
    drop(journal);
    assert_eq!(open(directory.path()).next(), 201);
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = filled(directory.path(), 1);
    let large = vec![3; 3 * SEGMENT_BYTES as usize];
    assert_eq!(journal.append(9, &large).unwrap(), 2);
    journal.commit().unwrap();
    assert_eq!(journal.append(9, b"after").unwrap(), 3);
    journal.commit().unwrap();
    drop(journal);
    let mut journal = open(directory.path());
    assert_eq!(journal.read(2).unwrap(), Some((9, large)));
    assert_eq!(journal.read(3).unwrap(), Some((9, b"after".to_vec())));
}

#[test]
fn skipped_numbers_stay_empty() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = filled(directory.path(), 3);
    journal.skip_to(10).unwrap();
    assert_eq!(journal.append(7, b"ten").unwrap(), 10);
    journal.commit().unwrap();
    drop(journal);
    let mut journal = open(directory.path());
    assert_eq!(journal.read(5).unwrap(), None);
    assert_eq!(journal.read(10).unwrap(), Some((7, b"ten".to_vec())));
    assert_eq!(journal.next(), 11);
}

#[test]
fn a_half_made_segment_is_not_a_segment() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path(), 2));
    for name in ["new", "freed"] {
        fs::write(directory.path().join(name), [0; 100]).unwrap();
    }
    assert_eq!(open(directory.path()).next(), 3);
    assert_eq!(segments(directory.path()).len(), 1);
}

/// No new segment can be made while a directory stands where it would be filled.
fn refuse_new_segments(directory: &Path) {
    fs::create_dir(directory.join("new")).unwrap();
}

fn append_until_refused(journal: &mut Journal) -> u64 {
    loop {
        let number = journal.next();
        if journal.append(7, &payload(number)).is_err() {
            return number;
        }
        journal.commit().unwrap();
    }
}

#[test]
fn without_room_for_a_new_segment_the_spare_ones_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    journal.reserve(2).unwrap();
    refuse_new_segments(directory.path());
    let refused = append_until_refused(&mut journal);
    assert_eq!(journal.bytes(), 3 * SEGMENT_BYTES);
    assert_eq!(journal.next(), refused);
    // what was refused is not staged, and everything before it is there
    fs::remove_dir(directory.path().join("new")).unwrap();
    assert_eq!(journal.append(7, &payload(refused)).unwrap(), refused);
    journal.commit().unwrap();
    drop(journal);
    let mut journal = open(directory.path());
    for number in 1..=refused {
        assert_eq!(journal.read(number).unwrap(), Some((7, payload(number))));
    }
}

#[test]
fn a_segment_that_is_freed_becomes_the_spare_that_was_taken() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    journal.reserve(1).unwrap();
    let mut refused = 0;
    for _ in 0..3 {
        // alternately used up and freed: no room is ever given away
        refuse_new_segments(directory.path());
        refused = append_until_refused(&mut journal);
        assert_eq!(journal.bytes(), 2 * SEGMENT_BYTES);
        fs::remove_dir(directory.path().join("new")).unwrap();
        assert!(journal.free_oldest(None).unwrap());
        assert_eq!(segments(directory.path()).len(), 2);
    }
    drop(journal);
    let mut journal = open(directory.path());
    assert_eq!(journal.next(), refused);
    let number = refused - 1;
    assert_eq!(journal.read(number).unwrap(), Some((7, payload(number))));
    assert_eq!(journal.read(1).unwrap(), None);
}

#[test]
fn a_segment_can_be_given_to_another_journal() {
    let directory = tempfile::tempdir().unwrap();
    let from = directory.path().join("from");
    let to = directory.path().join("to");
    let mut giver = filled(&from, 60);
    let mut taker = filled(&to, 1);
    assert!(giver.free_oldest(Some(&to)).unwrap());
    refuse_new_segments(&to);
    append_until_refused(&mut taker);
    assert_eq!(taker.bytes(), 2 * SEGMENT_BYTES);
}

#[test]
fn opening_reads_the_last_segment_only_and_damage_before_it_is_found_when_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path(), 200));
    flip(&segments(directory.path())[0], 30);
    let mut journal = open(directory.path());
    assert_eq!(journal.repairs().lost_records, 0);
    assert_eq!(journal.read(1).unwrap(), None);
    for number in 2..=200 {
        assert_eq!(journal.read(number).unwrap(), Some((7, payload(number))));
    }
}

#[test]
fn a_segment_is_read_while_another_process_writes_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = filled(directory.path(), 3);
    let path = segments(directory.path())[0].clone();
    journal.append(8, b"staged").unwrap();
    let records = edgeagg_core::journal::read_segment(&path).unwrap();
    let expected: Vec<_> = (1..=3).map(|number| (number, 7, payload(number))).collect();
    assert_eq!(records, expected);
    let first = edgeagg_core::journal::read_first(&path).unwrap();
    assert_eq!(first.as_ref(), expected.first());
    flip(&path, 30);
    let records = edgeagg_core::journal::read_segment(&path).unwrap();
    assert_eq!(records, expected[1..]);
    let first = edgeagg_core::journal::read_first(&path).unwrap();
    assert_eq!(first.as_ref(), expected.get(1));
}

#[test]
fn a_first_record_larger_than_a_segment_replaces_the_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    let large = vec![3; 3 * SEGMENT_BYTES as usize];
    assert_eq!(journal.append(9, &large).unwrap(), 1);
    journal.append(9, &large).unwrap();
    journal.commit().unwrap();
    assert!(journal.free_oldest(None).unwrap());
    drop(journal);
    assert_eq!(open(directory.path()).read(2).unwrap(), Some((9, large)));
}
