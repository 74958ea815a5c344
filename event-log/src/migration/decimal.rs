//! Decimal numbers of any size, with their scale.

use std::{fmt, str::FromStr};

use num_bigint::{BigInt, Sign};

/// `unscaled × 10^-scale`; numbers are the same when both are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    unscaled: BigInt,
    scale: i64,
}

/// More digits than this nobody's money has; it bounds what a hostile exponent may cost.
const MOST_DIGITS: usize = 4_000;

/// What becomes of digits for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// Towards zero.
    Down,
    /// To the nearest, halves away from zero.
    HalfUp,
    /// To the nearest, halves to the even neighbour.
    HalfEven,
}

impl Decimal {
    pub(crate) fn new(unscaled: BigInt, scale: i64) -> Self {
        Self { unscaled, scale }
    }

    /// As Avro has it: two's complement, big-endian.
    pub(crate) fn from_bytes(bytes: &[u8], scale: u32) -> Self {
        Self::new(BigInt::from_signed_bytes_be(bytes), scale.into())
    }

    pub(crate) fn unscaled_bytes(&self) -> Vec<u8> {
        self.unscaled.to_signed_bytes_be()
    }

    pub(crate) fn scale(&self) -> i64 {
        self.scale
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.unscaled.sign() == Sign::Minus
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.unscaled.sign() == Sign::NoSign
    }

    /// Whether both are the same number, at whatever scale.
    pub(crate) fn is_same_number(&self, other: &Self) -> bool {
        let scale = self.scale.max(other.scale);
        match (self.with_scale(scale, None), other.with_scale(scale, None)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        }
    }

    pub(crate) fn digits(&self) -> usize {
        match self.unscaled.sign() {
            Sign::NoSign => 1,
            Sign::Minus | Sign::Plus => self.unscaled.magnitude().to_string().len(),
        }
    }

    /// The same digits, the point moved to the right by `places` (to the left when negative).
    pub(crate) fn shifted(mut self, places: i32) -> Self {
        self.scale -= i64::from(places);
        self
    }

    /// With exactly this many places behind the point; `None` when digits would be cut off and
    /// no rounding says how.
    pub(crate) fn with_scale(&self, scale: i64, rounding: Option<Rounding>) -> Option<Self> {
        let grow = scale - self.scale;
        if grow >= 0 {
            let grow = usize::try_from(grow)
                .ok()
                .filter(|grow| *grow <= MOST_DIGITS)?;
            return Some(Self::new(&self.unscaled * power_of_ten(grow), scale));
        }
        let cut = usize::try_from(-grow)
            .ok()
            .filter(|cut| *cut <= 2 * MOST_DIGITS)?;
        let divisor = power_of_ten(cut);
        let quotient = &self.unscaled / &divisor;
        let rest = &self.unscaled % &divisor;
        if rest.sign() == Sign::NoSign {
            return Some(Self::new(quotient, scale));
        }
        let twice = BigInt::from(rest.magnitude().clone()) * 2;
        let up = match rounding? {
            Rounding::Down => false,
            Rounding::HalfUp => twice >= divisor,
            Rounding::HalfEven => twice > divisor || (twice == divisor && quotient.bit(0)),
        };
        let step = match (up, self.is_negative()) {
            (false, _) => BigInt::ZERO,
            (true, false) => BigInt::from(1),
            (true, true) => BigInt::from(-1),
        };
        Some(Self::new(quotient + step, scale))
    }

    pub(crate) fn to_i64(&self) -> Option<i64> {
        i64::try_from(&self.unscaled)
            .ok()
            .filter(|_| self.scale == 0)
    }
}

fn power_of_ten(exponent: usize) -> BigInt {
    BigInt::from(10).pow(exponent as u32)
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Self {
        Self::new(number.into(), 0)
    }
}

/// Digits, perhaps a sign, a point, an exponent.
impl FromStr for Decimal {
    type Err = NotADecimal;

    fn from_str(text: &str) -> Result<Self, NotADecimal> {
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, exponent.parse::<i32>().map_err(|_| NotADecimal)?),
            None => (text, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let unsigned = whole.strip_prefix(['-', '+']).unwrap_or(whole);
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if unsigned.is_empty()
            || !is_digits(unsigned)
            || !is_digits(fraction)
            || (number.contains('.') && fraction.is_empty())
            || text.len() > MOST_DIGITS
        {
            return Err(NotADecimal);
        }
        let digits = format!("{whole}{fraction}");
        let unscaled = digits.parse().map_err(|_| NotADecimal)?;
        Ok(Self::new(
            unscaled,
            fraction.len() as i64 - i64::from(exponent),
        ))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a decimal number")]
pub struct NotADecimal;

/// With its scale: `13.14000`. A negative scale is written out with zeros.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.is_negative() { "-" } else { "" };
        let digits = self.unscaled.magnitude().to_string();
        if self.scale <= 0 {
            let zeros = match &*digits {
                "0" => 0,
                _ => self.scale.unsigned_abs() as usize,
            };
            return write!(f, "{sign}{digits}{}", "0".repeat(zeros.min(MOST_DIGITS)));
        }
        let scale = self.scale as usize;
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn a_decimal_of_any_size_keeps_its_digits_and_its_scale() {
        let long = format!("-{}.{}", "9".repeat(60), "0".repeat(40));
        for text in ["0", "0.00", "13.14000", "-0.001", "9007199254740993", &long] {
            assert_eq!(decimal(text).to_string(), text);
            let read = decimal(text);
            let bytes = read.unscaled_bytes();
            assert_eq!(Decimal::from_bytes(&bytes, read.scale() as u32), read);
        }
        assert_eq!(decimal("1.5e3").to_string(), "1500");
        assert_eq!(decimal("15e-1").to_string(), "1.5");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", "1,5", "1.", ".5", "NaN", "0x1", "1e", "1 ", "٣"] {
            assert!(text.parse::<Decimal>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn digits_are_cut_off_only_when_it_is_said_how() {
        assert_eq!(decimal("1.50").with_scale(1, None), Some(decimal("1.5")));
        assert_eq!(decimal("1.55").with_scale(1, None), None);
        let rounded = |text: &str, how| decimal(text).with_scale(0, Some(how)).unwrap().to_string();
        assert_eq!(rounded("2.5", Rounding::HalfEven), "2");
        assert_eq!(rounded("3.5", Rounding::HalfEven), "4");
        assert_eq!(rounded("-2.5", Rounding::HalfUp), "-3");
        assert_eq!(rounded("-2.9", Rounding::Down), "-2");
        assert_eq!(decimal("1e999999999").with_scale(2, None), None);
    }
}
