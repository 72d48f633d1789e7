#!/usr/bin/env python3
"""Compares pgwhy's relay with HAProxy and with a direct connection, all on loopback.

    compare.py target/release/examples/bare_proxy
    compare.py --sections pgbench --modes prepared --clients 16 --seconds 5 --rounds 5 BINARY

Starts a throw-away PostgreSQL (trust for user `bench`, SCRAM for user `scrammer`), HAProxy in TCP mode and
the proxy, runs every row on all of them in turn for some rounds, and prints Markdown tables of medians.
CPU is user + system time of the proxy's process alone. BINARY is started as
`BINARY --listen ADDR --upstream ADDR ARGS...`; ARGS come from --args.

Only ratios within one row mean anything: run it on a quiet machine.
"""
import argparse, base64, glob, hashlib, hmac, os, re, resource, shutil, signal, socket, statistics, struct
import subprocess, sys, tempfile, time

def program(name):
    found = shutil.which(name)
    if found and not found.startswith("/usr/bin/pg"):  # Debian's wrappers are Perl: slow and chatty
        return found
    try:
        bindir = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        bindir = ""
    for path in [f"{bindir}/{name}", *sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), reverse=True)]:
        if os.access(path, os.X_OK):
            return path
    if found:
        return found
    sys.exit(f"{name} was not found")


# Seconds to wait for a quiet machine before each sample, and samples that were taken without it.
QUIET, noisy = 0, 0


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise OSError(f"nothing listens on port {port}")


def cpu(pid):
    """Seconds on a CPU, user and system. /proc/PID/stat counts in ticks of 10 ms; the scheduler in ns."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with open(path) as f:
            total += int(f.read().split()[0])
    return total / 1e9


def rss_kb(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


class Postgres:
    """A cluster in a temporary directory; run as `postgres` when we are root, which it refuses to be."""

    def __init__(self, folder, scale, copy_mb):
        self.data, self.port = os.path.join(folder, "data"), free_port()
        self.as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        os.mkdir(self.data)
        if self.as_user:
            shutil.chown(folder, "postgres")
            shutil.chown(self.data, "postgres")
        self.call("initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C")
        with open(f"{self.data}/pg_hba.conf", "w") as f:
            f.write("host all scrammer 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\nlocal all all trust\n")
        with open(f"{self.data}/postgresql.conf", "a") as f:
            f.write(f"listen_addresses='127.0.0.1'\nport={self.port}\nunix_socket_directories='{folder}'\n"
                    "max_connections=300\nshared_buffers=256MB\nfsync=off\nsynchronous_commit=off\n"
                    "full_page_writes=off\nautovacuum=off\nmax_wal_size=4GB\njit=off\n")
        self.process = subprocess.Popen([*self.as_user, program("postgres"), "-D", self.data],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.port)
        for _ in range(100):
            if subprocess.run(self.psql("select 1"), capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        self.sql("create role bench superuser login", "create role scrammer login password 'sesame'",
                 "create database bench", database="postgres")
        self.call("pgbench", "-i", "-q", "-s", str(scale), "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "bench")
        # One wide row many times: COPY then costs the server little and the wire much.
        self.sql("create unlogged table wide as select repeat(md5(i::text), 32) as t from generate_series(1,"
                 f"{copy_mb * 1000}) i", "create unlogged table target (t text)", "checkpoint")

    def call(self, name, *args):
        subprocess.run([*self.as_user, program(name), *args], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def psql(self, text, database="bench", port=None, user="postgres"):
        return [program("psql"), "-qAtX", "-h", "127.0.0.1", "-p", str(port or self.port), "-U", user,
                "-d", database if port else "postgres" if text == "select 1" else database, "-c", text]

    def sql(self, *texts, database="bench"):
        for text in texts:
            subprocess.run(self.psql(text, database), check=True, stdout=subprocess.DEVNULL)

    def stop(self):
        with open(f"{self.data}/postmaster.pid") as f:
            os.kill(int(f.readline()), 2)
        self.process.wait()


class Proxy:
    """A proxy process in front of `upstream`; `None` as command means a direct connection."""

    def __init__(self, name, port, command, started):
        self.name, self.port, self.process = name, port, None
        if command:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            started.append(self)
            wait_for(port)

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def cpu(self):
        return cpu(self.pid) if self.process else 0.0

    def stop(self):
        if self.process:
            self.process.terminate()  # HAProxy waits for its clients then, so it may need more
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def haproxy(folder, upstream, splice, started):
    port = free_port()
    path = os.path.join(folder, f"haproxy-{port}.cfg")
    with open(path, "w") as f:
        # Splicing reserves a pipe per connection: 8,000 would need more descriptors than many hosts allow.
        most = 1000 if splice else 8000
        f.write(f"global\n  nbthread 2\n  maxconn {most}\ndefaults\n  mode tcp\n  timeout connect 5s\n"
                "  timeout client 1h\n  timeout server 1h\n"
                + ("  option splice-auto\n" if splice else "")
                + f"frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\n"
                  f"backend b\n  server s 127.0.0.1:{upstream}\n")
    return Proxy("haproxy-splice" if splice else "haproxy", port, [program("haproxy"), "-db", "-f", path], started)


def command(binary):
    """pgwhy itself wants its subcommand; an example of the repository is the relay alone."""
    return [binary, "proxy", "--format", "json"] if os.path.basename(binary).startswith("pgwhy") else [binary]


def ours(binary, args, upstream, started, name="pgwhy"):
    port = free_port()
    return Proxy(name, port, [*command(binary), "--listen", f"127.0.0.1:{port}", "--upstream", f"127.0.0.1:{upstream}", *args], started)


def idle_share(seconds):
    """How much of all cores is idle over this time."""
    def read():
        with open("/proc/stat") as f:
            fields = [int(field) for field in f.readline().split()[1:9]]
        return fields[3], sum(fields)
    idle, total = read()
    time.sleep(seconds)
    idle_then, total_then = read()
    return (idle_then - idle) / max(total_then - total, 1)


def wait_for_quiet(seconds):
    """Other people's work spoils a sample, so give it some time to end; `False` when it did not."""
    end = time.monotonic() + seconds
    while idle_share(0.3) < 0.8:
        if time.monotonic() > end:
            return False
    return True


