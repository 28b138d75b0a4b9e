//! One attribute has several names and a number (RFC 4512 § 2.5), and a server answers under the name that it likes best.

use serde::{Deserialize, Serialize};

/// What the standards and Active Directory call the attributes that people are made of: each line is one attribute, its usual name first.
const STANDARD: &str = "\
uid userid 0.9.2342.19200300.100.1.1
mail rfc822mailbox 0.9.2342.19200300.100.1.3
homephone hometelephonenumber 0.9.2342.19200300.100.1.20
mobile mobiletelephonenumber 0.9.2342.19200300.100.1.41
pager pagertelephonenumber 0.9.2342.19200300.100.1.42
co friendlycountryname 0.9.2342.19200300.100.1.43
cn commonname 2.5.4.3
sn surname 2.5.4.4
c countryname 2.5.4.6
telephonenumber 2.5.4.20
givenname gn 2.5.4.42
employeenumber 2.16.840.1.113730.3.1.3
employeetype 2.16.840.1.113730.3.1.4
preferredlanguage 2.16.840.1.113730.3.1.39
displayname 2.16.840.1.113730.3.1.241
nsuniqueid 2.16.840.1.113730.3.1.542
entryuuid 1.3.6.1.1.16.4
pwdaccountlockedtime 1.3.6.1.4.1.42.2.27.8.1.17
objectguid 1.2.840.113556.1.4.2
useraccountcontrol 1.2.840.113556.1.4.8
samaccountname 1.2.840.113556.1.4.221
othermobile 1.2.840.113556.1.4.647
othertelephone 1.2.840.113556.1.2.18
userprincipalname 1.2.840.113556.1.4.656
memberof 1.2.840.113556.1.2.102
name 2.5.4.41";

/// The names of attributes that a server's schema adds to those of the standards, in lower case; the schema's own name first.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Synonyms(pub Vec<Vec<String>>);

impl Synonyms {
    /// The name that servers answer under: the first of [`Synonyms::of`].
    pub fn usual(&self, name: &str) -> String {
        self.of(name).swap_remove(0)
    }

    /// All names of an attribute, at least one: the name that servers answer under comes first; of one that nobody knows, its own. Options do not count.
    pub fn of(&self, name: &str) -> Vec<String> {
        let name = name.split(';').next().unwrap_or_default();
        let name = name.trim().to_lowercase();
        if let Some(names) = self.0.iter().find(|names| names.contains(&name)) {
            return names.clone();
        }
        let standard = STANDARD
            .lines()
            .map(|line| line.split(' '))
            .find(|names| names.clone().any(|n| n == name));
        standard.map_or_else(|| vec![name], |names| names.map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_the_same_by_each_of_its_names() {
        let standard = Synonyms::default();
        for name in [
            "mobile",
            "mobileTelephoneNumber",
            "0.9.2342.19200300.100.1.41",
            " Mobile;lang-sk",
        ] {
            assert_eq!(standard.of(name)[0], "mobile", "{name}");
        }
        assert_eq!(standard.of("badge"), ["badge"]);
        let own = Synonyms(vec![vec!["badge".into(), "1.2.3".into()]]);
        assert_eq!(own.of("1.2.3"), ["badge", "1.2.3"]);
    }
}
