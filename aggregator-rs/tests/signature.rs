//! Ed25519 against the published vectors, and what must not pass.

#![allow(clippy::expect_used, clippy::indexing_slicing)]

use edgeagg_core::signature::{verify, Secret};

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let mut out = [0; N];
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex");
    }
    out
}

/// RFC 8032, 7.1: secret, public, message, signature.
const VECTORS: [(&str, &str, &[u8], &str); 3] = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        b"",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        b"\x72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        b"\xaf\x82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
];

#[test]
fn published_vectors_are_reproduced() {
    for (seed, public, message, signature) in VECTORS {
        let secret = Secret::new(&bytes(seed));
        assert_eq!(secret.public(), bytes(public));
        assert_eq!(secret.sign(message), bytes::<64>(signature));
        assert!(verify(&bytes(public), message, &bytes(signature)).expect("a key"));
    }
}

#[test]
fn every_changed_bit_of_a_signature_is_refused() {
    let (_, public, message, signature) = VECTORS[2];
    for bit in 0..512 {
        let mut changed = bytes::<64>(signature);
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(
            !verify(&bytes(public), message, &changed).expect("a key"),
            "bit {bit}"
        );
    }
}

#[test]
fn keys_with_which_anything_fits_are_refused() {
    let neutral = bytes("0100000000000000000000000000000000000000000000000000000000000000");
    assert!(verify(&neutral, b"anything", &[0; 64]).is_err());
    let off_curve = [2; 32];
    assert!(verify(&off_curve, b"anything", &[0; 64]).is_err());
}
