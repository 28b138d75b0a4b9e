//! The texts of the page. `{…}` is filled in by [`fill`].

mod cs;
mod de;
mod en;
mod sk;

/// A language of the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::console) enum Language {
    En,
    De,
    Sk,
    Cs,
}

/// Every text of the page in one language.
#[derive(Debug)]
pub(super) struct Words {
    /// `Set up the application`, also the title.
    pub(super) start: &'static str,
    pub(super) what: &'static str,
    pub(super) account: &'static str,
    pub(super) service: &'static str,
    pub(super) phone: &'static str,
    pub(super) install: &'static str,
    pub(super) install_how: &'static str,
    pub(super) ready: &'static str,
    pub(super) begin: &'static str,
    pub(super) go_on: &'static str,
    pub(super) proof: &'static str,
    pub(super) proof_why: &'static str,
    pub(super) proof_lost: &'static str,
    pub(super) secret: &'static str,
    pub(super) before: &'static str,
    pub(super) here: &'static str,
    pub(super) open: &'static str,
    pub(super) not_opened: &'static str,
    pub(super) not_opened_how: &'static str,
    pub(super) scan: &'static str,
    pub(super) scan_elsewhere: &'static str,
    pub(super) on_this_device: &'static str,
    pub(super) qr: &'static str,
    pub(super) key: &'static str,
    pub(super) key_how: &'static str,
    pub(super) code: &'static str,
    pub(super) code_how: &'static str,
    pub(super) confirm: &'static str,
    pub(super) keep_private: &'static str,
    pub(super) codes: &'static str,
    pub(super) codes_why: &'static str,
    pub(super) codes_kept: &'static str,
    pub(super) finish: &'static str,
    pub(super) done: &'static str,
    pub(super) done_what: &'static str,
    pub(super) done_close: &'static str,
    pub(super) gone: &'static str,
    pub(super) gone_why: &'static str,
    pub(super) gone_what: &'static str,
    pub(super) ask: &'static str,
    pub(super) asked: &'static str,
    pub(super) trouble: &'static str,
    pub(super) trouble_what: &'static str,
    pub(super) wrong: &'static str,
    pub(super) used: &'static str,
    pub(super) ahead: &'static str,
    pub(super) behind: &'static str,
    pub(super) first: &'static str,
    pub(super) earlier: &'static str,
    pub(super) anew: &'static str,
    pub(super) cookies: &'static str,
    pub(super) often: &'static str,
    pub(super) wait: &'static str,
    pub(super) locked: &'static str,
    pub(super) install_from: &'static str,
    pub(super) delete_how: &'static str,
    pub(super) delete_general: &'static str,
    pub(super) delete_opened: &'static str,
    pub(super) hold_entry: &'static str,
    pub(super) swipe_entry: &'static str,
    pub(super) before_void: &'static str,
    pub(super) codes_only: &'static str,
    pub(super) codes_only_why: &'static str,
    pub(super) languages: &'static str,
}

impl Language {
    /// All of them.
    pub(in crate::console) const ALL: [Self; 4] = [Self::En, Self::De, Self::Sk, Self::Cs];

    /// A language by its code.
    pub(in crate::console) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|l| l.code() == text)
    }

    /// The code, as in `lang`.
    pub(in crate::console) fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
            Self::Sk => "sk",
            Self::Cs => "cs",
        }
    }

    /// What its speakers call it.
    pub(in crate::console) fn name(self) -> &'static str {
        match self {
            Self::En => "English",
            Self::De => "Deutsch",
            Self::Sk => "Slovenčina",
            Self::Cs => "Čeština",
        }
    }

    /// The best one for an `Accept-Language` header; English if none fits.
    pub(in crate::console) fn accepted(header: &str) -> Self {
        let mut best = (0.0_f32, Self::En);
        for part in header.split(',').take(32) {
            let (tag, weight) = part.split_once(';').unwrap_or((part, "q=1"));
            let primary = tag.trim().split('-').next().unwrap_or_default();
            let weight = weight
                .trim()
                .strip_prefix("q=")
                .and_then(|q| q.trim().parse().ok())
                .unwrap_or(0.0);
            let language = Self::parse(&primary.to_ascii_lowercase());
            if let Some(language) = language
                && weight > best.0
            {
                best = (weight, language);
            }
        }
        best.1
    }

    /// Its texts.
    pub(super) fn words(self) -> &'static Words {
        match self {
            Self::En => &en::WORDS,
            Self::De => &de::WORDS,
            Self::Sk => &sk::WORDS,
            Self::Cs => &cs::WORDS,
        }
    }
}

/// A text with what stands in its braces.
pub(super) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = text.to_owned();
    for (name, value) in values {
        filled = filled.replace(&format!("{{{name}}}"), value);
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_best_one_that_is_accepted() {
        for (header, language) in [
            ("", Language::En),
            ("sk", Language::Sk),
            ("de-AT,de;q=0.9,en;q=0.8", Language::De),
            ("fr-FR, cs;q=0.5, sk;q=0.7", Language::Sk),
            ("fr, *;q=0.1", Language::En),
            ("sk;q=0, CS-cz;q=0.2", Language::Cs),
            ("de;q=nonsense, cs;q=0.1", Language::Cs),
        ] {
            assert_eq!(Language::accepted(header), language, "{header}");
        }
    }

    #[test]
    fn every_language_fills_the_same_places() {
        let places = |text: &str| {
            let names = text
                .split('{')
                .skip(1)
                .filter_map(|rest| rest.split('}').next());
            let mut names: Vec<String> = names.map(str::to_owned).collect();
            names.sort();
            names
        };
        let all = |words: &Words| {
            let texts = [
                words.before,
                words.key_how,
                words.ahead,
                words.behind,
                words.wait,
                words.install_from,
                words.delete_general,
                words.delete_opened,
                words.before_void,
            ];
            texts.map(places)
        };
        let english = all(Language::En.words());
        assert!(english.iter().all(|names| names.len() == 1), "{english:?}");
        for language in Language::ALL {
            assert_eq!(all(language.words()), english, "{language:?}");
            assert_eq!(Language::parse(language.code()), Some(language));
        }
    }
}
