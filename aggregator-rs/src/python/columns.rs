//! The border of decoded tables: every column as two `bytes` in Arrow's layout, which polars,
//! pyarrow and numpy read in place.
//!
//! The Arrow C interface itself would need unsafe code here or fifteen crates more on every
//! gateway, and gives its readers nothing beyond these buffers.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::payload::PyKeyframe;
use crate::codec;
use crate::table::Column;

/// Values, and which of them there are: None when there are all.
type PyColumn<'py> = (Bound<'py, PyBytes>, Option<Bound<'py, PyBytes>>);
/// Kind, group, length, rows, columns.
type PyTable<'py> = (u8, u32, u32, usize, Vec<PyColumn<'py>>);

/// See `_core.pyi`.
#[pyfunction]
#[pyo3(signature = (codec, payload, keyframe=None))]
pub(super) fn decode_columns<'py>(
    py: Python<'py>,
    codec: u8,
    payload: &[u8],
    keyframe: Option<&Bound<'py, PyKeyframe>>,
) -> PyResult<Vec<PyTable<'py>>> {
    let keyframe = keyframe.map(|keyframe| &keyframe.get().0);
    let tables = py.detach(|| codec::decode_on(codec, payload, keyframe))?;
    tables
        .iter()
        .map(|table| {
            let columns = table.columns().iter().map(|column| buffers(py, column));
            Ok((
                table.kind().code(),
                table.group(),
                table.length_ms(),
                table.rows(),
                columns.collect::<PyResult<_>>()?,
            ))
        })
        .collect()
}

fn buffers<'py>(py: Python<'py>, column: &Column) -> PyResult<PyColumn<'py>> {
    let values = PyBytes::new_with(py, column.len() * size_of::<i64>(), |bytes| {
        for (place, cell) in bytes.chunks_exact_mut(size_of::<i64>()).zip(column) {
            place.copy_from_slice(&cell.unwrap_or(0).to_ne_bytes());
        }
        Ok(())
    })?;
    if column.iter().all(Option::is_some) {
        return Ok((values, None));
    }
    let validity = PyBytes::new_with(py, column.len().div_ceil(8), |bytes| {
        for (byte, cells) in bytes.iter_mut().zip(column.chunks(8)) {
            let bits = cells.iter().enumerate();
            *byte = bits.fold(0, |byte, (at, cell)| byte | u8::from(cell.is_some()) << at);
        }
        Ok(())
    })?;
    Ok((values, Some(validity)))
}
