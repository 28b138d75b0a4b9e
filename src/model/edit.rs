//! What becomes of a field that somebody may leave alone, clear, or set.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What becomes of a field. In JSON an absent member keeps it and `null` clears it, so members of this type are to be declared
/// `#[serde(default, skip_serializing_if = "Edit::keeps")]`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Edit<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It has no value any more.
    Clear,
    /// It has this one.
    Set(T),
}

impl<T> Edit<T> {
    /// Whether it stays as it is.
    pub fn keeps(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// The value after it, given the one before.
    pub fn over(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Keep => before,
            Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }

    /// The same of another type.
    pub fn try_map<U, E>(self, f: impl FnOnce(T) -> Result<U, E>) -> Result<Edit<U>, E> {
        Ok(match self {
            Self::Keep => Edit::Keep,
            Self::Clear => Edit::Clear,
            Self::Set(value) => Edit::Set(f(value)?),
        })
    }
}

impl Edit<String> {
    /// From what is typed: `None` keeps, an empty text clears.
    pub fn typed(text: Option<String>) -> Self {
        match text {
            None => Self::Keep,
            Some(text) if text.trim().is_empty() => Self::Clear,
            Some(text) => Self::Set(text),
        }
    }
}

impl<T: Serialize> Serialize for Edit<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep | Self::Clear => to.serialize_none(),
            Self::Set(value) => to.serialize_some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Edit<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(from)?.map_or(Self::Clear, Self::Set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Form {
        #[serde(skip_serializing_if = "Edit::keeps")]
        note: Edit<String>,
    }

    #[test]
    fn absent_null_and_a_value_are_three() {
        for (text, note) in [
            ("{}", Edit::Keep),
            (r#"{"note":null}"#, Edit::Clear),
            (r#"{"note":"x"}"#, Edit::Set("x".to_owned())),
        ] {
            let form = Form { note };
            assert_eq!(serde_json::to_string(&form).unwrap(), text);
            assert_eq!(serde_json::from_str::<Form>(text).unwrap(), form);
        }
        assert_eq!(Edit::typed(Some(" ".to_owned())), Edit::Clear);
        assert_eq!(Edit::Keep.over(Some(1)), Some(1));
        assert_eq!(Edit::Set(2).over(Some(1)), Some(2));
        assert_eq!(Edit::Clear.over(Some(1)), None);
    }
}
