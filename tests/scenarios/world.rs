//! The servers that the rows run against: one of each kind and version, started when first needed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, OnceLock};

use super::row::{At, Row};
use crate::support::install;
use crate::support::keeper::{self, Scratch};
use crate::support::peer::{FakeServer, SSL_REQUEST, Wire};
use crate::support::port::Port;
use crate::support::server::{Plan, Server, Version, as_postgres, give_to_postgres};

/// All servers of one version.
#[derive(Debug)]
pub struct World {
    version: Version,
    roles: String,
    main: OnceLock<Server>,
    plain: OnceLock<Server>,
    full: OnceLock<Server>,
    impatient: OnceLock<Server>,
    tls13: OnceLock<Server>,
    one_cipher: OnceLock<Server>,
    standby: OnceLock<Server>,
    hot_standby: OnceLock<Server>,
    starting: OnceLock<Server>,
    stopping: OnceLock<Server>,
    stopping_in_german: OnceLock<Server>,
    german: OnceLock<Server>,
    bouncer: OnceLock<u16>,
    small_bouncer: OnceLock<u16>,
    /// Held by rows that prepare something: they would get into each other's way.
    pub alone: Mutex<()>,
}

/// What a row's upstream is made of.
#[derive(Debug)]
pub struct Target {
    /// Host (or socket directory) and port, or a whole text.
    pub upstream: Upstream,
    /// Lives as long as the row.
    _fake: Option<FakeServer>,
    _held: Option<Wire>,
    _nobody: Option<Port>,
}

/// Where to.
#[derive(Debug)]
pub enum Upstream {
    /// A TCP address on 127.0.0.1.
    Port(u16),
    /// A Unix socket.
    Socket(PathBuf, u16),
    /// As the row says.
    Text(String),
}

impl World {
    pub fn new(version: Version, rows: &[Row]) -> Self {
        let mut roles = String::new();
        for (name, password) in rows.iter().filter_map(|row| row.role.as_ref()) {
            roles.push_str(&format!("create role \"{name}\" login password {};\n", literal(password)));
        }
        Self {
            version,
            roles,
            main: OnceLock::new(),
            plain: OnceLock::new(),
            full: OnceLock::new(),
            impatient: OnceLock::new(),
            tls13: OnceLock::new(),
            one_cipher: OnceLock::new(),
            standby: OnceLock::new(),
            hot_standby: OnceLock::new(),
            starting: OnceLock::new(),
            stopping: OnceLock::new(),
            stopping_in_german: OnceLock::new(),
            german: OnceLock::new(),
            bouncer: OnceLock::new(),
            small_bouncer: OnceLock::new(),
            alone: Mutex::new(()),
        }
    }

    /// The server behind a row, if it has a real one.
    pub fn server(&self, at: At) -> Option<&Server> {
        let start = |cell: &'static str, plan: Plan| move || self.start(cell, plan);
        let server = match at {
            At::Main | At::MainSocket | At::Bouncer | At::SmallBouncer => {
                self.main.get_or_init(start("main", Plan { tls: true, ..self.plan() }))
            }
            At::Plain | At::PlainByBoth => {
                let conf = "listen_addresses = '127.0.0.1'\n";
                self.plain.get_or_init(start("plain", self.plan_with(conf)))
            }
            At::Full => {
                let conf = "max_connections = 5\nsuperuser_reserved_connections = 2\nmax_wal_senders = 0\n";
                self.full.get_or_init(start("full", self.plan_with(conf)))
            }
            At::Impatient => {
                let plan = self.plan();
                let late_conf = "authentication_timeout = 1s\n".to_owned();
                self.impatient.get_or_init(start("impatient", Plan { late_conf, ..plan }))
            }
            At::Tls13 => {
                let plan = self.plan_with("ssl_min_protocol_version = 'TLSv1.3'\n");
                self.tls13.get_or_init(start("tls13", Plan { tls: true, ..plan }))
            }
            At::OneCipher => {
                let plan = self.plan_with("ssl_ciphers = 'ECDHE-ECDSA-AES256-GCM-SHA384'\n");
                self.one_cipher.get_or_init(start("one cipher", Plan { tls: true, ..plan }))
            }
            At::Standby => {
                let late_conf = "hot_standby = off\n".to_owned();
                let plan = Plan {
                    late_conf,
                    late_files: vec!["standby.signal"],
                    late_wait: "consistent recovery state reached",
                    ..self.plan()
                };
                self.standby.get_or_init(start("standby", plan))
            }
            At::HotStandby => {
                let plan = Plan {
                    late_files: vec!["standby.signal"],
                    late_wait: "ready to accept read-only connections",
                    ..self.plan()
                };
                self.hot_standby.get_or_init(start("hot standby", plan))
            }
            At::Starting => {
                // The first file that recovery asks the archive for never comes.
                let late_conf = "restore_command = 'tail --pid=$PPID -f /dev/null'\n".to_owned();
                let plan = Plan {
                    late_conf,
                    late_files: vec!["recovery.signal"],
                    late_wait: "listening on Unix socket",
                    ..self.plan()
                };
                self.starting.get_or_init(start("starting", plan))
            }
            At::Stopping => self.stopping.get_or_init(start("stopping", self.plan())),
            At::StoppingInGerman => {
                let plan = Plan { german: true, ..self.plan() };
                self.stopping_in_german.get_or_init(start("stopping in German", plan))
            }
            At::German => {
                self.german.get_or_init(start("german", Plan { german: true, tls: true, ..self.plan() }))
            }
            At::Fake(_) | At::Nobody | At::Blackhole | At::BlackholeForEver | At::Text(_) => return None,
        };
        Some(server)
    }

