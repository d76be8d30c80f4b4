//! Payloads that others begin with, to Python.

use pyo3::prelude::*;

use crate::codec::{self, Keyframe};

/// See `_core.pyi`.
#[pyclass(name = "Keyframe", module = "edgeagg._core", frozen)]
pub(super) struct PyKeyframe(pub(super) Keyframe);

#[pymethods]
impl PyKeyframe {
    #[new]
    fn new(py: Python<'_>, payload: &[u8]) -> PyResult<Self> {
        Ok(PyKeyframe(py.detach(|| Keyframe::new(payload))?))
    }
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn anchor_of(codec: u8, payload: &[u8]) -> PyResult<Option<u8>> {
    Ok(codec::anchor_of(codec, payload)?)
}
