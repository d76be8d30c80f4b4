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
}

/// Columns of one point in a table of windows, in this order: rows, values, minimum, maximum,
/// time-weighted mean (three more decimals than the point), first, last, energy, covered
/// milliseconds, worst quality.
pub const WINDOW_COLUMNS: usize = 10;

/// Columns of a table of gaps.
pub const GAP_COLUMNS: usize = 4;

/// Columns that stand before the points' own in a table of readings: due, delay.
pub const READING_LEAD: usize = 2;

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
        }
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<TableKind> {
        [TableKind::Readings, TableKind::Windows, TableKind::Gaps]
            .into_iter()
            .find(|kind| kind.code() == code)
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
}
