//! Cookies: the dialects that servers speak, and how a cursor keeps one for each base.
//!
//! ```text
//! OpenLDAP              rid=000,csn=20261124142644.190338Z#000000#000#000000;…   one csn a server id
//! 389-ds, nsUniqueId    server:port#bind DN:base:filter#changenumber
//! 389-ds, entryUUID     rid=000,csn=21000101010116.000000Z#…   change number 15, as seconds after 2100-01-01 01:01:01
//! ```

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::DateTime;

/// Server id → change sequence number; both of fixed width, so that text order is order of time.
pub(super) type Csns = BTreeMap<String, String>;

/// What a client sends that has no cookie yet, to be answered in OpenLDAP's dialect.
pub(super) const BEGIN: &[u8] = b"rid=000";

/// How a server writes its cookies, and with them its ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    /// OpenLDAP, and whoever is like it: `csn`s and entryUUIDs.
    OpenLdap,
    /// 389-ds by itself: its change number and nsUniqueIds.
    Ds389,
    /// 389-ds imitating OpenLDAP: its change number in the guise of a csn, entryUUIDs, and no persistent search.
    Ds389AsOpenLdap,
}

impl Dialect {
    pub(super) fn is_389(self) -> bool {
        self != Self::OpenLdap
    }

    /// The cookie of a first request.
    pub(super) fn begin(self) -> Option<&'static [u8]> {
        (self != Self::Ds389).then_some(BEGIN)
    }

    /// Whether it is a cookie of this dialect that says where to go on.
    pub(super) fn reads(self, cookie: &[u8]) -> bool {
        match self {
            Self::OpenLdap => csns(cookie).is_some(),
            Self::Ds389 | Self::Ds389AsOpenLdap => self.change_number(cookie).is_some(),
        }
    }

    /// The number of the last change that a cookie of 389-ds covers.
    pub(super) fn change_number(self, cookie: &[u8]) -> Option<u64> {
        match self {
            Self::OpenLdap => None,
            Self::Ds389 => {
                let text = std::str::from_utf8(cookie).ok()?;
                let (signature, number) = text.rsplit_once('#')?;
                signature.contains('#').then_some(())?;
                number.parse().ok()
            }
            Self::Ds389AsOpenLdap => {
                const FORM: &str = "%Y%m%d%H%M%S";
                let csns = csns(cookie)?;
                let csn = csns.values().next_back()?;
                let at = DateTime::strptime(FORM, csn.get(..14)?).ok()?;
                let zero = DateTime::strptime(FORM, "21000101010101").ok()?;
                u64::try_from(at.duration_since(zero).as_secs()).ok()
            }
        }
    }

    /// Where to go on after a live message: its cookie names only the server id whose change it tells, and the others stay.
    /// `None`: it is not one to keep.
    pub(super) fn follow(self, held: &[u8], told: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Ds389 => self.reads(told).then(|| told.to_vec()),
            Self::OpenLdap | Self::Ds389AsOpenLdap => {
                let mut all = csns(held).unwrap_or_default();
                for (sid, csn) in csns(told)? {
                    let known = all.entry(sid).or_default();
                    if *known < csn {
                        *known = csn;
                    }
                }
                Some(write(&all))
            }
        }
    }
}

/// The csns of OpenLDAP's cookie; `None`: it has none, or ones that are none, or a `delcsn`, which is of use within one refresh only.
pub(super) fn csns(cookie: &[u8]) -> Option<Csns> {
    let mut found = Csns::new();
    for field in std::str::from_utf8(cookie).ok()?.split(',') {
        match field.split_once('=')? {
            ("csn", list) => {
                for csn in list.split(';') {
                    let known = found.entry(server_id(csn)?.to_lowercase()).or_default();
                    if known.as_str() < csn {
                        csn.clone_into(known);
                    }
                }
            }
            ("rid" | "sid", _) => {}
            _ => return None,
        }
    }
    (!found.is_empty()).then_some(found)
}

/// The server id of `20261124142644.190338Z#000000#001#000000`; `None`: it is no csn.
fn server_id(csn: &str) -> Option<&str> {
    const FORM: &str = "00000000000000.000000Z#000000#000#000000";
    let like = csn.len() == FORM.len()
        && csn.bytes().zip(FORM.bytes()).all(|(is, form)| match form {
            b'0' => is.is_ascii_hexdigit(),
            _ => is == form,
        });
    like.then(|| csn.get(30..33)).flatten()
}

/// OpenLDAP's cookie of these csns.
pub(super) fn write(csns: &Csns) -> Vec<u8> {
    let list: Vec<&str> = csns.values().map(String::as_str).collect();
    format!("rid=000,csn={}", list.join(";")).into_bytes()
}

