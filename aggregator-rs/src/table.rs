//! What a batch payload holds: tables of integer columns. The same shape before encoding on the
//! gateway and after decoding on the platform.

use crate::error::Error;

/// What a table's rows are. The numbers are part of the batch format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// One row per slot read: due, delay, the points' values, the points' qualities.
    Readings,
    /// One row per closed window: start, then [`WINDOW_COLUMNS`] columns per point.
    Windows,
    /// One row per run of slots that nobody read: first due, last due, slot count, reason.
    Gaps,
    /// One row per place where a totaliser's line was left, [`AUDIT_COLUMNS`] columns.
    Audits,
    /// One row per closed window: start, length, then how far its energy's two ends can be from the
    /// truth, in sum, one column per guarded totaliser.
    Uncertainties,
    /// One row per closed window: start, length, then [`STATISTICS_COLUMNS`] columns per point that
    /// they are asked for.
    Statistics,
    /// One row per local day of each point whose demand is asked for, [`DEMAND_COLUMNS`] columns.
    Demands,
}

/// Columns of one point in a table of windows, in this order: rows, values, minimum, maximum,
/// time-weighted mean (three more decimals than the point), first, last, energy, covered
/// milliseconds, worst quality.
pub const WINDOW_COLUMNS: usize = 10;

/// Columns of a table of gaps.
pub const GAP_COLUMNS: usize = 4;

/// Columns of a table of audits: point, kind (see [`crate::totaliser::AuditKind`]), time and value
/// of the closing reading, time and value of the opening one, energy counted between them, readings
/// set aside, the furthest value among those.
pub const AUDIT_COLUMNS: usize = 9;

/// Columns that stand before the points' own in a table of readings: due, delay.
pub const READING_LEAD: usize = 2;

/// Columns that stand before the totalisers' own in a table of uncertainties: start, length.
pub const UNCERTAINTY_LEAD: usize = 2;

/// Columns that stand before the points' own in a table of statistics: start, length.
pub const STATISTICS_LEAD: usize = 2;

/// Columns of one point in a table of statistics, in this order: time-weighted standard deviation
/// (three more decimals than the point), 50th and 95th percentile of its values.
pub const STATISTICS_COLUMNS: usize = 3;

/// Columns of a table of demands: point, start and length of the day, highest block demand and end
/// of its period, highest sliding demand and end of its period, block periods that were known.
/// Demand from a totaliser is in its resolution per hour, that from a gauge has three more decimals
/// than the gauge.
pub const DEMAND_COLUMNS: usize = 8;

/// A column: one value, or none, per row.
pub type Column = Vec<Option<i64>>;

/// Rows of one kind of one group. All columns have the same length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    kind: TableKind,
    group: u32,
    length_ms: u32,
    rows: usize,
    columns: Vec<Column>,
}

impl TableKind {
    /// Number in the batch format.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            TableKind::Readings => 1,
            TableKind::Windows => 2,
            TableKind::Gaps => 3,
            TableKind::Audits => 4,
            TableKind::Uncertainties => 5,
            TableKind::Statistics => 6,
            TableKind::Demands => 7,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<TableKind> {
        let kinds = [
            TableKind::Readings,
            TableKind::Windows,
            TableKind::Gaps,
            TableKind::Audits,
            TableKind::Uncertainties,
            TableKind::Statistics,
            TableKind::Demands,
        ];
        kinds.into_iter().find(|kind| kind.code() == code)
    }
}

impl Table {
    /// Check and build a table. `length_ms` is the window length, 0 for the other kinds.
    ///
    /// # Errors
    /// `InvalidArgument` when columns differ in length or their number does not fit the kind.
    pub fn new(
        kind: TableKind,
        group: u32,
        length_ms: u32,
        columns: Vec<Column>,
    ) -> Result<Table, Error> {
        let rows = columns.first().map_or(0, Vec::len);
        if columns.iter().any(|column| column.len() != rows) {
            return Err(Error::InvalidArgument("columns of different lengths"));
        }
        let fits = match kind {
            TableKind::Readings => {
                columns.len() > READING_LEAD && (columns.len() - READING_LEAD) % 2 == 0
            }
            TableKind::Windows => columns.len() > 1 && (columns.len() - 1) % WINDOW_COLUMNS == 0,
            TableKind::Gaps => columns.len() == GAP_COLUMNS,
            TableKind::Audits => columns.len() == AUDIT_COLUMNS,
            TableKind::Demands => columns.len() == DEMAND_COLUMNS,
            TableKind::Uncertainties => columns.len() > UNCERTAINTY_LEAD,
            TableKind::Statistics => {
                columns.len() > STATISTICS_LEAD
                    && (columns.len() - STATISTICS_LEAD) % STATISTICS_COLUMNS == 0
            }
        };
        if !fits || ((kind == TableKind::Windows) == (length_ms == 0)) {
            return Err(Error::InvalidArgument(
                "columns that do not fit the table's kind",
            ));
        }
        Ok(Table {
            kind,
            group,
            length_ms,
            rows,
            columns,
        })
    }

    /// What the rows are.
    #[must_use]
    pub fn kind(&self) -> TableKind {
        self.kind
    }

    /// Index of the group in the catalogue.
    #[must_use]
    pub fn group(&self) -> u32 {
        self.group
    }

    /// Window length, 0 unless this is a table of windows.
    #[must_use]
    pub fn length_ms(&self) -> u32 {
        self.length_ms
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The columns, taken out of the table.
    #[must_use]
    pub fn into_columns(self) -> Vec<Column> {
        self.columns
    }
}
