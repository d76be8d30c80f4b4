//! The border of payloads: what begins with a keyframe, and tables as lists.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::codec;
use crate::table::Column;

/// See `_core.pyi`.
#[pyclass(name = "Keyframe", module = "edgeagg._core", frozen)]
pub(super) struct PyKeyframe(pub(super) codec::Keyframe);

#[pymethods]
impl PyKeyframe {
    #[new]
    fn new(py: Python<'_>, payload: &[u8]) -> PyResult<Self> {
        Ok(PyKeyframe(py.detach(|| codec::Keyframe::new(payload))?))
    }
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn anchor_of(codec: u8, payload: &[u8]) -> PyResult<Option<u8>> {
    Ok(codec::anchor_of(codec, payload)?)
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn recode<'py>(
    py: Python<'py>,
    codec: u8,
    payload: &[u8],
    keyframe: &Bound<'py, PyKeyframe>,
) -> PyResult<(u8, Bound<'py, PyBytes>)> {
    let keyframe = &keyframe.get().0;
    let (codec, payload) = py.detach(|| {
        let tables = codec::decode_on(codec, payload, Some(keyframe))?;
        codec::encode_smallest(&tables)
    })?;
    Ok((codec, PyBytes::new(py, &payload)))
}

/// See `_core.pyi`.
#[pyfunction]
#[pyo3(signature = (codec, payload, keyframe=None))]
#[allow(clippy::type_complexity)]
pub(super) fn decode(
    py: Python<'_>,
    codec: u8,
    payload: &[u8],
    keyframe: Option<&Bound<'_, PyKeyframe>>,
) -> PyResult<Vec<(u8, u32, u32, usize, Vec<Column>)>> {
    let keyframe = keyframe.map(|keyframe| &keyframe.get().0);
    let tables = py.detach(|| codec::decode_on(codec, payload, keyframe))?;
    Ok(tables
        .iter()
        .map(|table| {
            (
                table.kind().code(),
                table.group(),
                table.length_ms(),
                table.rows(),
                table.columns().to_vec(),
            )
        })
        .collect())
}
