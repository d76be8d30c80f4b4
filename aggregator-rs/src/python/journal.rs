//! The border of the journal: what waits for a disk releases the GIL.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::journal::{self, Journal};

/// See `_core.pyi`.
#[pyclass(name = "Journal", module = "edgeagg._core")]
pub(super) struct PyJournal(Mutex<Journal>);

impl PyJournal {
    /// A panic elsewhere must not make the journal unusable: its own state changes only at the end
    /// of each step.
    fn lock(&self) -> MutexGuard<'_, Journal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl PyJournal {
    #[new]
    #[allow(clippy::needless_pass_by_value)]
    fn new(py: Python<'_>, directory: PathBuf, segment_bytes: u64) -> PyResult<Self> {
        let journal = py.detach(|| Journal::open(&directory, segment_bytes))?;
        Ok(PyJournal(Mutex::new(journal)))
    }

    fn append(&self, py: Python<'_>, kind: u8, payload: &[u8]) -> PyResult<u64> {
        Ok(py.detach(|| self.lock().append(kind, payload))?)
    }

    fn commit(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.lock().commit())?)
    }

    fn read<'py>(
        &self,
        py: Python<'py>,
        number: u64,
    ) -> PyResult<Option<(u8, Bound<'py, PyBytes>)>> {
        let record = py.detach(|| self.lock().read(number))?;
        Ok(record.map(|(kind, payload)| (kind, PyBytes::new(py, &payload))))
    }

    fn free_before(&self, py: Python<'_>, number: u64) -> PyResult<()> {
        Ok(py.detach(|| self.lock().free_before(number))?)
    }

    #[pyo3(signature = (*, give_to = None))]
    #[allow(clippy::needless_pass_by_value)] // what pyo3 extracts is owned
    fn free_oldest(&self, py: Python<'_>, give_to: Option<PathBuf>) -> PyResult<bool> {
        Ok(py.detach(|| self.lock().free_oldest(give_to.as_deref()))?)
    }

    fn reserve(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        Ok(py.detach(|| self.lock().reserve(count))?)
    }

    fn skip_to(&self, py: Python<'_>, number: u64) -> PyResult<()> {
        Ok(py.detach(|| self.lock().skip_to(number))?)
    }

    #[getter]
    fn first(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.lock().first())
    }

    #[getter]
    fn committed(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.lock().committed())
    }

    #[getter]
    fn next(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.lock().next())
    }

    #[getter]
    fn bytes(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.lock().bytes())
    }

    #[getter]
    fn repairs(&self, py: Python<'_>) -> (u64, u64) {
        let repairs = py.detach(|| self.lock().repairs());
        (repairs.torn_bytes, repairs.lost_records)
    }
}

/// See `_core.pyi`.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // what pyo3 extracts is owned
pub(super) fn read_segment(
    py: Python<'_>,
    path: PathBuf,
) -> PyResult<Vec<(u64, u8, Bound<'_, PyBytes>)>> {
    let records = py.detach(|| journal::read_segment(&path))?;
    Ok(records
        .into_iter()
        .map(|(number, kind, payload)| (number, kind, PyBytes::new(py, &payload)))
        .collect())
}

/// See `_core.pyi`.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // what pyo3 extracts is owned
pub(super) fn read_first(
    py: Python<'_>,
    path: PathBuf,
) -> PyResult<Option<(u64, u8, Bound<'_, PyBytes>)>> {
    let record = py.detach(|| journal::read_first(&path))?;
    Ok(record.map(|(number, kind, payload)| (number, kind, PyBytes::new(py, &payload))))
}
