//! How the rows of every table but those of windows are walked.

use super::cm::{Knowledge, Shaped};
use super::flags;
use super::form::{code_forms, Form, Frame};
use super::head::Head;
use super::mixing::Model;
use super::range::Coder;
use super::scalar::{digits_of, Scalar};
use super::series::{Row, Series};
use crate::table::{Column, TableKind, READING_LEAD};

/// A column on its way.
#[derive(Debug)]
struct Track {
    form: Form,
    is_quality: bool,
    series: Option<Series>,
    /// Its first value was passed.
    is_started: bool,
    is_present: bool,
    last: i64,
}

impl Track {
    /// Whether a clean row says something about it.
    fn is_open(&self) -> bool {
        self.form.is_sparse || (self.is_quality && self.form.is_varying())
    }

    fn is_clean(&self, cell: Option<i64>) -> bool {
        !self.is_open() || (cell.is_some() && (!self.is_quality || cell == Some(0)))
    }
}

/// Code a table.
pub(super) fn table<C: Coder>(
    knowledge: &mut Knowledge,
    coder: &mut C,
    head: &Head,
    columns: &mut [Column],
) {
    let known = knowledge.take(head);
    let gap = known.as_ref().map_or(1, |known| known.slots(head.rows));
    let qualities = match head.kind {
        TableKind::Readings => READING_LEAD + (head.width - READING_LEAD) / 2,
        _ => head.width,
    };
    let mut forms: Vec<Form> = columns.iter().map(Form::of).collect();
    let frame = Frame {
        rows: head.rows,
        qualities,
        known: known.as_ref(),
    };
    code_forms(&mut knowledge.model, coder, &mut forms, frame);
    let mut tracks = tracks(knowledge, head, &forms, qualities, known);
    let row = Row::new(gap);
    rows(
        &mut knowledge.model,
        coder,
        &mut tracks,
        columns,
        head.rows,
        row,
    );
    // other tables do not begin with a time that tells which windows come next
    let has_clock = matches!(head.kind, TableKind::Readings | TableKind::Gaps);
    if let Some(time) = tracks.first().filter(|_| has_clock) {
        knowledge.clock_ms = time.last;
    }
    let (last, series) = tracks
        .into_iter()
        .map(|track| (track.last, track.series))
        .unzip();
    let shaped = Shaped {
        last,
        units: forms.iter().map(|form| form.unit).collect(),
        series,
        back: 0,
    };
    knowledge.keep(head, shaped);
}

fn tracks(
    knowledge: &mut Knowledge,
    head: &Head,
    forms: &[Form],
    qualities: usize,
    known: Option<Shaped>,
) -> Vec<Track> {
    let (known_last, known_series) = known
        .map(|known| (known.last, known.series))
        .unwrap_or_default();
    let mut last = known_last.into_iter();
    let mut series = known_series.into_iter();
    // where the first column moved, there were rows in which the others could have
    let has_moved = series.as_slice().first().is_some_and(Option::is_some);
    let mut tracks = Vec::with_capacity(forms.len());
    for (at, form) in forms.iter().enumerate() {
        let last = last.next().unwrap_or_default();
        let mut series = series.next().flatten();
        let is_quality = at >= qualities;
        if let Some(series) = &mut series {
            if !form.is_continued {
                series.again();
            }
        } else if form.is_varying() && !is_quality {
            let is_value = head.kind == TableKind::Readings && at >= READING_LEAD;
            let has_beside = is_value && knowledge.beside_left > 0;
            knowledge.beside_left -= usize::from(has_beside);
            series = Some(if has_moved && form.is_continued {
                Series::still(has_beside)
            } else {
                Series::new(has_beside)
            });
        }
        if let (Some(series), true) = (&mut series, form.is_continued) {
            series.go_on();
        }
        tracks.push(Track {
            form: *form,
            is_quality,
            series,
            is_started: form.is_continued,
            is_present: !form.is_empty,
            last: if form.is_empty { last } else { form.first },
        });
    }
    tracks
}

