//! The clusters of one version and the contexts that they give.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgwhy::password::mock;

use super::adversarial;
use super::case::{Case, On, With};
use crate::support::keeper::Scratch;
use crate::support::peer::{FakeServer, V3, Wire};
use crate::support::server::{Plan, Server, Version};

const HBA: &str = "local all all trust
host all clear,ghostclear,nopwclear,expclear 127.0.0.1/32 password
host all md5user,md5scram,ghostmd5,nopwmd5 127.0.0.1/32 md5
host all t,Trusty,Nobody,roled,small,nolog 127.0.0.1/32 trust
host all rejected 127.0.0.1/32 reject
host all identuser 127.0.0.1/32 ident
hostssl all tlsonly 127.0.0.1/32 scram-sha-256
host all app,APP,ghost,nopw,expired,\"app \",md5secret,nopwexp,spare,onlyhere,late,md5exp,yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy 127.0.0.1/32 scram-sha-256
";

const SQL: &str = "
CREATE ROLE app LOGIN PASSWORD 'r1ght-pass'; CREATE ROLE spare LOGIN PASSWORD 'r1ght-pass';
CREATE ROLE nopw LOGIN; CREATE ROLE nopwclear LOGIN; CREATE ROLE nopwmd5 LOGIN;
CREATE ROLE expired LOGIN PASSWORD 'r1ght-pass' VALID UNTIL '2001-01-01';
CREATE ROLE expclear LOGIN PASSWORD 'r1ght-pass' VALID UNTIL '2001-01-01';
CREATE ROLE nopwexp LOGIN VALID UNTIL '2001-01-01';
CREATE ROLE clear LOGIN PASSWORD 'r1ght-pass'; CREATE ROLE md5scram LOGIN PASSWORD 'r1ght-pass';
CREATE ROLE t LOGIN; CREATE ROLE trusty LOGIN; CREATE ROLE roled LOGIN CONNECTION LIMIT 0; CREATE ROLE small LOGIN;
CREATE ROLE nolog; CREATE ROLE rejected LOGIN; CREATE ROLE identuser LOGIN; CREATE ROLE tlsonly LOGIN;
CREATE ROLE monitor LOGIN IN ROLE pg_monitor; CREATE ROLE plain LOGIN;
SET password_encryption = 'md5';
CREATE ROLE md5user LOGIN PASSWORD 'r1ght-pass'; CREATE ROLE md5secret LOGIN PASSWORD 'r1ght-pass';
CREATE ROLE md5exp LOGIN PASSWORD 'r1ght-pass' VALID UNTIL '2001-01-01';
RESET password_encryption;
CREATE DATABASE shop; CREATE DATABASE tiny CONNECTION LIMIT 0;
";

/// Logging into files in the data directory.
pub fn logging(more: &str) -> String {
    format!("logging_collector = on\nlog_directory = 'log'\nlog_filename = 'pg.log'\n{more}\n")
}

pub struct Stage {
    pub main: Server,
    quiet: Server,
    scratch: Scratch,
    control: PathBuf,
    wrong_control: PathBuf,
    stalled: FakeServer,
    http: FakeServer,
    breaks: FakeServer,
    empty: FakeServer,
}

fn start(version: Version, conf: String, more: &str) -> Server {
    let plan = Plan {
        hba: format!("{HBA}{}", adversarial::LINES),
        sql: format!("{SQL}{}{more}", adversarial::SQL),
        late_conf: conf,
        late_wait: "collector process",
        ..Plan::default()
    };
    let server = Server::start(version, &plan);
    server.wait_for_sql();
    server
}

