//! The job rules against a model of the world: whatever is decided, sent, lost and interrupted in whatever order, the
//! receiver ends up with the right number, and every message had one cause and one key.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

const NUMBERS: [&str; 3] = ["+421905000001", "+421905000002", "+421905000003"];

/// How an attempt ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Accepted,
    Refused,
    Final,
    /// The message arrived; the worker does not know.
    TimedOutArrived,
    TimedOutLost,
    /// The process died after the message arrived, or before.
    CrashArrived,
    CrashLost,
    /// The worker was stopped before it began.
    NotTried,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The directory gives the user this number.
    Number(usize, usize),
    Suspend(usize),
    Restore(usize),
    /// A job is taken and its attempt ends, unless `later`: then other things happen meanwhile.
    Attempt {
        end: End,
        later: bool,
    },
    /// The attempts that were left open end.
    Finish,
    Hold,
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![
        4 => Just(End::Accepted),
        3 => Just(End::Refused),
        1 => Just(End::Final),
        2 => Just(End::TimedOutArrived),
        2 => Just(End::TimedOutLost),
        1 => Just(End::CrashArrived),
        1 => Just(End::CrashLost),
        1 => Just(End::NotTried),
    ];
    prop_oneof![
        5 => (0..2_usize, 0..3_usize).prop_map(|(u, n)| Step::Number(u, n)),
        1 => (0..2_usize).prop_map(Step::Suspend),
        2 => (0..2_usize).prop_map(Step::Restore),
        8 => (end, any::<bool>()).prop_map(|(end, later)| Step::Attempt { end, later }),
        3 => Just(Step::Finish),
        1 => Just(Step::Hold),
        2 => Just(Step::Release),
    ]
}

/// The world: what the receiver saw, and what the decisions were.
struct World {
    f: Fixture,
    users: Vec<User>,
    open: Vec<(Job, End)>,
    /// What the receiver processed, each key once: user, seq, type, number.
    seen: Vec<(UserId, i64, JobType, Option<Phone>)>,
    /// Key to body, over all attempts that arrived.
    bodies: HashMap<JobId, String>,
    made: i64,
}

impl World {
    async fn new() -> Self {
        let f = sqlite().await;
        let users = vec![user("jan", NUMBERS[0]), user("eva", NUMBERS[0])];
        for u in &users {
            f.change(u, &[]).await;
        }
        Self {
            f,
            users,
            open: Vec::new(),
            seen: Vec::new(),
            bodies: HashMap::new(),
            made: 0,
        }
    }

    /// A short form of the design's § 3.8, as a planner would decide it for the user as they are now.
    async fn due(&self, user: &User, reason: JobReason) -> Option<Intent> {
        let provisioned = self.f.provisioned(user).await;
        let (told, _) = self.f.told(user).await;
        let number = user.phone.as_ref().map(|p| p.as_str().to_owned());
        if !user.usable() {
            None
        } else if number == provisioned {
            Some(Intent::Unsay)
        } else {
            (number != told).then(|| say(JobType::Reprovision, reason))
        }
    }

    async fn step(&mut self, step: Step) {
        self.f.now = self.f.now.plus_ms(1_000);
        match step {
            Step::Number(u, n) => {
                if self.users[u].phone == phone(NUMBERS[n]) {
                    return;
                }
                let user = with_phone(&self.users[u], NUMBERS[n]);
                let intents: Vec<Intent> = self
                    .due(&user, JobReason::PhoneChanged)
                    .await
                    .into_iter()
                    .collect();
                self.apply(u, user, &intents).await;
            }
            Step::Suspend(u) if self.users[u].state == State::Active => {
                let user = User {
                    state: State::Suspended,
                    state_reason: Some(StateReason::Disabled),
                    version: self.users[u].version + 1,
                    ..self.users[u].clone()
                };
                self.apply(
                    u,
                    user,
                    &[
                        Intent::Withdraw {
                            reason: JobReason::Disabled,
                        },
                        say(JobType::Suspend, JobReason::Disabled),
                    ],
                )
                .await;
            }
            Step::Restore(u) if self.users[u].state == State::Suspended => {
                let user = User {
                    state: State::Active,
                    state_reason: None,
                    version: self.users[u].version + 1,
                    ..self.users[u].clone()
                };
                let mut intents = vec![say(JobType::Restore, JobReason::Restored)];
                intents.extend(self.due(&user, JobReason::Restored).await);
                self.apply(u, user, &intents).await;
            }
            Step::Suspend(_) | Step::Restore(_) => {}
            Step::Attempt { end, later } => {
                let Some(job) = self.f.claim(1).await.pop() else {
                    return;
                };
                // A message arrives when it is sent, whatever is decided before its answer is there.
                if matches!(
                    end,
                    End::Accepted | End::TimedOutArrived | End::CrashArrived
                ) {
                    self.arrive(&job);
                }
                self.open.push((job, end));
                if !later {
                    self.finish().await;
                }
            }
            Step::Finish => self.finish().await,
            Step::Hold => {
                self.f
                    .store
                    .outbox_act(JobAction::Hold, &JobSelection::default(), self.f.now)
                    .await
                    .unwrap();
            }
            Step::Release => {
                self.f
                    .store
                    .outbox_act(JobAction::Release, &JobSelection::default(), self.f.now)
                    .await
                    .unwrap();
            }
        }
    }

