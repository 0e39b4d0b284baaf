//! What events stated, field by field.

use serde::{Deserialize, Serialize};

/// Different values of one field that are kept; a sender that states more is lying about something.
const MAX_VALUES: usize = 16;

/// One stated value. Ordered by the weight of the event that stated it, then by itself: the greatest is shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stated {
    pub rank: u8,
    pub value: Value,
}

impl Stated {
    /// A number that an event of some weight stated.
    #[must_use]
    pub fn number(rank: u8, value: i64) -> Self {
        Self { rank, value: Value::Number(value) }
    }
}

/// Numbers compare as numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Number(i64),
    Text(String),
}

/// What a call may state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    Channel,
    Direction,
    WabaNumber,
    ChatId,
    ChatMessageId,
    DeviceId,
    CustomerId,
    CustomerName,
    CustomerNumber,
    From,
    To,
    ChannelNumber,
    Agent,
    EndedBy,
    RejectedBy,
    FailedReason,
    /// Microseconds.
    StartedAt,
    /// Microseconds.
    EndedAt,
    /// Seconds.
    Duration,
}

/// The values of one field, each once, in their order. Nearly always there is just one, so it takes the room of one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Stated>")]
pub struct Values(Vec<Stated>);

impl From<Vec<Stated>> for Values {
    fn from(mut values: Vec<Stated>) -> Self {
        values.sort_unstable();
        values.dedup();
        values.shrink_to_fit();
        Self(values)
    }
}

impl Values {
    /// Adds a value; of too many the least is dropped, which keeps the greatest ones whatever the order of arrival.
    pub fn insert(&mut self, value: Stated) {
        let Err(place) = self.0.binary_search(&value) else { return };
        self.0.reserve_exact(1);
        self.0.insert(place, value);
        if self.0.len() > MAX_VALUES {
            self.0.remove(0);
        }
    }

    /// The one that is shown.
    #[must_use]
    pub fn greatest(&self) -> Option<&Value> {
        self.0.last().map(|stated| &stated.value)
    }

    /// From the least to the greatest.
    pub fn iter(&self) -> std::slice::Iter<'_, Stated> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Values {
    type Item = &'a Stated;
    type IntoIter = std::slice::Iter<'a, Stated>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_once_in_their_order_and_not_without_end() {
        let mut values = Values::default();
        for value in [7, 3, 7, 5] {
            values.insert(Stated::number(1, value));
        }
        values.insert(Stated::number(0, 9));
        let numbers = |values: &Values| values.iter().map(|stated| stated.value.clone()).collect::<Vec<_>>();
        assert_eq!(numbers(&values), [9, 3, 5, 7].map(Value::Number));
        assert_eq!(values.greatest(), Some(&Value::Number(7)));
        let json = serde_json::to_string(&values).unwrap();
        assert_eq!(serde_json::from_str::<Values>(&json).unwrap(), values);
        let jumbled = r#"[{"rank":1,"value":7},{"rank":0,"value":9},{"rank":1,"value":7},{"rank":1,"value":3},{"rank":1,"value":5}]"#;
        assert_eq!(serde_json::from_str::<Values>(jumbled).unwrap(), values);
        (0..100).for_each(|value| values.insert(Stated::number(2, value)));
        assert_eq!(numbers(&values), (84..100).map(Value::Number).collect::<Vec<_>>());
    }
}
