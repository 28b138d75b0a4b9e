//! The scenes, one after the other on one server, and the servers that they are played on.

use super::words::{DS389, OPENLDAP, SAMBA, Words, container, deleted, moved, set};
use super::{By, Life};

/// What everybody plays.
fn the_table(words: Words, by: By) -> Life {
    the_table_of(words, &["--users", "20"], by)
}

fn the_table_of(words: Words, options: &[&str], by: By) -> Life {
    let life = Life::new(words, options, by);
    people(&life);
    places(&life);
    names(&life);
    ends(&life);
    life.never_away();
    life
}

fn people(life: &Life) {
    let words = life.words;
    let ada = words.person("Ada", "ada", "+421905111001");
    life.scene("add", &ada, &[("created", 1)], &[]);
    let two =
        words.person("Bea", "bea", "+421905111002") + &words.person("Cyd", "cyd", "+421905111003");
    life.scene("add two", &two, &[("created", 2)], &[]);
    let phone = set("Ada", "mobile", "+421905222001");
    let said = ["user.reprovision ada"];
    life.scene("phone", &phone, &[("phone_changed", 1)], &said);
    let format = set("Ada", "mobile", "0905 222 001");
    life.scene("a format is no change", &format, &[], &[]);
    let lost = "dn: cn=Ada,BASE\nchangetype: modify\ndelete: mobile\n";
    life.scene("lost phone", lost, &[("phone_lost", 1)], &[]);
    let given = set("Ada", "mobile", "+421905333001");
    life.scene("given phone", &given, &[("phone_changed", 1)], &said);
    // A value that is none is refused, and mended.
    let none = set("Ada", "mobile", "12");
    let run = life.scene("no number (kept)", &none, &[], &[]);
    assert_eq!(run["refused_phones"], 1, "{run}");
    let mended = set("Ada", "mobile", "+421905333777");
    life.scene("mended", &mended, &[("phone_changed", 1)], &said);
    // Twice between two deltas: what counts is where it ends.
    let twice = set("Ada", "mobile", "+421905333001") + &set("Ada", "mobile", "+421905333777");
    life.passing("there and back", &twice, &[], &[], &["Ada"]);
    let rename = words.named("Ada", "adela");
    let said = ["user.rename adela"];
    life.scene("rename", &rename, &[("renamed", 1)], &said);
}

fn places(life: &Life) {
    let rdn = "dn: cn=Bea,BASE\nchangetype: modrdn\nnewrdn: cn=Beatrix\ndeleteoldrdn: 1\n";
    let run = life.scene("another RDN", rdn, &[], &[]);
    assert_eq!(run["updated"], 1, "{run}");
    let rdn = "dn: cn=Beatrix,BASE\nchangetype: modrdn\nnewrdn: cn=Bea\ndeleteoldrdn: 1\n";
    life.scene("and back", rdn, &[], &[]);
    let within = container("sub") + &moved("Ada", "BASE", "ou=sub,BASE");
    let run = life.scene("move within", &within, &[], &[]);
    assert_eq!(run["updated"], 1, "{run}");
    let out = moved("Ada", "ou=sub,BASE", "FORMER");
    let said = ["user.suspend adela"];
    // A container that is looked at twice, since it is as new as that, shows who left it meanwhile.
    life.away(
        life.words.moves || !life.words.rests(),
        "move out",
        &out,
        &[("suspended", 1)],
        &said,
    );
    let back = moved("Ada", "FORMER", "BASE");
    let said = ["user.restore adela"];
    life.scene("move back", &back, &[("restored", 1)], &said);
    let both = moved("Ada", "BASE", "FORMER") + &moved("Ada", "FORMER", "BASE");
    life.passing("out and back at once", &both, &[], &[], &["Ada"]);
    let numbered = moved("Ada", "BASE", "FORMER")
        + &set("Ada", "mobile", "+421905333888").replace("BASE", "FORMER")
        + &moved("Ada", "FORMER", "BASE");
    let said = ["user.reprovision adela"];
    let counts = [("phone_changed", 1)];
    let by_way = "out, a number, and back";
    life.passing(by_way, &numbered, &counts, &said, &["Ada"]);
}

