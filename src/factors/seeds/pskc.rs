//! PSKC (RFC 6030) and its drafts: the keys of a container, as it gives them. Whether each makes a token is [`super::judge`]'s.

use roxmltree::Node;
use zeroize::Zeroizing;

use super::cipher::{ITERATIONS, MacHash, SALT, Stretch, UNREADABLE, ValueCipher, short};
use super::xml::{PSKC, Xml, attribute, bytes_of, child, children, known, text_of, value};
use super::{MOST_TOKENS, SeedFault, SeedKeys, shown};

/// A key as a container gives it.
pub(super) struct GivenKey {
    pub(super) line: u32,
    pub(super) serial: Option<String>,
    pub(super) id: Option<String>,
    pub(super) manufacturer: Option<String>,
    pub(super) algorithm: Option<String>,
    pub(super) suite: Option<String>,
    pub(super) secret: Result<Option<Zeroizing<Vec<u8>>>, String>,
    pub(super) counter: Result<Option<i64>, String>,
    pub(super) period: Result<Option<i64>, String>,
    pub(super) drift: Result<Option<i64>, String>,
    /// Digits, as they are written.
    pub(super) digits: Option<String>,
    pub(super) encoding: Option<String>,
    pub(super) check_digit: bool,
    /// Dates, as they are written.
    pub(super) starts: Vec<String>,
    pub(super) ends: Vec<String>,
    /// Uses that are named; empty: any.
    pub(super) usages: Vec<String>,
    /// How the PIN comes into it.
    pub(super) pin: Option<String>,
    /// Policy elements that are not understood, and rules that cannot be obeyed here.
    pub(super) unknown_policy: Vec<String>,
}

/// What a container holds.
pub(super) struct GivenContainer {
    pub(super) keys: Vec<GivenKey>,
    pub(super) signed: bool,
    /// A value is encrypted so that a change does not show.
    pub(super) open_to_changes: bool,
    /// A secret is not encrypted.
    pub(super) plain: bool,
}

/// Reads a container.
///
/// # Errors
/// It is none, or none of its values can be read.
pub(super) fn read(text: &str, keys: &SeedKeys) -> Result<GivenContainer, Vec<SeedFault>> {
    let file = |reason: String| vec![SeedFault::file(reason)];
    let xml = Xml::parse(text).map_err(&file)?;
    let root = xml.document.root_element();
    recognised(&xml, root).map_err(&file)?;
    let protection = Protection::read(root, keys).map_err(&file)?;
    let mut given = vec![];
    for package in children(root, &["KeyPackage", "Device"]) {
        for key in children(package, &["Key", "Secret"]) {
            if given.len() == MOST_TOKENS {
                return Err(file(format!(
                    "more than {MOST_TOKENS} keys: split the file"
                )));
            }
            given.push(read_key(&xml, package, key, &protection));
        }
    }
    if given.is_empty() {
        return Err(file(format!("no key in it: {}", seen(&xml, root))));
    }
    let encrypted = protection.values.get();
    Ok(GivenContainer {
        keys: given,
        signed: children(root, &["Signature"]).next().is_some(),
        open_to_changes: encrypted.open,
        plain: encrypted.plain,
    })
}

fn recognised(xml: &Xml<'_>, root: Node<'_, '_>) -> Result<(), String> {
    let name = root.tag_name();
    let namespace = name.namespace().unwrap_or_default();
    if !matches!(name.name(), "KeyContainer" | "SecretContainer") {
        return Err(format!(
            "no PSKC file, which begins with a `KeyContainer`: {}",
            seen(xml, root)
        ));
    }
    if !namespace.is_empty() && !PSKC.contains(&namespace) {
        return Err(format!(
            "a PSKC file of an unknown namespace: {}",
            seen(xml, root)
        ));
    }
    match attribute(root, &["Version", "version"]) {
        Some(version) if name.name() == "KeyContainer" && !matches!(version, "1" | "1.0") => Err(
            format!("version `{}` of PSKC, and only 1.0 is read", shown(version)),
        ),
        _ => Ok(()),
    }
}