def median_rows(peers, rounds, measure):
    """Runs `measure(peer)` -> tuple of numbers on all peers in turn; medians by peer."""
    global noisy
    samples = {peer.name: [] for peer in peers}
    for turn in range(rounds):
        order = peers if turn % 2 == 0 else peers[::-1]
        for peer in order:
            noisy += not wait_for_quiet(QUIET)
            samples[peer.name].append(measure(peer))
    return {name: [statistics.median(column) for column in zip(*rows)] for name, rows in samples.items()}


def table(title, head, rows):
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    sys.stdout.flush()


def pgbench_section(options, peers):
    rows = []
    for mode in options.modes:
        for clients in options.clients:
            def measure(peer):
                before = peer.cpu()
                out = subprocess.run(
                    [program("pgbench"), "-S", "-n", "-M", mode, "-c", str(clients), "-j", str(min(clients, 2)),
                     "-T", str(options.seconds), "-h", "127.0.0.1", "-p", str(peer.port), "-U", "bench", "bench"],
                    capture_output=True, text=True)
                found = re.search(r"tps = ([\d.]+)", out.stdout)
                count = re.search(r"actually processed: (\d+)", out.stdout)
                if not found or not count:
                    sys.exit(f"pgbench through {peer.name} failed: {out.stderr}")
                return float(found.group(1)), (peer.cpu() - before) / int(count.group(1)) * 1000
            got = median_rows(peers, options.rounds, measure)
            direct, base = got["direct"], got["haproxy"]
            for name in got:
                if name.startswith("pgwhy"):
                    mine = got[name]
                    rows.append([f"{mode} c={clients}" + name[5:], f"{direct[0]:.0f}",
                                 f"{base[0] / direct[0]:.2f} / {base[1]:.4f}", f"{mine[0] / direct[0]:.2f} / {mine[1]:.4f}",
                                 f"**{mine[0] / base[0]:.2f}**", f"**{mine[1] / base[1]:.2f}**"])
                    print("  ".join(rows[-1]), file=sys.stderr)
    table("pgbench -S: share of direct, proxy CPU s per 1,000 transactions",
          ["row", "direct tps", "haproxy", "pgwhy", "tps: pgwhy/haproxy", "CPU: pgwhy/haproxy"], rows)


