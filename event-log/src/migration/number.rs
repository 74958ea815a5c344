//! Numbers of one type as numbers of another, exactly unless it is said how to round.

use super::{
    decimal::{Decimal, Rounding},
    reason::Reason,
    schema::{Kind, NodeId, Schema},
    value::Value,
};

/// What a number becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberForm {
    Int,
    Long,
    Float,
    Double,
    Decimal { precision: u32, scale: u32 },
    Text,
}

impl NumberForm {
    pub fn of(schema: &Schema, node: NodeId) -> Option<Self> {
        Some(match schema.kind(node) {
            Kind::Int => Self::Int,
            Kind::Long => Self::Long,
            Kind::Float => Self::Float,
            Kind::Double => Self::Double,
            Kind::String => Self::Text,
            Kind::Decimal {
                precision, scale, ..
            } => Self::Decimal {
                precision: *precision,
                scale: *scale,
            },
            _ => return None,
        })
    }

    /// Whether numbers of the other form may be larger than this one takes.
    pub fn may_overflow(self, shift: i32, from: Self) -> bool {
        let digits = |form| match form {
            Self::Int => 10,
            Self::Long => 19,
            Self::Decimal { precision, scale } => i64::from(precision) - i64::from(scale),
            Self::Float | Self::Double | Self::Text => i64::MAX / 2,
        };
        // A number of ten digits may be too large for an int; one of nine is not.
        let room = match self {
            Self::Int => 9,
            Self::Long => 18,
            other => digits(other),
        };
        let widens = from == self || (from, self) == (Self::Int, Self::Long);
        digits(from) + i64::from(shift) > room && !(widens && shift == 0)
    }

    /// Whether numbers of the other form may have digits that this one has no room for.
    pub fn may_cut(self, shift: i32, from: Self) -> bool {
        let places = |form| match form {
            Self::Int | Self::Long => Some(0),
            Self::Decimal { scale, .. } => Some(i64::from(scale)),
            Self::Float | Self::Double | Self::Text => None,
        };
        match (places(from), places(self)) {
            (Some(from), Some(to)) => from - i64::from(shift) > to,
            (None, Some(_)) => true,
            (_, None) => matches!(self, Self::Float | Self::Double),
        }
    }
}

/// Null stays null; a text must be a number.
pub(crate) fn convert(
    value: &Value,
    shift: i32,
    rounding: Option<Rounding>,
    into: NumberForm,
) -> Result<Value, Reason> {
    if matches!(value, Value::Null) {
        return Ok(Value::Null);
    }
    let exact = exactly(value)?.shifted(shift);
    let cut = || Reason::of(&exact, "does not fit without rounding");
    let too_large = || Reason::of(&exact, "is too large");
    let whole = || {
        let whole = exact.with_scale(0, rounding).ok_or_else(cut)?;
        whole.to_i64().ok_or_else(too_large)
    };
    Ok(match into {
        NumberForm::Int => {
            let int = i32::try_from(whole()?).map_err(|_| too_large())?;
            Value::Int(int)
        }
        NumberForm::Long => Value::Long(whole()?),
        NumberForm::Decimal { precision, scale } => {
            let decimal = exact.with_scale(scale.into(), rounding).ok_or_else(cut)?;
            if decimal.digits() > precision as usize {
                let words = format!("has more than {precision} digits");
                return Err(Reason::of(&exact, words));
            }
            Value::Decimal(decimal)
        }
        NumberForm::Text => Value::String(exact.to_string()),
        NumberForm::Float => {
            let float: f32 = exact.to_string().parse().map_err(|_| cut())?;
            let back = exactly(&Value::Float(float))?;
            if rounding.is_none() && !back.is_same_number(&exact) {
                return Err(cut());
            }
            Value::Float(float)
        }
        NumberForm::Double => {
            let double: f64 = exact.to_string().parse().map_err(|_| cut())?;
            let back = exactly(&Value::Double(double))?;
            if rounding.is_none() && !back.is_same_number(&exact) {
                return Err(cut());
            }
            Value::Double(double)
        }
    })
}

/// A float is the shortest number that it is read back from.
fn exactly(value: &Value) -> Result<Decimal, Reason> {
    let parse = |text: String| match text.parse::<Decimal>() {
        Ok(number) if text.starts_with('-') && number.is_zero() => {
            Err(Reason::plain("a negative zero has no decimal form"))
        }
        Ok(number) => Ok(number),
        Err(error) => Err(Reason::of(format!("{text:?}"), error.to_string())),
    };
    match value {
        Value::Int(number) => Ok(i64::from(*number).into()),
        Value::Long(number) => Ok((*number).into()),
        Value::Float(number) => parse(number.to_string()),
        Value::Double(number) => parse(number.to_string()),
        Value::Decimal(number) => Ok(number.clone()),
        Value::String(text) => parse(text.clone()),
        other => Err(Reason::plain(format!("a {} is no number", other.kind()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cents_become_euros_and_cents_again() {
        let euros = convert(&Value::Long(1_314), -2, None, NumberForm::Text).unwrap();
        assert_eq!(euros, Value::text("13.14"));
        let cents = convert(&euros, 2, None, NumberForm::Long).unwrap();
        assert_eq!(cents, Value::Long(1_314));
    }

    #[test]
    fn the_largest_long_is_not_rounded() {
        let form = NumberForm::Decimal {
            precision: 19,
            scale: 0,
        };
        for number in [i64::MAX, i64::MIN, 9_007_199_254_740_993] {
            let decimal = convert(&Value::Long(number), 0, None, form).unwrap();
            let back = convert(&decimal, 0, None, NumberForm::Long).unwrap();
            assert_eq!(back, Value::Long(number));
        }
        let double = convert(&Value::Long(i64::MAX), 0, None, NumberForm::Double);
        assert!(double.unwrap_err().told().contains("rounding"));
    }

    #[test]
    fn nothing_is_cut_off_in_silence() {
        let price = Value::text("13.145");
        let money = NumberForm::Decimal {
            precision: 4,
            scale: 2,
        };
        assert!(convert(&price, 0, None, money).is_err());
        let rounded = convert(&price, 0, Some(Rounding::HalfEven), money).unwrap();
        assert_eq!(rounded.to_string(), r#""13.14""#);
        assert!(convert(&Value::text("131.4"), 0, None, money).is_err());
        assert!(convert(&Value::Long(1 << 40), 0, None, NumberForm::Int).is_err());
        assert!(convert(&Value::Double(f64::NAN), 0, None, NumberForm::Long).is_err());
        assert!(convert(&Value::text("1,5"), 0, None, NumberForm::Long).is_err());
    }
}
