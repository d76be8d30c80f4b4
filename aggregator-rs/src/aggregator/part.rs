//! What a cut took of one group, as it was kept. It becomes tables where they are encoded: that is
//! work for another thread, and nobody waits for a cut.

use super::columns::{audit_columns, beside_columns, demand_columns, gap_columns, window_columns};
use super::pending::Pending;
use crate::demand::DayRow;
use crate::error::Error;
use crate::reading::Gap;
use crate::table::{Table, TableKind, STATISTICS_LEAD, UNCERTAINTY_LEAD};
use crate::totaliser::Audit;
use crate::window::WindowRow;

/// Something of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Slots that nobody read.
    Gaps(Vec<Gap>),
    /// Slots that were read.
    Readings(Pending),
    /// With the point's index.
    Audits(Vec<(usize, Audit)>),
    /// Windows, with their length.
    Windows(Vec<(i64, Vec<WindowRow>)>),
    /// With the point's index.
    Demands(Vec<(usize, DayRow)>),
}

impl Part {
    /// Append its tables, as those of the group with this index.
    pub(super) fn tables(&self, group: u32, tables: &mut Vec<Table>) -> Result<(), Error> {
        let mut add = |kind, length_ms, columns| -> Result<(), Error> {
            tables.push(Table::new(kind, group, length_ms, columns)?);
            Ok(())
        };
        match self {
            Part::Gaps(gaps) => add(TableKind::Gaps, 0, gap_columns(gaps)),
            Part::Readings(rows) => add(TableKind::Readings, 0, rows.columns()),
            Part::Audits(audits) => add(TableKind::Audits, 0, audit_columns(audits)),
            Part::Windows(windows) => {
                for (length_ms, rows) in windows {
                    add(TableKind::Windows, *length_ms as u32, window_columns(rows))?;
                }
                let columns = beside_columns(windows, |row| &row.uncertainties);
                if columns.len() > UNCERTAINTY_LEAD {
                    add(TableKind::Uncertainties, 0, columns)?;
                }
                let columns = beside_columns(windows, |row| &row.statistics);
                if columns.len() > STATISTICS_LEAD {
                    add(TableKind::Statistics, 0, columns)?;
                }
                Ok(())
            }
            Part::Demands(days) => add(TableKind::Demands, 0, demand_columns(days)),
        }
    }
}
