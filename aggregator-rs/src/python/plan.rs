//! The border of decoding: plans in, replies in, mantissas out.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyInt};

use crate::decode::{Coding, Factor, Part, PointPlan, Reply, ScanPlan};
use crate::error::Error;

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
pub(super) enum PyReply {
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
#[pyclass(name = "ScanPlan", module = "edgeagg._core")]
pub(super) struct PyScanPlan(ScanPlan);

impl PyScanPlan {
    pub(super) fn decode_all(
        &self,
        replies: &[PyReply],
        ratios: u8,
        values: &mut Vec<Option<i64>>,
        qualities: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let replies: Vec<Reply<'_>> = replies
            .iter()
            .map(|reply| match reply {
                PyReply::Bytes(bytes) => Reply::Bytes(bytes),
                PyReply::Reason(reason) => Reply::Reason(*reason),
            })
            .collect();
        self.0.decode_into(&replies, ratios, values, qualities)
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
        let (mut values, mut qualities) = (Vec::new(), Vec::new());
        self.decode_all(&replies, ratios, &mut values, &mut qualities)?;
        Ok((values, PyBytes::new(py, &qualities)))
    }
}
