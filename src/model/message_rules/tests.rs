//! The rules against a model of the world, without a store: whatever is decided, sent, lost and interrupted in whatever order,
//! nobody is sent a number that is not theirs any more, and the receiver ends up with the right one.

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::model::{
    Intent, Job, JobId, JobReason, JobState, JobType, Phone, Policy, RealmId, State, StateReason,
    User, UserId,
};

const NUMBERS: [&str; 3] = ["+421905000001", "+421905000002", "+421905000003"];
const NOW: Timestamp = Timestamp(1_795_489_200_000);

fn number(n: usize) -> Phone {
    Phone::from_e164(NUMBERS[n]).unwrap()
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug)]
enum RuleEnd {
    Accepted,
    Refused,
    /// Refused, and `retry-for` is over.
    LastRefused,
    Final,
    /// The message arrived; nobody here knows.
    UnknownArrived,
    UnknownLost,
    NotTried,
}

#[derive(Clone, Copy, Debug)]
enum RuleStep {
    /// The directory gives this number, or none.
    Number(Option<usize>),
    Suspend,
    Restore,
    Block(bool),
    /// A pass that sees what is there already.
    Look,
    Begin(RuleEnd),
    /// The attempts under way end.
    Finish,
    Hold,
    Release,
    /// An administrator has all messages tried again that may be.
    Retry,
}

fn step() -> impl Strategy<Value = RuleStep> {
    let end = prop_oneof![
        4 => Just(RuleEnd::Accepted),
        3 => Just(RuleEnd::Refused),
        1 => Just(RuleEnd::LastRefused),
        1 => Just(RuleEnd::Final),
        2 => Just(RuleEnd::UnknownArrived),
        2 => Just(RuleEnd::UnknownLost),
        1 => Just(RuleEnd::NotTried),
    ];
    prop_oneof![
        5 => (0..3_usize).prop_map(|n| RuleStep::Number(Some(n))),
        1 => Just(RuleStep::Number(None)),
        1 => Just(RuleStep::Suspend),
        2 => Just(RuleStep::Restore),
        1 => any::<bool>().prop_map(RuleStep::Block),
        1 => Just(RuleStep::Look),
        8 => end.prop_map(RuleStep::Begin),
        6 => Just(RuleStep::Finish),
        1 => Just(RuleStep::Hold),
        2 => Just(RuleStep::Release),
        1 => Just(RuleStep::Retry),
    ]
}

/// One user, their messages, and what the receiver has processed.
struct RuleWorld {
    policy: Policy,
    user: User,
    jobs: Vec<Job>,
    open: Option<(i64, RuleEnd)>,
    /// Each message once, in the order of arrival.
    seen: Vec<i64>,
    /// Since the last decision a message was dropped that is due again at the next one.
    untold: bool,
}

impl RuleWorld {
    fn new(send: bool, only_provisioned: bool) -> Self {
        let policy = Policy {
            send_to_new: send,
            only_provisioned,
            ..Policy::default()
        };
        let mut world = Self {
            policy,
            user: user(),
            jobs: vec![],
            open: None,
            seen: vec![],
            untold: false,
        };
        let mut made = user();
        let intents = dues(None, &mut made, &world.policy, None);
        world.apply(made, &intents);
        world
    }

    /// As the store applies a decision: what was told is the outbox's own, and a silent baseline is set once.
    fn apply(&mut self, after: User, intents: &[Intent]) {
        let baseline = self.user.phone_provisioned.clone();
        self.user = User {
            phone_provisioned: baseline.or_else(|| after.phone_provisioned.clone()),
            phone_told: self.user.phone_told.clone(),
            told: self.user.told,
            provisioned: self.user.provisioned,
            ..after
        };
        for intent in intents {
            let standings: Vec<Standing> = self.jobs.iter().map(Standing::from).collect();
            let provisioned = self.user.phone_provisioned.clone();
            let carried = effect_of(intent, &self.user, provisioned.as_ref(), &standings, true);
            for (seq, becomes) in &carried.jobs {
                let job = self.job(*seq);
                assert_ne!(job.state, JobState::Sending, "what is sent is left alone");
                job.body = None;
                if *becomes == Becomes::Dropped {
                    job.state = JobState::Dropped;
                }
            }
            if let Some((kind, ..)) = carried.say {
                let job = self.made(kind);
                self.jobs.push(job);
            }
            if let Some(told) = carried.told {
                self.user.phone_told = told.phone;
                self.user.told = told.told;
            }
        }
    }

    fn job(&mut self, seq: i64) -> &mut Job {
        let job = self.jobs.iter_mut().find(|job| job.seq == seq);
        job.expect("a message of this user")
    }