    fn start(&self, name: &str, plan: Plan) -> Server {
        let began = std::time::Instant::now();
        let server = Server::start(self.version, &plan);
        println!("  started PostgreSQL {:?} ({name}) in {} ms", self.version, began.elapsed().as_millis());
        server
    }

    /// Where a row's proxy shall connect.
    pub fn target(&self, at: At) -> Target {
        let (mut fake, mut held, mut nobody) = (None, None, None);
        let upstream = match at {
            At::Fake(behaviour) => {
                let server = FakeServer::start(behaviour);
                let port = server.addr.port();
                fake = Some(server);
                Upstream::Port(port)
            }
            At::Nobody => Upstream::Port(nobody.insert(Port::reserve()).number),
            At::Blackhole => Upstream::Text(format!("host=127.0.0.1 port={} connect_timeout=2", blackhole())),
            At::BlackholeForEver => Upstream::Text(format!("host=127.0.0.1 port={}", blackhole())),
            At::Text(text) => Upstream::Text(text.to_owned()),
            At::Bouncer => Upstream::Port(*self.bouncer.get_or_init(|| self.start_bouncer(100))),
            At::SmallBouncer => {
                let port = *self.small_bouncer.get_or_init(|| self.start_bouncer(1));
                // A connection that has not logged in counts too.
                let mut wire =
                    Wire::connect(SocketAddr::from(([127, 0, 0, 1], port))).expect("pgbouncer listens");
                wire.send(SSL_REQUEST).and_then(|()| wire.read(1)).expect("pgbouncer answers");
                held = Some(wire);
                Upstream::Port(port)
            }
            At::PlainByBoth => {
                let port = self.server(at).expect("a real server").port;
                Upstream::Text(format!("host=::1,127.0.0.1 port={port},{port}"))
            }
            At::MainSocket => {
                let server = self.server(at).expect("a real server");
                Upstream::Socket(server.socket_dir().to_owned(), server.port)
            }
            _ => Upstream::Port(self.server(at).expect("a real server").port),
        };
        Target { upstream, _fake: fake, _held: held, _nobody: nobody }
    }

    fn plan(&self) -> Plan {
        self.plan_with("")
    }

    fn plan_with(&self, conf: &str) -> Plan {
        let mut hba = HBA.to_owned();
        hba.push_str(match self.version {
            Version::V15 => HBA_15,
            Version::V18 => HBA_18,
        });
        let mut conf = conf.to_owned();
        let mut sql = format!("{SETUP}{}", self.roles);
        if self.version == Version::V18 {
            conf.push_str("oauth_validator_libraries = 'no_such_validator'\n");
            sql.push_str(SETUP_18);
        }
        Plan { hba, conf, sql, ..Plan::default() }
    }

    /// PgBouncer in front of the main server; stopped by the keeper.
    fn start_bouncer(&self, max_clients: usize) -> u16 {
        let server = self.server(At::Main).expect("a real server");
        let program = install::need("pgbouncer", "apt-get install pgbouncer");
        let dir = Box::leak(Box::new(Scratch::new()));
        let users = format!(
            "\"app_scram\" \"{0}\"\n\"app_md5\" \"stale-pw-of-the-pooler\"\n\"app_clear\" \"{0}\"\n",
            super::row::RIGHT
        );
        let users = dir.write("users.txt", users);
        // As the servers, it lives as long as the tests do.
        let port = Box::leak(Box::new(Port::reserve())).number;
        let ini = format!(
            "[databases]\nd_scram = host=127.0.0.1 port={0}\nd_md5 = host=127.0.0.1 port={0}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {1}\nmax_client_conn = {max_clients}\n\
             server_login_retry = 1\nlogfile =\npidfile =\n",
            server.port,
            users.display(),
        );
        let ini = dir.write("pgbouncer.ini", ini);
        give_to_postgres(&users);
        let mut command = as_postgres(&program);
        command.arg(ini).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::piped());
        let mut child = command.spawn().expect("pgbouncer can be run");
        keeper::watch(child.id());
        let stderr = std::io::BufReader::new(child.stderr.take().expect("a pipe"));
        let mut lines = std::io::BufRead::lines(stderr).map_while(Result::ok);
        assert!(lines.any(|line| line.contains("process up")), "pgbouncer does not start");
        // Somebody has to read on, or the pipe fills and it stops.
        std::thread::spawn(move || {
            lines.for_each(drop);
            child.wait()
        });
        port
    }
}

