#!/usr/bin/env python3
"""Compares TLS on both legs through pgwhy, PgBouncer and HAProxy, all on loopback.

    compare.py target/release/pgwhy
    compare.py --sections copy --copy-mb 500 --rounds 5 target/release/pgwhy

Starts a throw-away PostgreSQL with TLS and the three proxies, all with one certificate (ECDSA, or RSA with --key rsa), runs every row on
all of them in turn, and prints Markdown tables of medians. CPU is user + system time of the proxy's process alone.

PgBouncer does not log in at the server for each client; `server_lifetime=0` makes it use each connection once, so that both
legs of each login are paid for; the row "pooled" keeps connections. HAProxy knows no SSLRequest: it gets
direct TLS from the client and speaks direct TLS to the server, so it needs a PostgreSQL of 17 or later
(--postgres: the directory of its programs, for example target/clients/node/…/native/bin).
"""
import argparse, importlib.util, os, signal, shutil, socket, ssl, statistics, struct, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
spec = importlib.util.spec_from_file_location("relay", os.path.join(HERE, "../relay/compare.py"))
relay = importlib.util.module_from_spec(spec)
spec.loader.exec_module(relay)

SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"


def certificate(folder, kind):
    cert, key = f"{folder}/cert.pem", f"{folder}/key.pem"
    new = ["rsa:2048"] if kind == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(["openssl", "req", "-x509", "-newkey", *new, "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-keyout", key, "-out", cert], check=True, capture_output=True)
    with open(f"{folder}/both.pem", "w") as both:
        both.write(open(cert).read() + open(key).read())
    return cert, key


class Postgres(relay.Postgres):
    """The relay bench's server, started again with TLS."""

    def enable_tls(self, cert, key):
        for source, name in ((cert, "server.crt"), (key, "server.key")):
            to = f"{self.data}/{name}"
            shutil.copy(source, to)
            os.chmod(to, 0o600)
            if self.as_user:
                shutil.chown(to, "postgres")
        with open(f"{self.data}/postgresql.conf", "a") as conf:
            conf.write("ssl=on\n")
        os.kill(self.process_id(), signal.SIGHUP)
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", self.port)) as sock:
                sock.sendall(SSL_REQUEST)
                if sock.recv(1) == b"S":
                    return
            time.sleep(0.1)
        sys.exit("the server has no TLS")

    def process_id(self):
        with open(f"{self.data}/postmaster.pid") as file:
            return int(file.readline())


def pgbouncer(folder, name, upstream, cert, key, secret, started, extra=""):
    port = relay.free_port()
    path = f"{folder}/bouncer-{port}.ini"
    with open(f"{folder}/users", "w") as users:
        # What the server stores: with the password itself PgBouncer would do PBKDF2 for every login.
        users.write(f'"scrammer" "{secret}"\n')
    with open(path, "w") as file:
        file.write(f"[databases]\nbench = host=127.0.0.1 port={upstream} dbname=bench\n[pgbouncer]\n"
                   f"listen_addr=127.0.0.1\nlisten_port={port}\nunix_socket_dir=\nauth_type=scram-sha-256\nauth_file={folder}/users\n"
                   "pool_mode=session\nmax_client_conn=500\ndefault_pool_size=100\nlog_connections=0\nlog_disconnections=0\n"
                   f"client_tls_sslmode=require\nclient_tls_cert_file={cert}\nclient_tls_key_file={key}\n"
                   f"server_tls_sslmode=require\nignore_startup_parameters=extra_float_digits\n{extra}")
    os.chmod(key, 0o644)
    # It refuses to be root.
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    return relay.Proxy(name, port, [*user, relay.program("pgbouncer"), "-q", path], started)


def haproxy(folder, upstream, started):
    port = relay.free_port()
    path = f"{folder}/haproxy-tls-{port}.cfg"
    with open(path, "w") as file:
        file.write("global\n  nbthread 2\n  maxconn 1000\n  ssl-server-verify none\n"
                   "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
                   f"frontend f\n  bind 127.0.0.1:{port} ssl crt {folder}/both.pem alpn postgresql\n  default_backend b\n"
                   f"backend b\n  server s 127.0.0.1:{upstream} ssl alpn postgresql no-ssl-reuse\n")
    proxy = relay.Proxy("haproxy", port, [relay.program("haproxy"), "-db", "-f", path], started)
    proxy.direct_tls = True
    return proxy


