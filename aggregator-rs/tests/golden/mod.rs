//! Golden files: written once and never edited, read by every later version.

/// The bytes of a golden file; one that is missing is written where `WRITE_GOLDEN` asks for it.
pub(crate) fn asset(name: &str, wanted: impl Fn() -> Vec<u8>) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/assets/").to_owned() + name;
    if std::env::var_os("WRITE_GOLDEN").is_some() && !std::path::Path::new(&path).exists() {
        std::fs::write(&path, wanted()).unwrap();
    }
    std::fs::read(path).unwrap()
}

/// The payloads of a file, each of which stands behind its length in four bytes.
pub(crate) fn parts(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (part, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        parts.push(part);
        bytes = rest;
    }
    parts
}