/// What there is instead of what was looked for.
fn seen(xml: &Xml<'_>, root: Node<'_, '_>) -> String {
    let name = root.tag_name();
    let named = |wanted: &[&str]| {
        let all = xml.document.descendants().filter(Node::is_element);
        all.filter(|n| wanted.contains(&n.tag_name().name()))
            .count()
    };
    let foreign = xml
        .document
        .descendants()
        .find(|n| n.is_element() && !known(*n));
    let foreign = match foreign {
        Some(node) if node != root => format!(
            "; `{}` is of the unknown namespace `{}`",
            shown(node.tag_name().name()),
            shown(node.tag_name().namespace().unwrap_or_default())
        ),
        _ => String::new(),
    };
    format!(
        "the root is `{}` in the namespace `{}`, with {} `KeyPackage` or `Device` and {} `Key` or `Secret` in it{foreign}",
        shown(name.name()),
        shown(name.namespace().unwrap_or_default()),
        named(&["KeyPackage", "Device"]),
        named(&["Key", "Secret"]),
    )
}

/// What was seen of the values.
#[derive(Clone, Copy, Default)]
struct Values {
    open: bool,
    plain: bool,
}

/// The hash of the MACs, and their key or why there is none.
type MacRule = (MacHash, Result<Zeroizing<Vec<u8>>, String>);

/// How the values of a container are protected.
struct Protection {
    /// What they are encrypted with, if the container says it for all.
    cipher: Option<Result<ValueCipher, String>>,
    iv: Option<Vec<u8>>,
    /// The key, or why there is none.
    key: Result<Zeroizing<Vec<u8>>, String>,
    /// Whether the container is one with encrypted values.
    encrypted: bool,
    mac: Option<MacRule>,
    values: std::cell::Cell<Values>,
}

impl Protection {
    fn read(root: Node<'_, '_>, keys: &SeedKeys) -> Result<Self, String> {
        let method = child(root, &["EncryptionKey", "EncryptionMethod"]);
        let named = method
            .and_then(|m| attribute(m, &["Algorithm", "algorithm"]))
            .filter(|name| !name.eq_ignore_ascii_case("none"));
        let none = method.is_some_and(|m| {
            attribute(m, &["Algorithm", "algorithm"])
                .is_some_and(|name| name.eq_ignore_ascii_case("none"))
        });
        let stretch = method.map_or(Ok(None), |m| stretch(root, m, named))?;
        let iv = method.map_or(Ok(None), |m| bytes_of(m, &["IV"]))?;
        let mut protection = Self {
            cipher: named.map(ValueCipher::named),
            iv: iv.map(|iv| iv.to_vec()),
            key: key(method, stretch.as_ref(), keys),
            encrypted: method.is_some() && !none,
            mac: None,
            values: std::cell::Cell::default(),
        };
        protection.mac = protection.read_mac(root)?;
        Ok(protection)
    }

    fn read_mac(&self, root: Node<'_, '_>) -> Result<Option<MacRule>, String> {
        let method = child(root, &["MACMethod", "DigestMethod"]);
        let by_attribute = method.and_then(|m| attribute(m, &["Algorithm", "algorithm"]));
        let by_text = text_of(root, &["MACAlgorithm"]);
        let Some(name) = by_text.as_deref().or(by_attribute) else {
            return match method {
                Some(_) => Err("the MAC method names no algorithm".to_owned()),
                None => Ok(None),
            };
        };
        let hash = MacHash::named(name).ok_or_else(|| {
            format!(
                "its MAC is `{}`, which is not known: HMAC with SHA-1, 224, 256, 384 or 512 is",
                shown(name)
            )
        })?;
        let key = match method.and_then(|m| child(m, &["MACKey"])) {
            Some(element) => self.open_value(element),
            // Drafts have no key of its own.
            None => self.key.clone(),
        };
        Ok(Some((hash, key)))
    }

    /// Decrypts a value that has no MAC.
    fn open_value(&self, element: Node<'_, '_>) -> Result<Zeroizing<Vec<u8>>, String> {
        let (cipher, bytes) = self.encrypted_value(element)?;
        let key = self.key.as_ref().map_err(Clone::clone)?;
        cipher.fits(key)?;
        cipher
            .decrypt(key, &bytes, self.iv.as_deref())
            .ok_or_else(|| UNREADABLE.to_owned())
    }