impl Stage {
    pub fn new(version: Version) -> Self {
        let main = start(
            version,
            logging("log_destination = 'stderr,csvlog,jsonlog'"),
            &format!("CREATE ROLE onlyhere LOGIN PASSWORD 'r1ght-pass';{}", adversarial::HERE),
        );
        let quiet = start(version, logging("log_connections = off"), adversarial::THERE);
        let scratch = Scratch::new();
        let line = |nonce: [u8; 32]| {
            let hex: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("Mock authentication nonce:            {hex}\n")
        };
        // The clusters are copies of one template and share their nonce.
        let control = scratch.write("control", line(nonce(&main)));
        let wrong_control = scratch.write("wrong_control", line([7; 32]));
        scratch.write("garbage.log", [0xff, 0, 1, 2, b'\n', 0xfe].repeat(1000));
        Self {
            main,
            quiet,
            scratch,
            control,
            wrong_control,
            stalled: FakeServer::start(|wire| wire.read_to_end().map(drop)),
            http: FakeServer::start(|wire| wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\nabcdefgh")),
            breaks: FakeServer::start(|wire| {
                welcome(wire)?;
                wire.read(6)?;
                wire.send(b"D\0\0\x10\0abc")
            }),
            empty: FakeServer::start(|wire| {
                welcome(wire)?;
                loop {
                    let (kind, _) = wire.read_message()?;
                    match kind {
                        b'Q' => {
                            wire.message(b'C', b"SELECT 0\0")?;
                            wire.message(b'Z', b"I")?;
                        }
                        b'X' => return Ok(()),
                        b'P' => wire.message(b'1', b"")?,
                        b'B' => wire.message(b'2', b"")?,
                        b'D' => wire.message(b'n', b"")?,
                        b'E' => wire.message(b'C', b"SELECT 0\0")?,
                        b'S' => wire.message(b'Z', b"I")?,
                        _ => {}
                    }
                }
            }),
        }
    }

    pub fn play(&self, case: &Case) -> Vec<String> {
        let (server, other) = match case.on {
            On::Main => (&self.main, &self.quiet),
            On::Quiet => (&self.quiet, &self.main),
        };
        let args: Vec<_> = case.with.iter().flat_map(|with| self.args(*with, server, other)).collect();
        case.play(server.port, &args)
    }

    fn args(&self, with: With, server: &Server, other: &Server) -> Vec<String> {
        let option = |name: &str, value: String| vec![format!("--{name}"), value];
        let fake = |fake: &FakeServer| {
            option("admin", format!("postgres://a:adm1n-pass@{}/d?sslmode=disable", fake.addr))
        };
        let admin = |server: &Server, user: &str| option("admin", conninfo(server, user));
        let log = |server: &Server, ending: &str| {
            server.data().join("log/pg").with_extension(ending).display().to_string()
        };
        match with {
            With::Admin => admin(server, "postgres"),
            With::AdminAs(user) => admin(server, user),
            With::AdminElsewhere => admin(other, "postgres"),
            With::AdminDead => option("admin", "postgres://a:adm1n-pass@127.0.0.1:1/d".into()),
            With::AdminStalled => fake(&self.stalled),
            With::AdminHttp => fake(&self.http),
            With::AdminBreaks => fake(&self.breaks),
            With::AdminEmpty => fake(&self.empty),
            With::Log(ending) => option("server-log", log(server, ending)),
            With::LogElsewhere => option("server-log", log(other, "log")),
            With::LogMissing => {
                option("server-log", self.scratch.path().join("none.log").display().to_string())
            }
            With::LogGarbage => {
                option("server-log", self.scratch.path().join("garbage.log").display().to_string())
            }
            With::Control => option("control-data", self.control.display().to_string()),
            With::ControlElsewhere => option("control-data", self.wrong_control.display().to_string()),
            With::Hba => {
                let number = if server.version == Version::V15 { "15" } else { "18" };
                let file = server.data().join("pg_hba.conf").display().to_string();
                [option("hba", file), option("pg-version", number.into())].concat()
            }
        }
    }
}

/// A connection over the Unix socket.
pub fn conninfo(server: &Server, user: &str) -> String {
    format!("host='{}' port={} user={user} dbname=postgres", server.socket_dir().display(), server.port)
}

fn welcome(wire: &mut Wire) -> std::io::Result<()> {
    wire.read_packet()?;
    wire.message(b'R', &[0, 0, 0, 0])?;
    wire.message(b'K', &[0; 8])?;
    wire.message(b'Z', b"I")
}

/// The mock authentication nonce: the 32 bytes of the control file that make the salt of a role that
/// does not exist. (The bundle of 18 has no pg_controldata.)
fn nonce(server: &Server) -> [u8; 32] {
    let mut wire = Wire::connect(server.addr()).unwrap();
    wire.startup(V3, &[("user", "ghost")]).unwrap();
    wire.read_until(b'R').unwrap();
    let first = b"n,,n=,r=0123456789abcdefghijklmn";
    let length = u32::try_from(first.len()).unwrap().to_be_bytes();
    wire.message(b'p', &[b"SCRAM-SHA-256\0", &length[..], first].concat()).unwrap();
    let challenge = String::from_utf8(wire.read_until(b'R').unwrap()[4..].to_vec()).unwrap();
    let salt = challenge.split(',').find_map(|part| part.strip_prefix("s=")).unwrap();
    let salt = STANDARD.decode(salt).unwrap();
    let file = std::fs::read(server.data().join("global/pg_control")).unwrap();
    let mut nonces = file[..512].windows(32).map(|window| <[u8; 32]>::try_from(window).unwrap());
    nonces.find(|nonce| salt == mock::mock_salt(b"ghost", nonce)).expect("the control file has the nonce")
}