fn names(life: &Life) {
    let words = life.words;
    let swap = words.swapped(("Bea", "bea"), ("Cyd", "cyd"));
    let said = ["user.rename bea", "user.rename cyd"];
    let counts = [("renamed", 2)];
    life.passing("swap", &swap, &counts, &said, &["Bea", "Cyd"]);
    let again = deleted("Bea") + &words.person("Bea", "cyd", "+421905444002");
    let counts = [("created", 1), ("suspended", 1)];
    // Who wants a name brings whoever held it to a look-up, whether or not a deletion is told.
    life.scene("delete and add", &again, &counts, &["user.suspend cyd"]);
    let taken = deleted("Cyd") + &words.named("Bea", "bea");
    let counts = [("renamed", 1), ("suspended", 1)];
    let said = ["user.rename bea", "user.suspend bea"];
    life.scene("the name of who is deleted", &taken, &counts, &said);
    let flash = words.person("Flo", "flo", "+421905444003") + &deleted("Flo");
    life.passing("here and gone", &flash, &[], &[], &["Flo"]);
    if !words.unique {
        contests(life);
    }
}

/// Who wants a name that another has.
fn contests(life: &Life) {
    let words = life.words;
    let person =
        |cn: &str, name: &str, end: u8| words.person(cn, name, &format!("+4219051110{end:02}"));
    // Bea has the name; Dan wants it too: both are refused, and Bea keeps it.
    let run = life.scene(
        "a name of another (kept)",
        &person("Dan", "bea", 4),
        &[],
        &[],
    );
    assert_eq!(run["refused_entries"], 2, "{run}");
    // A third one who wants it, while nobody else is told.
    let run = life.scene("and a third (kept)", &person("Eve", "bea", 5), &[], &[]);
    assert_eq!(run["refused_entries"], 3, "{run}");
    if words.deletions {
        life.scene("the third goes (kept)", &deleted("Eve"), &[], &[]);
    } else {
        let gives = words.named("Eve", "eve");
        life.scene("the third (kept)", &gives, &[("created", 1)], &[]);
    }
    // Only Bea is told, and Dan gets what she gives up.
    let gives = words.named("Bea", "bella");
    let counts = [("created", 1), ("renamed", 1)];
    let said = ["user.rename bella"];
    life.scene("the name is given up", &gives, &counts, &said);
    // Two new ones with one name: nobody has it, until one of them goes. Who is alone for a moment keeps it.
    let twins = person("Fay", "twin", 6) + &person("Gil", "twin", 7);
    let two = ["Fay", "Gil"];
    let run = life.contested("twins", &twins, &[], &two);
    assert_eq!(run["refused_entries"], 2, "{run}");
    if words.deletions {
        let goes = deleted("Fay");
        life.passing("one twin goes", &goes, &[("created", 1)], &[], &two);
    } else {
        let gives = words.named("Fay", "fay");
        life.scene("one twin gives up", &gives, &[("created", 2)], &[]);
    }
}

fn ends(life: &Life) {
    life.house.churn(&[("disable", 1)]);
    let run = life.delta("disable");
    assert_eq!(
        (&run["suspended"], life.heard().len()),
        (&1.into(), 1),
        "{run}"
    );
    let said = ["user.suspend adela"];
    let counts = [("suspended", 1)];
    let told = life.words.deletions;
    life.away(told, "delete", &deleted("Ada"), &counts, &said);
    burst(life);
    life.rest();
    let idle = life.delta("idle");
    assert_eq!(
        (&idle["outcome"], &idle["seen"]),
        (&"unchanged".into(), &0.into())
    );
    life.found("the end", &[], &[]);
}

