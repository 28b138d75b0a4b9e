//! Talking to systemd (sd_notify(3)). Off systemd every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

use super::pulses::Life;

/// Without a watchdog in the unit, silence is looked for this often, and only logged.
const LOOK: Duration = Duration::from_secs(20);

fn tell(state: &[NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(state) {
        tracing::debug!(%why, "cannot notify systemd");
    }
}

/// `READY=1`: started, or a reload is over.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// `RELOADING=1` with the time, which systemd 253 and newer want for `notify-reload`.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[
            NotifyState::Reloading,
            now,
            NotifyState::Status("reading the configuration again"),
        ]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// `STOPPING=1`.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// `STATUS=`: one line for `systemctl status`.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// Feeds the watchdog as long as every part moves. A part that does not move starves it, and systemd starts the process
/// anew; what was silent stands in the log. Never returns.
pub async fn watchdog(life: Life) {
    let fed = sd_notify::watchdog_enabled();
    // Half of the limit is sd_watchdog_enabled(3)'s advice; a third leaves room for a busy machine.
    let every = fed
        .map_or(LOOK, |limit| limit / 3)
        .max(Duration::from_millis(50));
    let mut told = false;
    loop {
        match life.silent() {
            None => {
                told = false;
                if fed.is_some() {
                    tell(&[NotifyState::Watchdog]);
                }
            }
            Some((part, silence)) if !told => {
                told = true;
                let seconds = silence.as_secs();
                if fed.is_some() {
                    tracing::error!(
                        part,
                        silent_seconds = seconds,
                        "{part} has not moved for {seconds} s: the watchdog is not fed any more"
                    );
                } else {
                    tracing::error!(
                        part,
                        silent_seconds = seconds,
                        "{part} has not moved for {seconds} s: restart the service if it stays so"
                    );
                }
            }
            Some(_) => {}
        }
        tokio::time::sleep(every).await;
    }
}
