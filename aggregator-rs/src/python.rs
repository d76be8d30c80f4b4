//! The Python border: the only file that names pyo3. Values in, values out; errors become
//! exceptions in one place.

mod columns;
mod journal;
mod payload;
mod signature;
mod sorter;

use payload::PyKeyframe;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyInt};

use crate::aggregator::{Aggregator, Counts, Cut, GroupShape, CUT_CELLS_MAX};
use crate::calendar::{Calendar, MONTH_MS};
use crate::codec;
use crate::decode::{Coding, Decoded, Factor, Part, PointPlan, Reply, ScanPlan};
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

/// See `_core.pyi`.
#[pyclass(name = "Aggregator", module = "edgeagg._core")]
struct PyAggregator(Aggregator);

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
        Ok(PyAggregator(aggregator))
    }

    #[allow(clippy::needless_pass_by_value)] // what pyo3 extracts is owned
    fn push_row<'py>(
        &mut self,
        py: Python<'py>,
        group: u32,
        due_ms: i64,
        at_ms: i64,
        values: Vec<Option<i64>>,
        qualities: Vec<u8>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let row = RowView {
            due_ms,
            at_ms,
            values: &values,
            qualities: &qualities,
        };
        let mut record = Vec::new();
        self.0.push_view(group, row, &mut record)?;
        Ok(PyBytes::new(py, &record))
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
        let (values, qualities) = plan.decode_all(&replies, ratios)?;
        let told = PyBytes::new(py, &qualities);
        let row = RowView {
            due_ms,
            at_ms,
            values: &values,
            qualities: &qualities,
        };
        let mut record = Vec::new();
        self.0.push_view(group, row, &mut record)?;
        Ok((PyBytes::new(py, &record), told))
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

    fn cut(&mut self, py: Python<'_>, now_ms: i64) -> PyResult<Option<PyCut>> {
        Ok(py.detach(|| self.0.cut(now_ms))?.map(PyCut))
    }

    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let snapshot = py.detach(|| self.0.snapshot())?;
        Ok(PyBytes::new(py, &snapshot))
    }

    fn restore(&mut self, py: Python<'_>, snapshot: &[u8]) -> PyResult<()> {
        Ok(py.detach(|| self.0.restore(snapshot))?)
    }
}

/// A numerator and a denominator.
type PyFactor<'py> = (Bound<'py, PyInt>, Bound<'py, PyInt>);
/// Byte offset, type, order, factor.
type PyPart<'py> = (usize, String, String, PyFactor<'py>);
/// Read, part, addend, second part, invalid contents, smallest and largest mantissa, by ratio.
type PyPoint<'py> = (
    usize,
    PyPart<'py>,
    i64,
    Option<PyPart<'py>>,
    Vec<u64>,
    Option<i64>,
    Option<i64>,
    bool,
);

/// A read's payload, or the reason why there is none.
#[derive(FromPyObject)]
enum PyReply {
    Bytes(PyBackedBytes),
    Reason(u8),
}

fn factor((top, bottom): &PyFactor<'_>) -> PyResult<Factor> {
    let whole = |number: &Bound<'_, PyInt>| {
        let error = Error::InvalidArgument("a factor takes numbers below 2^127");
        number.extract::<i128>().map_err(|_| error)
    };
    Ok(Factor::new(whole(top)?, whole(bottom)?)?)
}

fn part((at, code, order, times): &PyPart<'_>) -> PyResult<Part> {
    Ok(Part {
        at: *at,
        coding: Coding::new(code, order)?,
        factor: factor(times)?,
    })
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

/// See `_core.pyi`.
#[pyclass(name = "ScanPlan", module = "edgeagg._core")]
struct PyScanPlan(ScanPlan);

impl PyScanPlan {
    fn decode_all(&self, replies: &[PyReply], ratios: u8) -> Result<Decoded, Error> {
        let replies: Vec<Reply<'_>> = replies
            .iter()
            .map(|reply| match reply {
                PyReply::Bytes(bytes) => Reply::Bytes(bytes),
                PyReply::Reason(reason) => Reply::Reason(*reason),
            })
            .collect();
        self.0.decode(&replies, ratios)
    }
}

#[pymethods]
impl PyScanPlan {
    #[new]
    #[allow(clippy::needless_pass_by_value)] // what pyo3 extracts is owned
    fn new(reads: usize, points: Vec<PyPoint<'_>>) -> PyResult<Self> {
        let points = points
            .iter()
            .map(|(read, first, addend, plus, invalid, min, max, by_ratio)| {
                Ok(PointPlan {
                    read: *read,
                    part: part(first)?,
                    addend: *addend,
                    plus: plus.as_ref().map(part).transpose()?,
                    invalid: invalid.clone(),
                    min: min.unwrap_or(i64::MIN),
                    max: max.unwrap_or(i64::MAX),
                    by_ratio: *by_ratio,
                })
            })
            .collect::<PyResult<_>>()?;
        Ok(PyScanPlan(ScanPlan::new(reads, points)?))
    }

    #[allow(clippy::needless_pass_by_value)] // what pyo3 extracts is owned
    fn set_factors(&mut self, factors: Vec<(PyFactor<'_>, Option<PyFactor<'_>>)>) -> PyResult<()> {
        let factors = factors
            .iter()
            .map(|(first, plus)| Ok((factor(first)?, plus.as_ref().map(factor).transpose()?)))
            .collect::<PyResult<Vec<_>>>()?;
        Ok(self.0.set_factors(&factors)?)
    }

    #[pyo3(signature = (replies, *, ratios = 0))]
    #[allow(clippy::needless_pass_by_value)] // what pyo3 extracts is owned
    fn decode<'py>(
        &self,
        py: Python<'py>,
        replies: Vec<PyReply>,
        ratios: u8,
    ) -> PyResult<(Vec<Option<i64>>, Bound<'py, PyBytes>)> {
        let (values, qualities) = self.decode_all(&replies, ratios)?;
        Ok((values, PyBytes::new(py, &qualities)))
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