def pgwhy(binary, name, upstream, cert, key, started, args=()):
    port = relay.free_port()
    command = [binary, "proxy", "--format", "json", "--listen", f"127.0.0.1:{port}", "--upstream", f"127.0.0.1:{upstream}",
               "--client-tls", "require", "--server-tls", "require", "--tls-cert", cert, "--tls-key", key, *args]
    proxy = relay.Proxy.__new__(relay.Proxy)
    proxy.name, proxy.port = name, port
    # Its one line about the certificate's wording is of no interest here.
    proxy.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started.append(proxy)
    relay.wait_for(port)
    return proxy


CONTEXT = ssl.create_default_context()
CONTEXT.check_hostname, CONTEXT.verify_mode = False, ssl.CERT_NONE
CONTEXT.set_alpn_protocols(["postgresql"])
TLS12 = ssl.create_default_context()
TLS12.check_hostname, TLS12.verify_mode = False, ssl.CERT_NONE
TLS12.set_alpn_protocols(["postgresql"])
TLS12.maximum_version = ssl.TLSVersion.TLSv1_2


def connect(peer, context=CONTEXT, session=None):
    sock = socket.create_connection(("127.0.0.1", peer.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not getattr(peer, "direct_tls", False):
        sock.sendall(SSL_REQUEST)
        if sock.recv(1) != b"S":
            raise OSError(f"{peer.name} has no TLS")
    return context.wrap_socket(sock, session=session)


class Asking:
    """Asks a query before it says goodbye: PgBouncer takes a connection to the server no earlier."""

    def __init__(self, sock):
        self.sock = sock

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def sendall(self, data):
        if data[:1] == b"X":
            self.sock.sendall(b"Q\0\0\0\x0dselect 1\0")
            buffer = bytearray()
            while relay.Login.read(self.sock, buffer)[0] != b"Z":
                pass
        self.sock.sendall(data)


class Login(relay.Login):
    """The relay bench's login, on a socket that is connected already."""

    @classmethod
    def over(cls, sock):
        plain = socket.create_connection
        try:
            socket.create_connection = lambda *_: Asking(sock)
            cls.run(0)
        finally:
            socket.create_connection = plain


def login_section(options, peers):
    def measure(peer):
        before, start = peer.cpu(), time.monotonic()
        for _ in range(options.logins):
            Login.over(connect(peer))
        return options.logins / (time.monotonic() - start), (peer.cpu() - before) / options.logins * 1000
    got = relay.median_rows(peers, options.rounds, measure)
    base = got["pgbouncer"]
    relay.table("SCRAM logins with TLS 1.3 on both legs, one after another",
                ["peer", "logins/s (with Python's share)", "CPU s / 1,000", "CPU / pgbouncer"],
                [[name, f"{rate:.0f}", f"{used:.3f}", f"{used / base[1]:.2f}" if base[1] else ""] for name, (rate, used) in got.items()])


def session_of(peer, context):
    """A session to resume. TLS 1.3 hands it out behind the handshake, so one login reads it."""
    if context is TLS12:
        with connect(peer, context) as tls:
            return tls.session
    tls = connect(peer, context)
    kept = []
    close = tls.close
    tls.close = lambda: (kept.append(tls.session), close())
    Login.over(tls)
    return kept[0]


def handshake_section(options, peers):
    rows = []
    for version, context in (("TLS 1.3", CONTEXT), ("TLS 1.2", TLS12)):
        def measure(peer):
            result = []
            for resumed in (False, True):
                session = session_of(peer, context) if resumed else None
                reused, before, start = 0, peer.cpu(), time.monotonic()
                for _ in range(options.handshakes):
                    with connect(peer, context, session) as tls:
                        reused += tls.session_reused
                # What a proxy does at the end of a connection is part of it.
                rate = options.handshakes / (time.monotonic() - start)
                time.sleep(0.2)
                result += [rate, (peer.cpu() - before) / options.handshakes * 1e6, reused / options.handshakes]
            return tuple(result)
        got = relay.median_rows(peers, options.rounds, measure)
        for name, (full_rate, full, _, rate, resumed, share) in got.items():
            rows.append([version, name, f"{full_rate:.0f}", f"{full:.0f}", f"{rate:.0f}", f"{resumed:.0f}", f"{share:.0%}",
                         f"{full / resumed:.2f}" if resumed else ""])
    relay.table("Handshakes with the client alone, one after another",
                ["version", "peer", "full/s", "full CPU µs", "resumed/s", "resumed CPU µs", "really resumed", "full / resumed CPU"], rows)


def copy_section(options, peers, postgres, folder):
    rows = []
    size = options.copy_mb * 1000 * 1025
    source = f"{folder}/wide.copy"
    with open(source, "wb") as file:
        subprocess.run(postgres.psql("copy wide to stdout", "bench", postgres.port), check=True, stdout=file)
    peers = [peer for peer in peers if not getattr(peer, "direct_tls", False)]
    environment = {**os.environ, "PGSSLMODE": "require", "PGPASSWORD": "sesame", "PGCHANNELBINDING": "disable"}
    for direction in ("out", "in"):
        def measure(peer):
            if direction == "in":
                postgres.sql("truncate target")
            text = "copy wide to stdout" if direction == "out" else "copy target from stdin"
            before, start = peer.cpu(), time.monotonic()
            with open(source, "rb") as stdin:
                subprocess.run(postgres.psql(text, "bench", peer.port, "scrammer"), check=True, stdin=stdin, stdout=subprocess.DEVNULL,
                               env=environment)
            return size / 1e6 / (time.monotonic() - start), (peer.cpu() - before) / size * 1e9
        got = relay.median_rows(peers, options.rounds, measure)
        for name, (rate, used) in got.items():
            ratio = lambda other, at: f"{(rate, used)[at] / got[other][at]:.2f}" if got[other][at] else ""
            rows.append([f"COPY {direction}", name, f"{rate:.0f}", f"{used:.2f}", ratio("pgbouncer", 1), ratio("pgbouncer 64 KiB", 0)])
    relay.table("COPY with TLS on both legs",
                ["row", "peer", "MB/s", "CPU s / GB", "CPU / pgbouncer (its default buffers)", "MB/s / pgbouncer (64 KiB)"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--sections", default="login,handshake,copy", type=lambda s: s.split(","))
    parser.add_argument("--postgres", default="", help="directory of the server's programs")
    parser.add_argument("--key", default="ec", choices=["ec", "rsa"], help="the kind of certificate")
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--logins", default=300, type=int)
    parser.add_argument("--handshakes", default=500, type=int)
    parser.add_argument("--copy-mb", default=500, type=int)
    parser.add_argument("--quiet", default=5, type=float, metavar="SECONDS")
    options = parser.parse_args()
    relay.QUIET = options.quiet
    if options.postgres:
        found = relay.program
        def program(name):
            own = os.path.join(os.path.abspath(options.postgres), name)
            return own if os.access(own, os.X_OK) else found(name)
        relay.program = program
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    folder = tempfile.mkdtemp(prefix="tls-")
    os.chmod(folder, 0o755)
    started = []
    try:
        postgres = Postgres(folder, 1, options.copy_mb if "copy" in options.sections else 1)
        started.append(postgres)
        postgres.sql("grant all on target, wide to scrammer")
        cert, key = certificate(folder, options.key)
        postgres.enable_tls(cert, key)
        secret = subprocess.run(postgres.psql("select rolpassword from pg_authid where rolname = 'scrammer'", "bench", postgres.port),
                                capture_output=True, text=True, check=True).stdout.strip()
        direct = relay.Proxy("direct", postgres.port, None, started)
        bouncer = pgbouncer(folder, "pgbouncer", postgres.port, cert, key, secret, started, "server_lifetime=0\n")
        pooled = pgbouncer(folder, "pgbouncer pooled", postgres.port, cert, key, secret, started)
        large = pgbouncer(folder, "pgbouncer 64 KiB", postgres.port, cert, key, secret, started, "pkt_buf=65536\n")
        balancer = haproxy(folder, postgres.port, started)
        mine = pgwhy(options.binary, "pgwhy", postgres.port, cert, key, started)
        if "login" in options.sections:
            login_section(options, [direct, bouncer, pooled, balancer, mine])
        if "handshake" in options.sections:
            handshake_section(options, [pooled, balancer, mine])
        if "copy" in options.sections:
            copy_section(options, [direct, bouncer, large, mine], postgres, folder)
    finally:
        if relay.noisy:
            print(f"\n{relay.noisy} samples were taken while the machine was busy with something else.")
        for thing in reversed(started):
            thing.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
