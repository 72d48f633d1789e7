//! Logins by hand: over TCP from chosen addresses, over TLS, over the Unix socket.

use std::io::{Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use pgwhy::hba::{Connection, Kind, Replication};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::support::peer::{V3, message, startup};
use crate::support::server::Server;
use crate::support::{DEADLINE, keeper};

/// What a login met.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The authentication requests other than "ok" and SASL's continuation.
    pub asked: Vec<u32>,
    /// AuthenticationOk came.
    pub let_in: bool,
    /// The error, if one came: code and message.
    pub error: String,
}

/// Logs in with a password that is wrong for everybody.
pub fn log_in(server: &Server, login: &Connection) -> Seen {
    let mut stream = open(server, login).expect("the server accepts connections");
    let mut parameters = vec![("user", login.user.as_str()), ("database", login.database.as_str())];
    match login.replication {
        Replication::None => {}
        Replication::Physical => parameters.push(("replication", "true")),
        Replication::Database => parameters.push(("replication", "database")),
    }
    stream.write_all(&startup(V3, &parameters)).expect("the startup packet is sent");
    let mut seen = Seen::default();
    loop {
        let (kind, body) = read_message(&mut stream).expect("a message");
        match kind {
            b'R' => {
                let request = u32::from_be_bytes(body[..4].try_into().expect("four bytes"));
                let answer = match request {
                    0 => {
                        seen.let_in = true;
                        continue;
                    }
                    10 => sasl_initial(),
                    11 => sasl_final(&body[4..]),
                    _ => message(b'p', b"wrong\0"),
                };
                if request != 11 {
                    seen.asked.push(request);
                }
                stream.write_all(&answer).expect("the answer is sent");
            }
            b'E' => {
                seen.error = String::from_utf8_lossy(&body).replace('\0', " ");
                return seen;
            }
            b'Z' => return seen,
            _ => {}
        }
    }
}

/// One connection that the server must accept, whatever it then thinks of it.
pub fn poke(server: &Server) {
    let mut stream = UnixStream::connect(socket(server)).expect("the socket");
    stream.write_all(&startup(V3, &[("user", "nobody in particular")])).expect("the startup packet is sent");
    let mut all = Vec::new();
    stream.shutdown(std::net::Shutdown::Write).expect("shut down");
    let _ = stream.read_to_end(&mut all);
}

fn sasl_initial() -> Vec<u8> {
    let first = b"n,,n=,r=abcdefgh";
    let mut body = b"SCRAM-SHA-256\0".to_vec();
    body.extend(u32::try_from(first.len()).expect("short").to_be_bytes());
    body.extend(first);
    message(b'p', &body)
}

fn sasl_final(server_first: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(server_first);
    let nonce = text.split(',').find_map(|part| part.strip_prefix("r=")).expect("a nonce");
    let proof = format!("c=biws,r={nonce},p={}=", "A".repeat(43));
    message(b'p', proof.as_bytes())
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn open(server: &Server, login: &Connection) -> Result<Box<dyn Stream>> {
    if login.kind == Kind::Local {
        let stream = UnixStream::connect(socket(server))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        return Ok(Box::new(stream));
    }
    let source = login.address.expect("TCP has an address");
    let target = SocketAddr::new(
        if source.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() },
        server.port,
    );
    if login.tls {
        return Ok(Box::new(Tls::open(source, target)));
    }
    let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    rustix::net::connect(&socket, &target)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(Box::new(stream))
}

fn socket(server: &Server) -> std::path::PathBuf {
    server.socket_dir().join(format!(".s.PGSQL.{}", server.port))
}

fn read_message(stream: &mut impl Read) -> Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes(head[1..].try_into().expect("four bytes")) as usize;
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body)?;
    Ok((head[0], body))
}

