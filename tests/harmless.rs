//! Through pgwhy everything gives the same result as without it: byte for byte where that has a meaning.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test has no public face")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest as _, Sha256};
use support::client::{clean, run_until};
use support::install;
use support::keeper::Scratch;
use support::proxy::Proxy;
use support::server::{Plan, Server, Version};

/// Long enough for 200 MB on a busy machine.
const LONG: Duration = Duration::from_secs(240);

static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(Version::V15, &plan()));

fn plan() -> Plan {
    Plan {
        hba: "local all all trust\nhost all all all trust\nhost replication all all trust\n".to_owned(),
        conf: "wal_level = logical\nmax_wal_size = 4GB\nshared_buffers = 128MB\nautovacuum = off\n"
            .to_owned(),
        tls: true,
        ..Plan::default()
    }
}

/// A way to the server.
#[derive(Clone, Copy)]
struct Road {
    addr: SocketAddr,
    sslmode: &'static str,
}

impl Road {
    /// A client program of PostgreSQL's on this road.
    fn program(self, name: &str) -> Command {
        let mut command = clean(install::client_program(name));
        command.env("PGHOST", self.addr.ip().to_string()).env("PGPORT", self.addr.port().to_string());
        command.env("PGUSER", "postgres").env("PGSSLMODE", self.sslmode);
        command
    }
}

fn direct() -> Road {
    Road { addr: SERVER.addr(), sslmode: "disable" }
}

fn proxy() -> Proxy {
    Proxy::start(&SERVER.addr().to_string(), &[])
}

fn through(proxy: &Proxy) -> Road {
    Road { addr: proxy.addr, sslmode: "disable" }
}

#[track_caller]
fn must(command: Command) -> String {
    let what = format!("{command:?}");
    let (ok, out, err) = run_until(command, LONG);
    assert!(ok, "{what} failed:\n{out}{err}");
    out
}

fn database(name: &str) {
    SERVER.sql(&format!("drop database if exists {name};\ncreate database {name};\n"));
}

/// One client with a fixed seed does the same transactions every time.
#[test]
fn pgbench_leaves_the_same_tables_in_every_mode() {
    let proxy = proxy();
    for (database_name, extra) in [
        ("bench_simple", &["-M", "simple"][..]),
        ("bench_extended", &["-M", "extended"]),
        ("bench_prepared", &["-M", "prepared"]),
        ("bench_connect", &["-C", "-M", "simple"]),
    ] {
        let sum = |road: Road| {
            database(database_name);
            let mut init = direct().program("pgbench");
            init.args(["-i", "-q", "-s", "1", database_name]);
            must(init);
            let mut bench = road.program("pgbench");
            bench.args(["-n", "-c", "1", "-t", "150", "--random-seed", "7"]).args(extra).arg(database_name);
            let told = must(bench);
            assert!(told.contains("number of transactions actually processed: 150/150"), "{told}");
            SERVER.sql_in(database_name, BENCH_SUM)
        };
        assert_eq!(sum(direct()), sum(through(&proxy)), "{extra:?}");
    }
}

const BENCH_SUM: &str = "
select sum(abalance), sum(hashtextextended(a::text, 0)) from pgbench_accounts a;
select sum(tbalance), sum(bbalance) from pgbench_tellers, pgbench_branches;
select count(*), sum(delta), sum(hashtextextended(tid || ' ' || aid || ' ' || delta, 0)) from pgbench_history;
";

#[test]
fn pgbench_with_many_clients_loses_nothing() {
    let proxy = proxy();
    database("bench_many");
    let mut init = direct().program("pgbench");
    init.args(["-i", "-q", "-s", "1", "bench_many"]);
    must(init);
    for extra in [&["-M", "simple"][..], &["-M", "extended"], &["-M", "prepared"], &["-M", "simple", "-C"]] {
        let mut bench = through(&proxy).program("pgbench");
        bench.args(["-n", "-S", "-c", "16", "-j", "2", "-t", "100"]).args(extra).arg("bench_many");
        let told = must(bench);
        assert!(told.contains("number of transactions actually processed: 1600/1600"), "{extra:?}: {told}");
        assert!(told.contains("number of failed transactions: 0 (0.000%)"), "{extra:?}: {told}");
    }
}

