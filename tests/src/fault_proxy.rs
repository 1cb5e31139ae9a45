//! A TCP proxy before a Kafka-protocol server that sees requests, not bytes: it can hold one request before the server
//! gets it, or one answer before the client gets it, while a test kills somebody; and it can make the way long.
//!
//! Owns: passing frames on in order and no sooner than the way is long, the one trap that is set, what becomes of the
//! frame that fell into it.
//! Does not own: the server, which has to advertise the proxy's address.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use wire::header::{Opened, open_request};
use wire::{ApiKey, Request};

use crate::deadline::{Deadline, sleep};

/// Frames above this are no Kafka traffic of a test.
const FRAME_LIMIT_BYTES: usize = 128 << 20;
/// Frames of one connection that are on their way in one direction.
const FRAMES_ON_THE_WAY: usize = 1_024;

/// Where a frame is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The server has not seen the request.
    BeforeServer,
    /// The server has done what was asked, and the client does not know.
    AfterServer,
}

type Matches = Box<dyn FnMut(&Request) -> bool + Send>;

struct Rule {
    point: Point,
    matches: Matches,
    hold: Arc<Hold>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing has fallen into the trap yet.
    Open,
    Held,
    Released,
    Cut,
}

struct Hold {
    fate: Mutex<Fate>,
    changed: Condvar,
}

impl Hold {
    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, fate: Fate) {
        *self.fate() = fate;
        self.changed.notify_all();
    }

    /// Holds the calling thread until the test has decided; whether the frame goes on.
    fn hold(&self) -> bool {
        let mut fate = self.fate();
        if *fate == Fate::Open {
            *fate = Fate::Held;
        }
        while *fate == Fate::Held {
            fate = self.changed.wait(fate).unwrap_or_else(PoisonError::into_inner);
        }
        *fate == Fate::Released
    }
}

struct Shared {
    server: Mutex<Option<SocketAddr>>,
    rule: Mutex<Option<Rule>>,
    /// How long a frame takes, each way.
    each_way: Mutex<Duration>,
}

impl Shared {
    fn each_way(&self) -> Duration {
        *self.each_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The proxy; it ends with the test's process.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A trap that was set. Dropping it cuts the connection of what fell in.
pub struct Trap {
    hold: Arc<Hold>,
}

impl FaultProxy {
    /// Listens; connections are closed until [`FaultProxy::forward_to`] names the server.
    ///
    /// # Errors
    /// When loopback has no free port.
    pub fn listen() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server: Mutex::new(None),
            rule: Mutex::new(None),
            each_way: Mutex::new(Duration::ZERO),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || {
                    // A connection that fails is a connection that ends: its client sees that.
                    let _ = serve(client, &shared);
                });
            }
        });
        Ok(Self { address, shared })
    }

    /// `HOST:PORT` for clients, and for the server to advertise.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Names the server.
    pub fn forward_to(&self, server: SocketAddr) {
        *self.shared.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }

    /// Lets every frame take so long, each way, from now on. Frames follow each other as closely as before.
    pub fn delay(&self, each_way: Duration) {
        *self.shared.each_way.lock().unwrap_or_else(PoisonError::into_inner) = each_way;
    }

    /// Sets a trap for the next request of a kind, or for its answer; one trap at a time.
    pub fn trap(&self, point: Point, matches: impl FnMut(&Request) -> bool + Send + 'static) -> Trap {
        let hold = Arc::new(Hold { fate: Mutex::new(Fate::Open), changed: Condvar::new() });
        let rule = Rule { point, matches: Box::new(matches), hold: Arc::clone(&hold) };
        *self.shared.rule.lock().unwrap_or_else(PoisonError::into_inner) = Some(rule);
        Trap { hold }
    }
}

impl Trap {
    /// Waits until something has fallen in.
    ///
    /// # Errors
    /// When nothing does in time.
    pub fn wait(&self, deadline: &Deadline) -> anyhow::Result<()> {
        deadline
            .wait_for("a frame to fall into the trap", || Ok((*self.hold.fate() != Fate::Open).then_some(())))
    }

    /// Lets the frame go on, whether or not its client still lives.
    pub fn release(self) {
        self.hold.set(Fate::Released);
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        if *self.hold.fate() != Fate::Released {
            self.hold.set(Fate::Cut);
        }
    }
}

/// Holds that answers have to pass, in the order of their requests.
type Answers = Arc<Mutex<VecDeque<Option<Arc<Hold>>>>>;

