//! Named points at which the tests kill the process, as a power cut would, stop it, as a frozen machine, or panic. Without the feature `failpoints` they are nothing.

/// Kills the process here if `REALMSYNC_FAILPOINT` names this point (`NAME`, or `NAME:3` for the third time it is reached); with
/// `stop@` before the name it is stopped, and goes on when it is told to (`SIGCONT`); with `panic@` the task panics.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    #[derive(Clone, Copy, PartialEq)]
    enum FailAction {
        Kill,
        Stop,
        Panic,
    }
    static WANTED: OnceLock<Option<(FailAction, String, u32)>> = OnceLock::new();
    static HITS: AtomicU32 = AtomicU32::new(0);
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's own switch, never part of a release"
    )]
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("REALMSYNC_FAILPOINT").ok()?;
        let (how, point) = match text.split_once('@') {
            Some(("stop", point)) => (FailAction::Stop, point),
            Some(("panic", point)) => (FailAction::Panic, point),
            _ => (FailAction::Kill, text.as_str()),
        };
        let (name, nth) = point.split_once(':').unwrap_or((point, "1"));
        Some((how, name.to_owned(), nth.parse().ok()?))
    });
    if let Some((how, wanted, nth)) = wanted
        && wanted == name
        && HITS.fetch_add(1, Ordering::SeqCst) + 1 == *nth
    {
        if *how == FailAction::Panic {
            std::panic::panic_any("a test's own");
        }
        let signal = if *how == FailAction::Stop {
            rustix::process::Signal::STOP
        } else {
            rustix::process::Signal::KILL
        };
        let _sent = rustix::process::kill_process(rustix::process::getpid(), signal);
        // The signal may reach this thread a moment after another one.
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit(_name: &str) {}
