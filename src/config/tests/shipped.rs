//! The samples, the README's and the page on configuration say what is true.

use super::*;

#[test]
fn the_samples_are_without_fault_and_warning() {
    let (root, environment) = machine();
    let samples = samples();
    assert_eq!(samples.len(), 4);
    for (path, text) in samples {
        let place = root.path().join("etc/realmsync/realmsync.toml");
        write(&place, text.as_bytes(), 0o644);
        let loaded = load(Path::new("/etc/realmsync/realmsync.toml"), &environment)
            .unwrap_or_else(|e| panic!("{}:\n{e}", path.display()));
        assert!(
            loaded.warnings.is_empty(),
            "{}: {:?}",
            path.display(),
            loaded.warnings
        );
        // Outside of the service only credentials are unseen, and for a command that opens nothing not even those.
        let outside = load(
            Path::new("/etc/realmsync/realmsync.toml"),
            &Environment::default().rooted(root.path()),
        )
        .unwrap();
        assert!(
            outside
                .warnings
                .iter()
                .all(|w| w.message.contains("can only be seen by the service")),
            "{:?}",
            outside.warnings
        );
        assert_eq!(
            outside.warnings.len(),
            text.lines()
                .filter(|l| !l.starts_with('#') && l.contains("-credential ="))
                .count()
        );
        let alone = check(&text, &path, false, None).unwrap();
        assert!(alone.warnings.is_empty() && !alone.config.realms.is_empty());
    }
}

#[test]
fn the_readme_shows_a_configuration_that_works() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let blocks: Vec<&str> = page
        .split("```toml\n")
        .skip(1)
        .filter_map(|b| b.split("```").next())
        .collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let loaded = check(block, Path::new("README.md"), false, None).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }
}

/// What the samples mark as a default is one: taking it out changes nothing.
#[test]
fn marked_defaults_are_defaults() {
    for (path, text) in samples() {
        let without: String = text
            .lines()
            .filter(|l| l.trim_start().starts_with('#') || !l.contains("# ="))
            .flat_map(|l| [l, "\n"])
            .collect();
        let read = |t: &str| format!("{:?}", check(t, &path, true, None).unwrap().config);
        // Attributes that are named are asked for more strictly, so these stay.
        let strip = |t: &str| {
            let mut inside = false;
            t.lines()
                .filter(|l| {
                    if l.starts_with('[') {
                        inside = *l == "[realm.attributes]";
                    }
                    !inside
                })
                .flat_map(|l| [l, "\n"])
                .collect::<String>()
        };
        let kept = strip(&text).replace("filter = \"(objectClass=inetOrgPerson)\"", "");
        assert_eq!(read(&strip(&without)), read(&kept), "{}", path.display());
    }
}

#[test]
fn every_key_is_documented() {
    fn paths(keys: &[keys::Key], path: &str, into: &mut Vec<String>) {
        for key in keys {
            let path = if path.is_empty() {
                key.name.to_owned()
            } else {
                format!("{path}.{}", key.name)
            };
            match key.shape {
                keys::Shape::Table(inner) | keys::Shape::Tables(inner) => paths(inner, &path, into),
                _ => into.push(path),
            }
        }
    }
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md"))
            .unwrap();
    let mut known = Vec::new();
    paths(keys::FILE, "", &mut known);
    // A secret's four keys and the two places of `delivery` are explained once.
    let plain: Vec<String> = known
        .into_iter()
        .filter(|k| {
            !["-file", "-credential", "-env"]
                .iter()
                .any(|end| k.ends_with(end) && !k.ends_with("ca-file"))
        })
        .filter(|k| !k.starts_with("realm.delivery"))
        .collect();
    let mut section = String::new();
    let mut found = Vec::new();
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title
                .trim_matches(|c: char| !c.is_alphanumeric() && c != '-')
                .split('`')
                .next()
                .unwrap_or_default()
                .trim_matches(['[', ']'])
                .to_owned();
        } else if let Some(key) = line.strip_prefix("| `").and_then(|l| l.split('`').next()) {
            found.push(if section.contains("Top") {
                key.to_owned()
            } else {
                format!("{section}.{key}")
            });
        }
    }
    for key in &plain {
        assert!(
            found.contains(key),
            "`{key}` is not in docs/configuration.md"
        );
    }
    for key in found.iter().filter(|k| !k.starts_with("Secrets.")) {
        assert!(
            plain.contains(key),
            "docs/configuration.md explains `{key}`, which is no key"
        );
    }
}