fn rows<C: Coder>(
    model: &mut Model,
    coder: &mut C,
    tracks: &mut [Track],
    columns: &mut [Column],
    rows: usize,
    mut row: Row,
) {
    let is_open = tracks.iter().any(Track::is_open);
    let mut clean = 2;
    for at in 0..rows {
        let mut is_clean = true;
        if is_open {
            let cells = columns.iter().map(|column| cell(column, at));
            let wanted = tracks
                .iter()
                .zip(cells)
                .all(|(track, cell)| track.is_clean(cell));
            is_clean = model.flag(coder, flags::CLEAN + clean, wanted);
            clean = usize::from(is_clean) * (1 + clean.min(1));
            code_presence(model, coder, tracks, columns, at, is_clean);
        }
        row.begin();
        let mut qualities = Qualities::default();
        for (number, (track, column)) in (0_u32..).zip(tracks.iter_mut().zip(&mut *columns)) {
            let value = cell(column, at).unwrap_or_default();
            let value = if track.is_quality {
                qualities.code(model, coder, track, is_clean, value)
            } else {
                track.code(model, coder, number, &mut row, value)
            };
            if let Some(cell) = column.get_mut(at) {
                *cell = value;
            }
        }
    }
}

fn cell(column: &Column, at: usize) -> Option<i64> {
    column.get(at).copied().flatten()
}

fn code_presence<C: Coder>(
    model: &mut Model,
    coder: &mut C,
    tracks: &mut [Track],
    columns: &[Column],
    at: usize,
    is_clean: bool,
) {
    let mut before = true;
    for (track, column) in tracks.iter_mut().zip(columns) {
        if is_clean {
            track.is_present = !track.form.is_empty;
        } else if track.form.is_sparse {
            let context = usize::from(before) + 2 * usize::from(track.is_present);
            let wanted = cell(column, at).is_some();
            track.is_present = model.flag(coder, flags::PRESENT + context, wanted);
            before = track.is_present;
        }
    }
}

impl Track {
    fn code<C: Coder>(
        &mut self,
        model: &mut Model,
        coder: &mut C,
        number: u32,
        row: &mut Row,
        value: i64,
    ) -> Option<i64> {
        if self.form.is_empty || (self.form.is_constant && !self.is_present) {
            return None;
        }
        if self.form.is_constant {
            return Some(self.form.first);
        }
        if !self.is_present || !self.is_started {
            row.pass();
            self.is_started |= self.is_present;
            return self.is_present.then_some(self.form.first);
        }
        let Form { first, unit, .. } = self.form;
        let wanted = value.wrapping_sub(first);
        // a damaged payload may say 0
        let wanted = wanted.checked_div(unit).unwrap_or(wanted);
        if let Some(series) = &mut self.series {
            let steps = series.code(model, coder, number, row, wanted);
            self.last = first.wrapping_add(steps.wrapping_mul(unit));
        }
        Some(self.last)
    }
}

/// The qualities of the row so far.
#[derive(Debug, Default)]
struct Qualities {
    last: i64,
}

impl Qualities {
    fn code<C: Coder>(
        &mut self,
        model: &mut Model,
        coder: &mut C,
        track: &mut Track,
        is_clean: bool,
        value: i64,
    ) -> Option<i64> {
        if !track.is_present {
            return None;
        }
        if track.form.is_constant {
            return Some(track.form.first);
        }
        if is_clean {
            track.last = 0;
            return Some(0);
        }
        let context = digits_of(track.last).min(1) + 2 * digits_of(self.last).min(1);
        let same = model.flag(coder, flags::SAME + context as usize, value == self.last);
        if !same {
            let context = Scalar::Quality.context(digits_of(track.last), digits_of(self.last));
            self.last = model.integer(coder, &context, value);
        }
        track.last = self.last;
        Some(self.last)
    }
}
