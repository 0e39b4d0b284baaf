//! Into which slot a number falls, as SQL: one pass over a table counts by month, year and date of expiry. Pure.

use crate::db::Arg;

/// A list of bounds in a statement: slot 0 lies before the first, slot n from the n-th on.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    bounds: Vec<i64>,
}

impl Slots {
    /// Slots between bounds, in whatever order they come.
    pub(super) fn new(mut bounds: Vec<i64>) -> Self {
        bounds.sort_unstable();
        bounds.dedup();
        Self { bounds }
    }

    /// How many slots lie before a number, which is one of the bounds or less than all of them.
    pub(super) fn before(&self, bound: i64) -> usize {
        self.bounds.partition_point(|one| *one <= bound)
    }

    /// An expression for the slot of a column, by halves; its bounds are added to the parameters.
    pub(super) fn sql(&self, column: &str, params: &mut Vec<Arg>) -> String {
        let first = params.len() + 1;
        params.extend(self.bounds.iter().map(|bound| Arg::Int(*bound)));
        halves(column, first, 0, self.bounds.len())
    }
}

fn halves(column: &str, first: usize, low: usize, high: usize) -> String {
    if low == high {
        return low.to_string();
    }
    let middle = low + (high - low) / 2;
    let (below, above) = (halves(column, first, low, middle), halves(column, first, middle + 1, high));
    format!("case when {column} < ${} then {below} else {above} end", first + middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_in_its_slot() {
        let slots = Slots::new(vec![30, 10, 20, 10]);
        let mut params = vec![Arg::Int(0)];
        let sql = slots.sql("n", &mut params);
        assert_eq!(params[1..], [10, 20, 30].map(Arg::Int));
        assert_eq!(
            sql,
            "case when n < $3 then case when n < $2 then 0 else 1 end else case when n < $4 then 2 else 3 end end"
        );
        assert_eq!([5, 10, 20, 30].map(|bound| slots.before(bound)), [0, 1, 2, 3]);
    }
}