#[test]
fn pgbench_works_over_tls_that_is_passed_through() {
    let proxy = proxy();
    database("bench_tls");
    let mut init = direct().program("pgbench");
    init.args(["-i", "-q", "-s", "1", "bench_tls"]);
    must(init);
    let mut bench = Road { sslmode: "require", ..through(&proxy) }.program("pgbench");
    bench.args(["-n", "-S", "-c", "4", "-t", "100", "-M", "extended", "bench_tls"]);
    let told = must(bench);
    assert!(told.contains("number of transactions actually processed: 400/400"), "{told}");
}

#[test]
fn two_hundred_megabytes_are_the_same_both_ways() {
    let proxy = proxy();
    database("copies");
    SERVER.sql_in("copies", "create unlogged table source as select g, repeat(md5(g::text), 30) t from generate_series(1, 210000) g;\n");
    let (direct_sum, size) = copy_out(direct(), "source");
    assert!(size > 200_000_000, "{size} bytes");
    assert_eq!((direct_sum, size), copy_out(through(&proxy), "source"), "out");
    SERVER.sql_in("copies", "create unlogged table target (like source);\n");
    copy_in(through(&proxy), "source", "target");
    assert_eq!((direct_sum, size), copy_out(direct(), "target"), "in");
    for road in [direct(), through(&proxy)] {
        let mut query = road.program("psql");
        query.args([
            "-X",
            "-At",
            "-d",
            "copies",
            "-c",
            "select sum(hashtextextended(s::text, 0)) from source s",
        ]);
        let mut other = road.program("psql");
        other.args([
            "-X",
            "-At",
            "-d",
            "copies",
            "-c",
            "select sum(hashtextextended(s::text, 0)) from target s",
        ]);
        assert_eq!(must(query), must(other));
    }
    database("copies");
}

fn copy_command(road: Road, sql: &str) -> Command {
    let mut command = road.program("psql");
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "copies", "-c", sql]);
    command
}

/// The checksum and the size of `copy TABLE to stdout`.
fn copy_out(road: Road, table: &str) -> ([u8; 32], usize) {
    let mut command = copy_command(road, &format!("copy (select * from {table} order by g) to stdout"));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (mut sum, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 18]);
    loop {
        let count = stdout.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        sum.update(&buffer[..count]);
        size += count;
    }
    assert!(child.wait().unwrap().success());
    (sum.finalize().into(), size)
}

fn copy_in(road: Road, from: &str, to: &str) {
    let mut source = copy_command(direct(), &format!("copy {from} to stdout"));
    let mut source = source.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut target = copy_command(road, &format!("copy {to} from stdin"));
    let target = target.stdin(source.stdout.take().unwrap()).spawn().unwrap().wait().unwrap();
    assert!(source.wait().unwrap().success() && target.success());
}