def copy_section(options, peers, postgres, folder):
    rows = []
    size = options.copy_mb * 1000 * 1025
    source = os.path.join(folder, "wide.copy")
    subprocess.run(["sh", "-c", " ".join(f"'{a}'" for a in postgres.psql("copy wide to stdout", "bench", postgres.port)) + f" > {source}"], check=True)
    for direction in options.copies:
        def measure(peer):
            if direction == "in":
                postgres.sql("truncate target")
            text = "copy wide to stdout" if direction == "out" else "copy target from stdin"
            before, start = peer.cpu(), time.monotonic()
            with open(source, "rb") as stdin:
                subprocess.run(postgres.psql(text, "bench", peer.port, "bench"), check=True, stdin=stdin, stdout=subprocess.DEVNULL)
            return size / 1e6 / (time.monotonic() - start), (peer.cpu() - before) / size * 1e9
        got = median_rows(peers, options.rounds, measure)
        direct, base = got["direct"], got["haproxy-splice"]
        for name in got:
            if name.startswith("pgwhy"):
                mine = got[name]
                rows.append([f"COPY {direction}" + name[5:], f"{direct[0]:.0f}",
                             f"{base[0] / direct[0]:.2f} / {base[1]:.3f}", f"{mine[0] / direct[0]:.2f} / {mine[1]:.3f}",
                             f"**{mine[0] / base[0]:.2f}**", f"**{mine[1] / base[1]:.2f}**"])
                print("  ".join(rows[-1]), file=sys.stderr)
    table("COPY: share of direct, proxy CPU s per GB (HAProxy with splice-auto)",
          ["row", "direct MB/s", "haproxy", "pgwhy", "MB/s: pgwhy/haproxy", "CPU: pgwhy/haproxy"], rows)


class Login:
    """A client that logs in with SCRAM and leaves; PBKDF2 is cached so that it measures the wire."""

    salted = {}

    @staticmethod
    def read(sock, buffer):
        while len(buffer) < 5 or len(buffer) < 1 + struct.unpack(">I", buffer[1:5])[0]:
            got = sock.recv(8192)
            if not got:
                raise OSError("closed")
            buffer += got
        end = 1 + struct.unpack(">I", buffer[1:5])[0]
        message = bytes(buffer[:end])
        del buffer[:end]
        return message[:1], message[5:]

    @classmethod
    def run(cls, port):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = b"\0\3\0\0user\0scrammer\0database\0bench\0\0"
        sock.sendall(struct.pack(">I", len(body) + 4) + body)
        buffer = bytearray()
        kind, _ = cls.read(sock, buffer)
        bare = b"n=,r=cmVsYXktYmVuY2gtbm9uY2U"
        first = b"n,," + bare
        body = b"SCRAM-SHA-256\0" + struct.pack(">I", len(first)) + first
        sock.sendall(b"p" + struct.pack(">I", len(body) + 4) + body)
        kind, body = cls.read(sock, buffer)
        server_first = body[4:]
        part = dict(item.split(b"=", 1) for item in server_first.split(b","))
        key = (part[b"s"], part[b"i"])
        if key not in cls.salted:
            cls.salted[key] = hashlib.pbkdf2_hmac("sha256", b"sesame", base64.b64decode(part[b"s"]), int(part[b"i"]))
        client_key = hmac.digest(cls.salted[key], b"Client Key", "sha256")
        without = b"c=biws,r=" + part[b"r"]
        signature = hmac.digest(hashlib.sha256(client_key).digest(), bare + b"," + server_first + b"," + without, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature)))
        final = without + b",p=" + proof
        sock.sendall(b"p" + struct.pack(">I", len(final) + 4) + final)
        while kind != b"Z":
            kind, body = cls.read(sock, buffer)
            if kind == b"E":
                raise OSError(body)
        sock.sendall(b"X\0\0\0\4")
        # Wait for the server's goodbye, so that logins don't overlap with their own teardown.
        while sock.recv(100):
            pass
        sock.close()


def login_section(options, peers):
    def measure(peer):
        before, times = peer.cpu(), []
        for _ in range(options.logins):
            start = time.monotonic()
            Login.run(peer.port)
            times.append(time.monotonic() - start)
        return statistics.median(times) * 1000, (peer.cpu() - before) / options.logins * 1000
    got = median_rows(peers, options.rounds, measure)
    table("SCRAM logins, one after another", ["peer", "median ms", "over haproxy, µs", "CPU s / 1,000", "CPU / haproxy"],
          [[name, f"{ms:.3f}", f"{(ms - got['haproxy'][0]) * 1000:+.0f}", f"{used:.3f}", f"{used / got['haproxy'][1]:.2f}"]
           for name, (ms, used) in got.items()])


