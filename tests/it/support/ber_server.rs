//! A scripted LDAP server: answers that no real server gives, byte for byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What a client asked, as far as a script wants to know.
#[derive(Debug)]
pub struct Request {
    /// The message's id.
    pub id: u8,
    /// The operation's tag: 0x60 bind, 0x63 search, 0x77 extended.
    pub tag: u8,
    /// The operation's content.
    pub body: Vec<u8>,
    /// How many searches, but for the root DSE, the server has had before, over all its connections.
    pub nth: usize,
    /// The connection that it came over: 1 for the first one.
    pub connection: usize,
}

impl Request {
    /// Whether it is the search for the root DSE: a base object search with an empty DN.
    fn is_root_dse(&self) -> bool {
        self.tag == 0x63 && self.body.starts_with(&[0x04, 0x00, 0x0a, 0x01, 0x00])
    }
}

/// What the server does next.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These bytes.
    Send(Vec<u8>),
    /// Nothing, for this long.
    Pause(Duration),
    /// Closes the connection.
    Close,
}

type Script = dyn Fn(&Request) -> Option<Vec<Reply>> + Send + Sync;

/// A server for as long as it is not dropped.
pub struct BerServer {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl BerServer {
    /// Asks the script about every request; where it says `None`, binds succeed, the root DSE says `vendor`, and a search is empty.
    pub async fn start(
        vendor: &'static str,
        script: impl Fn(&Request) -> Option<Vec<Reply>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Script> = Arc::new(script);
        let searches = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for connection in 1.. {
                let Ok((stream, _)) = listener.accept().await else {
                    break;
                };
                let (script, searches) = (Arc::clone(&script), Arc::clone(&searches));
                connections.spawn(async move {
                    let _closed = serve(stream, connection, vendor, &*script, &searches).await;
                });
            }
        });
        Self {
            address,
            _tasks: tasks,
        }
    }

    pub fn uri(&self) -> String {
        format!("ldap://{}", self.address)
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    vendor: &str,
    script: &Script,
    searches: &AtomicUsize,
) -> std::io::Result<()> {
    loop {
        let mut request = read_request(&mut stream).await?;
        let root = request.is_root_dse();
        let one = usize::from(request.tag == 0x63 && !root);
        request.connection = connection;
        request.nth = searches.fetch_add(one, Ordering::SeqCst);
        let replies = script(&request).unwrap_or_else(|| default_replies(&request, root, vendor));
        for reply in replies {
            match reply {
                Reply::Send(bytes) => stream.write_all(&bytes).await?,
                Reply::Pause(time) => tokio::time::sleep(time).await,
                Reply::Close => return stream.shutdown().await,
            }
        }
    }
}

fn default_replies(request: &Request, root: bool, vendor: &str) -> Vec<Reply> {
    match request.tag {
        0x60 => vec![Reply::Send(result(request.id, 0x61, 0, b"", None))],
        0x63 if root => {
            let controls: &[&[u8]] = &[b"1.2.840.113556.1.4.319"];
            let extensions: &[&[u8]] = &[b"1.3.6.1.4.1.4203.1.11.3"];
            let dse = entry(
                request.id,
                b"",
                &[
                    (b"vendorName", &[vendor.as_bytes()]),
                    (b"supportedControl", controls),
                    (b"supportedExtension", extensions),
                    (b"namingContexts", &[b"dc=example,dc=org"]),
                ],
            );
            vec![Reply::Send(dse), Reply::Send(done(request.id, 0, None))]
        }
        0x63 => vec![Reply::Send(done(request.id, 0, Some(b"")))],
        0x77 => vec![Reply::Send(who_am_i(request.id, b"dn:cn=sync"))],
        _ => vec![Reply::Close],
    }
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<Request> {
    let _sequence = stream.read_u8().await?;
    let length = match stream.read_u8().await? {
        short @ 0..0x80 => usize::from(short),
        long => {
            let mut length = 0;
            for _ in 0..long & 0x7f {
                length = length << 8 | usize::from(stream.read_u8().await?);
            }
            length
        }
    };
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    // Messages of these tests have ids of one byte: 02 01 id, then the operation.
    let (id, operation) = (message[2], &message[3..]);
    let skip = if operation[1] < 0x80 {
        2
    } else {
        2 + usize::from(operation[1] & 0x7f)
    };
    Ok(Request {
        id,
        tag: operation[0],
        body: operation[skip..].to_vec(),
        nth: 0,
        connection: 0,
    })
}

/// Tag, length, content.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..0x80 => out.push(u8::try_from(short).unwrap()),
        long => {
            out.push(0x84);
            out.extend(u32::try_from(long).unwrap().to_be_bytes());
        }
    }
    out.extend(content);
    out
}

/// A message: `SEQUENCE { id, operation, [0] controls }`.
pub fn message(id: u8, operation: &[u8], controls: Option<&[u8]>) -> Vec<u8> {
    let mut content = tlv(0x02, &[id]);
    content.extend(operation);
    if let Some(controls) = controls {
        content.extend(tlv(0xa0, controls));
    }
    tlv(0x30, &content)
}

/// A search result entry.
pub fn entry(id: u8, dn: &[u8], attributes: &[(&[u8], &[&[u8]])]) -> Vec<u8> {
    let list: Vec<u8> = attributes
        .iter()
        .flat_map(|(name, values)| {
            let set: Vec<u8> = values.iter().flat_map(|v| tlv(0x04, v)).collect();
            tlv(0x30, &[tlv(0x04, name), tlv(0x31, &set)].concat())
        })
        .collect();
    message(
        id,
        &tlv(0x64, &[tlv(0x04, dn), tlv(0x30, &list)].concat()),
        None,
    )
}

/// A result of any operation.
pub fn result(id: u8, tag: u8, code: u8, text: &[u8], controls: Option<&[u8]>) -> Vec<u8> {
    message(
        id,
        &tlv(
            tag,
            &[tlv(0x0a, &[code]), tlv(0x04, b""), tlv(0x04, text)].concat(),
        ),
        controls,
    )
}

/// The end of a search, with a page's cookie or without the control.
pub fn done(id: u8, code: u8, cookie: Option<&[u8]>) -> Vec<u8> {
    let control = cookie.map(|cookie| {
        let value = tlv(0x30, &[tlv(0x02, &[0]), tlv(0x04, cookie)].concat());
        tlv(
            0x30,
            &[tlv(0x04, b"1.2.840.113556.1.4.319"), tlv(0x04, &value)].concat(),
        )
    });
    result(id, 0x65, code, b"", control.as_deref())
}

/// The answer to *Who am I?*.
pub fn who_am_i(id: u8, who: &[u8]) -> Vec<u8> {
    message(
        id,
        &tlv(
            0x78,
            &[
                tlv(0x0a, &[0]),
                tlv(0x04, b""),
                tlv(0x04, b""),
                tlv(0x8b, who),
            ]
            .concat(),
        ),
        None,
    )
}
