//! The Python border: the only file that names pyo3. Values in, values out; errors become
//! exceptions in one place.

mod columns;
mod journal;
mod payload;
mod plan;
mod signature;
mod sorter;

use payload::PyKeyframe;
use plan::{PyReply, PyScanPlan};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};

use crate::aggregator::{Aggregator, Counts, Cut, GroupShape, CUT_CELLS_MAX};
use crate::calendar::{Calendar, MONTH_MS};
use crate::codec;
use crate::demand::DemandShape;
use crate::error::Error;
use crate::reading::{Gap, RowView};
use crate::table::WINDOW_COLUMNS;
use crate::totaliser::Guard;
use crate::window::PointKind;

pyo3::create_exception!(
    _core,
    CodecError,
    PyValueError,
    "Bytes that no codec of this version wrote."
);

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        match error {
            Error::Io { code, .. } => PyOSError::new_err((code, error.to_string())),
            Error::InvalidArgument(_) | Error::ShortReply { .. } => {
                PyValueError::new_err(error.to_string())
            }
            _ => CodecError::new_err(error.to_string()),
        }
    }
}

type CountsTuple = (u64, u64, u64, u64);

fn counts_tuple(counts: Counts) -> CountsTuple {
    (counts.values, counts.reasons, counts.missed, counts.windows)
}

/// Whether a point is a totaliser, or the guard of one.
#[derive(FromPyObject)]
enum PyKind {
    Totaliser(bool),
    Guarded((Option<i64>, i64, i64)),
}

impl PyKind {
    fn kind(self) -> Result<PointKind, Error> {
        match self {
            PyKind::Totaliser(false) => Ok(PointKind::Gauge),
            PyKind::Totaliser(true) => Ok(PointKind::Totaliser),
            PyKind::Guarded((wraps_at, rate_max_per_h, resolution)) => {
                Guard::new(wraps_at, rate_max_per_h, resolution).map(PointKind::Guarded)
            }
        }
    }
}

/// The demands of one group, from (group, point, period, slip).
fn demands_of(
    demands: &[(usize, usize, i64, i64)],
    group: usize,
) -> Result<Vec<(usize, DemandShape)>, Error> {
    let own = demands.iter().filter(|it| it.0 == group);
    own.map(|&(_, point, period_ms, slip_ms)| Ok((point, DemandShape::new(period_ms, slip_ms)?)))
        .collect()
}

/// One quality per point.
#[derive(FromPyObject)]
enum PyQualities {
    Bytes(PyBackedBytes),
    Numbers(Vec<u8>),
}

/// Take values out of a sequence; a list, which is what a row nearly always is, without asking
/// every object what kind of sequence it stands in.
fn extract_values(from: &Bound<'_, PyAny>, values: &mut Vec<Option<i64>>) -> PyResult<()> {
    let Ok(list) = from.cast_exact::<PyList>() else {
        *values = from.extract()?;
        return Ok(());
    };
    values.clear();
    values.reserve(list.len());
    // an iterator would ask for the length before every value
    for place in 0..list.len() {
        let value = list.get_item(place)?;
        values.push(if value.is_none() {
            None
        } else {
            Some(value.extract()?)
        });
    }
    Ok(())
}

/// Memory for one row after the other.
#[derive(Default)]
struct Scratch {
    values: Vec<Option<i64>>,
    qualities: Vec<u8>,
    record: Vec<u8>,
}

/// See `_core.pyi`.
#[pyclass(name = "Aggregator", module = "edgeagg._core")]
struct PyAggregator(Aggregator, Scratch);