/// TLS by openssl's client: bytes in, bytes out.
struct Tls {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Tls {
    fn open(source: std::net::IpAddr, target: SocketAddr) -> Self {
        let source = SocketAddr::new(source, 0).to_string();
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-starttls", "postgres", "-bind", &source, "-connect"])
            .arg(target.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl: apt-get install openssl");
        keeper::watch(child.id());
        let (input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Self { child, input, output }
    }
}

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.output.read(buffer)
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.input.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.input.flush()
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        // It may have ended with the connection.
        let _ = self.child.kill();
        let _ = self.child.wait();
        keeper::forget(self.child.id());
    }
}

/// For each «connection received» of the log, the line that it says matched.
pub fn matched_lines(log: &[String]) -> Vec<Option<(Option<String>, usize)>> {
    let mut order: Vec<String> = Vec::new();
    let mut found = std::collections::BTreeMap::new();
    let mut current = String::new();
    for line in log {
        // Continued lines begin with a tab and carry no process id.
        if !line.starts_with('\t')
            && let Some((_, rest)) = line.split_once('[')
        {
            current = rest.split(']').next().unwrap_or_default().to_owned();
        }
        if line.contains("connection received: ") {
            order.push(current.clone());
        }
        if let Some(matched) = matched(line) {
            found.entry(current.clone()).or_insert(matched);
        }
    }
    order.iter().map(|process| found.remove(process)).collect()
}

fn matched(line: &str) -> Option<(Option<String>, usize)> {
    let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    if let Some((_, rest)) = line.split_once("Connection matched pg_hba.conf line ") {
        return Some((None, number(rest)?));
    }
    if let Some((_, rest)) = line.split_once("Connection matched file \"") {
        let (file, rest) = rest.split_once("\" line ")?;
        return Some((Some(file.to_owned()), number(rest)?));
    }
    let (_, rest) = line.split_once("connection authenticated: ")?;
    let (_, rest) = rest.rsplit_once(" (")?;
    let (file, rest) = rest.rsplit_once(':')?;
    Some((Some(file.to_owned()), number(rest)?))
}

/// A superuser's session that stays, whatever pg_hba.conf becomes.
pub struct Control {
    stream: UnixStream,
}

impl Control {
    pub fn open(server: &Server) -> Self {
        let mut stream = UnixStream::connect(socket(server)).expect("the socket");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream
            .write_all(&startup(V3, &[("user", "postgres"), ("database", "postgres")]))
            .expect("the startup packet is sent");
        let mut control = Self { stream };
        control.rows();
        control
    }

    /// Runs a statement and returns its rows as texts; NULL is a NUL character.
    pub fn query(&mut self, sql: &str) -> Vec<Vec<String>> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.stream.write_all(&message(b'Q', &body)).expect("the statement is sent");
        self.rows()
    }

    fn rows(&mut self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        loop {
            let (kind, body) = read_message(&mut self.stream).expect("a message");
            match kind {
                b'D' => rows.push(row(&body)),
                b'E' => panic!("{}", String::from_utf8_lossy(&body)),
                b'Z' => return rows,
                _ => {}
            }
        }
    }

    /// pg_hba_file_rules, one text a row, sorted.
    pub fn hba_rows(&mut self, with_names: bool) -> Vec<String> {
        let name = if with_names { "file_name" } else { "''" };
        let sql = format!(
            "select {name}, line_number, type, array_to_string(database, '|'), \
             array_to_string(user_name, '|'), coalesce(address, ''), coalesce(netmask, ''), auth_method, \
             coalesce((select string_agg(o, ' ') from unnest(options) o where o like 'map=%'), ''), \
             coalesce((select string_agg(o, ' ') from unnest(options) o where o like 'clientcert=%'), '') \
             from pg_hba_file_rules"
        );
        let row = |r: Vec<String>| match r[2] == "\0" {
            true => format!("{}:{} refused", r[0], r[1]),
            false => {
                let address = r[5].parse::<std::net::IpAddr>().map_or(r[5].clone(), |a| a.to_string());
                let mask = r[6].parse::<std::net::IpAddr>().map_or(r[6].clone(), |a| a.to_string());
                format!(
                    "{}:{} {} [{}] [{}] {address} {mask} {} {} {}",
                    r[0], r[1], r[2], r[3], r[4], r[7], r[8], r[9]
                )
            }
        };
        let mut rows: Vec<String> = self.query(&sql).into_iter().map(row).collect();
        rows.sort();
        rows
    }

    /// pg_ident_file_mappings: the lines, and which of them are refused; sorted.
    pub fn ident_rows(&mut self) -> Vec<String> {
        let sql = "select line_number || case when error is null then '' else ' refused' end from pg_ident_file_mappings";
        let mut rows: Vec<String> = self.query(sql).into_iter().flatten().collect();
        rows.sort();
        rows
    }
}

fn row(body: &[u8]) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = &body[2..];
    while let Some((head, after)) = rest.split_first_chunk::<4>() {
        match usize::try_from(i32::from_be_bytes(*head)) {
            Ok(length) => {
                values.push(String::from_utf8_lossy(&after[..length]).into_owned());
                rest = &after[length..];
            }
            Err(_) => {
                values.push("\0".to_owned());
                rest = after;
            }
        }
    }
    values
}
