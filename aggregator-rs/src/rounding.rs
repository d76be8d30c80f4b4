//! The one rounding of the core.

/// Divide by a positive number, to nearest, ties to even.
#[must_use]
pub fn divide_half_even(top: i128, bottom: i128) -> i128 {
    let (quotient, rest) = if bottom & (bottom - 1) == 0 {
        (top >> bottom.trailing_zeros(), top & (bottom - 1))
    } else if let (Ok(top), Ok(bottom)) = (i64::try_from(top), i64::try_from(bottom)) {
        // a processor divides 64 bits several times as fast as 128
        let quotient = top.div_euclid(bottom);
        (i128::from(quotient), i128::from(top.rem_euclid(bottom)))
    } else {
        (top.div_euclid(bottom), top.rem_euclid(bottom))
    };
    let short = bottom - rest;
    let up = rest > short || (rest == short && quotient & 1 == 1);
    quotient + i128::from(up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_even_on_both_sides_of_zero() {
        let halves = [-5, -3, -1, 1, 3, 5];
        assert_eq!(halves.map(|n| divide_half_even(n, 2)), [-2, -2, 0, 0, 2, 2]);
        assert_eq!(
            halves.map(|n| divide_half_even(n * 3, 6)),
            [-2, -2, 0, 0, 2, 2]
        );
        let large = i128::from(i64::MAX) * 6;
        assert_eq!(
            halves.map(|n| divide_half_even(n * large, 2 * large)),
            [-2, -2, 0, 0, 2, 2]
        );
    }

    #[test]
    fn everything_else_rounds_to_the_nearest() {
        let thirds = [-5, -4, -2, -1, 1, 2, 4, 5];
        assert_eq!(
            thirds.map(|n| divide_half_even(n, 3)),
            [-2, -1, -1, 0, 0, 1, 1, 2]
        );
    }
}