    /// What an element of XML encryption holds.
    fn encrypted_value(
        &self,
        element: Node<'_, '_>,
    ) -> Result<(ValueCipher, Zeroizing<Vec<u8>>), String> {
        let method = child(element, &["EncryptionMethod"]);
        let scheme = method.and_then(|m| child(m, &["EncryptionScheme"]));
        let name = [scheme, method]
            .into_iter()
            .flatten()
            .find_map(|m| attribute(m, &["Algorithm"]));
        let cipher = match (name, &self.cipher) {
            (Some(name), _) => ValueCipher::named(name)?,
            (None, Some(cipher)) => cipher.clone()?,
            (None, None) => return Err("it does not say how it is encrypted".to_owned()),
        };
        let data = child(element, &["CipherData"]).map(|data| bytes_of(data, &["CipherValue"]));
        match data.transpose()?.flatten() {
            Some(bytes) => Ok((cipher, bytes)),
            None => Err("an encrypted value without `CipherValue`".to_owned()),
        }
    }

    /// Decrypts a value, once its MAC has shown that it is as it was.
    fn open(
        &self,
        (cipher, bytes): (ValueCipher, Zeroizing<Vec<u8>>),
        mac: Option<&[u8]>,
    ) -> Result<Zeroizing<Vec<u8>>, String> {
        let unreadable = || UNREADABLE.to_owned();
        let key = self.key.as_ref().map_err(Clone::clone)?;
        cipher.fits(key)?;
        let decrypt = || cipher.decrypt(key, &bytes, self.iv.as_deref());
        match (&self.mac, mac) {
            (Some(_), None) => Err(
                "the file has a MAC method, and this value has no MAC: it may have been changed"
                    .to_owned(),
            ),
            (None, Some(_)) => Err("it has a MAC, and the file does not say which one".to_owned()),
            (None, None) => {
                if !cipher.shows_changes() {
                    self.note(|values| values.open = true);
                }
                decrypt().ok_or_else(unreadable)
            }
            (Some((hash, key)), Some(mac)) => {
                let key = key.as_ref().map_err(Clone::clone)?;
                let apart = self.iv.as_ref().filter(|_| cipher.has_iv());
                // An IV that stands apart is no part of the value, and whoever changes it changes what comes out.
                let whole = apart.map(|iv| Zeroizing::new([iv.as_slice(), &bytes].concat()));
                if hash.verifies(key, whole.as_ref().unwrap_or(&bytes), mac) {
                    return decrypt().ok_or_else(unreadable);
                }
                // Drafts have it over what was encrypted.
                let plain = decrypt().filter(|plain| hash.verifies(key, plain, mac));
                if plain.is_none() && apart.is_some() && hash.verifies(key, &bytes, mac) {
                    self.note(|values| values.open = true);
                    return decrypt().ok_or_else(unreadable);
                }
                plain.ok_or_else(unreadable)
            }
        }
    }

    fn note(&self, what: impl FnOnce(&mut Values)) {
        let mut values = self.values.get();
        what(&mut values);
        self.values.set(values);
    }
}

/// The key that values are encrypted with.
fn key(
    method: Option<Node<'_, '_>>,
    stretch: Option<&Stretch>,
    keys: &SeedKeys,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let names: Vec<String> = method
        .into_iter()
        .flat_map(|m| m.descendants())
        .filter(|n| {
            matches!(
                n.tag_name().name(),
                "KeyName" | "MasterKeyName" | "CarriedKeyName"
            )
        })
        .filter_map(|n| value(n).map(|name| format!("`{}`", shown(&name))))
        .collect();
    let named = match names.as_slice() {
        [] => String::new(),
        names => format!(", named {}", names.join(", ")),
    };
    let asymmetric = method.is_some_and(|m| child(m, &["X509Data", "KeyValue"]).is_some());
    match (stretch, &keys.passphrase, &keys.key) {
        _ if asymmetric => Err(
            "it is encrypted for a certificate: ask for it with a pre-shared key or a passphrase"
                .to_owned(),
        ),
        (Some(stretch), Some(passphrase), _) => Ok(stretch.key(passphrase)),
        (_, _, Some(key)) => Ok(key.clone()),
        (Some(_), None, None) => Err(format!(
            "it is encrypted with a passphrase{named}: give it with --passphrase-file"
        )),
        (None, Some(_), None) => Err(format!(
            "it is encrypted with a pre-shared key{named}, and not with a passphrase: give it with --key-file"
        )),
        (None, None, None) => Err(format!(
            "it is encrypted with a pre-shared key{named}: give it with --key-file"
        )),
    }
}