    fn made(&self, kind: JobType) -> Job {
        Job {
            id: JobId(uuid::Uuid::nil()),
            seq: i64::try_from(self.jobs.len()).unwrap(),
            realm: self.user.realm.clone(),
            user: self.user.id,
            username: self.user.username.clone(),
            r#type: kind,
            body: Some(String::new()),
            enrolment: None,
            phone: self.user.phone.clone().filter(|_| is_application(kind)),
            state: JobState::Waiting,
            uncertain: false,
            attempts: 0,
            next_attempt_at: NOW,
            give_up_at: NOW.plus_ms(1),
            last_error: None,
            run: None,
            created_at: NOW,
        }
    }

    /// What a pass decides that sees the user so.
    fn decide(&mut self, after: User) {
        let before = self.user.clone();
        let mut after = after;
        let mut intents = vec![];
        if before.usable() && !after.usable() {
            let reason = JobReason::Disabled;
            intents.push(Intent::Withdraw { reason });
            intents.push(plain(JobType::Suspend, reason));
        }
        if after.usable() && !before.usable() {
            intents.push(plain(JobType::Restore, JobReason::Restored));
        }
        intents.extend(dues(Some(&before), &mut after, &self.policy, None));
        let same = before.phone == after.phone && before.usable() == after.usable();
        if same && !std::mem::take(&mut self.untold) {
            assert_eq!(
                count_said(&intents),
                0,
                "told once, and not by each pass again"
            );
        }
        self.apply(after, &intents);
    }

    fn step(&mut self, step: RuleStep) {
        let user = self.user.clone();
        match step {
            RuleStep::Number(n) => self.decide(User {
                phone: n.map(number),
                ..user
            }),
            RuleStep::Suspend => self.decide(User {
                state: State::Suspended,
                state_reason: Some(StateReason::Disabled),
                ..user
            }),
            RuleStep::Restore => self.decide(User {
                state: State::Active,
                state_reason: None,
                ..user
            }),
            RuleStep::Block(blocked) => self.decide(User { blocked, ..user }),
            RuleStep::Look => self.decide(user),
            RuleStep::Begin(end) => self.begin(end),
            RuleStep::Finish => self.finish(),
            RuleStep::Hold => self.all(|job, _| {
                if job.state == JobState::Waiting {
                    job.state = JobState::Held;
                }
            }),
            RuleStep::Release => self.all(|job, _| {
                if job.state == JobState::Held {
                    job.state = JobState::Waiting;
                }
            }),
            RuleStep::Retry => self.all(|job, newer| {
                if may_retry(&Standing::from(&*job), newer) {
                    job.state = JobState::Waiting;
                }
            }),
        }
    }

    fn all(&mut self, act: impl Fn(&mut Job, bool)) {
        for i in 0..self.jobs.len() {
            let newer = self.jobs[i + 1..]
                .iter()
                .any(|job| Standing::from(job).may_have_arrived());
            act(&mut self.jobs[i], newer);
        }
    }

    /// The oldest open message goes, if it waits.
    fn begin(&mut self, end: RuleEnd) {
        let open = |job: &&mut Job| {
            matches!(
                job.state,
                JobState::Waiting | JobState::Sending | JobState::Held
            )
        };
        let Some(job) = self.jobs.iter_mut().find(open) else {
            return;
        };
        if job.state != JobState::Waiting {
            return;
        }
        assert!(job.body.is_some(), "it has something to say");
        if is_application(job.r#type) && !job.uncertain {
            assert!(self.user.usable(), "only who is usable is told a number");
            assert_eq!(job.phone, self.user.phone, "and none but the one in use");
        }
        job.state = JobState::Sending;
        job.attempts += 1;
        if matches!(end, RuleEnd::Accepted | RuleEnd::UnknownArrived)
            && !self.seen.contains(&job.seq)
        {
            self.seen.push(job.seq);
        }
        self.open = Some((job.seq, end));
    }