#[pymethods]
impl PyAggregator {
    #[new]
    #[pyo3(signature = (groups, window_lengths_ms, *, offsets = None, statistics = None, demands = None))]
    #[allow(clippy::needless_pass_by_value)] // what pyo3 extracts is owned
    fn new(
        groups: Vec<(i64, Vec<PyKind>)>,
        window_lengths_ms: Vec<i64>,
        offsets: Option<Vec<(i64, i64)>>,
        statistics: Option<Vec<(usize, usize)>>,
        demands: Option<Vec<(usize, usize, i64, i64)>>,
    ) -> PyResult<Self> {
        let statistics = statistics.unwrap_or_default();
        let demands = demands.unwrap_or_default();
        let mut asked = statistics
            .iter()
            .map(|it| it.0)
            .chain(demands.iter().map(|it| it.0));
        if asked.any(|group| group >= groups.len()) {
            return Err(Error::InvalidArgument("no such group").into());
        }
        let shapes = groups
            .into_iter()
            .enumerate()
            .map(|(group, (period_ms, kinds))| {
                let kinds = kinds.into_iter().map(PyKind::kind);
                let points = statistics.iter().filter(|it| it.0 == group);
                GroupShape::new(period_ms, kinds.collect::<Result<_, _>>()?)?
                    .with_statistics(&points.map(|it| it.1).collect::<Vec<_>>())?
                    .with_demands(&demands_of(&demands, group)?)
            })
            .collect::<Result<_, _>>()?;
        let calendar = match offsets {
            None => Calendar::default(),
            Some(changes) => Calendar::new(&changes)?,
        };
        let aggregator = Aggregator::with_calendar(shapes, &window_lengths_ms, calendar)?;
        Ok(PyAggregator(aggregator, Scratch::default()))
    }

    #[allow(clippy::needless_pass_by_value)] // what pyo3 extracts is owned
    fn push_row<'py>(
        &mut self,
        py: Python<'py>,
        group: u32,
        due_ms: i64,
        at_ms: i64,
        values: &Bound<'py, PyAny>,
        qualities: PyQualities,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let PyAggregator(core, scratch) = self;
        extract_values(values, &mut scratch.values)?;
        let row = RowView {
            due_ms,
            at_ms,
            values: &scratch.values,
            qualities: match &qualities {
                PyQualities::Bytes(bytes) => bytes,
                PyQualities::Numbers(numbers) => numbers,
            },
        };
        scratch.record.clear();
        core.push_view(group, row, &mut scratch.record)?;
        Ok(PyBytes::new(py, &scratch.record))
    }

    #[pyo3(signature = (group, due_ms, at_ms, plan, replies, *, ratios = 0))]
    // what one scan is; what pyo3 extracts is owned
    #[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)]
    fn push_scan<'py>(
        &mut self,
        py: Python<'py>,
        group: u32,
        due_ms: i64,
        at_ms: i64,
        plan: &PyScanPlan,
        replies: Vec<PyReply>,
        ratios: u8,
    ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let PyAggregator(core, scratch) = self;
        plan.decode_all(
            &replies,
            ratios,
            &mut scratch.values,
            &mut scratch.qualities,
        )?;
        let row = RowView {
            due_ms,
            at_ms,
            values: &scratch.values,
            qualities: &scratch.qualities,
        };
        scratch.record.clear();
        core.push_view(group, row, &mut scratch.record)?;
        let told = PyBytes::new(py, &scratch.qualities);
        Ok((PyBytes::new(py, &scratch.record), told))
    }

    fn push_gap<'py>(
        &mut self,
        py: Python<'py>,
        group: u32,
        first_due_ms: i64,
        last_due_ms: i64,
        slots: u32,
        reason: u8,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let gap = Gap {
            first_due_ms,
            last_due_ms,
            slots,
            reason,
        };
        Ok(PyBytes::new(py, &self.0.push_gap(group, gap)?))
    }

    fn replace_meter<'py>(&mut self, py: Python<'py>, group: u32) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.0.replace_meter(group)?))
    }

    fn restart_group<'py>(
        &mut self,
        py: Python<'py>,
        group: u32,
        last_due_ms: i64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let record = self.0.restart_group(group, last_due_ms)?;
        Ok(PyBytes::new(py, &record))
    }

    fn replay(&mut self, record: &[u8]) -> PyResult<()> {
        Ok(self.0.replay(record)?)
    }

    fn last_due_ms(&self, group: u32) -> PyResult<Option<i64>> {
        Ok(self.0.last_due_ms(group)?)
    }

    #[getter]
    fn late(&self) -> u64 {
        self.0.late()
    }

    #[getter]
    fn pending_cells(&self) -> usize {
        self.0.pending_cells()
    }

    fn cut(&mut self, py: Python<'_>, now_ms: i64) -> Option<PyCut> {
        py.detach(|| self.0.cut(now_ms)).map(PyCut)
    }

    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let snapshot = py.detach(|| self.0.snapshot())?;
        Ok(PyBytes::new(py, &snapshot))
    }

    fn restore(&mut self, py: Python<'_>, snapshot: &[u8]) -> PyResult<()> {
        Ok(py.detach(|| self.0.restore(snapshot))?)
    }
}

