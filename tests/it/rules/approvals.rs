//! § 3.4: an approval reads everybody of the plan again, and applies exactly what was shown, or nothing.

use realmsync::model::{Outcome, State, StateReason};

use super::Story;

const RULES: &str = "realm: approve = true\n[realm.attributes]\ndisabled = { attribute = \"employeeType\", equals = \"former\" }\n";

/// What happens to somebody while the plan waits.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Disabled,
    Gone,
    Renamed,
    OtherNumber,
}

impl Meanwhile {
    const ALL: [Self; 4] = [Self::Disabled, Self::Gone, Self::Renamed, Self::OtherNumber];

    fn happens(self, s: &Story, cn: &str) {
        let dn = format!("cn={cn},{}", s.base());
        let what = match self {
            Self::Disabled => "modify\nreplace: employeeType\nemployeeType: former".to_owned(),
            Self::Gone => "delete".to_owned(),
            Self::Renamed => format!("modify\nreplace: uid\nuid: other-{cn}"),
            Self::OtherNumber => "modify\nreplace: mobile\nmobile: +421905999999".to_owned(),
        };
        s.house
            .server
            .modify(&format!("dn: {dn}\nchangetype: {what}\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_changed_while_a_plan_waited_is_not_created_restored_or_renamed_as_shown() {
    let s = Story::new(10, RULES).await;
    let phone = "mobile: +421905000001\n";
    for meanwhile in Meanwhile::ALL {
        for n in ["restored", "renamed"] {
            s.add(
                &format!("{n}-{meanwhile:?}"),
                &format!("{n}-{meanwhile:?}"),
                phone,
            );
        }
    }
    let first = s.pass().await;
    assert_eq!(s.approve(&first).await.outcome, Outcome::Applied);
    for meanwhile in Meanwhile::ALL {
        s.leave(&format!("restored-{meanwhile:?}"));
    }
    let left = s.pass().await;
    assert_eq!(left.suspended, 4, "{left:?}");
    assert_eq!(s.approve(&left).await.outcome, Outcome::Applied);
    for meanwhile in Meanwhile::ALL {
        for kind in ["created", "restored", "renamed"] {
            let cn = format!("{kind}-{meanwhile:?}");
            match kind {
                "created" => s.add(&cn, &cn, phone),
                "restored" => s.come_back(&cn),
                _ => s.house.server.modify(&format!(
                    "dn: cn={cn},{}\nchangetype: modify\nreplace: uid\nuid: new-{cn}\n",
                    s.base()
                )),
            }
            let plan = s.pass().await;
            assert_eq!(plan.outcome, Outcome::Held, "{cn}: {plan:?}");
            meanwhile.happens(&s, &cn);
            let other = s.approve(&plan).await;
            assert_ne!(other.run, plan.run, "{cn}: applied as shown: {other:?}");
            // Another plan is held, or there is nothing left to do.
            let nothing = other.outcome == Outcome::Unchanged;
            assert!(nothing || other.outcome == Outcome::Held, "{cn}: {other:?}");
            if !nothing {
                let applied = s.approve(&other).await;
                assert_eq!(applied.outcome, Outcome::Applied, "{cn}: {applied:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_changed_while_a_plan_waited_is_not_taken_over_as_shown() {
    let mut s = Story::new(3, RULES).await;
    for meanwhile in Meanwhile::ALL {
        let cn = format!("{meanwhile:?}");
        s.add(&cn, &cn, "mobile: +421905000001\n");
    }
    let first = s.pass().await;
    s.approve(&first).await;
    // The realm gets another id, and takes over everybody of the old one.
    let file = s.house.path("realmsync.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("id = \"r\"\n", "id = \"r2\"\n")).unwrap();
    s.reload().await;
    let mut plan = s.pass_of("r2").await;
    assert_eq!((plan.outcome, plan.moved), (Outcome::Held, 7), "{plan:?}");
    for meanwhile in Meanwhile::ALL {
        meanwhile.happens(&s, &format!("{meanwhile:?}"));
        let other = s.approve(&plan).await;
        assert_ne!(other.run, plan.run, "{meanwhile:?}: {other:?}");
        assert_eq!(other.outcome, Outcome::Held, "{meanwhile:?}: {other:?}");
        plan = other;
    }
    assert_eq!(s.approve(&plan).await.outcome, Outcome::Applied);
    let user = s.named("Disabled").await.remove(0);
    assert_eq!(
        (user.state, user.state_reason),
        (State::Suspended, Some(StateReason::Disabled))
    );
}

/// A name that was refused when the plan was made is no reason to make another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_refused_when_the_plan_was_made_keeps_nobody_from_approving_it() {
    let s = Story::new(3, RULES).await;
    s.add("x", "xavier", "mobile: +421905000001\n");
    s.add("y", "ygor", "mobile: +421905000002\n");
    let first = s.pass().await;
    s.approve(&first).await;
    s.house.server.modify(&format!(
        "dn: cn=x,{}\nchangetype: modify\nreplace: uid\nuid: ygor\n-\nreplace: mobile\nmobile: +421905000003\n",
        s.base()
    ));
    let plan = s.pass().await;
    assert_eq!((plan.renamed, plan.phone_changed), (0, 1), "{plan:?}");
    let applied = s.approve(&plan).await;
    assert_eq!((applied.run, applied.outcome), (plan.run, Outcome::Applied));
}
