//! The sorter: nothing is lost, nothing comes twice, and all of it is in order.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;

use edgeagg_core::codec::{decode, CM_CELLS_MAX};
use edgeagg_core::sorter::{Piece, Sorter};
use edgeagg_core::table::{Column, Table, TableKind, WINDOW_COLUMNS};

type Cells = Vec<Option<i64>>;
type Row = (u8, u32, u32, Cells);

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn cell(&mut self) -> Option<i64> {
        (self.below(5) > 0).then(|| self.0 as i64 >> self.below(64))
    }
}

const KINDS: [(TableKind, usize); 7] = [
    (TableKind::Readings, 8),
    (TableKind::Windows, 1 + 3 * WINDOW_COLUMNS),
    (TableKind::Gaps, 4),
    (TableKind::Audits, 9),
    (TableKind::Uncertainties, 3),
    (TableKind::Statistics, 5),
    (TableKind::Demands, 8),
];

/// Tables of some groups around a time; a clock that was set makes times go to and fro.
fn tables(dice: &mut Dice, at_ms: i64, rows_max: u64) -> Vec<Table> {
    let mut found = Vec::new();
    for _ in 0..dice.below(6) {
        let (kind, width) = KINDS[dice.below(7) as usize];
        let rows = dice.below(rows_max);
        let length_ms =
            u32::from(kind == TableKind::Windows) * 900_000 * (1 + dice.below(2) as u32);
        let mut columns: Vec<Column> = (0..width)
            .map(|_| (0..rows).map(|_| dice.cell()).collect())
            .collect();
        let time = time_column(kind);
        let late_ms = dice.below(3) as i64 * 40_000;
        columns[time] = (0..rows as i64)
            .map(|row| Some(at_ms - late_ms + row))
            .collect();
        found.push(Table::new(kind, dice.below(3) as u32, length_ms, columns).unwrap());
    }
    found
}

fn time_column(kind: TableKind) -> usize {
    match kind {
        TableKind::Audits => 2,
        TableKind::Demands => 1,
        _ => 0,
    }
}

fn rows(tables: &[Table]) -> Vec<Row> {
    let mut found = Vec::new();
    for table in tables {
        for row in 0..table.rows() {
            let cells = table.columns().iter().map(|column| column[row]).collect();
            found.push((table.kind().code(), table.group(), table.length_ms(), cells));
        }
    }
    found
}

fn drain(sorter: &mut Sorter, all: bool, into: &mut Vec<Piece>) {
    while let Some(piece) = sorter.pop(all).unwrap() {
        into.push(piece);
    }
}

fn sorted(given: &[Vec<Table>]) -> Vec<Piece> {
    let (mut sorter, mut pieces) = (Sorter::new(), Vec::new());
    for tables in given {
        sorter.take(tables.clone()).unwrap();
        drain(&mut sorter, false, &mut pieces);
    }
    drain(&mut sorter, true, &mut pieces);
    pieces
}

#[test]
fn every_row_comes_out_once_whatever_goes_in() {
    for seed in 1..20 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let rows_max = if seed % 3 == 0 { 60 } else { 9 };
        let given: Vec<_> = (0..40)
            .map(|minute| tables(&mut dice, minute * 60_000, rows_max))
            .collect();
        let mut before: Vec<Row> = given.iter().flat_map(|it| rows(it)).collect();
        let mut after = Vec::new();
        for piece in sorted(&given) {
            let tables = decode(piece.codec, &piece.payload).unwrap();
            assert!(tables.iter().all(|it| it.group() == piece.group));
            after.extend(rows(&tables));
        }
        before.sort();
        after.sort();
        assert!(before == after, "seed {seed}");
    }
}

#[test]
fn rows_of_a_piece_are_in_the_order_of_time_and_of_their_coming() {
    let mut dice = Dice(7);
    let given: Vec<_> = (0..60)
        .map(|minute| tables(&mut dice, minute * 20_000, 9))
        .collect();
    let mut came: BTreeMap<(u8, u32, u32), Vec<Cells>> = BTreeMap::new();
    for (kind, group, length_ms, cells) in given.iter().flat_map(|it| rows(it)) {
        came.entry((kind, group, length_ms))
            .or_default()
            .push(cells);
    }
    for piece in sorted(&given) {
        for table in decode(piece.codec, &piece.payload).unwrap() {
            let time = time_column(table.kind());
            let key = (table.kind().code(), table.group(), table.length_ms());
            let mut expected = came[&key].clone();
            expected.sort_by_key(|cells| cells[time]);
            let found: Vec<_> = rows(&[table]).into_iter().map(|row| row.3).collect();
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_piece_names_the_times_of_its_rows_gaps_to_their_end() {
    let column = |cells: &[i64]| cells.iter().copied().map(Some).collect::<Column>();
    let readings = [
        column(&[50, 20]),
        column(&[1, 1]),
        column(&[7, 8]),
        column(&[0, 0]),
    ];
    let gaps = [column(&[60]), column(&[90]), column(&[4]), column(&[7])];
    let given = vec![
        Table::new(TableKind::Readings, 4, 0, readings.to_vec()).unwrap(),
        Table::new(TableKind::Gaps, 4, 0, gaps.to_vec()).unwrap(),
    ];
    let found = sorted(&[given]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].group, found[0].family.code()), (4, 1));
    assert_eq!((found[0].first_ms, found[0].last_ms), (20, 90));
}

fn meters(dice: &mut Dice, groups: u32, points: usize, minute: i64) -> Vec<Table> {
    let one = |group| {
        let mut columns = vec![vec![Some(minute * 60_000)], vec![Some(5)]];
        columns.extend((0..points).map(|_| vec![Some(dice.below(1 << 62) as i64)]));
        columns.extend((0..points).map(|_| vec![Some(0)]));
        Table::new(TableKind::Readings, group, 0, columns).unwrap()
    };
    (0..groups).map(one).collect()
}

#[test]
fn a_piece_is_as_large_as_a_payload_may_be() {
    let mut dice = Dice(3);
    let given: Vec<_> = (0..500)
        .map(|minute| meters(&mut dice, 2, 30, minute))
        .collect();
    let whole = CM_CELLS_MAX / (2 + 2 * 30);
    let rows: Vec<_> = sorted(&given)
        .iter()
        .map(|it| decode(it.codec, &it.payload).unwrap()[0].rows())
        .collect();
    assert_eq!(rows, [whole, whole, 500 - whole, 500 - whole]);
}

#[test]
fn what_waits_is_let_go_early_when_it_is_too_much() {
    let mut dice = Dice(5);
    let (mut sorter, mut pieces) = (Sorter::with_room(10_000, 20_000), Vec::new());
    let (groups, points, minutes) = (20, 10, 100);
    let (mut waiting, mut waiting_max) = (0, 0);
    for minute in 0..minutes {
        let given = meters(&mut dice, groups, points, minute);
        sorter.take(given).unwrap();
        // noise takes nine bytes a value, whatever the codec
        waiting += 9 * groups as usize * points;
        let before = pieces.len();
        drain(&mut sorter, false, &mut pieces);
        let gone = pieces.iter().skip(before).map(|it| it.payload.len());
        waiting -= gone.sum::<usize>();
        waiting_max = waiting_max.max(waiting);
    }
    assert!(waiting_max < 40_000, "{waiting_max} bytes waited");
    drain(&mut sorter, true, &mut pieces);
    let rows = pieces
        .iter()
        .map(|it| decode(it.codec, &it.payload).unwrap()[0].rows());
    assert_eq!(rows.sum::<usize>(), minutes as usize * groups as usize);
}