/// See `_core.pyi`.
#[pyclass(name = "Cut", module = "edgeagg._core", frozen, eq)]
#[derive(PartialEq)]
struct PyCut(Cut);

#[pymethods]
impl PyCut {
    #[getter]
    fn counts(&self) -> CountsTuple {
        counts_tuple(self.0.counts)
    }

    #[pyo3(signature = (codec=None, *, anchor=None))]
    #[allow(clippy::needless_pass_by_value)] // what pyo3 extracts is owned
    fn encode<'py>(
        &self,
        py: Python<'py>,
        codec: Option<u8>,
        anchor: Option<(Py<PyKeyframe>, u8)>,
    ) -> PyResult<(u8, Bound<'py, PyBytes>)> {
        let anchor = anchor
            .as_ref()
            .map(|(keyframe, back)| (&keyframe.get().0, *back));
        let (codec, payload) = py.detach(|| match (codec, anchor) {
            (Some(codec), _) => self.0.encode_as(codec).map(|payload| (codec, payload)),
            (None, Some((keyframe, back))) => self.0.encode_on(keyframe, back),
            (None, None) => self.0.encode(),
        })?;
        Ok((codec, PyBytes::new(py, &payload)))
    }
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add(
        "__all__",
        [
            "CODEC_CM",
            "CODEC_DELTA",
            "CODEC_PLAIN",
            "CUT_CELLS_MAX",
            "KEYFRAME_BACK_MAX",
            "MONTH_MS",
            "VERSION",
            "WINDOW_COLUMNS",
            "Aggregator",
            "CodecError",
            "Cut",
            "Journal",
            "Keyframe",
            "ScanPlan",
            "SecretKey",
            "Sorter",
            "anchor_of",
            "decode",
            "decode_columns",
            "read_first",
            "read_segment",
            "recode",
            "verify",
        ],
    )?;
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    module.add("CODEC_CM", codec::CODEC_CM)?;
    module.add("CODEC_DELTA", codec::CODEC_DELTA)?;
    module.add("CODEC_PLAIN", codec::CODEC_PLAIN)?;
    module.add("CUT_CELLS_MAX", CUT_CELLS_MAX)?;
    module.add("MONTH_MS", MONTH_MS)?;
    module.add("KEYFRAME_BACK_MAX", codec::BACK_MAX)?;
    module.add("WINDOW_COLUMNS", WINDOW_COLUMNS)?;
    module.add("CodecError", module.py().get_type::<CodecError>())?;
    module.add_class::<PyAggregator>()?;
    module.add_class::<PyCut>()?;
    module.add_class::<journal::PyJournal>()?;
    module.add_class::<PyKeyframe>()?;
    module.add_class::<PyScanPlan>()?;
    module.add_class::<signature::PySecretKey>()?;
    module.add_class::<sorter::PySorter>()?;
    module.add_function(wrap_pyfunction!(signature::verify, module)?)?;
    module.add_function(wrap_pyfunction!(payload::decode, module)?)?;
    module.add_function(wrap_pyfunction!(payload::anchor_of, module)?)?;
    module.add_function(wrap_pyfunction!(columns::decode_columns, module)?)?;
    module.add_function(wrap_pyfunction!(journal::read_first, module)?)?;
    module.add_function(wrap_pyfunction!(payload::recode, module)?)?;
    module.add_function(wrap_pyfunction!(journal::read_segment, module)?)
}