    async fn apply(&mut self, u: usize, user: User, intents: &[Intent]) {
        self.made += self.f.change(&user, intents).await;
        self.users[u] = user;
    }

    fn arrive(&mut self, job: &Job) {
        let body = job.body.clone().unwrap();
        if let Some(before) = self.bodies.insert(job.id, body.clone()) {
            assert_eq!(before, body, "a key has one body");
        } else {
            self.seen
                .push((job.user, job.seq, job.r#type, job.phone.clone()));
        }
    }

    async fn finish(&mut self) {
        let mut crashed = false;
        for (job, end) in std::mem::take(&mut self.open) {
            let ending = match end {
                End::Accepted => AttemptEnd::Accepted,
                End::Refused => refused(self.f.now),
                End::Final => AttemptEnd::Final("410".into()),
                End::TimedOutArrived | End::TimedOutLost => timed_out(self.f.now),
                End::NotTried => AttemptEnd::NotTried,
                End::CrashArrived | End::CrashLost => {
                    crashed = true;
                    continue;
                }
            };
            self.f.settle(&job, ending).await;
        }
        if crashed {
            self.f.reclaim("the next process", self.f.now, true).await;
        }
    }

    /// Everything goes out to a receiver that works.
    async fn drain(&mut self) {
        self.step(Step::Finish).await;
        self.step(Step::Release).await;
        for _ in 0..200 {
            self.step(Step::Attempt {
                end: End::Accepted,
                later: false,
            })
            .await;
        }
    }

    async fn check(&self) {
        let jobs = self.f.jobs().await;
        assert_eq!(
            i64::try_from(jobs.len()).unwrap(),
            self.made,
            "every message has one cause"
        );
        assert!(
            jobs.iter().all(|j| !matches!(
                j.state,
                JobState::Waiting | JobState::Sending | JobState::Held | JobState::Dead
            )),
            "{:?}",
            self.f.states().await
        );
        assert!(
            jobs.iter()
                .all(|j| j.body.is_none() || j.state == JobState::Final),
            "settled bodies are erased, but for those that may be tried again"
        );
        let mut last: BTreeMap<UserId, i64> = BTreeMap::new();
        for (user, seq, ..) in &self.seen {
            let before = last.insert(*user, *seq);
            assert!(
                before.is_none_or(|b| b < *seq),
                "one user's messages arrive in order: {:?}",
                self.seen
            );
        }
        for user in &self.users {
            let application = |j: &&Job| {
                j.user == user.id && matches!(j.r#type, JobType::Provision | JobType::Reprovision)
            };
            let newest = jobs.iter().rfind(application);
            // Told once: what was refused for good is not told again.
            if !user.usable() || newest.is_some_and(|j| j.state == JobState::Final) {
                continue;
            }
            let known = self
                .seen
                .iter()
                .rev()
                .find(|(u, _, kind, _)| *u == user.id && *kind == JobType::Reprovision);
            let known = known.map_or(phone(NUMBERS[0]), |(.., number)| number.clone());
            assert_eq!(known, user.phone, "the receiver knows the number in use");
            assert_eq!(
                self.f.provisioned(user).await.as_deref(),
                user.phone.as_ref().map(Phone::as_str),
                "and the store knows that it does"
            );
        }
    }
}

async fn lived(steps: impl IntoIterator<Item = Step>) {
    let mut world = World::new().await;
    for step in steps {
        world.step(step).await;
    }
    world.drain().await;
    world.check().await;
}

/// The message that arrived was overtaken by one that the suspension dropped, and the number went back to the one before both.
#[tokio::test]
async fn an_end_that_is_unknown_is_not_forgotten_by_a_suspension() {
    let arrived = Step::Attempt {
        end: End::TimedOutArrived,
        later: false,
    };
    let (first, second, back) = (Step::Number(0, 1), Step::Number(0, 2), Step::Number(0, 0));
    lived([
        first,
        arrived,
        second,
        Step::Suspend(0),
        back,
        Step::Restore(0),
    ])
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_receiver_ends_up_right(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(lived(steps));
    }
}
