//! The border of signatures.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::Error;
use crate::signature::{self, Secret, KEY_BYTES};

fn sized<const N: usize>(bytes: &[u8], otherwise: &'static str) -> Result<[u8; N], Error> {
    bytes
        .try_into()
        .map_err(|_| Error::InvalidArgument(otherwise))
}

/// See `_core.pyi`.
#[pyclass(name = "SecretKey", module = "edgeagg._core", frozen)]
pub(super) struct PySecretKey(Secret);

#[pymethods]
impl PySecretKey {
    #[new]
    fn new(seed: &[u8]) -> PyResult<Self> {
        let seed = sized::<KEY_BYTES>(seed, "a seed has 32 bytes")?;
        Ok(PySecretKey(Secret::new(&seed)))
    }

    #[getter]
    fn public<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.public())
    }

    fn sign<'py>(&self, py: Python<'py>, message: &[u8]) -> Bound<'py, PyBytes> {
        let signature = py.detach(|| self.0.sign(message));
        PyBytes::new(py, &signature)
    }
}

/// See `_core.pyi`.
#[pyfunction]
pub(super) fn verify(
    py: Python<'_>,
    public: &[u8],
    message: &[u8],
    signature: &[u8],
) -> PyResult<bool> {
    let public = sized(public, "a public key has 32 bytes")?;
    let signature = sized(signature, "a signature has 64 bytes")?;
    Ok(py.detach(|| signature::verify(&public, message, &signature))?)
}
