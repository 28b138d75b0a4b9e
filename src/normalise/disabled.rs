//! Whether the directory lets a person log on.

use super::mapping::Normaliser;
use super::text::tidy;
use crate::config::DisabledRule;
use crate::model::person::fold_name;
use crate::model::{Known, RawEntry};

impl Normaliser {
    /// By the rule of the directory's kind. Absent is enabled, for these attributes are mostly set only on who is disabled (the
    /// case of a right to read them that was lost, TRAPS 58, is the brake's). The second lists values that cannot be read.
    pub(super) fn enabled<'a>(&'a self, entry: &'a RawEntry) -> (Known<bool>, Vec<&'a [u8]>) {
        let values = self.disabled.values(entry);
        match &self.rule {
            DisabledRule::Equals { equals, .. } => {
                let equals = fold_name(&tidy(equals));
                let mut texts = values.filter_map(|v| std::str::from_utf8(v).ok());
                (
                    Known::Known(!texts.any(|v| fold_name(&tidy(v)) == equals)),
                    Vec::new(),
                )
            }
            DisabledRule::Bits { bits, .. } => {
                let (mut disabled, mut unreadable) = (false, Vec::new());
                for value in values {
                    match std::str::from_utf8(value)
                        .ok()
                        .and_then(|text| tidy(text).parse::<i64>().ok())
                    {
                        Some(number) => disabled |= number & bits != 0,
                        None => unreadable.push(value),
                    }
                }
                // A value that cannot be read says neither; one beside it that can, and says disabled, does say so.
                let known = if unreadable.is_empty() || disabled {
                    Known::Known(!disabled)
                } else {
                    Known::Unknown
                };
                (known, unreadable)
            }
        }
    }
}