/// How the key follows from a passphrase, if it does.
fn stretch(
    root: Node<'_, '_>,
    method: Node<'_, '_>,
    named: Option<&str>,
) -> Result<Option<Stretch>, String> {
    let derivation =
        child(method, &["DerivedKey"]).and_then(|d| child(d, &["KeyDerivationMethod"]));
    let by_name = named.is_some_and(|name| short(name).starts_with("pbe-"));
    let (salt, count, length, prf) = if let Some(derivation) = derivation {
        let algorithm = attribute(derivation, &["Algorithm"]).unwrap_or_default();
        if short(algorithm) != "pbkdf2" {
            return Err(format!(
                "its key is derived with `{}`, and only PBKDF2 is known",
                shown(algorithm)
            ));
        }
        let params = child(derivation, &["PBKDF2-params"])
            .ok_or("its key is derived with PBKDF2, and the parameters are missing")?;
        let salt = match child(params, &["Salt"]) {
            Some(salt) => bytes_of(salt, &["Specified"])?,
            None => None,
        };
        let prf = child(params, &["PRF"]).and_then(|p| attribute(p, &["Algorithm"]));
        let text = |name: &str| text_of(params, &[name]);
        (salt, text("IterationCount"), text("KeyLength"), prf)
    } else if by_name {
        let salt = bytes_of(method, &["PBESalt"])?;
        (salt, text_of(method, &["PBEIterationCount"]), None, None)
    } else {
        return Ok(None);
    };
    let salt = salt.ok_or("its key is derived from a passphrase, and the salt is missing")?;
    if salt.len() > SALT {
        return Err(format!(
            "the salt of its key has {} bytes, and at most {SALT} are taken",
            salt.len()
        ));
    }
    let count = count
        .ok_or("its key is derived from a passphrase, and the number of iterations is missing")?;
    let iterations = count.parse().ok().filter(|n| (1..=ITERATIONS).contains(n));
    let iterations = iterations.ok_or_else(|| {
        format!(
            "its key is derived with `{}` iterations: 1 to {ITERATIONS} are taken",
            shown(&count)
        )
    })?;
    let length = match length {
        Some(length) => length
            .parse()
            .ok()
            .filter(|n| matches!(n, 16 | 24 | 32))
            .ok_or_else(|| {
                format!(
                    "its key is derived with a length of `{}`: 16, 24 or 32 bytes are taken",
                    shown(&length)
                )
            })?,
        None => of_a_value(root, named)?,
    };
    let hash = match prf {
        None => MacHash::Sha1,
        Some(name) => MacHash::named(name).ok_or_else(|| {
            format!(
                "its key is derived with `{}`, which is not known",
                shown(name)
            )
        })?,
    };
    Ok(Some(Stretch {
        salt: salt.to_vec(),
        iterations,
        length,
        hash,
    }))
}

/// The length of the key that the container's values need.
fn of_a_value(root: Node<'_, '_>, named: Option<&str>) -> Result<usize, String> {
    let of_values = root
        .descendants()
        .filter(|n| matches!(n.tag_name().name(), "EncryptionMethod" | "EncryptionScheme"))
        .filter_map(|n| attribute(n, &["Algorithm"]));
    let found = named.into_iter().chain(of_values);
    found
        .filter_map(|name| ValueCipher::named(name).ok())
        .map(ValueCipher::key_length)
        .next()
        .ok_or_else(|| "it does not say how long its key is".to_owned())
}