/// Why a server cannot go on from these csns: it holds less than they say. `None`: it can.
pub(super) fn beyond(cookie: &Csns, server: &Csns) -> Option<String> {
    cookie.iter().find_map(|(sid, then)| match server.get(sid) {
        Some(now) if now >= then => None,
        Some(now) => Some(format!(
            "its contextCSN of server id {sid} is {now}, older than the cursor's {then}"
        )),
        None => Some(format!(
            "it has no contextCSN of server id {sid}, which the cursor names"
        )),
    })
}

/// The cookies of all bases as a cursor keeps them: a JSON list of Base64.
pub(super) fn keep(cookies: &[Vec<u8>]) -> String {
    let texts: Vec<String> = cookies.iter().map(|c| STANDARD.encode(c)).collect();
    serde_json::Value::from(texts).to_string()
}

/// The cookies of a cursor; `None`: it is no such list.
pub(super) fn kept(text: &str) -> Option<Vec<Vec<u8>>> {
    let texts: Vec<String> = serde_json::from_str(text).ok()?;
    texts.iter().map(|t| STANDARD.decode(t).ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A1: &str = "20261124142644.190338Z#000000#001#000000";
    const A2: &str = "20261124142645.000000Z#000000#001#000000";
    const B1: &str = "20261124142600.000000Z#000000#00A#000000";

    #[test]
    fn trap_19_what_is_no_cookie_is_not_sent() {
        let good = format!("rid=000,sid=001,csn={A1};{B1}");
        let read = csns(good.as_bytes()).unwrap();
        assert_eq!(
            read.keys().map(String::as_str).collect::<Vec<_>>(),
            ["001", "00a"]
        );
        assert_eq!(csns(&write(&read)).unwrap(), read);
        for bad in [
            "",
            "rid=000",
            "garbage",
            "rid=000,csn=",
            "rid=000,csn=20261124142644Z",
            &format!("{good};x"),
            &format!("{good},delcsn={A1}"),
        ] {
            assert_eq!(csns(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_live_cookie_moves_its_own_server_id_and_never_back() {
        let held = format!("rid=000,csn={A1};{B1}").into_bytes();
        let told = format!("rid=000,csn={A2}").into_bytes();
        let next = Dialect::OpenLdap.follow(&held, &told).unwrap();
        assert_eq!(next, format!("rid=000,csn={A2};{B1}").into_bytes());
        assert_eq!(
            Dialect::OpenLdap.follow(&next, &held).unwrap(),
            next,
            "an older one arrives late"
        );
        assert_eq!(Dialect::OpenLdap.follow(&held, b""), None);
    }

    #[test]
    fn both_dialects_of_389_tell_the_change_number() {
        let own = b"localhost:389#cn=sync,dc=x:ou=people,dc=x:(objectClass=*)#15";
        assert_eq!(Dialect::Ds389.change_number(own), Some(15));
        assert_eq!(
            Dialect::Ds389.change_number(b"a:1#cn=x#y:ou=p:(cn=a#b)#7"),
            Some(7)
        );
        assert!(!Dialect::Ds389.reads(b"x#15") && !Dialect::Ds389.reads(b"a#b#"));
        let like = b"rid=000,csn=21000101010116.000000Z#000000#000#000000";
        assert_eq!(Dialect::Ds389AsOpenLdap.change_number(like), Some(15));
        let early = b"rid=000,csn=20261124142644.190338Z#000000#000#000000";
        assert_eq!(Dialect::Ds389AsOpenLdap.change_number(early), None);
    }

    #[test]
    fn trap_08_a_server_that_holds_less_cannot_go_on() {
        let of = |text: &str| csns(format!("rid=000,csn={text}").as_bytes()).unwrap();
        assert_eq!(beyond(&of(A1), &of(A2)), None);
        assert_eq!(beyond(&of(A1), &of(&format!("{A1};{B1}"))), None);
        assert!(beyond(&of(A2), &of(A1)).unwrap().contains("older"));
        assert!(
            beyond(&of(&format!("{A1};{B1}")), &of(A2))
                .unwrap()
                .contains("no contextCSN of server id 00a")
        );
    }

    proptest! {
        #[test]
        fn cookies_are_kept_as_they_are(cookies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..4)) {
            prop_assert_eq!(kept(&keep(&cookies)), Some(cookies));
        }

        #[test]
        fn no_cookie_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "(rid=[0-9]{3},)?(csn=)?[0-9a-f#;Zé.]{0,90}", held in "\\PC{0,40}") {
            for dialect in [Dialect::OpenLdap, Dialect::Ds389, Dialect::Ds389AsOpenLdap] {
                let _unused = (dialect.reads(&bytes), dialect.reads(text.as_bytes()), dialect.follow(&bytes, text.as_bytes()));
            }
            let _unused = kept(&held);
        }
    }
}
