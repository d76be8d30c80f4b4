//! Ed25519 (RFC 8032) as the batch format uses it. Signing is deterministic, so the same batch
//! always has the same bytes; checking is strict, so a signature has one encoding only.
//!
//! Where keys come from and whom they are trusted for is the caller's matter; nothing here draws a
//! random number.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::error::Error;

/// Bytes of a seed, and of a public key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// The secret half of a key. It is wiped from memory when it goes.
pub struct Secret(SigningKey);

impl Secret {
    /// A key from 32 secret random bytes.
    #[must_use]
    pub fn new(seed: &[u8; KEY_BYTES]) -> Secret {
        Secret(SigningKey::from_bytes(seed))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> [u8; KEY_BYTES] {
        self.0.verifying_key().to_bytes()
    }

    /// The signature of a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(message).to_bytes()
    }
}

/// Whether `signature` is that of `message` by the secret half of `public`.
///
/// # Errors
/// `InvalidArgument` for a public key that is none: a point off the curve, or of small order, with
/// which one signature would fit many messages.
pub fn verify(
    public: &[u8; KEY_BYTES],
    message: &[u8],
    signature: &[u8; SIGNATURE_BYTES],
) -> Result<bool, Error> {
    let key = VerifyingKey::from_bytes(public)
        .ok()
        .filter(|key| !key.is_weak())
        .ok_or(Error::InvalidArgument("not an Ed25519 public key"))?;
    let signature = Signature::from_bytes(signature);
    Ok(key.verify_strict(message, &signature).is_ok())
}
