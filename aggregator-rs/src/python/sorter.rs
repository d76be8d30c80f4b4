//! The border of the sorter: bytes in, pieces out.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::payload::PyKeyframe;
use crate::codec;
use crate::sorter::Sorter;

/// Group, family, first and last time, codec, payload.
type PyPiece<'py> = (u32, u8, i64, i64, u8, Bound<'py, PyBytes>);

/// See `_core.pyi`.
#[pyclass(name = "Sorter", module = "edgeagg._core")]
pub(super) struct PySorter(Sorter);

#[pymethods]
impl PySorter {
    #[new]
    fn new() -> Self {
        PySorter(Sorter::new())
    }

    #[pyo3(signature = (codec, payload, keyframe=None))]
    fn take(
        &mut self,
        py: Python<'_>,
        codec: u8,
        payload: &[u8],
        keyframe: Option<&Bound<'_, PyKeyframe>>,
    ) -> PyResult<()> {
        let keyframe = keyframe.map(|keyframe| &keyframe.get().0);
        Ok(py.detach(|| {
            let tables = codec::decode_on(codec, payload, keyframe)?;
            self.0.take(tables)
        })?)
    }

    #[pyo3(signature = (*, everything=false))]
    fn pop<'py>(&mut self, py: Python<'py>, everything: bool) -> PyResult<Option<PyPiece<'py>>> {
        let piece = py.detach(|| self.0.pop(everything))?;
        Ok(piece.map(|it| {
            let payload = PyBytes::new(py, &it.payload);
            let family = it.family.code();
            (it.group, family, it.first_ms, it.last_ms, it.codec, payload)
        }))
    }
}
