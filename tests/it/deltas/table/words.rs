//! How a server words what the scenes do, and what its way of telling keeps to itself.

/// One server, with one account and one way.
#[derive(Clone, Copy)]
pub struct Words {
    /// The lab's script.
    pub kind: &'static str,
    /// The account that reads, as the facts name it: `BIND`, `PLAIN`.
    pub account: &'static str,
    /// `changes` of the realm.
    pub changes: &'static str,
    /// The attribute with the user name.
    pub name: &'static str,
    /// Whether no two entries can have one name.
    pub unique: bool,
    /// What a new person's entry has beside names and a number.
    pub class: &'static str,
    /// Whether a deletion is told, or left to the full pass.
    pub deletions: bool,
    /// Whether a move out of the base is.
    pub moves: bool,
}

/// slapd and 389-ds by syncrepl.
pub const OPENLDAP: Words = Words {
    kind: "openldap",
    account: "BIND",
    changes: "auto",
    name: "uid",
    unique: false,
    class: "objectClass: inetOrgPerson\n",
    deletions: true,
    moves: true,
};

pub const DS389: Words = Words {
    kind: "ds389",
    ..OPENLDAP
};

/// Active Directory by DirSync, with the right to replicate and to list tombstones.
pub const SAMBA: Words = Words {
    kind: "samba",
    name: "sAMAccountName",
    unique: true,
    // Without a password a new account is disabled, unless it says that it needs none.
    class: "objectClass: user\nuserAccountControl: 544\n",
    ..OPENLDAP
};

impl Words {
    /// Whether one delta is enough to be at rest: time stamps of a second are looked at twice.
    pub fn rests(&self) -> bool {
        self.changes != "timestamp" || self.kind == "samba"
    }

    /// Lines of `[realm.directory]`.
    pub fn directory(&self) -> String {
        format!("changes = \"{}\"", self.changes)
    }

    /// Lines after it.
    pub fn realm(&self) -> String {
        format!(
            "[realm.brake]\nfloor = 50\nrenamed = \"100%\"\n[realm.attributes]\nusername = \"{}\"\n",
            self.name
        )
    }

    pub fn person(&self, cn: &str, name: &str, mobile: &str) -> String {
        format!(
            "dn: cn={cn},BASE\nchangetype: add\n{}cn: {cn}\nsn: {cn}\n{}: {name}\nmobile: {mobile}\n\n",
            self.class, self.name
        )
    }

    /// Gives somebody another name.
    pub fn named(&self, cn: &str, name: &str) -> String {
        set(cn, self.name, name)
    }

    /// Two people swap their names; where names are unique, by way of a third one.
    pub fn swapped(&self, one: (&str, &str), other: (&str, &str)) -> String {
        let third = if self.unique {
            self.named(one.0, "nobody")
        } else {
            String::new()
        };
        third + &self.named(other.0, one.1) + &self.named(one.0, other.1)
    }
}

pub fn set(cn: &str, attribute: &str, value: &str) -> String {
    format!("dn: cn={cn},BASE\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n\n")
}

pub fn moved(cn: &str, from: &str, to: &str) -> String {
    format!(
        "dn: cn={cn},{from}\nchangetype: modrdn\nnewrdn: cn={cn}\ndeleteoldrdn: 1\nnewsuperior: {to}\n\n"
    )
}

pub fn deleted(cn: &str) -> String {
    format!("dn: cn={cn},BASE\nchangetype: delete\n\n")
}

pub fn container(ou: &str) -> String {
    format!("dn: ou={ou},BASE\nchangetype: add\nobjectClass: organizationalUnit\nou: {ou}\n\n")
}
