//! What can be said about a difference between repeated measurements.

/// A difference of two averages with the range in which the true difference lies, with a confidence of 95 percent.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    /// The difference of the averages, as a share of the average before.
    pub(crate) relative: f64,
    /// Half the width of the range, as a share of the average before; `None` when there are too few measurements.
    pub(crate) margin: Option<f64>,
}

impl Difference {
    /// Compares by the test of Welch, which does not assume that both sides vary alike. `None` without measurements or with an
    /// average of 0 before.
    pub(crate) fn of(before: &[f64], after: &[f64]) -> Option<Self> {
        let (first, second) = (Sample::of(before)?, Sample::of(after)?);
        if first.average == 0.0 {
            return None;
        }
        let relative = (second.average - first.average) / first.average;
        let margin = first.error_squared.zip(second.error_squared).map(|(a, b)| {
            let freedom = match a + b {
                0.0 => f64::INFINITY,
                sum => sum * sum / (a * a / (first.count - 1.0) + b * b / (second.count - 1.0)),
            };
            student(freedom) * (a + b).sqrt() / first.average.abs()
        });
        Some(Difference { relative, margin })
    }

    /// Whether the true difference is not 0, with the confidence of the range.
    pub(crate) fn is_certain(&self) -> bool {
        self.margin.is_some_and(|margin| self.relative.abs() > margin)
    }
}

struct Sample {
    count: f64,
    average: f64,
    /// The square of the standard error of the average; `None` for one measurement.
    error_squared: Option<f64>,
}

impl Sample {
    fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        if values.is_empty() {
            return None;
        }
        let average = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - average).powi(2)).sum();
        let error_squared = (values.len() > 1).then(|| squares / (count - 1.0) / count);
        Some(Sample { count, average, error_squared })
    }
}

/// The quantile 0.975 of Student's distribution with so many degrees of freedom.
fn student(freedom: f64) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    match freedom {
        // Fewer degrees of freedom give a wider range, so that rounding down is on the safe side.
        few if few < 31.0 => TABLE[(few.max(1.0) as usize - 1).min(TABLE.len() - 1)],
        few if few < 61.0 => 2.042,
        _ => 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_agree_with_a_worked_example() {
        // By hand: averages 10 and 12, variances 1 and 4, 3 measurements each; standard error 1.2910, degrees of freedom 2.94.
        let found = Difference::of(&[9.0, 10.0, 11.0], &[10.0, 12.0, 14.0]).unwrap();
        assert!((found.relative - 0.2).abs() < 1e-9);
        assert!((found.margin.unwrap() - 4.303 * 1.290_994 / 10.0).abs() < 1e-4, "{found:?}");
        assert!(!found.is_certain());
        let clear = Difference::of(&[9.9, 10.0, 10.1], &[11.9, 12.0, 12.1]).unwrap();
        assert!(clear.is_certain(), "{clear:?}");
    }

    #[test]
    fn one_measurement_allows_no_statement() {
        let found = Difference::of(&[10.0], &[20.0]).unwrap();
        assert_eq!((found.relative, found.margin, found.is_certain()), (1.0, None, false));
        assert_eq!(Difference::of(&[], &[1.0]), None);
        assert_eq!(Difference::of(&[0.0], &[1.0]), None);
        assert!(Difference::of(&[5.0, 5.0], &[6.0, 6.0]).unwrap().is_certain(), "measurements without any spread");
    }
}