def trust_server(listener, ready):
    """A stand-in for PostgreSQL that lets everybody in and then says nothing: 5,000 backends are heavy."""
    import selectors
    chooser, clients = selectors.DefaultSelector(), 0
    chooser.register(listener, selectors.EVENT_READ, None)
    os.write(ready, b"!")
    while True:
        for key, _ in chooser.select():
            if key.data is None:
                sock, _ = listener.accept()
                chooser.register(sock, selectors.EVENT_READ, True)
            else:
                if key.fileobj.recv(1000):
                    # Each its own cancel key, as proxies may keep those.
                    clients += 1
                    key.fileobj.sendall(b"R\0\0\0\x08\0\0\0\0" + b"K\0\0\0\x0c"
                                        + struct.pack(">II", clients, clients * 2654435761 % 2**32) + b"Z\0\0\0\5I")
                else:
                    chooser.unregister(key.fileobj)
                    key.fileobj.close()


def idle_section(options, folder, started):
    rows = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1000)
    seen, ready = os.pipe()
    child = os.fork()
    if child == 0:
        trust_server(listener, ready)
    os.read(seen, 1)
    upstream = listener.getsockname()[1]
    listener.close()
    body = b"\0\3\0\0user\0bench\0database\0bench\0\0"
    startup = struct.pack(">I", len(body) + 4) + body
    for start in (lambda: haproxy(folder, upstream, False, started), lambda: ours(options.binary, options.args, upstream, started)):
        peer = start()
        socks = []
        for round_ in range(2):  # the first hundred warm up the allocator and the threads
            before = rss_kb(peer.pid)
            count = 100 if round_ == 0 else options.idle
            for _ in range(count):
                sock = socket.create_connection(("127.0.0.1", peer.port))
                sock.sendall(startup)
                got = b""
                while not got.endswith(b"Z\0\0\0\5I"):
                    got += sock.recv(100)
                socks.append(sock)
        time.sleep(1)
        rows.append([peer.name, f"{(rss_kb(peer.pid) - before) / options.idle:.2f}"])
        for sock in socks:
            sock.close()
        peer.stop()
    os.kill(child, 9)
    os.waitpid(child, 0)
    table(f"Memory of the proxy per idle, logged-in client at {options.idle}", ["peer", "kB"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--args", default=[], type=str.split, help="further arguments of the binary")
    parser.add_argument("--variant", action="append", default=[], metavar="NAME=ARGS|NAME=@BINARY ARGS",
                        help="one more way to start a binary, shown as its own row")
    parser.add_argument("--sections", default="pgbench,copy,login,idle", type=lambda s: s.split(","))
    parser.add_argument("--modes", default="simple,extended,prepared", type=lambda s: s.split(","))
    parser.add_argument("--clients", default="1,16,64", type=lambda s: [int(n) for n in s.split(",")])
    parser.add_argument("--copies", default="out,in", type=lambda s: s.split(","))
    parser.add_argument("--seconds", default=4, type=int)
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--copy-mb", default=1000, type=int)
    parser.add_argument("--logins", default=500, type=int)
    parser.add_argument("--idle", default=5000, type=int)
    parser.add_argument("--scale", default=10, type=int)
    parser.add_argument("--quiet", default=5, type=float, metavar="SECONDS",
                        help="wait this long at most for an idle machine before each sample")
    options = parser.parse_args()
    global QUIET
    QUIET = options.quiet
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    folder = tempfile.mkdtemp(prefix="relay-")
    os.chmod(folder, 0o755)
    started = []
    try:
        if set(options.sections) - {"idle"}:
            postgres = Postgres(folder, options.scale, options.copy_mb if "copy" in options.sections else 1)
            started.append(postgres)
            plain, splicing = (haproxy(folder, postgres.port, splice, started) for splice in (False, True))
            mine = [ours(options.binary, options.args, postgres.port, started)]
            for variant in options.variant:
                name, args = variant.split("=", 1)
                binary, args = options.binary, args.split()
                if args and args[0].startswith("@"):
                    binary, args = args[0][1:], args[1:]
                mine.append(ours(binary, args, postgres.port, started, f"pgwhy {name}"))
            direct = Proxy("direct", postgres.port, None, started)
            if "pgbench" in options.sections:
                pgbench_section(options, [direct, plain, *mine])
            if "copy" in options.sections:
                copy_section(options, [direct, splicing, *mine], postgres, folder)
            if "login" in options.sections:
                login_section(options, [direct, plain, *mine])
        if "idle" in options.sections:
            idle_section(options, folder, started)
    finally:
        if noisy:
            print(f"\n{noisy} samples were taken while the machine was busy with something else.")
        for thing in reversed(started):
            thing.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