/// One direction of a connection: frames that arrive when their time has come.
struct Way {
    frames: SyncSender<(Deadline, Vec<u8>)>,
    arriving: JoinHandle<()>,
}

impl Way {
    fn to(peer: &TcpStream) -> std::io::Result<Self> {
        let (frames, on_the_way) = sync_channel(FRAMES_ON_THE_WAY);
        let peer = peer.try_clone()?;
        Ok(Self { frames, arriving: std::thread::spawn(move || arrive(&on_the_way, peer)) })
    }

    fn pass(&self, frame: Vec<u8>, shared: &Shared) -> std::io::Result<()> {
        let due = Deadline::after(shared.each_way());
        self.frames.send((due, frame)).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }

    /// Waits until all that was passed has arrived.
    fn end(self) {
        drop(self.frames);
        // A peer that is gone gets no more frames, which is what its end means.
        let _ = self.arriving.join();
    }
}

fn arrive(on_the_way: &Receiver<(Deadline, Vec<u8>)>, mut peer: TcpStream) {
    for (due, frame) in on_the_way {
        sleep(due.left());
        if peer.write_all(&frame).is_err() {
            return;
        }
    }
}

fn serve(mut client: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    let server = *shared.server.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(server) = server else { return Ok(()) };
    let server = TcpStream::connect(server)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let answers = Answers::default();
    let back = (server.try_clone()?, client.try_clone()?, Way::to(&client)?);
    let (asked, passing) = (Arc::clone(&answers), Arc::clone(shared));
    std::thread::spawn(move || {
        let (mut server, client, way) = back;
        let _ = pass_answers(&mut server, &way, &passing, &asked);
        way.end();
        let _ = client.shutdown(Shutdown::Both);
    });
    let way = Way::to(&server)?;
    let passed = pass_requests(&mut client, &way, shared, &answers);
    way.end();
    match passed {
        // The client is gone; what the server still has to do, it does.
        Ok(true) => server.shutdown(Shutdown::Write),
        Ok(false) | Err(_) => {
            let _ = client.shutdown(Shutdown::Both);
            server.shutdown(Shutdown::Both)
        }
    }
}

/// True when the client ended the connection, false when a trap did.
fn pass_requests(
    client: &mut TcpStream,
    way: &Way,
    shared: &Shared,
    answers: &Answers,
) -> std::io::Result<bool> {
    while let Some(frame) = read_frame(client)? {
        let caught = catch(&frame, shared);
        let answer = match caught {
            Some((Point::BeforeServer, hold)) if !hold.hold() => return Ok(false),
            Some((Point::AfterServer, hold)) => Some(hold),
            _ => None,
        };
        answers.lock().unwrap_or_else(PoisonError::into_inner).push_back(answer);
        way.pass(frame, shared)?;
    }
    Ok(true)
}

fn pass_answers(
    server: &mut TcpStream,
    way: &Way,
    shared: &Shared,
    answers: &Answers,
) -> std::io::Result<()> {
    while let Some(frame) = read_frame(server)? {
        let hold = answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front().flatten();
        if hold.is_some_and(|hold| !hold.hold()) {
            return Ok(());
        }
        way.pass(frame, shared)?;
    }
    Ok(())
}

fn catch(frame: &[u8], shared: &Shared) -> Option<(Point, Arc<Hold>)> {
    let mut rule = shared.rule.lock().unwrap_or_else(PoisonError::into_inner);
    rule.as_ref()?;
    let body = Bytes::copy_from_slice(&frame[wire::frame::PREFIX_BYTES..]);
    let Ok(Opened::Request(header, reader)) = open_request(body) else { return None };
    if header.key == ApiKey::ApiVersions {
        return None;
    }
    let request = header.decode_body(reader).ok()?;
    let caught = rule.take_if(|rule| (rule.matches)(&request))?;
    Some((caught.point, caught.hold))
}

/// A frame with its length; `None` when the peer has ended the connection.
fn read_frame(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut prefix = [0; wire::frame::PREFIX_BYTES];
    match stream.read_exact(&mut prefix) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = wire::frame::body_length(prefix, FRAME_LIMIT_BYTES).map_err(std::io::Error::other)?;
    let mut frame = vec![0; prefix.len() + length];
    frame[..prefix.len()].copy_from_slice(&prefix);
    stream.read_exact(&mut frame[prefix.len()..])?;
    Ok(Some(frame))
}