#[test]
fn a_dump_is_the_same_and_restores_to_the_same() {
    let proxy = proxy();
    database("dumped");
    SERVER.sql_in("dumped", DUMPED);
    let dump = |road: Road, name: &str| {
        let mut command = road.program("pg_dump");
        command.args(["-d", name, "--no-comments"]);
        let text = must(command);
        // Newer releases put a random word around a dump.
        text.lines()
            .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let original = dump(direct(), "dumped");
    assert!(original.len() > 1_000_000, "{} bytes", original.len());
    assert!(original == dump(through(&proxy), "dumped"), "the dumps differ");
    let scratch = Scratch::new();
    let file = scratch.path().join("dump");
    let mut archive = through(&proxy).program("pg_dump");
    archive.args(["-Fc", "-d", "dumped", "-f"]).arg(&file);
    must(archive);
    database("restored");
    let mut restore = through(&proxy).program("pg_restore");
    restore.args(["-j", "2", "-d", "restored"]).arg(&file);
    must(restore);
    assert!(original == dump(direct(), "restored"), "the restored database differs");
}

const DUMPED: &str = "
create schema shop;
create type shop.colour as enum ('red', 'green');
create table shop.item (id int primary key, name text not null, colour shop.colour, made timestamptz default now(), picture bytea);
insert into shop.item select g, repeat(md5(g::text), 5), 'green', 'epoch', decode(md5(g::text), 'hex') from generate_series(1, 10000) g;
create index on shop.item (name);
create view shop.green as select * from shop.item where colour = 'green';
create function shop.one() returns int language sql return 1;
select lo_from_bytea(4711, 'a large object');
";

/// psql's large-object commands are its FunctionCall messages.
#[test]
fn a_psql_script_says_the_same() {
    let proxy = proxy();
    let scratch = Scratch::new();
    let picture = scratch.write("picture", b"\0\x01\x02 a large object".repeat(5000));
    let back = scratch.path().join("back");
    let script = scratch.write("script.sql", SCRIPT);
    let run = |road: Road| {
        database("script");
        let mut command = road.program("psql");
        command.args(["-X", "-a", "-d", "script", "-v", "VERBOSITY=verbose"]);
        command.args([
            "-v",
            &format!("picture={}", picture.display()),
            "-v",
            &format!("back={}", back.display()),
        ]);
        command.arg("-f").arg(&script);
        let (_, out, err) = run_until(command, LONG);
        // One names the process id of the notifying session, the other a fresh object id.
        let fresh = |line: &&str| !line.contains("with payload") && !line.starts_with("lo_import ");
        let blank = |text: String| text.lines().filter(fresh).collect::<Vec<_>>().join("\n");
        let notified = out.contains("with payload \"ring\"");
        let same = std::fs::read(&back).unwrap() == std::fs::read(&picture).unwrap();
        (blank(out), blank(err), notified, same)
    };
    let expected = run(direct());
    assert!(expected.2 && expected.3, "{expected:?}");
    assert!(expected.1.contains("22012"), "the division's error is in {}", expected.1);
    assert_eq!(expected, run(through(&proxy)));
}

const SCRIPT: &str = r"
drop table if exists t;
create table t (i int, x text);
insert into t select g, repeat('x', g) from generate_series(1, 1000) g;
select count(*), sum(length(x)) from t \gdesc
select count(*), sum(length(x)) from t;
do $$ begin raise notice 'noticed'; raise warning 'warned'; raise info 'informed'; end $$;
select 1/0;
select 1; select 2; select 3;
select 1 \; select 2 \; select 1/0 \; select 4;
begin; savepoint s; select 1/0; rollback to s; select 'still here'; commit;
copy t to stdout (format csv, header);
copy t (i, x) from stdin;
5000	five thousand
5001	\N
\.
copy t from stdin;
not enough
\.
select count(*) from t;
set client_encoding to latin1; select 'ä'; reset client_encoding;
\lo_import :picture
select :LASTOID > 0;
\lo_export :LASTOID :back
listen bell; notify bell, 'ring';
select length(repeat('y', 5000000));
select repeat('z', 300000);
\set FETCH_COUNT 7
select i from t order by i limit 50;
prepare p as select $1::int + 1; execute p(41); deallocate p;
declare c cursor with hold for select i from t order by i; fetch 3 from c; close c;
;
";

#[test]
fn drivers_use_every_kind_of_message_and_hear_the_same() {
    for version in [Version::V15, Version::V18] {
        let server = Server::start(version, &plan());
        let proxy = Proxy::start(&server.addr().to_string(), &[]);
        let run = |addr: SocketAddr, sslmode: &str| {
            let mut command = clean(install::need("python3", "apt-get install python3"));
            command.env("PYTHONPATH", install::python_current()).env("PYTHONDONTWRITEBYTECODE", "1");
            let place = serde_json::json!({
                "host": addr.ip().to_string(), "port": addr.port(), "user": "postgres", "database": "postgres",
                "sslmode": sslmode,
            });
            command.arg(support::in_tests("clients/messages.py")).arg(place.to_string());
            must(command)
        };
        let expected = run(server.addr(), "disable");
        for said in ["cancelled 57014", "notify bell ring", "cancelled by a timeout", "pipeline [0, 2, 4"] {
            assert!(expected.contains(said), "{version:?}: {said} is missing in\n{expected}");
        }
        assert_eq!(expected, run(proxy.addr, "disable"), "{version:?} in plaintext");
        assert_eq!(expected, run(proxy.addr, "require"), "{version:?} in TLS");
    }
}

#[test]
fn ctrl_c_in_psql_cancels_the_query() {
    let proxy = proxy();
    let mut command = through(&proxy).program("psql");
    command.env("PGAPPNAME", "to be cancelled").args(["-X", "-d", "postgres", "-v", "VERBOSITY=verbose"]);
    command.args(["-c", "select pg_sleep(60)"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let asleep = "select count(*) from pg_stat_activity where application_name = 'to be cancelled' and wait_event = 'PgSleep'";
    while SERVER.sql(asleep) != "1" {}
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("57014"), "{error}");
    let outcomes: Vec<_> =
        proxy.wait_handshakes(2, support::DEADLINE).iter().map(|one| one["outcome"].clone()).collect();
    assert_eq!(outcomes, ["ok", "cancel"]);
}

#[test]
fn logical_replication_carries_the_same_changes() {
    let proxy = proxy();
    database("changes");
    let receive = |road: Road| {
        let mut command = road.program("pg_recvlogical");
        command.args(["-d", "changes", "--no-loop", "-o", "include-xids=0", "-o", "skip-empty-xacts=1"]);
        command
    };
    for (road, slot) in [(direct(), "slot_direct"), (through(&proxy), "slot_proxied")] {
        let mut create = receive(road);
        create.args(["--create-slot", "--slot", slot, "--plugin", "test_decoding"]);
        must(create);
    }
    SERVER.sql_in("changes", "create table t (i int primary key, x text);\ninsert into t select g, repeat('x', g) from generate_series(1, 2000) g;\nupdate t set x = 'changed' where i % 7 = 0;\ndelete from t where i % 5 = 0;\n");
    let end = SERVER.sql_in("changes", "select pg_current_wal_insert_lsn();\n");
    // The end must lie behind a commit, or the receiver would wait for one.
    SERVER.sql_in("changes", "insert into t values (0, 'the last');\n");
    let stream = |road: Road, slot: &str| {
        let mut start = receive(road);
        start.args(["--start", "--slot", slot, "--endpos", &end, "-f", "-"]);
        must(start)
    };
    let expected = stream(direct(), "slot_direct");
    assert!(expected.matches("INSERT").count() >= 2000, "{} bytes", expected.len());
    assert!(expected == stream(through(&proxy), "slot_proxied"), "the streams differ");
    for (road, slot) in [(direct(), "slot_direct"), (through(&proxy), "slot_proxied")] {
        let mut drop_slot = receive(road);
        drop_slot.args(["--drop-slot", "--slot", slot]);
        must(drop_slot);
    }
}

#[test]
fn a_base_backup_is_whole() {
    let server = Server::start(Version::V15, &plan());
    server.sql("create table t as select g, md5(g::text) from generate_series(1, 100000) g;\ncheckpoint;\n");
    let proxy = Proxy::start(&server.addr().to_string(), &[]);
    let scratch = Scratch::new();
    let backup = scratch.path().join("backup");
    let mut command = Road { addr: proxy.addr, sslmode: "disable" }.program("pg_basebackup");
    command.args(["-X", "stream", "-c", "fast", "--no-sync", "-D"]).arg(&backup);
    must(command);
    let mut verify = clean(install::client_program("pg_verifybackup"));
    verify.arg(&backup);
    let told = must(verify);
    assert!(told.contains("backup successfully verified"), "{told}");
    // What a restart would not survive is missing from no file; what the rows are is checked by their sums.
    let file = server.sql("select pg_relation_filepath('t');\n");
    let (here, there) = (std::fs::read(server.data().join(&file)), std::fs::read(backup.join(&file)));
    assert!(here.unwrap() == there.unwrap(), "the table's file differs");
}

#[test]
fn a_half_closed_connection_still_gets_its_answer() {
    let proxy = proxy();
    let mut wire = support::peer::Wire::connect(proxy.addr).unwrap();
    wire.startup(support::peer::V3, &[("user", "postgres"), ("database", "postgres")]).unwrap();
    wire.read_until(b'Z').unwrap();
    wire.message(b'Q', b"select repeat('x', 3000000)\0").unwrap();
    wire.half_close().unwrap();
    let row = wire.read_until(b'D').unwrap();
    assert_eq!(row.len(), 3_000_006);
    std::io::stdout().flush().unwrap();
}
