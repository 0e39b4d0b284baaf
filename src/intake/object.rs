//! A JSON object as a sender writes it: its fields by name, borrowed from the body where that is possible.
//!
//! Of a name that is repeated the last value counts, as in `serde_json`. What is nested is read and checked, then
//! forgotten: no field that matters is.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

/// One field's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Field<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    /// An array or an object.
    Nested,
}

/// Fields by name.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, Field<'a>)>);

impl<'a> Object<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&Field<'a>> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, field)| field)
    }
}

impl<'a> FromIterator<(Cow<'a, str>, Field<'a>)> for Object<'a> {
    fn from_iter<T: IntoIterator<Item = (Cow<'a, str>, Field<'a>)>>(fields: T) -> Self {
        Self(fields.into_iter().collect())
    }
}

/// A text, borrowed where it holds no escape.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a text")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for Field<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;
        impl<'de> Visitor<'de> for FieldVisitor {
            type Value = Field<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("any JSON value")
            }
            fn visit_unit<E: Error>(self) -> Result<Field<'de>, E> {
                Ok(Field::Null)
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Field<'de>, E> {
                Ok(Field::Bool(value))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Field<'de>, E> {
                Ok(Field::Number(value.into()))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Field<'de>, E> {
                Ok(Field::Number(value.into()))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Field<'de>, E> {
                Ok(Number::from_f64(value).map_or(Field::Null, Field::Number))
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Field<'de>, E> {
                Ok(Field::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Field<'de>, E> {
                Ok(Field::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Field<'de>, A::Error> {
                Value::deserialize(SeqAccessDeserializer::new(items)).map(|_| Field::Nested)
            }
            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Field<'de>, A::Error> {
                Value::deserialize(MapAccessDeserializer::new(fields)).map(|_| Field::Nested)
            }
        }
        deserializer.deserialize_any(FieldVisitor)
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Object<'de>, A::Error> {
                let mut object = Object(Vec::with_capacity(24));
                while let Some((name, field)) = fields.next_entry::<Text<'de>, Field<'de>>()? {
                    object.0.push((name.0, field));
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `serde_json` makes of the same.
    fn expected(value: &Value) -> Field<'static> {
        match value {
            Value::Null => Field::Null,
            Value::Bool(value) => Field::Bool(*value),
            Value::Number(number) => Field::Number(number.clone()),
            Value::String(text) => Field::Text(text.clone().into()),
            Value::Array(_) | Value::Object(_) => Field::Nested,
        }
    }

    fn agree(body: &[u8]) {
        let (ours, theirs) = (serde_json::from_slice::<Object>(body), serde_json::from_slice::<Value>(body));
        match (ours, theirs) {
            (Ok(ours), Ok(Value::Object(theirs))) => {
                for (name, value) in &theirs {
                    assert_eq!(ours.get(name), Some(&expected(value)), "{name}");
                }
                assert_eq!(ours.get("no such name"), None);
            }
            (Err(_), Ok(theirs)) => assert!(!theirs.is_object()),
            (Err(_), Err(_)) => {}
            (Ok(ours), Err(error)) => panic!("read as {ours:?}, but {error}"),
            (Ok(ours), Ok(theirs)) => panic!("read as {ours:?}, but it is {theirs}"),
        }
    }

    #[test]
    fn reads_what_serde_json_reads() {
        let nested = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let bodies = [
            r#"{"a":1,"a":"2","b":{"c":[1,{"d":null}]},"e":-3,"f":0.5,"g":1e999}"#,
            r#"{"a":1,"a":"2","b":{"c":[1,{"d":null}]},"e":-3,"f":0.5,"g":true,"\u00e9\n":"x\ty"}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":["\ud800"]}"#,
            r#"{"a":18446744073709551615,"b":-9223372036854775808,"c":18446744073709551616}"#,
            "{\"a\":1} x",
            "[1]",
            "{",
            "",
            &nested,
        ];
        bodies.iter().for_each(|body| agree(body.as_bytes()));
        agree(b"{\"a\":\"\xff\"}");
        agree(b"{\"a\":[\"\xff\"]}");
    }

    proptest! {
        #[test]
        fn reads_what_serde_json_reads_of_anything(names: Vec<String>, values: Vec<Option<f64>>, texts: Vec<String>, cut: prop::sample::Index) {
            let numbers = names.iter().zip(&values).map(|(name, value)| (name.clone(), serde_json::json!(value)));
            let texts = names.iter().rev().zip(&texts).map(|(name, text)| (name.clone(), serde_json::json!(text)));
            let body = Value::Object(numbers.chain(texts).collect()).to_string();
            agree(body.as_bytes());
            agree(&body.as_bytes()[..cut.index(body.len() + 1)]);
        }
    }
}