/// A value of a key: in the clear, or encrypted.
enum Given {
    Text(Zeroizing<String>),
    Bytes(Zeroizing<Vec<u8>>),
}

fn read_value(element: Node<'_, '_>, protection: &Protection) -> Result<Option<Given>, String> {
    let mac = bytes_of(element, &["ValueMAC", "ValueDigest"])?;
    let mac = mac.as_ref().map(|mac| mac.as_slice());
    let plain = child(element, &["PlainValue"]);
    let encrypted = child(element, &["EncryptedValue"]);
    let draft = child(element, &["Value"]);
    match (plain, encrypted, draft) {
        (None, None, None) => Ok(None),
        (Some(plain), None, None) => Ok(value(plain).map(Given::Text)),
        (None, Some(element), None) => {
            let encrypted = protection.encrypted_value(element)?;
            protection.open(encrypted, mac).map(Given::Bytes).map(Some)
        }
        (None, None, Some(element)) => match (&protection.cipher, mac) {
            (Some(cipher), Some(_)) => {
                let bytes = value(element).and_then(|text| super::xml::base64(text.as_bytes()));
                let bytes = bytes.ok_or("`Value` is no base64")?;
                let encrypted = (cipher.clone()?, bytes);
                protection.open(encrypted, mac).map(Given::Bytes).map(Some)
            }
            _ => Ok(value(element).map(Given::Text)),
        },
        _ => Err("a value that is there twice".to_owned()),
    }
}

fn secret(
    element: Option<Node<'_, '_>>,
    protection: &Protection,
) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    let Some(element) = element else {
        return Ok(None);
    };
    match read_value(element, protection)? {
        None => Ok(None),
        Some(Given::Bytes(bytes)) => Ok(Some(bytes)),
        Some(Given::Text(text)) => {
            // A swapped seed would need no key and no MAC.
            if protection.encrypted && protection.mac.is_some() {
                return Err(
                    "the file's values are encrypted and have a MAC, and this seed is in the clear: it may have been changed"
                        .to_owned(),
                );
            }
            protection.note(|values| values.plain = true);
            super::xml::base64(text.as_bytes())
                .map(Some)
                .ok_or_else(|| "its seed is no base64".to_owned())
        }
    }
}

fn number(
    element: Option<Node<'_, '_>>,
    what: &str,
    protection: &Protection,
) -> Result<Option<i64>, String> {
    let Some(element) = element else {
        return Ok(None);
    };
    let number = match read_value(element, protection).map_err(|why| format!("{what}: {why}"))? {
        None => return Ok(None),
        Some(Given::Bytes(bytes)) => number_of(&bytes),
        Some(Given::Text(text)) => text.parse().ok().or_else(|| {
            let bytes = super::xml::base64(text.as_bytes())?;
            number_of(&bytes)
        }),
    };
    let unfit = || format!("{what} is no number: digits are expected, or up to 8 bytes");
    number.map(Some).ok_or_else(unfit)
}

/// Digits, or the bytes of the number itself, the highest first.
fn number_of(bytes: &[u8]) -> Option<i64> {
    if bytes.iter().all(u8::is_ascii_digit) {
        return std::str::from_utf8(bytes).ok()?.parse().ok();
    }
    if bytes.len() > 8 {
        return None;
    }
    let value = bytes.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
    i64::try_from(value).ok()
}