/// Everything at once.
fn burst(life: &Life) {
    let mut all = vec![("add", 3), ("phone", 3), ("nophone", 1), ("rename", 1)];
    if life.words.moves {
        all.push(("move", 1));
    }
    if life.words.deletions {
        all.push(("delete", 2));
    }
    life.at_once(|| {
        life.house.churn(&all);
    });
    let run = life.delta("burst");
    assert_eq!(run["created"], 3, "{run}");
    let heard = life.heard();
    assert_eq!(run["jobs"], heard.len(), "{run}: {heard:?}");
    assert!(heard.windows(2).all(|two| two[0] != two[1]), "{heard:?}");
}

#[test]
fn the_table_on_openldap() {
    the_table(OPENLDAP, By::Command);
}

#[test]
fn the_table_on_389_ds() {
    the_table(DS389, By::Command);
}

const TIME_STAMPS: Words = Words {
    changes: "timestamp",
    deletions: false,
    moves: false,
    ..OPENLDAP
};

#[test]
fn the_table_on_openldap_by_time_stamps() {
    the_table(TIME_STAMPS, By::Command);
}

/// Its `contextCSN` is that of the load (`slapadd -w`), for ever.
#[test]
fn the_table_on_openldap_whose_context_csn_stands_still() {
    the_table_of(
        TIME_STAMPS,
        &["--users", "20", "--no-syncprov"],
        By::Command,
    );
}

#[test]
fn the_table_on_active_directory_by_dirsync() {
    let life = the_table(SAMBA, By::Command);
    containers(&life);
}

#[test]
fn the_table_on_openldap_by_push() {
    the_table(OPENLDAP, By::Push);
}

#[test]
fn the_table_on_389_ds_by_push() {
    the_table(DS389, By::Push);
}

#[test]
fn the_table_on_active_directory_by_change_notification() {
    let life = the_table(SAMBA, By::Push);
    containers(&life);
}

/// With a user name that the directory does not keep unique.
#[test]
fn the_table_on_active_directory_with_names_that_two_may_want() {
    the_table(
        Words {
            name: "employeeID",
            unique: false,
            changes: "dirsync",
            ..SAMBA
        },
        By::Command,
    );
}

/// Without the right to replicate, and with it without that to list tombstones.
#[test]
fn the_table_on_active_directory_with_object_security() {
    let life = the_table(
        Words {
            account: "PLAIN",
            deletions: false,
            ..SAMBA
        },
        By::Command,
    );
    containers(&life);
    let status = life.house.run(&["status"]);
    assert!(status.out.contains("CN=Deleted Objects"), "{}", status.out);
}

#[test]
fn the_table_on_active_directory_by_usn() {
    the_table(
        Words {
            changes: "timestamp",
            deletions: false,
            moves: false,
            ..SAMBA
        },
        By::Command,
    );
}

/// DirSync says of a container that moves nothing but that.
fn containers(life: &Life) {
    let people = container("one")
        + &container("two,ou=one")
        + &life
            .words
            .person("Hal,ou=two,ou=one", "hal", "+421905111008")
        + &life.words.person("Ida,ou=one", "ida", "+421905111009");
    let people = people
        .replace("cn: Hal,ou=two,ou=one", "cn: Hal")
        .replace("cn: Ida,ou=one", "cn: Ida")
        .replace("ou: two,ou=one", "ou: two");
    life.scene("people in containers", &people, &[("created", 2)], &[]);
    let out = "dn: ou=one,BASE\nchangetype: modrdn\nnewrdn: ou=one\ndeleteoldrdn: 1\nnewsuperior: FORMER\n";
    let said = ["user.suspend hal", "user.suspend ida"];
    life.scene("a container moves out", out, &[("suspended", 2)], &said);
    let back = "dn: ou=one,FORMER\nchangetype: modrdn\nnewrdn: ou=uno\ndeleteoldrdn: 1\nnewsuperior: BASE\n";
    let said = ["user.restore hal", "user.restore ida"];
    life.scene("and back", back, &[("restored", 2)], &said);
    let name = "dn: ou=uno,BASE\nchangetype: modrdn\nnewrdn: ou=one\ndeleteoldrdn: 1\n";
    let run = life.scene("a container is renamed", name, &[], &[]);
    assert_eq!(run["updated"], 2, "{run}");
    life.found("containers", &[], &[]);
}
