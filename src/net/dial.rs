//! A connection to a host of which some addresses may be silent: they are tried side by side (RFC 8305), so that none of them
//! takes up the time of the others.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long an address is waited for before the next one is tried beside it (RFC 8305 § 8).
const NEXT: Duration = Duration::from_millis(250);

/// Why none of a host's addresses could be reached.
#[derive(Debug)]
pub struct Unreached {
    /// The name, if it was one.
    name: Option<String>,
    /// Each address that was tried, in that order; none: the name could not be resolved.
    tried: Vec<(SocketAddr, Error)>,
    /// Why the name could not be resolved.
    unresolved: Option<Error>,
}

impl Unreached {
    /// What an administrator is to look at: of several addresses, the first that says more than silence.
    pub fn kind(&self) -> ErrorKind {
        let mut kinds = self.tried.iter().map(|(_, e)| e.kind());
        let first = kinds.next();
        first
            .filter(|kind| *kind != ErrorKind::TimedOut)
            .or_else(|| kinds.find(|kind| *kind != ErrorKind::TimedOut))
            .or(first)
            .or(self.unresolved.as_ref().map(Error::kind))
            .unwrap_or(ErrorKind::NotFound)
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.unresolved {
            return why.fmt(f);
        }
        match (&*self.tried, &self.name) {
            ([], _) => f.write_str("the name has no address"),
            ([(_, why)], None) => why.fmt(f),
            ([(address, why)], Some(_)) => write!(f, "{address}: {why}"),
            (several, _) => {
                write!(f, "none of {} addresses can be reached (", several.len())?;
                for (at, (address, why)) in several.iter().enumerate() {
                    let between = if at == 0 { "" } else { ", " };
                    write!(f, "{between}{address}: {why}")?;
                }
                f.write_str(")")
            }
        }
    }
}

impl std::error::Error for Unreached {}

/// Connects to a host, by name or by address, before `until`.
pub async fn dial(host: &str, port: u16, until: Instant) -> Result<TcpStream, Unreached> {
    let began = Instant::now();
    if let Ok(address) = host.parse::<IpAddr>() {
        return dial_one_of(None, vec![(address, port).into()], until).await;
    }
    let unresolved = |why| Unreached {
        name: Some(host.to_owned()),
        tried: Vec::new(),
        unresolved: Some(why),
    };
    match timeout_at(until, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(addresses)) => dial_one_of(Some(host), addresses.collect(), until).await,
        Ok(Err(why)) => Err(unresolved(why)),
        Err(_) => {
            let waited = format!("no answer from DNS within {}", spent(began));
            Err(unresolved(Error::new(ErrorKind::TimedOut, waited)))
        }
    }
}

/// Connects to whichever of a host's addresses is there first; `name` is the host's, if it has one.
pub async fn dial_one_of(
    name: Option<&str>,
    addresses: Vec<SocketAddr>,
    until: Instant,
) -> Result<TcpStream, Unreached> {
    let began = Instant::now();
    let order = interleaved(addresses);
    let mut waiting = order.iter().enumerate();
    let mut why: Vec<Option<Error>> = order.iter().map(|_| None).collect();
    let mut attempts = FuturesUnordered::new();
    let mut next = began;
    loop {
        let more = waiting.len() > 0;
        tokio::select! {
            biased;
            Some((at, connected)) = attempts.next() => match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    why[at] = Some(error);
                    // Who is turned away need not wait.
                    next = Instant::now();
                }
            },
            () = sleep_until(next), if more => {
                if let Some((at, address)) = waiting.next() {
                    attempts.push(async move { (at, TcpStream::connect(*address).await) });
                }
                next = Instant::now() + NEXT;
            }
            () = sleep_until(until) => break,
            else => break,
        }
        if attempts.is_empty() && waiting.len() == 0 {
            break;
        }
    }
    let silent = || {
        Error::new(
            ErrorKind::TimedOut,
            format!("no answer within {}", spent(began)),
        )
    };
    let tried = order.iter().zip(why);
    Err(Unreached {
        name: name.map(str::to_owned),
        tried: tried
            .map(|(address, why)| (*address, why.unwrap_or_else(silent)))
            .collect(),
        unresolved: None,
    })
}

/// A time as it is told.
fn spent(since: Instant) -> String {
    format!("{} ms", since.elapsed().as_millis())
}

/// The addresses, each once, the families by turns and the family of the first one first (RFC 8305 § 4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut order: Vec<SocketAddr> = Vec::with_capacity(addresses.len());
    let six_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == six_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let (one, other) = (first.next(), second.next());
        if one.is_none() && other.is_none() {
            return order;
        }
        for address in [one, other].into_iter().flatten() {
            if !order.contains(&address) {
                order.push(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    /// An address that accepts no connection and turns none away: its queue is full.
    async fn silent(on: &str) -> (SocketAddr, Vec<TcpStream>, TcpListener) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(on.parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        let moment = Duration::from_millis(200);
        while let Ok(Ok(one)) = tokio::time::timeout(moment, TcpStream::connect(address)).await {
            queue.push(one);
        }
        (address, queue, listener)
    }

    #[tokio::test]
    async fn a_silent_address_does_not_take_the_time_of_the_next() {
        let (silent, _queue, _held) = silent("127.0.0.1:0").await;
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let began = Instant::now();
        let addresses = vec![silent, there.local_addr().unwrap()];
        let stream = dial_one_of(Some("two.test"), addresses, soon())
            .await
            .unwrap();
        assert_eq!(stream.peer_addr().unwrap(), there.local_addr().unwrap());
        assert!(began.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test]
    async fn each_address_is_named_with_its_reason() {
        let (silent, _queue, _held) = silent("127.0.0.1:0").await;
        let closed: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let until = Instant::now() + Duration::from_millis(600);
        let error = dial_one_of(Some("two.test"), vec![silent, closed], until)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let text = error.to_string();
        assert!(
            text.starts_with(&format!(
                "none of 2 addresses can be reached ({silent}: no answer within "
            )) && text.contains(", 127.0.0.1:1: Connection refused"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn an_address_that_was_written_is_not_repeated() {
        let error = dial("127.0.0.1", 1, soon()).await.unwrap_err();
        assert!(
            error.to_string().starts_with("Connection refused"),
            "{error}"
        );
        let error = dial("localhost", 1, soon()).await.unwrap_err();
        assert!(error.to_string().contains("127.0.0.1:1: "), "{error}");
    }

    #[test]
    fn families_take_turns() {
        let order = |list: &[&str]| {
            let list = list.iter().map(|a| a.parse().unwrap()).collect();
            let order = interleaved(list);
            order.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            order(&["[::1]:1", "[::2]:1", "[::1]:1", "1.1.1.1:1"]),
            ["[::1]:1", "1.1.1.1:1", "[::2]:1"]
        );
        assert_eq!(
            order(&["1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1", "[::1]:1"]),
            ["1.1.1.1:1", "[::1]:1", "2.2.2.2:1", "3.3.3.3:1"]
        );
        assert!(order(&[]).is_empty());
    }
}