    fn finish(&mut self) {
        let Some((seq, end)) = self.open.take() else {
            return;
        };
        let meanwhile = Meanwhile {
            newer: self.jobs.iter().any(|job| {
                job.seq > seq
                    && is_application(job.r#type)
                    && matches!(job.state, JobState::Waiting | JobState::Held)
            }),
            unusable: (!self.user.usable()).then(|| "disabled".to_owned()),
            phone: self.user.phone.clone(),
            link_over: false,
        };
        let job = self.job(seq);
        let (ending, now) = match end {
            RuleEnd::Accepted => (AttemptEnd::Accepted, NOW),
            RuleEnd::Final => (AttemptEnd::Final("410".into()), NOW),
            RuleEnd::Refused => (again(false), NOW),
            RuleEnd::LastRefused => (again(false), job.give_up_at),
            RuleEnd::UnknownArrived | RuleEnd::UnknownLost => (again(true), NOW),
            RuleEnd::NotTried => (AttemptEnd::NotTried, NOW),
        };
        assert!(counts(&ending, job.state, true));
        if matches!(ending, AttemptEnd::Accepted) {
            job.state = JobState::Delivered;
            job.body = None;
            if is_application(job.r#type) {
                let phone = job.phone.clone();
                self.user.provisioned = true;
                self.user.phone_provisioned = phone.or_else(|| self.user.phone_provisioned.clone());
            }
            return;
        }
        let returned = come_back(job, &ending, &meanwhile, now);
        job.uncertain = returned.uncertain;
        job.attempts = returned.attempts;
        job.state = match returned.becomes {
            Becoming::Waits(_) => JobState::Waiting,
            Becoming::Dead { .. } => JobState::Dead,
            Becoming::Final { .. } => JobState::Final,
            Becoming::Dropped { .. } => JobState::Dropped,
        };
        if !matches!(
            returned.becomes,
            Becoming::Waits(_)
                | Becoming::Dead { erased: false }
                | Becoming::Final { erased: false }
        ) {
            job.body = None;
        }
        if returned.becomes == (Becoming::Dropped { untold: true }) {
            self.user.phone_told = None;
            self.user.told = false;
            self.untold = true;
        }
    }

    /// Everything goes out to a receiver that works.
    fn drain(&mut self) {
        self.step(RuleStep::Finish);
        self.step(RuleStep::Release);
        for _ in 0..=self.jobs.len() {
            self.step(RuleStep::Begin(RuleEnd::Accepted));
            self.step(RuleStep::Finish);
        }
    }

    fn check(&self) {
        let open = |job: &&Job| {
            matches!(
                job.state,
                JobState::Waiting | JobState::Sending | JobState::Held
            )
        };
        assert!(self.jobs.iter().all(|job| !open(&job)), "{:?}", self.jobs);
        assert!(self.seen.is_sorted(), "in order: {:?}", self.seen);
        let application = |job: &&Job| is_application(job.r#type);
        let newest = self.jobs.iter().rfind(application);
        // Told once: what was refused for good, or given up, is not told again.
        let given_up = newest.is_some_and(|j| matches!(j.state, JobState::Final | JobState::Dead));
        let never_sent = self.policy.only_provisioned && !self.user.provisioned;
        if !self.user.usable() || self.user.phone.is_none() || given_up || never_sent {
            return;
        }
        let told = self
            .seen
            .iter()
            .rev()
            .map(|seq| &self.jobs[usize::try_from(*seq).unwrap()]);
        let told = told
            .filter(|job| is_application(job.r#type))
            .find_map(|job| job.phone.clone());
        // The baseline was told by nobody, but is known.
        let known = told.or_else(|| (!self.policy.send_to_new).then(|| number(0)));
        assert_eq!(
            known, self.user.phone,
            "the receiver knows the number in use"
        );
        assert_eq!(
            self.user.phone_provisioned, self.user.phone,
            "and we know that it does"
        );
    }
}

fn again(unknown_end: bool) -> AttemptEnd {
    AttemptEnd::Again {
        why: "503".into(),
        unknown_end,
        next_attempt_at: NOW,
    }
}

fn user() -> User {
    User {
        id: UserId(uuid::Uuid::nil()),
        realm: RealmId::from("example.org"),
        directory_id: None,
        entry_uuid: None,
        username: "jan".into(),
        username_key: "jan".into(),
        display_name: None,
        email: None,
        dn: None,
        phone: Some(number(0)),
        phone_raw: None,
        phone_attribute: None,
        phone_rule: None,
        phone_source: None,
        phone_pending: None,
        phone_pending_raw: None,
        phone_pending_until: None,
        phone_pending_source: None,
        phone_provisioned: None,
        phone_told: None,
        told: false,
        provisioned: false,
        state: State::Active,
        state_reason: None,
        suspended_at: None,
        suspended_clock: None,
        blocked: false,
        version: 1,
        two_factor: vec![],
        last_used_at: None,
        fingerprint: None,
        created_at: NOW,
        updated_at: NOW,
        origin: crate::model::UserOrigin::Directory,
        note: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nobody_is_told_a_wrong_number(send in any::<bool>(), only in any::<bool>(), steps in prop::collection::vec(step(), 1..40)) {
        let mut world = RuleWorld::new(send, only && !send);
        for step in steps {
            world.step(step);
        }
        world.drain();
        world.check();
    }
}
