//! Signals: the first thing that `run` installs.
//!
//! ```text
//!  SIGTERM, SIGINT ─▶ soft stop ─▶ exit 0 within 5 s        (a second one: the handler itself ends the process with 1)
//!  SIGHUP          ─▶ reload
//!  SIGUSR1         ─▶ every realm now
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook_tokio::Signals;

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Stop softly.
    Stop,
    /// Read the configuration again.
    Reload,
    /// Every realm now.
    RunAll,
}

/// The process's signals as wishes.
pub struct Wishes(WishSource);

enum WishSource {
    Signals(Signals),
    #[cfg(test)]
    Given(tokio::sync::mpsc::Receiver<Wish>),
}

impl Wishes {
    /// Installs the handlers. The second stop is armed in the handler, so that it works even when nothing else moves.
    pub fn install() -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // The order counts: the first signal finds the flag down and raises it, the second finds it up.
            flag::register_conditional_shutdown(signal, 1, Arc::clone(&stopping))?;
            flag::register(signal, Arc::clone(&stopping))?;
        }
        Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])
            .map(|signals| Self(WishSource::Signals(signals)))
    }

    /// The next wish; never `None` while the process lives.
    pub async fn next(&mut self) -> Option<Wish> {
        loop {
            let signal = match &mut self.0 {
                WishSource::Signals(signals) => signals.next().await?,
                #[cfg(test)]
                WishSource::Given(wishes) => return wishes.recv().await,
            };
            match signal {
                SIGTERM | SIGINT => return Some(Wish::Stop),
                SIGHUP => return Some(Wish::Reload),
                SIGUSR1 => return Some(Wish::RunAll),
                _ => {}
            }
        }
    }

    /// Wishes that a test sends.
    #[cfg(test)]
    pub(super) fn given(wishes: tokio::sync::mpsc::Receiver<Wish>) -> Self {
        Self(WishSource::Given(wishes))
    }
}