/// A port whose listener never accepts and whose queue is full, so that the kernel drops SYNs.
fn blackhole() -> u16 {
    static PORT: LazyLock<(u16, rustix::fd::OwnedFd, std::net::TcpStream)> = LazyLock::new(|| {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        let any = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0);
        bind(&fd, &any).expect("a free port");
        listen(&fd, 0).expect("a listener");
        let addr: std::net::SocketAddr = getsockname(&fd).expect("its name").try_into().expect("an address");
        let filler = std::net::TcpStream::connect(addr).expect("the first one fits");
        (addr.port(), fd, filler)
    });
    PORT.0
}

fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n").replace('\r', "\\r");
    format!("E'{escaped}'")
}

const HBA: &str = "
local     d_peer      all                  peer
local     all         all                  scram-sha-256
host      all         postgres        all  trust
host      replication app_repl,app_scram  all  scram-sha-256
host      d_reject    all             all  reject
hostssl   d_tls_only  all             all  scram-sha-256
hostnossl d_tls_only  all             all  reject
host      d_ident     all             all  ident
hostssl   d_ssl       all             all  scram-sha-256
hostnossl d_nossl     all             all  scram-sha-256
host      d_md5       all             all  md5
host      d_clear     all             all  password
host      d_trust     all             all  trust
host      d_radius    all             all  radius radiusservers=127.0.0.1 radiussecrets=s radiusports=9
host      d_scram,d_closed,d_limited,d_private,d_trigger,d_trigger_2,d_trigger_3 all all scram-sha-256
host      all         anydb           all  scram-sha-256
host      all         trust_any       all  trust
";

const HBA_15: &str = "
host      d_ldap      all             all  ldap ldapserver=127.0.0.1 ldapport=9 ldapprefix=\"uid=\" ldapsuffix=\",dc=zoo\"
host      d_gss       all             all  gss
";

const HBA_18: &str = "
host      d_oauth     all             all  oauth issuer=\"https://issuer.test\" scope=openid
";

const SETUP: &str = "
create role app_scram login password 'correct-pw-7Q';
create role anydb login password 'correct-pw-7Q';
create role trust_any login;
create role trust_two login;
create role app_clear login password 'correct-pw-7Q';
create role app_nologin nologin password 'correct-pw-7Q';
create role app_limited login password 'correct-pw-7Q' connection limit 0;
create role app_repl login replication password 'correct-pw-7Q';
create role app_expired login password 'correct-pw-7Q' valid until '2001-01-01';
create role app_nopw login;
create role app_reader login password 'correct-pw-7Q';
alter role app_reader set default_transaction_read_only = on;
create role app_preload login password 'correct-pw-7Q';
alter role app_preload set session_preload_libraries = 'no_such_library';
-- Its verifier asks for more iterations than node-postgres is willing to make.
create role app_slow login password
    'SCRAM-SHA-256$200000:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=';
set password_encryption = 'md5';
create role app_md5 login password 'correct-pw-7Q';
reset password_encryption;
create database d_scram;
create database d_md5;
create database d_clear;
create database d_trust;
create database d_ssl;
create database d_nossl;
create database d_tls_only;
create database d_closed allow_connections false;
create database d_limited connection limit 0;
create database d_private;
revoke connect on database d_private from public;
";

const SETUP_18: &str = "
create database d_trigger;
\\connect d_trigger
create function refuse() returns event_trigger language plpgsql
    as 'begin raise exception ''no logins today''; end';
create event trigger refuse on login execute function refuse();
create database d_trigger_2;
\\connect d_trigger_2
create function refuse() returns event_trigger language plpgsql
    as 'begin raise exception ''no database today'' using errcode = ''3D000''; end';
create event trigger refuse on login execute function refuse();
create database d_trigger_3;
\\connect d_trigger_3
create sequence numbers;
grant usage on sequence numbers to public;
create function refuse() returns event_trigger language plpgsql
    as 'begin perform currval(''numbers''); end';
create event trigger refuse on login execute function refuse();
";
