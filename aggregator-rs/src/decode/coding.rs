//! How a number stands in registers: type and byte order.
//!
//! Types: `u`, `i` (two's complement), `bcd` and `sbcd` (binary-coded decimal; in `sbcd` the top bit
//! is the sign, as in DL/T 645) with their bits behind, 8 to 64 in steps of 8; `f32`, `f64`; `u8hi`
//! and `u8lo`, one byte of a 16-bit register; `t5` and `t6`, a signed decimal exponent in the top
//! byte over 24 bits, unsigned or signed; `sm32`, sign and magnitude. Orders of the bytes on the
//! wire: `ABCD` is high byte first, `CDAB` low register first, `BADC` bytes swapped within the
//! registers, `DCBA` low byte first.

use super::exact::Raw;
use crate::error::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Unsigned,
    Signed,
    Bcd,
    SignedBcd,
    Single,
    Double,
    HighByte,
    LowByte,
    DecimalUnsigned,
    DecimalSigned,
    SignMagnitude,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Abcd,
    Cdab,
    Badc,
    Dcba,
}

/// How a number stands in the bytes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    code: Code,
    order: Order,
    bytes: usize,
}

impl Coding {
    /// The coding of these names.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is none, and for an order of registers where the type
    /// does not fill them.
    pub fn new(code: &str, order: &str) -> Result<Coding, Error> {
        let (code, bytes) = parse(code).ok_or(Error::InvalidArgument("no such register type"))?;
        let order = match order {
            "ABCD" => Order::Abcd,
            "CDAB" => Order::Cdab,
            "BADC" => Order::Badc,
            "DCBA" => Order::Dcba,
            _ => return Err(Error::InvalidArgument("no such byte order")),
        };
        if bytes % 2 == 1 && matches!(order, Order::Cdab | Order::Badc) {
            return Err(Error::InvalidArgument(
                "an odd number of bytes has no registers",
            ));
        }
        Ok(Coding { code, order, bytes })
    }

    /// Bytes the number takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The content as an unsigned number, of bytes of the right count.
    #[inline]
    pub(super) fn content(&self, bytes: &[u8]) -> u64 {
        let straight = match *bytes {
            [a, b] => u64::from(u16::from_be_bytes([a, b])),
            [a, b, c, d] => u64::from(u32::from_be_bytes([a, b, c, d])),
            _ => bytes
                .iter()
                .fold(0, |number: u64, &byte| number << 8 | u64::from(byte)),
        };
        let reversed = || straight.swap_bytes() >> (64 - 8 * self.bytes.clamp(1, 8));
        let ordered = match self.order {
            Order::Abcd => straight,
            Order::Badc => swap_in_registers(straight),
            Order::Cdab => swap_in_registers(reversed()),
            Order::Dcba => reversed(),
        };
        match self.code {
            Code::HighByte => ordered >> 8,
            Code::LowByte => ordered & 0xff,
            _ => ordered,
        }
    }

    /// The number that the content codes; `None` when it codes none.
    #[inline]
    pub(super) fn raw(&self, content: u64) -> Option<Raw> {
        let whole = |number: i64| Some(Raw::whole(i128::from(number)));
        match self.code {
            Code::Unsigned | Code::HighByte | Code::LowByte => {
                Some(Raw::whole(i128::from(content)))
            }
            Code::Signed => {
                let unused = 64 - 8 * self.bytes.clamp(1, 8);
                whole((content << unused) as i64 >> unused)
            }
            Code::Bcd => whole(decimal(content)?),
            Code::SignedBcd => {
                let sign = 1 << (8 * self.bytes.clamp(1, 8) - 1);
                let magnitude = decimal(content & !sign)?;
                whole(if content & sign == 0 {
                    magnitude
                } else {
                    -magnitude
                })
            }
            Code::Single => binary(f64::from(f32::from_bits(content as u32))),
            Code::Double => binary(f64::from_bits(content)),
            Code::DecimalUnsigned => Some(scaled(content, (content & 0x00ff_ffff) as i32)),
            Code::DecimalSigned => Some(scaled(content, (content as i32) << 8 >> 8)),
            Code::SignMagnitude => {
                let magnitude = (content & 0x7fff_ffff) as i64;
                whole(if content >> 31 == 0 {
                    magnitude
                } else {
                    -magnitude
                })
            }
        }
    }
}

fn parse(name: &str) -> Option<(Code, usize)> {
    let fixed = match name {
        "f32" => Some((Code::Single, 4)),
        "f64" => Some((Code::Double, 8)),
        "u8hi" => Some((Code::HighByte, 2)),
        "u8lo" => Some((Code::LowByte, 2)),
        "t5" => Some((Code::DecimalUnsigned, 4)),
        "t6" => Some((Code::DecimalSigned, 4)),
        "sm32" => Some((Code::SignMagnitude, 4)),
        _ => None,
    };
    if fixed.is_some() {
        return fixed;
    }
    let (family, bits) = name.split_at(name.find(|letter: char| letter.is_ascii_digit())?);
    let code = match family {
        "u" => Code::Unsigned,
        "i" => Code::Signed,
        "bcd" => Code::Bcd,
        "sbcd" => Code::SignedBcd,
        _ => return None,
    };
    let bytes = ["8", "16", "24", "32", "40", "48", "56", "64"]
        .iter()
        .position(|&known| known == bits)?;
    Some((code, bytes + 1))
}

fn swap_in_registers(number: u64) -> u64 {
    const HIGH: u64 = 0xff00_ff00_ff00_ff00;
    (number & HIGH) >> 8 | (number << 8) & HIGH
}

/// The number whose decimal digits are the content's nibbles; `None` when one is no digit.
fn decimal(content: u64) -> Option<i64> {
    (0..16).rev().try_fold(0, |number, digit| {
        let nibble = (content >> (4 * digit) & 0xf) as i64;
        (nibble <= 9).then_some(number * 10 + nibble)
    })
}

/// The exact value of a finite float, with a mantissa as short as can be.
fn binary(value: f64) -> Option<Raw> {
    if !value.is_finite() {
        return None;
    }
    let bits = value.to_bits();
    let fraction = (bits & ((1 << 52) - 1)) as i64;
    let biased = (bits >> 52 & 0x7ff) as i32;
    let (magnitude, twos) = match (biased, fraction) {
        (0, 0) => return Some(Raw::whole(0)),
        (0, _) => (fraction, -1074),
        _ => (fraction | 1 << 52, biased - 1075),
    };
    let zeros = magnitude.trailing_zeros();
    let odd = i128::from(magnitude >> zeros);
    Some(Raw {
        mantissa: if value.is_sign_negative() { -odd } else { odd },
        twos: twos + zeros as i32,
        tens: 0,
    })
}

fn scaled(content: u64, mantissa: i32) -> Raw {
    Raw {
        mantissa: i128::from(mantissa),
        twos: 0,
        tens: i32::from((content >> 24) as u8 as i8),
    }
}
