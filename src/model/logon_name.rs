//! How a service names somebody: `jan`, `jan@example.org`, `EXAMPLE\jan`.

use super::person::fold_name;

/// One way to read a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameReading {
    /// The realm's id or another name of it, as it was written; `None`: any realm.
    pub domain: Option<String>,
    /// The user name, as it was written.
    pub name: String,
}

impl NameReading {
    /// The user name as it is compared.
    pub fn key(&self) -> String {
        fold_name(self.name.trim())
    }
}

/// The ways to read a name, in their order: the whole of it, then split at the last `@`, then at the first `\`. The first that
/// anybody is found by counts.
pub fn readings(typed: &str) -> Vec<NameReading> {
    let typed = typed.trim();
    let mut all = vec![NameReading {
        domain: None,
        name: typed.to_owned(),
    }];
    let mut split = |domain: &str, name: &str| {
        if !domain.trim().is_empty() && !name.trim().is_empty() {
            all.push(NameReading {
                domain: Some(domain.trim().to_owned()),
                name: name.trim().to_owned(),
            });
        }
    };
    if let Some((name, domain)) = typed.rsplit_once('@') {
        split(domain, name);
    }
    if let Some((domain, name)) = typed.split_once('\\') {
        split(domain, name);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &str) -> Vec<(Option<String>, String)> {
        let all = readings(typed).into_iter();
        all.map(|r| (r.domain.clone(), r.key())).collect()
    }

    #[test]
    fn the_whole_name_comes_first_then_the_last_at_then_the_first_backslash() {
        let of = |domain: &str, key: &str| (Some(domain.to_owned()), key.to_owned());
        let whole = |key: &str| (None, key.to_owned());
        assert_eq!(read(" Jan "), [whole("jan")]);
        assert_eq!(
            read("jan@Example.org"),
            [whole("jan@example.org"), of("Example.org", "jan")]
        );
        assert_eq!(
            read("a@b@c"),
            [whole("a@b@c"), of("c", "a@b")],
            "the last one"
        );
        assert_eq!(
            read(r"EX\a\b"),
            [whole(r"ex\a\b"), of("EX", r"a\b")],
            "the first one"
        );
        assert_eq!(
            read(r"EX\jan@x.org"),
            [
                whole(r"ex\jan@x.org"),
                of("x.org", r"ex\jan"),
                of("EX", "jan@x.org")
            ]
        );
        for odd in ["@", r"\", "@x", r"\x", "x@", r"x\", "@@", ""] {
            assert!(
                read(odd).iter().skip(1).all(|(_, key)| !key.is_empty()),
                "{odd}"
            );
        }
    }
}
