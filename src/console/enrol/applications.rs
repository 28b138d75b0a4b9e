//! Which applications users are told of, and how an entry is deleted in each, per mobile system.

use super::words::{Words, fill};

/// Those that are recommended where the file names none: free, well known, and each makes codes as every other does.
const WELL_KNOWN: [&str; 4] = [
    "2FAS",
    "Aegis Authenticator",
    "Google Authenticator",
    "Microsoft Authenticator",
];

/// Applications that one of the systems lacks.
const ANDROID_ONLY: [&str; 3] = ["Aegis Authenticator", "FreeOTP+", "andOTP"];
const IOS_ONLY: [&str; 3] = ["Passwords", "Raivo OTP", "OTP Auth"];

/// Where an entry has to be opened to be deleted.
const OPENED_FIRST: [&str; 2] = ["Microsoft Authenticator", "Passwords"];

/// What is said for one mobile system.
pub(super) struct Guide {
    /// The system.
    pub(super) system: &'static str,
    /// Where applications come from.
    pub(super) install: String,
    /// Their names.
    pub(super) names: Vec<String>,
    /// How an entry is deleted.
    pub(super) delete: Vec<String>,
    /// The user has this system, as far as the browser tells.
    pub(super) own: bool,
}

/// What is said of installing and deleting, the user's own system first.
pub(super) fn guides(words: &Words, configured: &[String], agent: &str) -> Vec<Guide> {
    let all: Vec<String> = if configured.is_empty() {
        WELL_KNOWN.map(str::to_owned).to_vec()
    } else {
        configured.to_vec()
    };
    let guide = |system, shop, lacking: &[&str], gesture, marks: &[&str]| {
        let names: Vec<String> = all
            .iter()
            .filter(|name| !lacking.contains(&name.as_str()))
            .cloned()
            .collect();
        let opened = names
            .iter()
            .filter(|name| OPENED_FIRST.contains(&name.as_str()));
        let mut delete = vec![fill(words.delete_general, &[("gesture", gesture)])];
        delete.extend(opened.map(|name| fill(words.delete_opened, &[("name", name)])));
        Guide {
            system,
            install: fill(words.install_from, &[("shop", shop)]),
            names,
            delete,
            own: marks.iter().any(|mark| agent.contains(mark)),
        }
    };
    let mut guides = vec![
        guide(
            "Android",
            "Google Play",
            &IOS_ONLY,
            words.hold_entry,
            &["Android"],
        ),
        guide(
            "iPhone, iPad",
            "App Store",
            &ANDROID_ONLY,
            words.swipe_entry,
            &["iPhone", "iPad"],
        ),
    ];
    guides.sort_by_key(|guide| !guide.own);
    guides
}

#[cfg(test)]
mod tests {
    use super::super::words::Language;
    use super::*;

    #[test]
    fn each_system_is_told_of_what_its_shop_has_and_the_own_one_first() {
        let words = Language::En.words();
        let names = |guide: &Guide| guide.names.join(", ");
        let android = guides(words, &[], "Mozilla/5.0 (Linux; Android 15; Pixel 9)");
        assert_eq!((android[0].system, android[0].own), ("Android", true));
        assert!(names(&android[0]).contains("Aegis"));
        assert!(!names(&android[1]).contains("Aegis"), "there is none");
        let iphone = guides(words, &["House OTP".into()], "Mozilla/5.0 (iPhone; CPU)");
        assert_eq!(iphone[0].system, "iPhone, iPad");
        assert_eq!(names(&iphone[0]), "House OTP");
        assert!(iphone.iter().all(|guide| guide.delete.len() == 1));
        assert!(guides(words, &[], "").iter().all(|guide| !guide.own));
    }
}