fn read_key(
    xml: &Xml<'_>,
    package: Node<'_, '_>,
    key: Node<'_, '_>,
    protection: &Protection,
) -> GivenKey {
    let device = child(package, &["DeviceInfo", "DeviceId"]);
    let of_device = |names: &[&str]| device.and_then(|d| text_of(d, names));
    // RFC 6030 has each value by its own name, drafts have `Data Name="SECRET"`.
    let data = children(key, &["Data"]).next();
    let by_name = |name: &str| {
        let all = children(key, &["Data"]);
        let mut named = all.filter(|d| {
            attribute(*d, &["Name"]).is_some_and(|there| there.eq_ignore_ascii_case(name))
        });
        named.next()
    };
    let field = |name: &str, draft: &str| {
        by_name(draft).or_else(|| data.and_then(|data| child(data, &[name])))
    };
    let format = children(key, &["AlgorithmParameters", "Usage"])
        .find_map(|parent| child(parent, &["ResponseFormat"]));
    let in_format = |names: &[&str]| format.and_then(|f| attribute(f, names)).map(str::to_owned);
    let policy = Policy::read(key);
    let dates = |names: &'static [&'static str]| {
        let of_key =
            children(key, names).chain(policy.element.into_iter().flat_map(|p| children(p, names)));
        let of_device = device.into_iter().flat_map(|d| children(d, names));
        of_key
            .chain(of_device)
            .filter_map(|n| value(n).map(|text| text.to_string()))
            .collect::<Vec<_>>()
    };
    GivenKey {
        line: xml.line(key),
        serial: of_device(&["SerialNo"]),
        id: attribute(key, &["Id", "KeyId", "SecretId"]).map(str::to_owned),
        manufacturer: of_device(&["Manufacturer"]),
        algorithm: attribute(key, &["Algorithm", "KeyAlgorithm", "SecretAlgorithm"])
            .map(str::to_owned),
        suite: child(key, &["AlgorithmParameters"]).and_then(|p| text_of(p, &["Suite"])),
        secret: secret(field("Secret", "secret"), protection),
        counter: number(field("Counter", "counter"), "its counter", protection),
        period: number(
            field("TimeInterval", "time_interval"),
            "its period",
            protection,
        ),
        drift: number(field("TimeDrift", "time_drift"), "its drift", protection),
        digits: in_format(&["Length", "length"]),
        encoding: in_format(&["Encoding", "Format", "format"]),
        check_digit: format
            .and_then(|f| attribute(f, &["CheckDigits", "CheckDigit"]))
            .is_some_and(|says| !matches!(says.to_lowercase().as_str(), "false" | "0")),
        starts: dates(&["StartDate"]),
        ends: dates(&["ExpiryDate", "Expiry"]),
        usages: policy.usages,
        pin: policy.pin,
        unknown_policy: policy.unknown,
    }
}

/// What a key may be used for, and how.
#[derive(Default)]
struct Policy<'a, 'i> {
    element: Option<Node<'a, 'i>>,
    usages: Vec<String>,
    pin: Option<String>,
    unknown: Vec<String>,
}

impl<'a, 'i: 'a> Policy<'a, 'i> {
    fn read(key: Node<'a, 'i>) -> Self {
        let mut policy = Self {
            element: child(key, &["Policy"]),
            ..Self::default()
        };
        // Drafts name uses as attributes of `Usage`.
        for usage in children(key, &["Usage"]) {
            for says in usage.attributes() {
                if matches!(says.value().to_lowercase().as_str(), "true" | "1") {
                    policy.usages.push(says.name().to_owned());
                }
            }
        }
        let within = policy.element.into_iter().flat_map(|p| p.children());
        for rule in within.filter(Node::is_element) {
            match rule.tag_name().name() {
                "StartDate" | "ExpiryDate" if known(rule) => {}
                "KeyUsage" if known(rule) => {
                    let usage = value(rule).map(|text| text.to_string());
                    policy.usages.push(usage.unwrap_or_default());
                }
                "PINPolicy" if known(rule) => policy.read_pin(rule),
                other => policy.unknown.push(shown(other)),
            }
        }
        policy
    }

    fn read_pin(&mut self, rule: Node<'_, '_>) {
        self.pin = attribute(rule, &["PINUsageMode"]).map(str::to_owned);
        for says in rule.attributes() {
            let known = matches!(
                says.name(),
                "PINKeyId"
                    | "PINUsageMode"
                    | "MaxFailedAttempts"
                    | "MinLength"
                    | "MaxLength"
                    | "PINEncoding"
            );
            if !known {
                self.unknown.push(shown(says.name()));
            }
        }
        for within in rule.children().filter(Node::is_element) {
            self.unknown.push(shown(within.tag_name().name()));
        }
    }
}
